//! What the binary does instead of serving: `acl`, `check`, `once`, `compare`, `--report-unmapped`.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use exporter_kit::app::{Failure, OrFailure, healthcheck};
use exporter_kit::scrape::{Scraper, Selection};
use exposition::{parse, text};
use tokio::time::{Instant, timeout_at};

use crate::cli::{Action, Cli};
use crate::collectors::Replies;
use crate::connection::Target;
use crate::error::{Reason, ReplyError};
use crate::exporter::Exporter;
use crate::options::Options;
use crate::request::Server;
use crate::session::Session;
use crate::unmapped::unmapped;
use crate::{acl, collectors, compare, families};

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
            let target = target.context("there is no target: give --url").or_misconfigured()?;
            let work = Work { target, options, deadline: Instant::now() + cli.web.scrape_timeout.get() };
            match action {
                Some(Action::Check) => work.check(cli.client_name()).await,
                Some(Action::Compare) => {
                    let old = cli.old().context("compare needs --old URL").or_misconfigured()?;
                    work.compare(old).await
                }
                _ if cli.report_unmapped() => work.report_unmapped().await,
                _ => {
                    let (page, up) = work.page().await?;
                    print(&page)?;
                    if up { Ok(()) } else { Err(Failure::failed(anyhow!("the server did not answer INFO"))) }
                }
            }
        }
    }
}

struct Work {
    target: Arc<Target>,
    options: Arc<Options>,
    deadline: Instant,
}

impl Work {
    /// One page, and whether the server is up.
    async fn page(&self) -> Result<(String, bool), Failure> {
        // There is no background to find keys in: they are searched within the scrape.
        let mut options = (*self.options).clone();
        options.features.sampler = None;
        let exporter = Exporter::new(Some(Arc::clone(&self.target)), Arc::new(options)).or_misconfigured()?;
        let page = Scraper::new(exporter, |_| {}).scrape(Selection::ALL, self.deadline).await;
        let mut out = String::new();
        text::encode(page.snapshot(), &mut out);
        let up = format!("{}_up 1\n", self.options.namespace);
        let is_up = out.contains(&up);
        Ok((out, is_up))
    }

    async fn compare(&self, old: &str) -> Result<(), Failure> {
        let old = timeout_at(self.deadline, compare::read(old)).await;
        let old = old.map_err(|_| anyhow!("--old did not answer in time")).or_failed()?.or_failed()?;
        let (page, _) = self.page().await?;
        let new =
            parse::page(&page).map_err(|error| anyhow!("our own page is wrong: {error:?}")).or_failed()?;
        let found = compare::compare(&old, &new);
        print(&found.text)?;
        if found.lost == 0 {
            Ok(())
        } else {
            Err(Failure::failed(anyhow!("the new page lacks some of the old one")))
        }
    }

    async fn session(&self) -> Result<Session, Failure> {
        Session::open(Arc::clone(&self.target), self.deadline).await.or_failed()
    }

    async fn report_unmapped(&self) -> Result<(), Failure> {
        let session = self.session().await?;
        let facts = session.read_facts().await.or_failed()?;
        let replies = Replies {
            info: Arc::clone(&facts.info),
            server: Arc::clone(&facts.server),
            start_time: facts.start_time,
            replies: std::collections::HashMap::new(),
        };
        let found = unmapped(&collectors::all(&self.options), &replies);
        let line = |field: &crate::unmapped::Unmapped| {
            let kind = if field.is_number() { "number" } else { "text" };
            format!("{kind}\t{}\t{}\t{}\n", field.section, field.field, field.value)
        };
        print(&found.iter().map(line).collect::<String>())
    }

    /// Tries each command that a scrape would send.
    async fn check(&self, client_name: bool) -> Result<(), Failure> {
        let session = self.session().await?;
        let server = match session.read_facts().await {
            Ok(facts) => Server::clone(&facts.server),
            Err(error) if error.reason == Reason::Noperm => Server::default(),
            Err(error) => return Err(Failure::failed(error)),
        };
        let link = self.target.link(None, self.deadline).await.or_failed()?;
        let (mut out, mut refused) = (String::new(), 0);
        for need in acl::needs(&self.options, &server, client_name) {
            let reply = timeout_at(self.deadline, link.send(&need.command)).await;
            let error = match reply {
                Err(_) => Some(ReplyError::timeout("check")),
                Ok(Err(error)) => Some(ReplyError::new("check", &error)),
                Ok(Ok(_)) => None,
            };
            // A key that is not there, or is of another type, shows that the command is allowed.
            match error.filter(|error| error.reason != Reason::Protocol) {
                None => out += &format!("ok       {}\n", need.name),
                Some(error) => {
                    refused += 1;
                    out += &format!("missing  {} ({}): costs {}\n", need.name, error.reason, costs(&need));
                }
            }
        }
        print(&out)?;
        match refused {
            0 => Ok(()),
            count => Err(Failure::failed(anyhow!("{count} commands cannot be used; `acl` prints the rule"))),
        }
    }
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
