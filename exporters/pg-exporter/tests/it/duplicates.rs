//! What has the same labels twice costs no scrape: rows are added up, or the worst of them is shown, and they are counted.

use std::time::{Duration, Instant};

use exposition::Page;
use testkit::postgres::{Postgres, Version};

use crate::{exporter, failed};

const LIMIT: Duration = Duration::from_secs(60);

fn dropped(page: &Page) -> Option<f64> {
    page.value("pg_exporter_duplicate_samples_dropped_total", &[])
}

#[tokio::test]
async fn two_autovacuums_of_tables_of_one_name() -> anyhow::Result<()> {
    let server = Postgres::builder()
        .setting("autovacuum_naptime", "1s")
        .setting("autovacuum_vacuum_cost_delay", "100ms")
        .setting("autovacuum_vacuum_cost_limit", "1")
        .start()
        .await?;
    for database in ["postgres", "other"] {
        if database != "postgres" {
            server.sql(&format!("CREATE DATABASE {database}")).await?;
        }
        let client = server.client_as("postgres", "", database).await?;
        client
            .batch_execute(
                "CREATE TABLE deals (id int, note text);
                 INSERT INTO deals SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g;
                 DELETE FROM deals WHERE id % 2 = 0",
            )
            .await?;
    }
    for compat in ["--compat=0.19", "--compat=0.20"] {
        let exporter = exporter(&server.dsn(), &["--collector.stat_activity_autovacuum", compat]).await?;
        let deadline = Instant::now() + LIMIT;
        loop {
            let page = exporter.scrape(10.0).await?;
            assert_eq!((failed(&page), dropped(&page)), (vec![], Some(0.0)));
            let of_deals = [("relname", "deals")];
            let vacuums = |datname| {
                page.samples("pg_stat_progress_vacuum_heap_blks")
                    .any(|vacuum| vacuum.has(&[("datname", datname)]))
            };
            if page.value("pg_stat_activity_autovacuum_workers", &of_deals) == Some(2.0)
                && vacuums("postgres")
                && vacuums("other")
            {
                assert!(page.value("pg_stat_activity_autovacuum_timestamp_seconds", &of_deals).is_some());
                // The relation of the other database has no name here, least of all that of one of ours.
                let mut names = page.samples("pg_stat_progress_vacuum_heap_blks");
                let other = names.find(|vacuum| vacuum.has(&[("datname", "other")]));
                let relname = other.and_then(|vacuum| vacuum.label("relname")).unwrap_or_default();
                assert!(relname.parse::<u32>().is_ok(), "{relname}");
                break;
            }
            anyhow::ensure!(Instant::now() < deadline, "two autovacuums do not run");
        }
    }
    Ok(())
}

/// From version 14 on a statement has one row when a client runs it and another when a function does.
#[tokio::test]
async fn a_statement_at_top_level_and_in_a_function() -> anyhow::Result<()> {
    let server = Postgres::builder()
        .version(Version::Major(15))
        .preload("pg_stat_statements")
        .setting("pg_stat_statements.track", "all")
        .start()
        .await?;
    server
        .sql(
            "CREATE EXTENSION pg_stat_statements; CREATE TABLE deals (id int);
             CREATE FUNCTION add() RETURNS void LANGUAGE sql AS 'INSERT INTO deals VALUES (2)'",
        )
        .await?;
    for _ in 0..3 {
        server.sql("INSERT INTO deals VALUES (1)").await?;
    }
    server.sql("SELECT add()").await?;
    let where_clause = "FROM pg_stat_statements WHERE query LIKE 'INSERT INTO deals%'";
    let rows = server.psql(&format!("SELECT count(*), count(DISTINCT queryid) {where_clause}")).await?;
    assert_eq!(rows.as_deref(), Some("2"));
    let queryid = server.psql(&format!("SELECT DISTINCT queryid {where_clause}")).await?.unwrap_or_default();
    let exporter = exporter(
        &server.dsn(),
        &["--collector.stat_statements", "--collector.stat_statements.include_query"],
    )
    .await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!((failed(&page), dropped(&page)), (vec![], Some(0.0)));
    let labels = [("queryid", queryid.as_str()), ("user", "postgres"), ("datname", "postgres")];
    assert_eq!(page.value("pg_stat_statements_calls_total", &labels), Some(4.0));
    assert_eq!(page.value("pg_stat_statements_rows_total", &labels), Some(4.0));
    assert_eq!(page.value("pg_stat_statements_query_id", &[("queryid", &queryid)]), Some(1.0));
    Ok(())
}

#[tokio::test]
async fn two_standbys_that_cannot_be_told_apart() -> anyhow::Result<()> {
    let primary = Postgres::start().await?;
    let (near, far) = (primary.standby().await?, primary.standby().await?);
    far.sql("SELECT pg_wal_replay_pause()").await?;
    primary.sql("CREATE TABLE deals AS SELECT generate_series(1, 1000) AS id").await?;
    let labels =
        [("application_name", "testkit_standby"), ("client_addr", "127.0.0.1"), ("state", "streaming")];
    let exporter_0_20 = exporter(&primary.dsn(), &[]).await?;
    let exporter_0_19 = exporter(&primary.dsn(), &["--compat=0.19"]).await?;
    let deadline = Instant::now() + LIMIT;
    loop {
        let lag = "SELECT pg_current_wal_lsn() - min(replay_lsn) FROM pg_stat_replication";
        let before = primary.psql(lag).await?.and_then(|bytes| bytes.parse::<f64>().ok());
        let page = exporter_0_20.scrape(10.0).await?;
        let after = primary.psql(lag).await?.and_then(|bytes| bytes.parse::<f64>().ok());
        assert_eq!((failed(&page), dropped(&page)), (vec![], Some(0.0)));
        let value = |family: &str| page.value(family, &labels);
        // One of them is behind for good, and that one is shown.
        if value("pg_stat_replication_standbys") == Some(2.0)
            && before == after
            && before > Some(0.0)
            && value("pg_stat_replication_pg_wal_lsn_diff") == before
        {
            assert_eq!(value("pg_stat_replication_replay_lag_bytes"), before);
            break;
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "{before:?} {:?}",
            value("pg_stat_replication_pg_wal_lsn_diff")
        );
    }
    // There the pid of the WAL sender tells them apart.
    let page = exporter_0_19.scrape(10.0).await?;
    assert_eq!((failed(&page), dropped(&page)), (vec![], Some(0.0)));
    assert_eq!(page.samples("pg_stat_replication_pg_wal_lsn_diff").count(), 2);
    drop(near);
    Ok(())
}

/// Names of roles are shared by databases of all encodings. What is no UTF-8 is empty on the page, and so the same.
#[tokio::test]
async fn names_that_cannot_be_shown() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    server
        .sql("CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
        .await?;
    let client = server.client_as("postgres", "", "ascii").await?;
    client
        .batch_execute(
            "DO $$BEGIN
                 EXECUTE 'CREATE ROLE \"r' || chr(233) || '\"';
                 EXECUTE 'CREATE ROLE \"r' || chr(232) || '\"';
             END$$",
        )
        .await?;
    let exporter = exporter(&server.dsn(), &[]).await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!(failed(&page), Vec::<String>::new());
    assert_eq!(page.value("pg_roles_connection_limit", &[("rolname", "")]), Some(-1.0));
    assert_eq!(page.value("pg_roles_connection_limit", &[("rolname", "exporter")]), Some(-1.0));
    assert_eq!(dropped(&page), Some(1.0));
    Ok(())
}

/// In a database without an encoding the server does not send them at all: that costs the statement that asks for them.
#[tokio::test]
async fn names_that_the_server_does_not_send() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    server
        .sql("CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
        .await?;
    let client = server.client_as("postgres", "", "ascii").await?;
    client.batch_execute("DO $$BEGIN EXECUTE 'CREATE TABLE \"d' || chr(233) || '\" (id int)'; END$$").await?;
    let exporter = exporter(&server.dsn().replace("/postgres?", "/ascii?"), &["--size-refresh=0"]).await?;
    let with_names = ["stat_user_tables", "statio_user_tables", "relation_sizes"];
    // More than once: statements that fail must not cost the others, nor the connection.
    for _ in 0..20 {
        let page = exporter.scrape(10.0).await?;
        for collector in with_names {
            let labels = [("collector", collector), ("outcome", "error")];
            assert_eq!(
                page.value("pg_exporter_collector_outcome", &labels),
                Some(1.0),
                "{:?}",
                failed(&page)
            );
        }
        assert_eq!(failed(&page).len(), with_names.len(), "{:?}", failed(&page));
        assert!(page.value("pg_database_size_bytes", &[("datname", "ascii")]).is_some());
    }
    Ok(())
}
