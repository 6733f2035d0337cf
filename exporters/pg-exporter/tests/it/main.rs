//! pg-exporter against real servers: the binary as users run it.

mod commands;
mod compat;
mod faults;
mod lifecycle;
mod peer;
mod probe;
mod queries;
mod servers;
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
