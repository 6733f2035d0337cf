//! On a quiet server, every sample that comes straight from a catalog column equals that column.

use std::collections::BTreeMap;

use exposition::Page;
use testkit::postgres::Postgres;
use tokio_postgres::SimpleQueryMessage;

use crate::exporter;

/// A view and how its columns are called on the page.
struct View {
    sql: &'static str,
    /// Label columns come first.
    labels: &'static [&'static str],
    prefix: &'static str,
}

const VIEWS: &[View] = &[
    View {
        sql: "SELECT datid, datname, xact_rollback, blks_read, tup_inserted, tup_updated, tup_deleted, conflicts,
                     temp_files, temp_bytes, deadlocks, blk_read_time, blk_write_time,
                     coalesce(floor(extract(epoch FROM stats_reset)), 0) AS stats_reset
              FROM pg_stat_database WHERE datname IS NOT NULL",
        labels: &["datid", "datname"],
        prefix: "pg_stat_database",
    },
    View {
        sql: "SELECT datid, datname, confl_tablespace, confl_lock, confl_snapshot, confl_bufferpin, confl_deadlock
              FROM pg_stat_database_conflicts",
        labels: &["datid", "datname"],
        prefix: "pg_stat_database_conflicts",
    },
    View {
        sql: "SELECT current_database() AS datname, schemaname, relname, seq_scan, seq_tup_read,
                     coalesce(idx_scan, 0) AS idx_scan, coalesce(idx_tup_fetch, 0) AS idx_tup_fetch, n_tup_ins,
                     n_tup_upd, n_tup_del, n_tup_hot_upd, n_live_tup, n_dead_tup, n_mod_since_analyze, vacuum_count,
                     autovacuum_count, analyze_count, autoanalyze_count,
                     coalesce(floor(extract(epoch FROM last_vacuum)), 0) AS last_vacuum,
                     coalesce(floor(extract(epoch FROM last_autovacuum)), 0) AS last_autovacuum,
                     coalesce(floor(extract(epoch FROM last_analyze)), 0) AS last_analyze,
                     coalesce(floor(extract(epoch FROM last_autoanalyze)), 0) AS last_autoanalyze,
                     pg_indexes_size(relid) AS index_size_bytes, pg_table_size(relid) AS table_size_bytes
              FROM pg_stat_user_tables",
        labels: &["datname", "schemaname", "relname"],
        prefix: "pg_stat_user_tables",
    },
    View {
        sql: "SELECT current_database() AS datname, schemaname, relname, heap_blks_read AS heap_blocks_read,
                     heap_blks_hit AS heap_blocks_hit, coalesce(idx_blks_read, 0) AS idx_blocks_read,
                     coalesce(idx_blks_hit, 0) AS idx_blocks_hit, coalesce(toast_blks_read, 0) AS toast_blocks_read,
                     coalesce(toast_blks_hit, 0) AS toast_blocks_hit, coalesce(tidx_blks_read, 0) AS tidx_blocks_read,
                     coalesce(tidx_blks_hit, 0) AS tidx_blocks_hit
              FROM pg_statio_user_tables",
        labels: &["datname", "schemaname", "relname"],
        prefix: "pg_statio_user_tables",
    },
    View {
        sql: "SELECT datname, datconnlimit AS connection_limit, pg_database_size(oid) AS size_bytes FROM pg_database",
        labels: &["datname"],
        prefix: "pg_database",
    },
    View {
        sql: "SELECT rolname, rolconnlimit AS connection_limit FROM pg_roles",
        labels: &["rolname"],
        prefix: "pg_roles",
    },
    View { sql: "SELECT archived_count, failed_count FROM pg_stat_archiver", labels: &[], prefix: "pg_stat_archiver" },
];

/// Cells by family and labels, as the server says them.
async fn truth(client: &tokio_postgres::Client, view: &View) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut cells = BTreeMap::new();
    for message in client.simple_query(view.sql).await? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let cell = |index: usize| row.get(index).unwrap_or_default();
        let labels: Vec<_> =
            view.labels.iter().enumerate().map(|(index, name)| (*name, cell(index))).collect();
        for index in view.labels.len()..row.len() {
            let name = row.columns()[index].name();
            cells.insert(format!("{}_{name} {labels:?}", view.prefix), cell(index).parse()?);
        }
    }
    Ok(cells)
}

/// The same cells as the page says them.
fn found(page: &Page, view: &View, truth: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let names: std::collections::BTreeSet<&str> =
        truth.keys().filter_map(|key| key.split(' ').next()).collect();
    let mut cells = BTreeMap::new();
    for name in names {
        for sample in page.samples(name) {
            let labels: Vec<_> =
                view.labels.iter().map(|label| (*label, sample.label(label).unwrap_or_default())).collect();
            cells.insert(format!("{name} {labels:?}"), sample.value);
        }
    }
    cells
}

#[tokio::test]
async fn samples_equal_the_catalog() -> anyhow::Result<()> {
    let server = Postgres::builder().setting("autovacuum", "off").start().await?;
    server
        .sql(
            "CREATE SCHEMA \"odd \"\"schema\";
             CREATE TABLE deals (id int PRIMARY KEY, note text);
             CREATE INDEX ON deals (note);
             CREATE TABLE \"odd \"\"schema\".\"line\nbreak\\\" (id int);
             CREATE MATERIALIZED VIEW deals_now AS SELECT * FROM deals;
             CREATE TABLE events (id int, at date) PARTITION BY RANGE (at);
             CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
             INSERT INTO deals SELECT g, repeat(md5(g::text), 100) FROM generate_series(1, 1000) g;
             UPDATE deals SET note = 'x' WHERE id < 100;
             DELETE FROM deals WHERE id > 900;
             SELECT count(*) FROM deals WHERE id = 7",
        )
        .await?;
    server.sql("CREATE DATABASE other").await?;
    server.sql("VACUUM ANALYZE deals").await?;
    let client = server.client().await?;
    // Statistics of the sessions above arrive when those sessions end; then they stand still.
    let exporter = exporter(&server.dsn(), &["--size-refresh", "0"]).await?;
    for view in VIEWS {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let before = truth(&client, view).await?;
            let page = exporter.scrape(10.0).await?;
            let after = truth(&client, view).await?;
            let found = found(&page, view, &before);
            if before == after && found == before {
                assert!(!before.is_empty(), "{} has no rows", view.prefix);
                break;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "{}: the page and the catalog differ\npage    {found:#?}\ncatalog {before:#?}",
                view.prefix
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn settings_are_converted_and_follow_a_reload() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let exporter = exporter(&server.dsn(), &[]).await?;
    let page = exporter.scrape(10.0).await?;
    for (family, expression) in [
        ("pg_settings_shared_buffers_bytes", "pg_size_bytes(current_setting('shared_buffers'))"),
        ("pg_settings_max_connections", "current_setting('max_connections')"),
        (
            "pg_settings_deadlock_timeout_seconds",
            "extract(epoch FROM current_setting('deadlock_timeout')::interval)",
        ),
        // Not the limits that the scrape puts on its own statements.
        ("pg_settings_statement_timeout_seconds", "0"),
        ("pg_settings_lock_timeout_seconds", "0"),
    ] {
        let truth = server.psql(&format!("SELECT {expression}")).await?.expect("a value").parse::<f64>()?;
        assert_eq!(page.value(family, &[]), Some(truth), "{family}");
    }
    assert_eq!(page.value("pg_settings_work_mem_bytes", &[]), Some(4_194_304.0));
    server.sql("ALTER SYSTEM SET work_mem = '8MB'").await?;
    server.sql("SELECT pg_reload_conf()").await?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while exporter.scrape(10.0).await?.value("pg_settings_work_mem_bytes", &[]) != Some(8_388_608.0) {
        assert!(std::time::Instant::now() < deadline, "the new value did not arrive");
    }
    Ok(())
}

#[tokio::test]
async fn sessions_locks_and_wal_are_counted() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    server.sql("CREATE TABLE deals (id int)").await?;
    let holder = server.client().await?;
    holder.batch_execute("SET application_name = 'holder'; BEGIN; LOCK TABLE deals IN SHARE MODE").await?;
    let exporter = exporter(&server.dsn(), &[]).await?;
    let page = exporter.scrape(10.0).await?;
    let locks = |mode| page.value("pg_locks_count", &[("datname", "postgres"), ("mode", mode)]);
    assert_eq!(locks("sharelock"), Some(1.0));
    assert_eq!(locks("accessexclusivelock"), Some(0.0));
    let labels = [("application_name", "holder"), ("state", "idle in transaction"), ("usename", "postgres")];
    assert_eq!(page.value("pg_stat_activity_count", &labels), Some(1.0));
    assert!(page.value("pg_stat_activity_max_tx_duration", &labels).expect("a duration") >= 0.0);
    let idle_template1 = [("datname", "template1"), ("state", "idle")];
    assert_eq!(page.value("pg_stat_activity_count", &idle_template1), Some(0.0));
    let segments = server.psql("SELECT count(*) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'").await?;
    assert_eq!(page.value("pg_wal_segments", &[]), segments.and_then(|text| text.parse().ok()));
    Ok(())
}

/// Settings that did not change are not read.
#[tokio::test]
async fn unchanged_settings_are_not_read_again() -> anyhow::Result<()> {
    let server = Postgres::builder()
        .preload("auto_explain")
        .setting("auto_explain.log_min_duration", "0")
        .setting("auto_explain.log_analyze", "on")
        .start()
        .await?;
    let exporter = exporter(&server.dsn(), &["--no-collector.stat_user_tables"]).await?;
    let first = exporter.scrape(10.0).await?;
    // The server logs plans before it answers.
    let read = || server.log().lines().filter(|line| line.contains("pg_show_all_settings")).count();
    let reads = read();
    assert!(reads > 0, "{}", server.log());
    let second = exporter.scrape(10.0).await?;
    assert_eq!(read(), reads, "{}", server.log());
    let family = "pg_settings_max_connections";
    assert!(first.value(family, &[]).is_some());
    assert_eq!(first.value(family, &[]), second.value(family, &[]));
    Ok(())
}
