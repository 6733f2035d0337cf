//! pg-exporter against real servers: the binary as users run it.

mod catalog;
mod commands;
mod compat;
mod databases;
mod denied;
mod drop_in;
mod duplicates;
mod faults;
mod lifecycle;
mod peer;
mod probe;
mod queries;
mod replication;
mod servers;
mod statements;
mod usage;
mod values;
mod versions;
mod views;

use testkit::exporter::Exporter;

/// The exporter for a connection string.
async fn exporter(dsn: &str, args: &[&str]) -> anyhow::Result<Exporter> {
    Exporter::start(env!("CARGO_BIN_EXE_pg-exporter"), &[&["--dsn", dsn], args].concat(), |process| process)
        .await
}

/// The flags that switch every collector on.
fn all_collectors() -> Vec<String> {
    let names = pg_exporter::collectors::ALL.iter().map(|collector| collector.spec.name);
    names.map(|name| format!("--collector.{name}")).collect()
}

/// Names of collectors that did not end well. One that the server is too old for did.
fn failed(page: &exposition::Page) -> Vec<String> {
    page.samples("pg_exporter_collector_outcome")
        .filter(|sample| !matches!(sample.label("outcome"), Some("ok" | "unsupported_version")))
        .map(|sample| format!("{:?}", sample.labels))
        .collect()
}

/// The rows of a data file: `N` columns, separated by tabs. Lines that start with `#` are comments, the first other line
/// has the names of the columns.
fn rows_of<const N: usize>(text: &'static str) -> impl Iterator<Item = [&'static str; N]> {
    let lines = text.lines().filter(|line| !line.starts_with('#')).skip(1);
    lines.map(|line| match line.split('\t').collect::<Vec<_>>().try_into() {
        Ok(columns) => columns,
        Err(columns) => panic!("{N} columns are wanted: {columns:?}"),
    })
}
