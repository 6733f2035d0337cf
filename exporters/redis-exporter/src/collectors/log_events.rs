//! `redis_slowlog_entries_*` and `redis_commandlog_entries_*`: each entry of the slow log, and of Valkey's log of large
//! requests and replies, counted once. Entries have ascending numbers, so the newest one tells how many are new.
//! What was logged before the first scrape is not counted; what a restarted server logged since its start is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Spec};
use exposition::{Column, HistogramColumns, Kind, Shape, Snapshot};
use redis::Value;
use tokio::time::Instant;

use super::Replies;
use crate::error::ReplyError;
use crate::options::Options;
use crate::request::{Log, Request, Server, items, number, text};
use crate::session::Session;

static SPEC: Spec = Spec {
    name: "log_events",
    doc: "Entries of the slow log and the command log, each counted once",
    default_enabled: true,
};

/// Entries that one scrape reads of a log at most; older ones are counted as lost.
const MOST_ENTRIES: u64 = 1024;

/// Entries that are asked for beyond the new ones, for those that are logged meanwhile.
const SLACK: u64 = 16;

/// Commands that are told apart; entries of others are those of `other`.
const MOST_COMMANDS: usize = 64;

/// Seconds; servers log from 10 ms on unless told otherwise.
const SECONDS: &[f64] = &[0.001, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Bytes; Valkey logs from 1 MiB on unless told otherwise.
const BYTES: &[f64] = &[65_536.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0, 268_435_456.0];

pub(super) struct LogEvents {
    slow: Families,
    large: Families,
    state: Mutex<HashMap<Log, Read>>,
}

struct Families {
    of_log: Arc<Shape>,
    lost: Column,
    of_command: Arc<Shape>,
    entries: Column,
    sizes: HistogramColumns,
}

/// What was read of one log.
#[derive(Default)]
struct Read {
    run_id: String,
    at: Option<Instant>,
    /// Entries with a smaller number were counted, or logged before we looked.
    next: u64,
    lost: u64,
    commands: HashMap<String, Histogram>,
}

#[derive(Default)]
struct Histogram {
    /// Entries at or below each bound.
    cumulative: Vec<u64>,
    count: u64,
    sum: f64,
}

/// One entry: `[number, unix time, size, arguments, …]`, where the size is in microseconds or in bytes.
struct Entry {
    number: u64,
    size: f64,
    command: String,
}

impl Entry {
    fn read(value: &Value) -> Option<Self> {
        let [id, _, size, arguments, ..] = items(value)? else { return None };
        let command = items(arguments)?.first().and_then(text).unwrap_or_default().to_ascii_lowercase();
        Some(Self { number: whole(id)?, size: number(size)?, command })
    }
}

fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

impl Read {
    /// Begins with this server process. `newest` is the number of its newest entry.
    fn begin(&mut self, run_id: &str, uptime: Option<f64>, newest: Option<u64>) {
        let after = newest.map_or(0, |newest| newest + 1);
        if self.run_id != run_id || after < self.next && newest.is_some() {
            // A process that began after the last look has logged nothing that was counted.
            let since = self.at.map(|at| at.elapsed() + Duration::from_secs(1));
            let restarted = since.zip(uptime).is_some_and(|(since, uptime)| uptime < since.as_secs_f64());
            self.next = if restarted { 0 } else { after };
            run_id.clone_into(&mut self.run_id);
        }
        self.at = Some(Instant::now());
    }

    /// Counts the new ones of the entries that were read, and those between that are not there.
    fn count(&mut self, entries: &[Entry], bounds: &[f64]) {
        let Some(end) = entries.iter().map(|entry| entry.number + 1).max() else { return };
        let new = || entries.iter().filter(|entry| entry.number >= self.next);
        let lost = end.saturating_sub(self.next).saturating_sub(new().count() as u64);
        for entry in entries.iter().filter(|entry| entry.number >= self.next) {
            let known = self.commands.contains_key(&entry.command) || self.commands.len() < MOST_COMMANDS;
            let command = if known { entry.command.as_str() } else { "other" };
            let histogram = self.commands.entry(command.to_owned()).or_default();
            histogram.cumulative.resize(bounds.len(), 0);
            for (count, bound) in histogram.cumulative.iter_mut().zip(bounds) {
                *count += u64::from(entry.size <= *bound);
            }
            histogram.count += 1;
            histogram.sum += entry.size;
        }
        self.lost += lost;
        self.next = self.next.max(end);
    }
}

impl LogEvents {
    pub(super) fn new(options: &Options) -> Self {
        let families =
            |labels: &[&str], bounds, log: &str, what: &str, sizes: &str, unit: &str| {
                let mut of_log = Shape::new(&labels[..labels.len() - 1]);
                let mut of_command = Shape::new(labels);
                Families {
                    entries: of_command.column(&options.counter(
                        &format!("{log}_entries_total"),
                        &format!("Entries of the {what} by command."),
                    )),
                    sizes: of_command.histogram(
                        &options.desc(
                            Kind::Histogram,
                            &format!("{log}_entry_{sizes}"),
                            &format!("{unit} of the entries of the {what} by command."),
                        ),
                        bounds,
                    ),
                    lost: of_log.column(&options.counter(
                        &format!("{log}_entries_lost_total"),
                        &format!("Entries that left the {what} before they were read."),
                    )),
                    of_log: Arc::new(of_log),
                    of_command: Arc::new(of_command),
                }
            };
        let large = "log of large requests and replies";
        Self {
            slow: families(&["cmd"], SECONDS, "slowlog", "slow log", "duration_seconds", "Duration"),
            large: families(&["type", "cmd"], BYTES, "commandlog", large, "size_bytes", "Size"),
            state: Mutex::default(),
        }
    }

    fn with<T>(&self, log: Log, then: impl FnOnce(&mut Read) -> T) -> T {
        then(self.state.lock().unwrap_or_else(PoisonError::into_inner).entry(log).or_default())
    }

    /// Reads what is new in one log; in the batch of the scrape when that is nothing.
    async fn read(&self, session: &Session, known: &Replies, log: Log) -> Result<(), ReplyError> {
        let newest = entries(session, log, 1).await?.first().map(|entry| entry.number);
        let next = self.with(log, |read| {
            read.begin(&known.server.run_id, known.info.number("uptime_in_seconds"), newest);
            read.next
        });
        let Some(mut new) = newest.and_then(|newest| (newest + 1).checked_sub(next)).filter(|new| *new > 0)
        else {
            return Ok(());
        };
        loop {
            let ask = (new + SLACK).min(MOST_ENTRIES);
            let found = entries(session, log, ask).await?;
            let oldest = found.iter().map(|entry| entry.number).min().unwrap_or(next);
            // A full reply that does not reach back: more than the slack was logged meanwhile.
            if oldest > next && found.len() as u64 >= ask && ask < MOST_ENTRIES {
                new = new.saturating_mul(4);
                continue;
            }
            let scale = if log == Log::Slow { 1e6 } else { 1.0 };
            let found: Vec<Entry> =
                found.into_iter().map(|entry| Entry { size: entry.size / scale, ..entry }).collect();
            self.with(log, |read| read.count(&found, bounds(log)));
            return Ok(());
        }
    }

    async fn collect(&self, session: &Session) -> Result<Snapshot, CollectError> {
        let mut page = Snapshot::new();
        // The newest entry of each log leaves in the first write, by what the last scrape knew of the server.
        let newest = |server: &Server| logs(server).into_iter().map(|log| Request::Log(log, 1)).collect();
        let known = session.fetch(newest).await?;
        let logs = logs(&known.server);
        for log in &logs {
            if let Err(error) = self.read(session, &known, *log).await {
                session.note(SPEC.name, error);
            }
        }
        for log in logs {
            self.with(log, |read| self.write(log, read, &mut page));
        }
        Ok(page)
    }

    fn write(&self, log: Log, read: &Read, page: &mut Snapshot) {
        if read.at.is_none() {
            return;
        }
        let (families, values): (_, &[&str]) = match log {
            Log::Slow => (&self.slow, &[]),
            Log::LargeRequest | Log::LargeReply => (&self.large, &[log.as_str()]),
        };
        page.table_of(&families.of_log).row(values).set(families.lost, read.lost as f64);
        let table = page.table_of(&families.of_command);
        for (command, histogram) in &read.commands {
            let cumulative: Vec<_> = histogram.cumulative.iter().map(|count| Some(*count as f64)).collect();
            let values: Vec<&str> = values.iter().copied().chain([command.as_str()]).collect();
            table.row(&values).set(families.entries, histogram.count as f64).histogram(
                &families.sizes,
                &cumulative,
                histogram.count as f64,
                Some(histogram.sum),
            );
        }
    }
}

fn bounds(log: Log) -> &'static [f64] {
    if log == Log::Slow { SECONDS } else { BYTES }
}

/// The logs of a server. Large requests and replies are Valkey's, since 8.1.
pub(crate) fn logs(server: &Server) -> Vec<Log> {
    match server {
        Server { sentinel: true, .. } => Vec::new(),
        Server { valkey, .. } if *valkey >= (8, 1) => vec![Log::Slow, Log::LargeRequest, Log::LargeReply],
        _ => vec![Log::Slow],
    }
}

/// The newest entries of a log, newest first.
async fn entries(session: &Session, log: Log, count: u64) -> Result<Vec<Entry>, ReplyError> {
    let request = Request::Log(log, count);
    let name = request.name();
    let reply = session.ask(request).await?;
    parse(&reply).ok_or_else(|| ReplyError::unexpected(name))
}

fn parse(reply: &Value) -> Option<Vec<Entry>> {
    items(reply)?.iter().map(Entry::read).collect()
}

impl Collector<Session> for LogEvents {
    fn spec(&self) -> &Spec {
        &SPEC
    }

    fn collect<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        Box::pin(self.collect(session))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::value;
    use proptest::prelude::*;

    fn entry(number: u64) -> Entry {
        Entry { number, size: 0.02, command: "get".to_owned() }
    }

    fn counted(read: &Read) -> (u64, u64) {
        (read.commands.values().map(|histogram| histogram.count).sum(), read.lost)
    }

    #[tokio::test(start_paused = true)]
    async fn each_entry_counts_once_and_gaps_are_lost() {
        let mut read = Read::default();
        read.begin("a", Some(1000.0), Some(41));
        read.count(&[41, 40].map(entry), SECONDS);
        assert_eq!(counted(&read), (0, 0));
        read.begin("a", Some(1015.0), Some(44));
        read.count(&[44, 43, 42, 41].map(entry), SECONDS);
        assert_eq!(counted(&read), (3, 0));
        read.count(&[50, 49].map(entry), SECONDS);
        assert_eq!(counted(&read), (5, 4));
        // An emptied log says nothing; its numbers go on.
        read.begin("a", Some(1030.0), None);
        read.count(&[51].map(entry), SECONDS);
        assert_eq!(counted(&read), (6, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_restarted_server_is_counted_from_its_start_and_another_one_from_now() {
        let mut read = Read::default();
        read.begin("a", Some(1000.0), Some(41));
        tokio::time::advance(Duration::from_secs(15)).await;
        read.begin("b", Some(5.0), Some(1));
        read.count(&[1, 0].map(entry), SECONDS);
        assert_eq!(counted(&read), (2, 0));
        read.begin("c", Some(5000.0), Some(99));
        read.count(&[99].map(entry), SECONDS);
        assert_eq!(counted(&read), (2, 0));
    }

    #[test]
    fn commands_are_bounded() {
        let mut read = Read::default();
        let entries: Vec<Entry> =
            (0..200).map(|number| Entry { command: format!("c{number}"), ..entry(number) }).collect();
        read.count(&entries, SECONDS);
        assert_eq!(read.commands.len(), MOST_COMMANDS + 1);
        assert_eq!((read.commands["other"].count, counted(&read).0), (136, 200));
    }

    proptest! {
        #[test]
        fn arbitrary_replies_never_panic(value in value()) {
            if let Some(entries) = parse(&value) {
                Read::default().count(&entries, BYTES);
            }
        }
    }
}
