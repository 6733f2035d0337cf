//! What the server refuses costs what needs it and nothing else: privileges, connections, extensions.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use exposition::Page;
use testkit::exporter::Exporter;
use testkit::postgres::{Postgres, has_sqlstate};
use testkit::proxy::FaultProxy;
use tokio_postgres::error::SqlState;

use crate::{exporter, failed};

/// Families that have samples.
fn families(page: &Page) -> BTreeSet<&str> {
    let with_samples = page.families.iter().filter(|family| !family.samples.is_empty());
    with_samples.map(|family| family.name.as_str()).collect()
}

/// Families of `before` that `after` has not.
fn lost<'a>(before: &'a Page, after: &Page) -> Vec<&'a str> {
    let after = families(after);
    families(before).into_iter().filter(|family| !after.contains(family)).collect()
}

fn ended(page: &Page, collector: &str, outcome: &str) -> bool {
    let labels = [("collector", collector), ("outcome", outcome)];
    page.value("pg_exporter_collector_outcome", &labels) == Some(1.0)
}

/// Scrapes until a page is as wanted.
async fn wait_for(exporter: &Exporter, wanted: impl Fn(&Page) -> bool) -> anyhow::Result<Page> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let page = exporter.scrape(10.0).await?;
        if wanted(&page) {
            return Ok(page);
        }
        anyhow::ensure!(Instant::now() < deadline, "{:?}", failed(&page));
    }
}

#[tokio::test]
async fn a_role_without_pg_monitor_loses_what_it_may_not_read() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let standby = server.standby().await?;
    let before = exporter(&server.dsn(), &[]).await?;
    let before = wait_for(&before, |page| page.family("pg_stat_replication_standbys").is_some()).await?;
    server.sql("REVOKE pg_monitor FROM exporter").await?;
    let exporter = exporter(&server.dsn(), &[]).await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!((page.value("pg_up", &[]), failed(&page).len()), (Some(1.0), 1), "{:?}", failed(&page));
    assert!(ended(&page, "wal", "permission"));
    let mut lost = lost(&before, &page);
    // Of other roles' sessions it sees that they are there, and not what they do.
    lost.retain(|family| !family.starts_with("pg_stat_replication_") && !family.starts_with("pg_settings_"));
    assert_eq!(lost, ["pg_wal_segments", "pg_wal_size_bytes"]);
    assert!(page.family("pg_stat_replication_standbys").is_some());
    assert!(page.family("pg_stat_replication_replay_lag_bytes").is_none(), "unknown is not 0");
    drop(standby);
    Ok(())
}

/// Collectors share statements, and what one of them may not read is not the others' loss.
#[tokio::test]
async fn a_function_that_is_denied_costs_its_own_families() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let exporter = exporter(&server.dsn(), &[]).await?;
    let before = wait_for(&exporter, |page| failed(page).is_empty()).await?;
    for (function, collector, families) in [
        ("pg_stat_get_archiver()", "stat_archiver", "pg_stat_archiver_"),
        ("pg_stat_get_wal()", "stat_wal", "pg_stat_wal_"),
        ("pg_stat_get_db_conflict_lock(oid)", "stat_database_conflicts", "pg_stat_database_conflicts_"),
        ("pg_prepared_xact()", "xmin_horizon", "pg_xmin_horizon_"),
        ("pg_lock_status()", "locks", "pg_locks_"),
    ] {
        let on = format!("EXECUTE ON FUNCTION pg_catalog.{function}");
        server.sql(&format!("REVOKE {on} FROM PUBLIC")).await?;
        let page = exporter.scrape(10.0).await?;
        assert!(ended(&page, collector, "permission"), "{function}: {:?}", failed(&page));
        assert_eq!(failed(&page).len(), 1, "{function}: {:?}", failed(&page));
        let mut lost = lost(&before, &page);
        assert!(!lost.is_empty(), "{function}");
        lost.retain(|family| !family.starts_with(families) && !family.starts_with("pg_blocked_"));
        assert_eq!(lost, Vec::<&str>::new(), "{function}");
        server.sql(&format!("GRANT {on} TO PUBLIC")).await?;
        wait_for(&exporter, |page| failed(page).is_empty()).await?;
    }
    Ok(())
}

/// The size of a database is known to who may connect to it or read all statistics.
#[tokio::test]
async fn a_database_without_connect_costs_its_own_size() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    server.sql("CREATE DATABASE closed").await?;
    server.sql("REVOKE CONNECT ON DATABASE closed FROM PUBLIC").await?;
    let size = |page: &Page, datname| page.value("pg_database_size_bytes", &[("datname", datname)]);
    for (change, known) in
        [("GRANT pg_monitor TO exporter", true), ("REVOKE pg_monitor FROM exporter", false)]
    {
        server.sql(change).await?;
        let exporter = exporter(&server.dsn(), &["--size-refresh=0"]).await?;
        let page = exporter.scrape(10.0).await?;
        assert!(
            ended(&page, "database", "ok") && ended(&page, "database_sizes", "ok"),
            "{:?}",
            failed(&page)
        );
        assert_eq!(size(&page, "closed").is_some(), known, "{change}");
        assert!(size(&page, "postgres").is_some() && size(&page, "template1").is_some());
        assert!(page.value("pg_stat_database_numbackends", &[("datname", "closed")]).is_some());
    }
    Ok(())
}

/// One connection is enough for everything but sizes.
#[tokio::test]
async fn a_role_with_one_connection_loses_sizes() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    server.sql("CREATE TABLE deals (id int PRIMARY KEY)").await?;
    let before = exporter(&server.dsn(), &["--size-refresh=0"]).await?.scrape(10.0).await?;
    server.sql("ALTER ROLE exporter CONNECTION LIMIT 1").await?;
    let proxy = FaultProxy::start(server.addr())?;
    let exporter = exporter(&server.dsn_at(proxy.addr()), &["--size-refresh=0"]).await?;
    // The session of the first exporter may still be ending.
    wait_for(&exporter, |page| page.value("pg_up", &[]) == Some(1.0)).await?;
    for _ in 0..3 {
        let page = exporter.scrape(10.0).await?;
        assert_eq!(page.value("pg_up", &[]), Some(1.0));
        assert!(ended(&page, "database_sizes", "connection") && ended(&page, "relation_sizes", "connection"));
        assert_eq!(failed(&page).len(), 2, "{:?}", failed(&page));
        let sizes =
            ["pg_database_size_bytes", "pg_exporter_data_age_seconds", "pg_exporter_locked_relations"];
        let relations = ["pg_stat_user_tables_index_size_bytes", "pg_stat_user_tables_table_size_bytes"];
        assert_eq!(lost(&before, &page), [&sizes[..], &relations].concat());
        assert_eq!(proxy.connections_open(), 1);
    }
    Ok(())
}

/// When the server is full, whoever is connected already is needed most.
#[tokio::test]
async fn a_full_server_is_seen_by_who_is_connected() -> anyhow::Result<()> {
    let server = Postgres::builder().setting("max_connections", "10").start().await?;
    let proxy = FaultProxy::start(server.addr())?;
    let warm = exporter(&server.dsn_at(proxy.addr()), &[]).await?;
    let before = wait_for(&warm, |page| failed(page).is_empty()).await?;
    assert!(before.value("pg_connections_available", &[]).is_some_and(|left| left > 0.0));
    let opened = proxy.connections_opened();
    let mut clients = Vec::new();
    let refused = loop {
        match server.client().await {
            Ok(client) => clients.push(client),
            Err(error) => break error,
        }
    };
    assert!(has_sqlstate(&refused, &SqlState::TOO_MANY_CONNECTIONS), "{refused:#}");
    let page = warm.scrape(10.0).await?;
    assert_eq!((failed(&page), lost(&before, &page)), (vec![], vec![]));
    assert_eq!(page.value("pg_connections_available", &[]), Some(0.0));
    assert_eq!(page.value("pg_connections_used", &[]), Some(10.0));
    assert_eq!(proxy.connections_opened(), opened);

    let cold = exporter(&server.dsn(), &[]).await?;
    let page = cold.scrape(10.0).await?;
    assert_eq!(page.value("pg_up", &[]), Some(0.0));
    assert!(ended(&page, "stat_database", "connection"), "{:?}", failed(&page));
    drop(clients);
    wait_for(&cold, |page| page.value("pg_up", &[]) == Some(1.0)).await?;
    Ok(())
}

/// What a role's own settings do to names, dates and strings does not reach the page.
#[tokio::test]
async fn settings_of_the_role_change_nothing() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    server
        .sql(
            "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO exporter;
             CREATE VIEW evil.pg_stat_database AS SELECT 'evil' AS datname;
             CREATE VIEW evil.pg_class AS SELECT 'evil' AS relname;
             CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE sql AS $$SELECT 'evil'$$;
             GRANT SELECT ON ALL TABLES IN SCHEMA evil TO exporter;
             CREATE TABLE deals (id int PRIMARY KEY)",
        )
        .await?;
    let before = wait_for(&exporter(&server.dsn(), &[]).await?, |page| failed(page).is_empty()).await?;
    for setting in [
        "search_path = evil, pg_catalog, public",
        "DateStyle = 'German'",
        "IntervalStyle = 'sql_standard'",
        "TimeZone = 'Asia/Kathmandu'",
        "extra_float_digits = -15",
        "standard_conforming_strings = off",
        "bytea_output = 'escape'",
        "default_transaction_read_only = on",
        "default_transaction_isolation = 'serializable'",
        "client_encoding = 'LATIN1'",
    ] {
        server.sql(&format!("ALTER ROLE exporter SET {setting}")).await?;
    }
    let page = wait_for(&exporter(&server.dsn(), &[]).await?, |page| failed(page).is_empty()).await?;
    assert_eq!(lost(&before, &page), Vec::<&str>::new());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
    let start = page.value("pg_stat_wal_stats_reset_timestamp_seconds", &[]).unwrap_or_default();
    assert!((now - start).abs() < 86_400.0 * 365.0, "{start}");
    let rows = page.samples("pg_stat_user_tables_seq_scan").filter_map(|sample| sample.label("relname"));
    assert_eq!(rows.collect::<Vec<_>>(), ["deals"]);
    let locks = [("datname", "postgres"), ("mode", "accesssharelock")];
    assert!(page.value("pg_locks_count", &locks).is_some());
    Ok(())
}
