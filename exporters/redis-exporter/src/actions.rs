//! What the binary does instead of serving: `acl`, `check`, `once`, `compare`, `--report-unmapped`.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use exporter_kit::app::{Failure, OrFailure, healthcheck};
use exporter_kit::compare::{self, Changes};
use exporter_kit::page::Page;
use exporter_kit::scrape::{Pages, Scraper, Selection};
use exposition::{Snapshot, parse, text};
use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use crate::cli::{Action, Cli};
use crate::cluster::Cluster;
use crate::collectors::{Answers, Replies};
use crate::connection::Target;
use crate::error::{Reason, ReplyError};
use crate::exporter::{Exporter, build_info};
use crate::options::Options;
use crate::request::Server;
use crate::session::Session;
use crate::unmapped::unmapped;
use crate::{acl, collectors, families};

/// Does what the command line asks for.
///
/// # Errors
/// It cannot be done, or what it found is not as it should be.
pub async fn run(cli: &Cli, target: Option<Arc<Target>>, options: Arc<Options>) -> Result<(), Failure> {
    match cli.action() {
        Some(Action::Acl) => print(&rules(&options, cli.client_name())),
        Some(Action::Healthcheck) => {
            healthcheck(&cli.web().or_misconfigured()?.server, "/-/healthy").await.or_failed()
        }
        Some(Action::Families) => print(&families::page().or_failed()?),
        action => {
            // There is no background to find keys in: they are searched within the scrape.
            let served = Arc::clone(&options);
            let mut options = Options::clone(&options);
            options.features.sampler = None;
            let options = Arc::new(options);
            let cluster = cli.cluster(&options).or_misconfigured()?;
            let build = cli.own_metrics().then(|| build_info(&options));
            let decorate: Decorate =
                Arc::new(move |page| build.iter().for_each(|build| page.append(build.clone())));
            let cluster = cluster.map(|settings| {
                let decorate = Arc::clone(&decorate);
                Cluster::new(settings, move |page| decorate(page))
            });
            let work = Work {
                target,
                cluster: cluster.transpose().or_misconfigured()?,
                options,
                served,
                decorate,
                deadline: Instant::now() + cli.web.scrape_timeout.get(),
            };
            match action {
                Some(Action::Check) => work.check(cli.client_name()).await,
                Some(Action::Compare) => {
                    let old = cli.old().context("compare needs --old URL").or_misconfigured()?;
                    work.compare(old).await
                }
                _ if cli.report_unmapped() => work.report_unmapped().await,
                _ => work.once().await,
            }
        }
    }
}

struct Work {
    target: Option<Arc<Target>>,
    /// Takes the place of the target.
    cluster: Option<Arc<Cluster>>,
    options: Arc<Options>,
    /// The options of the exporter that serves.
    served: Arc<Options>,
    /// Adds what `/metrics` says of the exporter.
    decorate: Decorate,
    deadline: Instant,
}

type Decorate = Arc<dyn Fn(&mut Snapshot) + Send + Sync>;

impl Work {
    fn target(&self) -> Result<Arc<Target>, Failure> {
        self.target.clone().context("there is no target: give --url").or_misconfigured()
    }

    /// What `/metrics` would serve now.
    async fn page(&self) -> Result<Arc<Page>, Failure> {
        match &self.cluster {
            Some(cluster) => Ok(Arc::clone(cluster).page(Selection::ALL, self.deadline).await),
            None => {
                let options = Arc::clone(&self.options);
                let exporter = Exporter::new(Some(self.target()?), options).or_misconfigured()?;
                let decorate = Arc::clone(&self.decorate);
                let scraper = Scraper::new(exporter, move |page| decorate(page));
                Ok(scraper.scrape(Selection::ALL, self.deadline).await)
            }
        }
    }

    async fn once(&self) -> Result<(), Failure> {
        let page = self.page().await?;
        print(&written(&page))?;
        let up = format!("{}_up", self.options.namespace);
        let mut servers = page.snapshot().values(&up).map(|(_, value)| value).peekable();
        if servers.peek().is_some() && servers.all(|up| up > 0.0) {
            Ok(())
        } else {
            Err(Failure::failed(anyhow!("a server did not answer INFO")))
        }
    }

    async fn compare(&self, old: &str) -> Result<(), Failure> {
        let old = compare::read(old, self.deadline.saturating_duration_since(Instant::now())).await;
        let old = old.or_failed()?;
        let page = self.page().await?;
        let new = parse::page(&written(&page)).context("our own page is wrong").or_failed()?;
        let changes = Changes::between(&old, &new);
        print(&changes.to_string())?;
        match changes.breaking() {
            0 => Ok(()),
            count => Err(Failure::failed(anyhow!("{count} families of the old page are missing or changed"))),
        }
    }

    async fn session(&self) -> Result<Session, Failure> {
        Session::open(self.target()?, self.deadline).await.or_failed()
    }

    async fn report_unmapped(&self) -> Result<(), Failure> {
        let session = self.session().await?;
        let facts = session.read_facts().await.or_failed()?;
        let replies = Replies {
            info: Arc::clone(&facts.info),
            server: Arc::clone(&facts.server),
            start_time: facts.start_time,
            replies: Answers::default(),
        };
        let found = unmapped(&collectors::all(&self.options), &replies);
        let line = |field: &crate::unmapped::Unmapped| {
            let kind = if field.is_number() { "number" } else { "text" };
            format!("{kind}\t{}\t{}\t{}\n", field.section, field.field, field.value)
        };
        print(&found.iter().map(line).collect::<String>())
    }

    /// Tries each command that a scrape would send, on each server that it would send it to.
    async fn check(&self, client_name: bool) -> Result<(), Failure> {
        let targets = match &self.cluster {
            Some(cluster) => cluster.targets(self.deadline).await,
            None => vec![(String::new(), self.target()?)],
        };
        let check = async |target| self.check_one(target, client_name).await;
        let found = join_all(targets.iter().map(|(_, target)| check(target))).await;
        let (mut out, mut missing, mut down) = (String::new(), 0, 0);
        for ((node, _), found) in targets.iter().zip(found) {
            if !node.is_empty() {
                out += &format!("# {node}\n");
            }
            match found {
                Ok(found) => {
                    missing += found.missing;
                    out += &found.text;
                }
                Err(error) => {
                    down += 1;
                    out += &format!("down     {error} ({})\n", error.reason);
                }
            }
        }
        print(&out)?;
        let message = match (missing, down) {
            (0, 0) => return Ok(()),
            (missing, 0) => anyhow!("{missing} commands cannot be used; `acl` prints the rule"),
            (missing, down) => anyhow!("{missing} commands and {down} servers cannot be used"),
        };
        Err(Failure::failed(message))
    }

    async fn check_one(&self, target: &Arc<Target>, client_name: bool) -> Result<Checked, ReplyError> {
        let session = Session::open(Arc::clone(target), self.deadline).await?;
        let server = match session.read_facts().await {
            Ok(facts) => Server::clone(&facts.server),
            Err(error) if error.reason == Reason::Noperm => Server::default(),
            Err(error) => return Err(error),
        };
        let link = target.link(None, self.deadline).await?;
        let mut found = Checked::default();
        for need in acl::needs(&self.served, &server, client_name) {
            let reply = timeout_at(self.deadline, link.send(need.command.clone())).await;
            let error = match reply {
                Err(_) => Some(ReplyError::timeout("check")),
                Ok(Err(failure)) => Some(failure.of("check")),
                Ok(Ok(_)) => None,
            };
            // A key that is not there, or is of another type, shows that the command is allowed.
            match error.filter(|error| error.reason != Reason::Protocol) {
                None => found.text += &format!("ok       {}\n", need.name),
                Some(error) => {
                    found.missing += 1;
                    let costs = costs(&need);
                    found.text += &format!("missing  {} ({}): costs {costs}\n", need.name, error.reason);
                }
            }
        }
        Ok(found)
    }
}

/// What [`Work::check`] says of one server.
#[derive(Default)]
struct Checked {
    text: String,
    missing: usize,
}

/// A page in the text format.
fn written(page: &Page) -> String {
    let mut out = String::new();
    text::encode(page.snapshot(), &mut out);
    out
}

fn costs(need: &acl::Need) -> String {
    match need.lost() {
        [] => "no family".to_owned(),
        lost => lost.join(", "),
    }
}

/// One rule for each kind of server.
fn rules(options: &Options, client_name: bool) -> String {
    let mut out = String::new();
    for (name, version, valkey) in acl::SERVERS {
        let server = Server { version: *version, valkey: *valkey, cluster: true, ..Server::default() };
        let rule = acl::rule(options, &server, client_name).join(" ");
        out += &format!("# {name}\nACL SETUSER redis_exporter on >PASSWORD {rule}\n");
    }
    let sentinel =
        Server { sentinel: true, version: (6, 2), masters: vec![String::new()], ..Server::default() };
    let rule = acl::rule(options, &sentinel, client_name).join(" ");
    out += &format!("# Sentinel 6.2 and later\nACL SETUSER redis_exporter on >PASSWORD {rule}\n");
    if !options.features.scripts.is_empty() {
        out += "# Add what your Lua scripts call.\n";
    }
    out
}

fn print(text: &str) -> Result<(), Failure> {
    std::io::stdout().lock().write_all(text.as_bytes()).or_failed()
}
