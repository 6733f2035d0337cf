//! `grants`: the role and what it must be granted, for the collectors that are on and the server's version.

use std::collections::BTreeMap;
use std::fmt::Write;

use exporter_kit::app::{Failure, OrFailure};
use pg_client::Environment;
use tokio::time::Instant;

use super::print;
use crate::cli::Cli;
use crate::options::{Databases, WhichDatabases};
use crate::queries;

/// What to grant, to whom.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Name of the role
    #[arg(long, default_value = "monitor")]
    role: String,
    /// Major version of the server; asked from the server if left out
    #[arg(long, value_name = "MAJOR")]
    server_version: Option<u32>,
}

/// A privilege beyond what every role has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// Membership in a predefined role.
    Member(&'static str),
    /// An extension in the connected database.
    Extension(&'static str),
    /// EXECUTE on a function.
    Execute(&'static str),
}

const STATS: Need = Need::Member("pg_read_all_stats");

/// What collectors need, and since which major version. One that is not here reads what everybody may read.
const NEEDS: &[(&str, u32, Need)] = &[
    ("buffercache_summary", 16, Need::Extension("pg_buffercache")),
    ("buffercache_summary", 16, Need::Execute("pg_buffercache_summary()")),
    ("connections", 0, STATS),
    ("database", 0, STATS),
    ("long_running_transactions", 0, STATS),
    ("process_idle", 0, STATS),
    ("recovery", 0, STATS),
    ("settings", 0, Need::Member("pg_read_all_settings")),
    ("settings_info", 0, Need::Member("pg_read_all_settings")),
    ("stat_activity", 0, STATS),
    ("stat_activity_autovacuum", 0, STATS),
    ("stat_progress", 0, STATS),
    ("stat_progress_vacuum", 0, STATS),
    ("stat_replication", 0, STATS),
    ("stat_replication_lag", 0, STATS),
    ("stat_ssl", 0, STATS),
    ("stat_statements", 0, Need::Extension("pg_stat_statements")),
    ("stat_statements", 0, STATS),
    ("stat_statements_totals", 0, Need::Extension("pg_stat_statements")),
    ("stat_wal_receiver", 0, STATS),
    ("wait_events", 0, STATS),
    ("wal", 0, Need::Execute("pg_catalog.pg_ls_waldir()")),
    ("xmin_horizon", 0, STATS),
];

/// Sessions on a server: statistics, sizes, and one that is still ending when another takes its place.
const CONNECTIONS: usize = 3;

pub(super) async fn run(args: &Args, cli: &Cli, environment: &Environment) -> Result<(), Failure> {
    let connectors = cli.connectors(environment).or_misconfigured()?;
    let connector = connectors.into_iter().next();
    let connector = connector.ok_or_else(|| Failure::misconfigured(anyhow::anyhow!("there is no server")))?;
    let major = match args.server_version {
        Some(major) => major,
        None => {
            let deadline = Instant::now() + cli.web.scrape_timeout.get();
            let session = connector.connect(deadline).await.map_err(|error| {
                let advice = "give --server-version to do without the server";
                Failure::failed(anyhow::anyhow!("cannot ask the server's version: {error}; {advice}"))
            })?;
            session.version_num() / 10_000
        }
    };
    let collectors: Vec<&str> = cli.enabled().iter().map(|collector| collector.spec.name).collect();
    print(&script(&args.role, connector.dsn().dbname(), major, connections(cli), &collectors));
    if collectors.contains(&"sequences") {
        print("-- And USAGE on the sequences whose values shall be seen: others have no samples.\n");
    }
    if cli.query_path().is_some() {
        print("-- And SELECT on what the queries of --extend.query-path read.\n");
    }
    Ok(())
}

/// Most sessions that there may be at a time.
fn connections(cli: &Cli) -> usize {
    let queries = usize::from(cli.query_path().is_some());
    let discovery = cli.discovery().map_or(0, |_| queries * queries::databases::SESSIONS);
    let Databases { which, sessions, .. } = cli.options().databases;
    // As many again are still ending.
    let databases = if which == WhichDatabases::All { 2 * sessions.get() } else { 0 };
    CONNECTIONS + queries + discovery + databases
}

/// The statements.
fn script(role: &str, database: &str, major: u32, connections: usize, collectors: &[&str]) -> String {
    let role = quoted(role);
    let mut needs: BTreeMap<Need, Vec<&str>> = BTreeMap::new();
    for (collector, since, need) in NEEDS {
        if collectors.contains(collector) && major >= *since {
            needs.entry(*need).or_default().push(collector);
        }
    }
    let mut script = format!(
        "-- PostgreSQL {major}. Run as a superuser, with psql, in database {database}.\n\
         CREATE ROLE {role} LOGIN CONNECTION LIMIT {connections};\n\
         -- Then, to give it a password that nobody else sees: \\password {role}\n"
    );
    // Extensions bring the functions that are granted.
    let order = |need: &Need| matches!(need, Need::Execute(_));
    let (last, first): (Vec<_>, Vec<_>) = needs.iter().partition(|(need, _)| order(need));
    for (need, collectors) in first.into_iter().chain(last) {
        let statement = match need {
            Need::Member(member) => format!("GRANT {member} TO {role};"),
            Need::Extension(name) => format!("CREATE EXTENSION IF NOT EXISTS {name};"),
            Need::Execute(function) => format!("GRANT EXECUTE ON FUNCTION {function} TO {role};"),
        };
        let _ = writeln!(script, "{statement} -- {}", collectors.join(", "));
    }
    script
}

fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match name.chars().all(plain) && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors;

    #[test]
    fn only_what_is_needed_is_granted() {
        let without = script("monitor", "postgres", 17, 3, &["locks", "roles"]);
        assert!(!without.contains("GRANT"), "{without}");
        let wal = script("moni\"tor", "postgres", 17, 3, &["wal"]);
        assert!(wal.contains("pg_ls_waldir() TO \"moni\"\"tor\"; -- wal"), "{wal}");
        let old = script("monitor", "postgres", 15, 3, &["buffercache_summary"]);
        assert!(!old.contains("EXTENSION"), "{old}");
    }

    #[test]
    fn connections_are_those_that_the_flags_take() {
        for (flags, expected) in [
            (&[] as &[_], 3),
            (&["--extend.query-path=q.yaml"], 4),
            (&["--extend.query-path=q.yaml", "--auto-discover-databases"], 6),
            (&["--auto-discover-databases"], 3),
            (&["--databases=all", "--databases.sessions=3"], 9),
        ] {
            let arguments = ["pg-exporter"].iter().chain(flags).map(std::ffi::OsString::from);
            let cli = Cli::try_parse(arguments, &Environment::default()).unwrap();
            assert_eq!(connections(&cli), expected, "{flags:?}");
        }
    }

    #[test]
    fn every_need_is_that_of_a_collector() {
        for (collector, ..) in NEEDS {
            assert!(collectors::ALL.iter().any(|known| known.spec.name == *collector), "{collector}");
        }
    }
}
