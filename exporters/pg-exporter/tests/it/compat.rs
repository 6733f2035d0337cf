//! Families, types and labels of postgres_exporter 0.19.1, row by row of its table, on a primary with a standby,
//! slots, sessions and a running vacuum.

use std::collections::BTreeSet;

use exposition::{Kind, Page};
use rstest::rstest;
use testkit::postgres::{Postgres, Version};

use crate::exporter;

const TABLE: &str = include_str!("../data/postgres_exporter-0.19.1.tsv");
const WAIVERS: &str = include_str!("../data/waivers.tsv");

/// A family of the peer.
struct Row {
    family: &'static str,
    kind: Kind,
    labels: BTreeSet<&'static str>,
    legacy: bool,
}

/// The rows of collectors that are on or off by default, for a server version.
fn rows(major: u32, state: &str) -> Vec<Row> {
    let columns = |line: &'static str| line.split('\t').collect::<Vec<_>>();
    let mut rows = Vec::new();
    for row in TABLE.lines().skip(1).map(columns) {
        let [family, kind, labels, collector, default, since, until] = row[..] else { panic!("{row:?}") };
        let applies = |bound: &str, holds: fn(u32, u32) -> bool| {
            bound.split('.').next().and_then(|text| text.parse().ok()).is_none_or(|bound| holds(major, bound))
        };
        if default != state
            || family.contains('<')
            || !applies(since, |a, b| a >= b)
            || !applies(until, |a, b| a <= b)
        {
            continue;
        }
        let kind = match kind {
            "counter" => Kind::Counter,
            "gauge" => Kind::Gauge,
            "histogram" => Kind::Histogram,
            "summary" => Kind::Summary,
            "untyped" => Kind::Unknown,
            other => panic!("unknown type {other}"),
        };
        let labels = labels.split(',').filter(|label| !label.is_empty()).collect();
        rows.push(Row { family, kind, labels, legacy: collector.contains("legacy") });
    }
    rows
}

fn waived(family: &str) -> bool {
    let names =
        WAIVERS.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split('\t').next());
    names
        .into_iter()
        .any(|name| name.strip_suffix('*').map_or(name == family, |prefix| family.starts_with(prefix)))
}

/// What differs between a page and the peer's table. `v0_20` applies what 0.20 changed: no `server` label, except on
/// the two families that kept it; one prefix for all slot families; no reply_time.
fn differences(page: &Page, rows: &[Row], v0_20: bool) -> Vec<String> {
    let mut found = Vec::new();
    for row in rows.iter().filter(|row| !waived(row.family)) {
        if v0_20 && row.family == "pg_stat_replication_reply_time" {
            continue;
        }
        let name = if v0_20 {
            row.family.replace("pg_replication_slot_", "pg_replication_slots_")
        } else {
            row.family.to_owned()
        };
        let mut labels = row.labels.clone();
        let keeps_server = name == "pg_static" || name.starts_with("pg_stat_database_conflicts_");
        if v0_20 && row.legacy && !keeps_server {
            labels.remove("server");
        }
        let Some(family) = page.family(&name) else {
            found.push(format!("{name}: missing"));
            continue;
        };
        if family.kind != Some(row.kind) {
            found.push(format!("{name}: type {:?} instead of {:?}", family.kind, row.kind));
        }
        for sample in &family.samples {
            let names = sample.labels.iter().map(|(name, _)| name.as_str());
            // The bounds of a histogram are not among the peer's labels.
            let ours: BTreeSet<&str> =
                names.filter(|name| row.kind != Kind::Histogram || *name != "le").collect();
            if ours != labels {
                found.push(format!("{name}: labels {ours:?} instead of {labels:?}"));
                break;
            }
        }
    }
    found
}

/// A server where every default collector has something to say.
async fn eventful() -> anyhow::Result<(Postgres, Postgres, tokio_postgres::Client)> {
    let primary = Postgres::builder()
        .version(Version::Major(15))
        .setting("wal_level", "logical")
        .setting("max_slot_wal_keep_size", "1GB")
        .setting("autovacuum", "off")
        .setting("archive_mode", "on")
        .setting("archive_command", "true")
        .preload("pg_stat_statements")
        .start()
        .await?;
    primary
        .sql(
            "SELECT pg_create_physical_replication_slot('physical', true);
             SELECT pg_create_logical_replication_slot('logical', 'pgoutput');
             CREATE TABLE deals (id int PRIMARY KEY, note text);
             INSERT INTO deals SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g;
             DELETE FROM deals WHERE id % 2 = 0",
        )
        .await?;
    primary.sql("SELECT pg_switch_wal()").await?;
    let standby = primary.standby().await?;
    standby.sql("ALTER SYSTEM SET primary_slot_name = 'physical'").await?;
    standby.sql("SELECT pg_reload_conf()").await?;
    // A vacuum that pauses after every page, so that there is progress to see.
    let vacuum = primary.client().await?;
    vacuum.batch_execute("SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1").await?;
    Ok((primary, standby, vacuum))
}

#[tokio::test]
async fn same_families_types_and_labels_as_the_peer() -> anyhow::Result<()> {
    let (primary, standby, vacuum) = eventful().await?;
    let vacuum = tokio::spawn(async move { vacuum.batch_execute("VACUUM deals").await });
    for (mode, v0_20) in [("0.19", false), ("0.20", true)] {
        let exporter = exporter(&primary.dsn(), &["--compat", mode]).await?;
        let mut page = exporter.scrape(10.0).await?;
        // The vacuum and the standby's first reply need a moment.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while differences(&page, &rows(15, "on"), v0_20) != Vec::<String>::new()
            && std::time::Instant::now() < deadline
        {
            page = exporter.scrape(10.0).await?;
        }
        assert_eq!(differences(&page, &rows(15, "on"), v0_20), Vec::<String>::new(), "--compat={mode}");
        assert_eq!(crate::failed(&page), Vec::<String>::new());
        let slot = page.samples("pg_stat_replication_pg_wal_lsn_diff").next();
        let slot = slot.and_then(|sample| sample.label("slot_name")).unwrap_or_default();
        assert_eq!((slot == "physical", slot.parse::<u32>().is_ok()), (v0_20, !v0_20), "{slot:?}");
    }
    vacuum.abort();
    let exporter = exporter(&standby.dsn(), &[]).await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!(crate::failed(&page), Vec::<String>::new());
    assert_eq!(page.value("pg_replication_is_replica", &[]), Some(1.0));
    Ok(())
}

/// What is off by default, all switched on: on a primary where autovacuum is at work, and on its standby, which alone
/// has a WAL receiver.
#[rstest]
#[case(15)]
#[case(17)]
#[tokio::test]
async fn same_families_of_collectors_that_are_off_by_default(#[case] major: u32) -> anyhow::Result<()> {
    let primary = Postgres::builder()
        .version(Version::Major(major))
        .setting("autovacuum_naptime", "1s")
        .setting("autovacuum_vacuum_cost_delay", "100ms")
        .setting("autovacuum_vacuum_cost_limit", "1")
        .preload("pg_stat_statements")
        .start()
        .await?;
    primary
        .sql(
            "CREATE EXTENSION pg_stat_statements; CREATE EXTENSION pg_buffercache;
             CREATE TABLE deals (id int PRIMARY KEY, note text);
             INSERT INTO deals SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g;
             DELETE FROM deals WHERE id % 2 = 0;
             SELECT pg_create_physical_replication_slot('repmgr_slot_1', true)",
        )
        .await?;
    let standby = primary.standby().await?;
    standby.sql("ALTER SYSTEM SET primary_slot_name = 'repmgr_slot_1'").await?;
    standby.sql("SELECT pg_reload_conf()").await?;
    let all = crate::all_collectors();
    let arguments: Vec<&str> =
        all.iter().map(String::as_str).chain(["--collector.stat_statements.include_query"]).collect();
    let (of_standby, of_primary): (Vec<Row>, Vec<Row>) =
        rows(major, "off").into_iter().partition(|row| row.family.starts_with("pg_stat_wal_receiver_"));
    assert_eq!(of_standby.len(), 9);
    for (server, rows) in [(&primary, of_primary), (&standby, of_standby)] {
        let exporter = exporter(&server.dsn(), &arguments).await?;
        // Autovacuum and the standby need a moment.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let page = exporter.scrape(10.0).await?;
            let differences = differences(&page, &rows, true);
            if differences.is_empty() {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{differences:#?} {:?}", crate::failed(&page));
        }
    }
    Ok(())
}

#[test]
fn the_table_is_whole_and_every_waiver_is_used() {
    assert!(rows(15, "on").len() > 380, "{}", rows(15, "on").len());
    for line in WAIVERS.lines().filter(|line| !line.starts_with('#')).skip(1) {
        let (name, reason) = line.split_once('\t').expect("name and reason");
        let prefix = name.trim_end_matches('*');
        let used = ["on", "off"].iter().flat_map(|state| rows(9, state).into_iter().chain(rows(15, state)));
        assert!(used.into_iter().any(|row| row.family.starts_with(prefix)), "{name} waives nothing");
        assert!(!reason.is_empty());
    }
}
