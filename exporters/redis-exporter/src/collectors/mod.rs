//! One file a collector: what it asks the server for, its families, and how replies become samples.
//! A collector does no I/O. To add one: a new file here and one line in [`all`].

mod client_groups;
mod clients;
mod cluster;
mod cluster_view;
mod commandstats;
mod config;
mod count_keys;
mod errorstats;
mod hot_keys;
mod info;
mod instance_info;
pub(crate) mod key_groups;
pub(crate) mod keys;
mod keysizes;
mod keyspace;
mod latency;
mod latency_histogram;
mod latencystats;
mod log_events;
mod modules;
pub(crate) mod ping;
mod rdb_file;
mod replication;
mod scripts;
mod search_indexes;
mod sentinel;
mod slot_stats;
mod slowlog;
mod start_time;
mod streams;
mod tile38;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use self::log_events::logs;
pub use exporter_kit::collector::Spec;
use exporter_kit::collector::{BoxFuture, CollectError, Collector};
use exposition::{Snapshot, Template};
use redis::Value;

use crate::error::ReplyError;
use crate::info::Info;
use crate::options::Options;
use crate::request::{Request, Server};
use crate::sampler::{Sampler, SamplerCollector};
use crate::session::Session;

/// A group of families that come from the same replies.
pub trait Section: Send + Sync {
    /// Name and purpose.
    fn spec(&self) -> &'static Spec;

    /// What to ask this server for, beside INFO. Nothing when the server has nothing of the kind.
    fn requests(&self, _server: &Server) -> Vec<Request> {
        Vec::new()
    }

    /// Writes what the replies say. What came is written even when the first missing reply is returned as the error.
    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError>;
}

/// The collectors that declare their requests, in the order these are sent.
pub fn all(options: &Options) -> Vec<Box<dyn Section>> {
    let mut sections: Vec<Box<dyn Section>> = vec![
        Box::new(info::Fields::new(options)),
        Box::new(instance_info::InstanceInfo::new(options)),
        Box::new(start_time::StartTime::new(options)),
        Box::new(replication::Replication::new(options)),
        Box::new(commandstats::Commandstats::new(options)),
        Box::new(errorstats::Errorstats::new(options)),
        Box::new(latencystats::Latencystats::new(options)),
        Box::new(keyspace::Keyspace::new(options)),
        Box::new(config::Config::new(options)),
        Box::new(cluster::Cluster::new(options)),
        Box::new(latency::Latency::new(options)),
        Box::new(latency_histogram::LatencyHistogram::new(options)),
        Box::new(slowlog::Slowlog::new(options)),
        Box::new(sentinel::Sentinel::new(options)),
    ];
    if !options.compat_1_86() {
        sections.push(Box::new(keysizes::Keysizes::new(options)));
    }
    let features = &options.features;
    if features.sampler.is_some_and(|sampler| sampler.insight) {
        sections.push(Box::new(slot_stats::SlotStats::new(options)));
        sections.push(Box::new(hot_keys::HotKeys::new(options)));
    }
    if features.clients {
        sections.push(Box::new(clients::Clients::new(options)));
    }
    if features.client_groups.is_some() {
        sections.push(Box::new(client_groups::ClientGroups::new(options)));
    }
    if features.modules {
        sections.push(Box::new(modules::Modules::new(options)));
    }
    if features.tile38 {
        sections.push(Box::new(tile38::Tile38::new(options)));
    }
    sections
}

/// Every collector that is switched on. Those whose requests follow from earlier replies come last, so that they do not
/// hold up the others.
///
/// # Errors
/// An option that cannot be used.
pub fn enabled(
    options: &Options,
    sampler: Option<&Arc<Sampler>>,
) -> anyhow::Result<Vec<Box<dyn Collector<Session>>>> {
    let features = &options.features;
    let mut collectors: Vec<Box<dyn Collector<Session>>> = Vec::new();
    // Before all others, so that nothing on the server delays it.
    if features.ping {
        collectors.push(Box::new(ping::Ping));
    }
    for section in all(options) {
        collectors.push(Box::new(Runner::new(section)));
    }
    if !options.compat_1_86() {
        collectors.push(Box::new(log_events::LogEvents::new(options)));
    }
    if features.whole_cluster {
        collectors.push(Box::new(cluster_view::ClusterView::new(options)));
    }
    if features.rdb_file_size {
        collectors.push(Box::new(rdb_file::RdbFile::new(options)));
    }
    if features.search_indexes.is_some() {
        collectors.push(Box::new(search_indexes::SearchIndexes::new(options)));
    }
    if !(features.patterns.is_empty() && features.keys.is_empty()) {
        collectors.push(Box::new(keys::Keys::new(options)));
    }
    if let Some(sampler) = sampler {
        collectors.push(Box::new(SamplerCollector::new(Arc::clone(sampler), options)));
    }
    if !features.count.is_empty() && features.sampler.is_none() {
        collectors.push(Box::new(count_keys::CountKeys::new(options)));
    }
    if !features.key_groups.is_empty() && features.sampler.is_none() {
        collectors.push(Box::new(key_groups::KeyGroups::new(options)));
    }
    if !(features.stream_patterns.is_empty() && features.streams.is_empty()) {
        collectors.push(Box::new(streams::Streams::new(options)));
    }
    if !features.scripts.is_empty() {
        collectors.push(Box::new(scripts::Scripts::new(options)));
    }
    Ok(collectors)
}

/// Runs a section as a collector of the scrape engine.
pub struct Runner {
    section: Box<dyn Section>,
    /// What it wrote last, which most of the next is like.
    template: Mutex<Template>,
}

impl Runner {
    /// A collector of this section.
    pub fn new(section: Box<dyn Section>) -> Runner {
        Runner { section, template: Mutex::default() }
    }

    fn template(&self) -> MutexGuard<'_, Template> {
        self.template.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector<Session> for Runner {
    fn spec(&self) -> &Spec {
        self.section.spec()
    }

    fn collect<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        Box::pin(async move {
            let replies = session.fetch(|server| self.section.requests(server)).await?;
            let mut page = Snapshot::new();
            page.follow(std::mem::take(&mut *self.template()));
            let written = self.section.write(&replies, &mut page);
            *self.template() = page.template();
            match written {
                Err(error) if page.is_empty() => return Err(error.into()),
                Err(error) => session.note(self.section.spec().name, error),
                Ok(()) => {}
            }
            Ok(page)
        })
    }
}

/// A reply shared by the collectors of a scrape.
pub type Reply = Result<Arc<Value>, ReplyError>;

/// What was asked, and the replies.
pub type Answers = Vec<(Request, Reply)>;

/// What the server answered to the requests of one collector.
#[derive(Debug, Clone)]
pub struct Replies {
    /// INFO, parsed.
    pub info: Arc<Info>,
    /// What INFO says about the server.
    pub server: Arc<Server>,
    /// When the server process started, in Unix seconds.
    pub start_time: Option<f64>,
    /// The other replies.
    pub replies: Answers,
}

impl Replies {
    /// The reply to a request; `None` when it was not sent.
    pub fn get(&self, request: &Request) -> Option<Result<&Value, ReplyError>> {
        let (_, reply) = self.replies.iter().find(|(asked, _)| asked == request)?;
        Some(reply.as_deref().map_err(Clone::clone))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::request::tests::value;
    use exposition::{Page, parse, text};
    use proptest::prelude::*;

    /// Replies made of an INFO text and given values.
    pub(crate) fn replies(info: &str, values: impl IntoIterator<Item = (Request, Value)>) -> Replies {
        let info = Arc::new(Info::parse(info));
        let server = Arc::new(Server::new(&info));
        let replies = values.into_iter().map(|(request, value)| (request, Ok(Arc::new(value)))).collect();
        Replies { info, server, start_time: None, replies }
    }

    /// The page that a collector writes.
    pub(crate) fn page(section: &dyn Section, replies: &Replies) -> Page {
        let mut snapshot = Snapshot::new();
        section.write(replies, &mut snapshot).unwrap();
        parsed(snapshot)
    }

    /// A snapshot as it is served.
    pub(crate) fn parsed(mut snapshot: Snapshot) -> Page {
        snapshot.seal();
        let mut page = String::new();
        text::encode(&snapshot, &mut page);
        parse::page(&page).unwrap()
    }

    /// Names and values of all samples, sorted, as `name{label="value"} 1`.
    pub(crate) fn lines(page: &Page) -> Vec<String> {
        let mut lines: Vec<String> = page
            .families
            .iter()
            .flat_map(|family| &family.samples)
            .map(|sample| {
                let labels: Vec<String> = sample.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
                format!("{}{{{}}} {}", sample.name, labels.join(","), sample.value)
            })
            .collect();
        lines.sort();
        lines
    }

    /// What one scrape reads: the text of INFO, and replies whose parts come and go too.
    fn reading() -> impl Strategy<Value = (String, Vec<(Request, Value)>)> {
        let line = prop_oneof![
            "# (Server|Stats|Commandstats|Latencystats|Cluster|Keyspace|Replication)",
            "redis_version:[67]",
            "(used_memory|evicted_keys|sync_full|valkey_version|role|slave_repl_offset|run_id):[0-9]{0,2}",
            "(cluster_enabled|cluster_state|cluster_size|used_active_time_io_thread_[12]):(ok|[0-9])",
            "(master_host|master_port|tls_ca_cert_serial|tls_ca_cert_expires_in_seconds):[0-9a]",
            "cmdstat_(get|config|config\\|get):calls=[0-9],usec=[0-9](,failed_calls=[0-9])?",
            "latency_percentiles_usec_(get|config):(p50=[0-9](,p99(\\.9)?=[0-9])?)?",
            "errorstat_[EM]:count=[0-9]",
            "db[01]:keys=[0-9],expires=[0-9]",
        ];
        let text = proptest::collection::vec(line, 0..24).prop_map(|lines| lines.join("\r\n"));
        let number = || (0..4_i64).prop_map(|at| Value::Int([1, 4, 5, 33][at as usize]));
        let words =
            |words: &[&str]| words.iter().map(|word| Value::BulkString((*word).into())).collect::<Vec<_>>();
        let replies = (number(), number(), number()).prop_map(move |(a, b, c)| {
            let [get, calls, histogram] =
                <[Value; 3]>::try_from(words(&["get", "calls", "histogram_usec"])).unwrap();
            let command = Value::Array(vec![calls, a.clone(), histogram, Value::Array(vec![b, a.clone()])]);
            let [maxclients, databases] =
                <[Value; 2]>::try_from(words(&["maxclients", "databases"])).unwrap();
            vec![
                (Request::LatencyHistogram, Value::Array(vec![get, command])),
                (Request::Config, Value::Array(vec![maxclients, a, databases, c])),
                (Request::ClusterInfo, Value::SimpleString("cluster_state:ok\r\ncluster_size:1".to_owned())),
            ]
        });
        (text, replies)
    }

    /// The page of all these sections, whether or not some lack a reply.
    fn whole_page(sections: &[Box<dyn Section>], replies: &Replies) -> String {
        let mut page = Snapshot::new();
        for section in sections {
            let _ = section.write(replies, &mut page);
        }
        page.seal();
        let mut text = String::new();
        text::encode(&page, &mut text);
        text
    }

    /// Every section there is.
    fn every_section() -> Vec<Box<dyn Section>> {
        let mut options = Options { include_config: true, ..Options::default() };
        let features = &mut options.features;
        (features.clients, features.modules, features.tile38) = (true, true, true);
        features.sentinel_peers = true;
        features.client_groups = Some(crate::options::ClientGroups::default());
        let sampler = crate::options::SamplerOptions::default();
        features.sampler = Some(crate::options::SamplerOptions { insight: true, ..sampler });
        all(&options)
    }

    proptest! {
        #[test]
        fn arbitrary_replies_never_panic(value in value(), info in "(# ?[A-Z][a-z]{0,8}\r\n|[a-z_0-9]{0,12}:[-a-z0-9=,.:]{0,20}\r\n){0,8}") {
            let mut replies = replies(&info, []);
            let known = Server { version: (8, 6), cluster: true, ..Server::default() };
            let sentinel = Server { sentinel: true, masters: vec!["m".to_owned()], ..Server::default() };
            for section in every_section() {
                for request in [&known, &sentinel].into_iter().flat_map(|server| section.requests(server)) {
                    replies.replies.push((request, Ok(Arc::new(value.clone()))));
                }
            }
            for section in every_section() {
                let mut page = Snapshot::new();
                let _ = section.write(&replies, &mut page);
                page.seal();
            }
        }

        #[test]
        fn what_is_kept_between_scrapes_changes_no_page(readings in proptest::collection::vec(reading(), 1..6)) {
            for sections in [every_section, || all(&Options::default())] {
                let kept = sections();
                let mut outline = Arc::default();
                for (text, values) in &readings {
                    let mut replies = replies(text, values.clone());
                    let page = whole_page(&sections(), &replies);
                    replies.info = Arc::new(Info::parse_like(text.as_str(), &outline));
                    outline = Arc::clone(replies.info.outline());
                    // Twice: what was kept of another reading, then of this one.
                    prop_assert_eq!(&whole_page(&kept, &replies), &page);
                    prop_assert_eq!(&whole_page(&kept, &replies), &page);
                }
            }
        }

        #[test]
        fn arbitrary_pages_of_scan_never_panic(value in value()) {
            let _ = crate::keyspace_walk::page(&value);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all(&Options::default()).iter().map(|section| section.spec().name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
