//! `check`: connects, runs each collector once, and says what fails, why, and what to do.

use std::fmt::Write;

use exporter_kit::app::{Failure, OrFailure};
use exporter_kit::collector::{CollectError, Outcome};
use exporter_kit::scrape::Source;
use pg_client::Environment;
use tokio::time::{Instant, timeout_at};

use super::print;
use crate::cli::Cli;
use crate::databases::Databases;
use crate::exporter::{source, user_queries};
use crate::session::PgSession;
use crate::source::PgSource;

/// Whether the role sees what belongs to others: without these, rows and values are missing without an error.
const ROLES: &str =
    "SELECT current_user::text, name, pg_catalog.pg_has_role(current_user, name, 'USAGE')::text
     FROM (VALUES ('pg_read_all_stats'), ('pg_read_all_settings')) AS needed(name)";

pub(super) async fn run(cli: &Cli, environment: &Environment) -> Result<(), Failure> {
    let queries = user_queries(cli).or_misconfigured()?;
    let connectors = cli.connectors(environment).or_misconfigured()?;
    let mut failed = 0;
    for (index, connector) in connectors.into_iter().enumerate() {
        let source = source(cli, connector, &queries, index == 0);
        let (report, failures) = check(&source, Instant::now() + cli.web.scrape_timeout.get()).await;
        print(&report);
        failed += failures;
    }
    match failed {
        0 => Ok(()),
        1 => Err(Failure::failed(anyhow::anyhow!("1 problem"))),
        count => Err(Failure::failed(anyhow::anyhow!("{count} problems"))),
    }
}

/// The report on a server, and how many problems there are.
async fn check(source: &PgSource, deadline: Instant) -> (String, usize) {
    let server = source.server_label();
    let session = match timeout_at(deadline, source.open(deadline)).await {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => return (format!("{server}: no connection: {}\n", error.message), 1),
        Err(_) => return (format!("{server}: no connection: no answer before the deadline\n"), 1),
    };
    let mut report = format!("{server}: PostgreSQL {}\n", session.major());
    let mut failures = hidden(&session, &mut report).await;
    let _ = writeln!(report, "{:<28} {:<20} {:>8} {:>9}", "COLLECTOR", "OUTCOME", "SERIES", "SECONDS");
    for collector in source.collectors() {
        let started = Instant::now();
        // Each has the whole time: it is a check of each, not of all together.
        let timeout = started + deadline.saturating_duration_since(started);
        let late = |_| Err(CollectError::new(Outcome::Timeout, "no reply before the deadline"));
        let result = timeout_at(timeout, collector.collect(&session)).await.unwrap_or_else(late);
        let (outcome, series) = match &result {
            Ok(snapshot) => (Outcome::Ok, snapshot.len()),
            Err(error) => (error.outcome, 0),
        };
        let (name, seconds) = (collector.spec().name, started.elapsed().as_secs_f64());
        let _ = writeln!(report, "{name:<28} {:<20} {series:>8} {seconds:>9.3}", outcome.as_str());
        if let Err(error) = result {
            let _ = writeln!(report, "    why:  {}", error.message);
            let _ = writeln!(report, "    do:   {}", advice(error.outcome, name));
            failures += usize::from(error.outcome.is_failure());
        }
    }
    for (database, collector, error) in source.databases().map(Databases::failures).unwrap_or_default() {
        let _ = writeln!(report, "{collector} in database {database}: {}", error.outcome.as_str());
        let _ = writeln!(report, "    why:  {}", error.message);
        let _ = writeln!(report, "    do:   {}, or --exclude-databases", advice(error.outcome, collector));
        failures += 1;
    }
    (report, failures)
}

/// Says which roles are missing; how many.
async fn hidden(session: &PgSession, report: &mut String) -> usize {
    let Ok(rows) = session.query(ROLES, true).await else { return 0 };
    let mut missing = 0;
    for row in rows.iter().filter(|row| row.get(2) == Some("false")) {
        let (user, role) = (row.get(0).unwrap_or_default(), row.get(1).unwrap_or_default());
        let _ = writeln!(report, "role {user:?} is not a member of {role}: what belongs to others is hidden");
        let _ = writeln!(report, "    do:   run the output of `pg-exporter grants` as a superuser");
        missing += 1;
    }
    missing
}

fn advice(outcome: Outcome, collector: &str) -> String {
    match outcome {
        Outcome::Ok => String::new(),
        Outcome::Permission => "run the output of `pg-exporter grants` as a superuser".to_owned(),
        Outcome::MissingExtension => {
            format!("create the extension in the connected database, or --no-collector.{collector}")
        }
        Outcome::UnsupportedVersion => format!("nothing, or --no-collector.{collector}"),
        Outcome::Timeout => format!("raise --scrape-timeout, or --no-collector.{collector}"),
        Outcome::LockTimeout => "find who holds the lock: pg_locks, pg_blocking_pids()".to_owned(),
        Outcome::Connection => "look into the server's log: it closed the connection".to_owned(),
        Outcome::TooCostly | Outcome::Error => {
            "read the message; for a query of your own, correct it".to_owned()
        }
    }
}
