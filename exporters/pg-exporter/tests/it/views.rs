//! Values of the collectors that postgres_exporter does not have, against the catalog.

use std::time::{Duration, Instant};

use testkit::postgres::{Postgres, Version};

use crate::{all_collectors, exporter};

/// A sample, and the SQL that says what it must be.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);

const CASES: &[Case] = &[
    (
        "pg_stat_io_extends_total",
        &[("backend_type", "client backend"), ("object", "relation"), ("context", "bulkwrite")],
        "SELECT extends FROM pg_stat_io
         WHERE backend_type = 'client backend' AND object = 'relation' AND context = 'bulkwrite'",
    ),
    (
        "pg_stat_io_extend_bytes_total",
        &[("backend_type", "client backend"), ("object", "relation"), ("context", "bulkwrite")],
        "SELECT extends * op_bytes FROM pg_stat_io
         WHERE backend_type = 'client backend' AND object = 'relation' AND context = 'bulkwrite'",
    ),
    ("pg_stat_wal_full_page_images_total", &[], "SELECT wal_fpi FROM pg_stat_wal"),
    ("pg_stat_wal_bytes_total", &[], "SELECT wal_bytes FROM pg_stat_wal"),
    (
        "pg_stat_slru_blocks_zeroed_total",
        &[("slru", "Xact")],
        "SELECT blks_zeroed FROM pg_stat_slru WHERE name = 'Xact'",
    ),
    (
        "pg_replication_slots_retained_bytes",
        &[("slot_name", "idle"), ("slot_type", "physical")],
        "SELECT pg_current_wal_lsn() - restart_lsn FROM pg_replication_slots",
    ),
    ("pg_replication_slots_lost", &[("slot_name", "idle")], "SELECT 0"),
    (
        "pg_xmin_horizon_age_transactions",
        &[("holder", "prepared_transaction")],
        "SELECT age(transaction) FROM pg_prepared_xacts",
    ),
    ("pg_xmin_horizon_age_transactions", &[("holder", "standby")], "SELECT 0"),
    ("pg_blocked_sessions", &[], "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"),
    ("pg_connections_limit", &[], "SHOW max_connections"),
    ("pg_connections_reserved", &[], "SHOW superuser_reserved_connections"),
    (
        "pg_checksum_failures_total",
        &[("datname", "postgres")],
        "SELECT checksum_failures FROM pg_stat_database WHERE datname = 'postgres'",
    ),
    (
        "pg_table_xid_age_transactions",
        &[("relname", "deals")],
        "SELECT greatest(age(c.relfrozenxid), age(t.relfrozenxid))
         FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid WHERE c.relname = 'deals'",
    ),
    ("pg_stat_progress_create_index_lockers", &[("relname", "deals")], "SELECT 1"),
];

#[tokio::test]
async fn samples_of_our_own_equal_the_catalog() -> anyhow::Result<()> {
    let server = Postgres::builder()
        .version(Version::Major(16))
        .setting("autovacuum", "off")
        .setting("max_prepared_transactions", "2")
        .start()
        .await?;
    server
        .sql(
            "SELECT pg_create_physical_replication_slot('idle', true);
             CREATE TABLE deals (id int PRIMARY KEY, note text);
             CREATE TABLE events (id int)",
        )
        .await?;
    // Holds the horizon.
    let preparer = server.client().await?;
    preparer.batch_execute("BEGIN; INSERT INTO deals VALUES (1); PREPARE TRANSACTION 'held'").await?;
    // Waits for it, so that there is progress to see and a blocked session.
    let indexer = server.client().await?;
    let indexing = tokio::spawn(async move {
        indexer.batch_execute("CREATE INDEX CONCURRENTLY deals_note ON deals (note)").await
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    let collectors = all_collectors();
    let arguments: Vec<&str> = collectors.iter().map(String::as_str).collect();
    let exporter = exporter(&server.dsn(), &arguments).await?;
    for (family, labels, sql) in CASES {
        loop {
            let before = server.psql(sql).await?.and_then(|text| text.parse::<f64>().ok());
            let found = exporter.scrape(10.0).await?.value(family, labels);
            let after = server.psql(sql).await?.and_then(|text| text.parse::<f64>().ok());
            if before == after && found == before {
                break;
            }
            assert!(Instant::now() < deadline, "{family} {labels:?}: {found:?}, the catalog says {before:?}");
        }
    }
    let page = exporter.scrape(10.0).await?;
    assert_eq!(page.value("pg_blocked_sessions", &[]), Some(1.0));
    assert!(page.value("pg_blocked_sessions_longest_wait_seconds", &[]).is_some_and(|wait| wait > 0.0));
    let value = |name| page.value(name, &[]).unwrap_or_default();
    let left =
        value("pg_connections_limit") - value("pg_connections_reserved") - value("pg_connections_used");
    assert_eq!(page.value("pg_connections_available", &[]), Some(left));
    indexing.abort();
    Ok(())
}

#[tokio::test]
async fn statements_equal_the_extension_whatever_its_version() -> anyhow::Result<()> {
    let server =
        Postgres::builder().version(Version::Major(15)).preload("pg_stat_statements").start().await?;
    server.sql("CREATE EXTENSION pg_stat_statements VERSION '1.4'; CREATE TABLE deals (id int)").await?;
    let exporter = exporter(
        &server.dsn(),
        &[
            "--collector.stat_statements",
            "--collector.stat_statements.include_query",
            "--collector.stat_statements.query_length=20",
            "--collector.stat_statements.exclude_users=exporter",
        ],
    )
    .await?;
    server.sql("INSERT INTO deals SELECT generate_series(1, 77)").await?;
    for _ in ["1.4", "the newest"] {
        let queryid = server
            .psql("SELECT queryid FROM pg_stat_statements WHERE query LIKE 'INSERT INTO deals%'")
            .await?
            .expect("a statement");
        let page = exporter.scrape(10.0).await?;
        assert_eq!(crate::failed(&page), Vec::<String>::new());
        let labels = [("datname", "postgres"), ("user", "postgres"), ("queryid", queryid.as_str())];
        assert_eq!(page.value("pg_stat_statements_rows_total", &labels), Some(77.0));
        let text = [("query", "INSERT INTO deals SE"), ("queryid", queryid.as_str())];
        assert_eq!(page.value("pg_stat_statements_query_id", &text), Some(1.0));
        let users = page.samples("pg_stat_statements_calls_total").filter_map(|sample| sample.label("user"));
        assert!(users.into_iter().all(|user| user != "exporter"));
        server.sql("ALTER EXTENSION pg_stat_statements UPDATE").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_paused_replay_is_lag() -> anyhow::Result<()> {
    let primary = Postgres::start().await?;
    let standby = primary.standby().await?;
    standby.sql("SELECT pg_wal_replay_pause()").await?;
    primary.sql("CREATE TABLE deals (id int)").await?;
    let exporter = exporter(&primary.dsn(), &[]).await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    let labels = [("application_name", "testkit_standby"), ("state", "streaming")];
    loop {
        primary.sql("INSERT INTO deals VALUES (1)").await?;
        let page = exporter.scrape(10.0).await?;
        let lag = |kind| page.value(&format!("pg_stat_replication_{kind}_lag_seconds"), &labels);
        if lag("replay").is_some_and(|replay| replay > lag("flush").unwrap_or_default()) {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "{:?} {:?}", lag("replay"), lag("flush"));
    }
}

#[tokio::test]
async fn the_slot_of_a_standby_is_called_by_its_name() -> anyhow::Result<()> {
    let primary = Postgres::start().await?;
    primary.sql("SELECT pg_create_physical_replication_slot('mine')").await?;
    let standby = primary.standby().await?;
    standby.sql("ALTER SYSTEM SET primary_slot_name = 'mine'").await?;
    standby.sql("SELECT pg_reload_conf()").await?;
    let pid = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'mine'";
    for compat in ["0.20", "0.19"] {
        let exporter = exporter(&primary.dsn(), &["--compat", compat]).await?;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let expected = if compat == "0.19" { primary.psql(pid).await? } else { Some("mine".to_owned()) };
            let page = exporter.scrape(10.0).await?;
            let sample = page.samples("pg_stat_replication_pg_wal_lsn_diff").next();
            let shown = sample.and_then(|sample| sample.label("slot_name"));
            if shown.is_some() && shown == expected.as_deref() {
                break;
            }
            anyhow::ensure!(Instant::now() < deadline, "{compat}: {shown:?}, not {expected:?}");
        }
    }
    Ok(())
}
