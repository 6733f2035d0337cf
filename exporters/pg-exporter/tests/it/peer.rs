//! Beside postgres_exporter 0.19 itself, where the variable `PG_PEER` names its binary: on one server both have the same
//! families, types, labels and, where they stand still, values. Without the variable there is nothing to compare with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use exposition::Page;
use testkit::http::get;
use testkit::postgres::{Postgres, Version};
use testkit::process::Process;

use crate::exporter;

/// Collectors that are off by default, and whose values do not depend on who asks.
const COLLECTORS: [&str; 3] =
    ["--collector.database_wraparound", "--collector.postmaster", "--collector.statio_user_indexes"];

/// What the two say of themselves, and what each sees of the other.
const OWN: [&str; 10] = [
    "go_",
    "pg_exporter_",
    "pg_locks_count",
    "pg_scrape_",
    // What the peer's driver sets for its session.
    "pg_settings_extra_float_digits",
    "pg_stat_activity_",
    "pg_stat_database_numbackends",
    "postgres_exporter_",
    "process_",
    "promhttp_",
];

/// Samples by name and labels.
fn samples(page: &Page) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for sample in page.families.iter().flat_map(|family| &family.samples) {
        if OWN.iter().all(|own| !sample.name.starts_with(own)) {
            let mut labels = sample.labels.clone();
            labels.sort();
            found.insert(format!("{}{labels:?}", sample.name), sample.value);
        }
    }
    found
}

#[tokio::test]
async fn the_same_page_as_the_peer() -> anyhow::Result<()> {
    let Some(binary) = std::env::var_os("PG_PEER") else { return Ok(()) };
    let server = Postgres::builder()
        .version(Version::Major(15))
        .setting("autovacuum", "off")
        .setting("wal_level", "logical")
        .setting("max_slot_wal_keep_size", "1GB")
        .start()
        .await?;
    server
        .sql(
            "SELECT pg_create_physical_replication_slot('physical', true);
             CREATE SCHEMA \"odd \"\"schema\"; CREATE TABLE \"odd \"\"schema\".\"line\nbreak\\\" (id int);
             CREATE TABLE deals (id int PRIMARY KEY, note text);
             INSERT INTO deals SELECT g, repeat(md5(g::text), 100) FROM generate_series(1, 1000) g;
             DELETE FROM deals WHERE id > 900",
        )
        .await?;
    server.sql("VACUUM ANALYZE deals").await?;
    let folder = tempfile::tempdir()?;
    let port = testkit::free_port()?;
    let mut peer = Process::builder("postgres_exporter", PathBuf::from(binary), folder.path().join("log"))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(COLLECTORS)
        .env("DATA_SOURCE_NAME", server.dsn())
        .spawn()?;
    peer.wait_for_port(([127, 0, 0, 1], port).into(), Duration::from_secs(20)).await?;
    let of_peer = async || {
        anyhow::Ok(exposition::parse::page(&get(&format!("http://127.0.0.1:{port}/metrics")).await?.text)?)
    };
    let arguments = ["--compat=0.19", "--size-refresh=0"];
    let ours = exporter(&server.dsn(), &[&arguments[..], &COLLECTORS].concat()).await?;
    // The first scrapes make connections.
    of_peer().await?;
    ours.scrape(20.0).await?;

    let (before, ours, after) = (of_peer().await?, ours.scrape(20.0).await?, of_peer().await?);
    let mut wrong = Vec::new();
    for family in before.families.iter().filter(|family| !family.name.starts_with("go_")) {
        let kind = ours.family(&family.name).map(|ours| ours.kind);
        if kind != Some(family.kind) {
            wrong.push(format!("{}: {kind:?} instead of {:?}", family.name, family.kind));
        }
    }
    let (before, ours, after) = (samples(&before), samples(&ours), samples(&after));
    let mut compared = 0;
    for (sample, value) in &before {
        let same = |other: f64| other.to_bits() == value.to_bits();
        match ours.get(sample) {
            None => wrong.push(format!("{sample} is missing")),
            // Scraping moves some of them.
            Some(_) if !after.get(sample).copied().is_some_and(same) => {}
            Some(found) if same(*found) => compared += 1,
            Some(found) => wrong.push(format!("{sample}: {found} instead of {value}")),
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(compared > 400, "only {compared} values stood still");
    Ok(())
}
