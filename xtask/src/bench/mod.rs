//! `cargo xtask bench pg|redis|business`: what a scrape of our release build costs beside the peer, or beside other ways
//! to count, on servers of its own; `cargo xtask bench backend`: what measuring costs the backend.
//! Nothing is asserted: the tables are read, and kept in docs/benchmarks.md.

mod backend;
mod business;
mod measure;
mod pg;
mod programs;
mod redis;
mod report;
mod scraper;

use std::time::Duration;

use anyhow::{Result, bail};
use testkit::peer::Peer;

use self::{
    measure::{Subject, Target, measure},
    programs::Program,
};
use crate::{
    cargo,
    progress::{print, say},
};

/// Measure our exporters beside the ones they take the place of, and the backend with and without its metrics
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which exporter, or the backend
    server: Server,
    /// How long each is measured in each scenario
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,
    /// Only these scenarios
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Server {
    Pg,
    Redis,
    Backend,
    Business,
}

/// A kind of servers, and what there is in them.
struct Scenario<Fill> {
    /// For `--only`.
    name: &'static str,
    /// For the table.
    title: &'static str,
    /// Flags that both exporters get.
    flags: &'static [&'static str],
    /// What fills the server.
    fill: Fill,
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    match args.server {
        Server::Pg => pg::run(args).await,
        Server::Redis => redis::run(args).await,
        Server::Backend => backend::run(args).await,
        Server::Business => business::run(args).await,
    }
}

impl Args {
    /// The scenarios that were asked for.
    fn chosen<'a, Fill>(&self, all: &'a [Scenario<Fill>]) -> Result<Vec<&'a Scenario<Fill>>> {
        let names: Vec<&str> = all.iter().map(|scenario| scenario.name).collect();
        if let Some(unknown) = self.only.iter().find(|only| !names.contains(&only.as_str())) {
            bail!("there is no scenario {unknown:?}, but {}", names.join(", "));
        }
        let chosen = |scenario: &&Scenario<Fill>| {
            self.only.is_empty() || self.only.iter().any(|only| only == scenario.name)
        };
        Ok(all.iter().filter(chosen).collect())
    }
}

/// The peer, if there is one, and our release build.
async fn programs(ours: &str, peer: Peer) -> Result<(Option<Program>, Program)> {
    let binary = cargo::release(ours)?;
    let peer = match peer.binary().await {
        Ok(_) => Some(Program::Peer(peer)),
        Err(error) => {
            say(&format!("  {} is not measured: {error:#}", peer.name));
            None
        }
    };
    Ok((peer, Program::Ours(binary)))
}

/// Measures on one server and prints the table.
async fn compare(args: &Args, title: &str, target: &Target, subjects: &[Subject<'_>]) -> Result<()> {
    let figures = measure(target, subjects, Duration::from_secs(args.seconds)).await?;
    let titles: Vec<&str> = subjects.iter().map(|subject| subject.title).collect();
    report::lines(title, &titles, &figures).iter().for_each(|line| print(line));
    print("");
    Ok(())
}
