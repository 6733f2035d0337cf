//! A scrape on every supported PostgreSQL, by default and with all collectors: none fails.

use rstest::rstest;
use testkit::postgres::{Postgres, Version};

use crate::{exporter, failed};

#[rstest]
#[case(13)]
#[case(14)]
#[case(15)]
#[case(16)]
#[case(17)]
#[case(18)]
#[tokio::test]
async fn default_scrape(#[case] major: u32) -> anyhow::Result<()> {
    let server = Postgres::builder().version(Version::Major(major)).start().await?;
    server
        .sql(
            "CREATE TABLE deals (id int PRIMARY KEY);
             CREATE TABLE events (id int, at date) PARTITION BY RANGE (at);
             CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
        )
        .await?;
    let exporter = exporter(&server.dsn(), &[]).await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!(failed(&page), Vec::<String>::new());
    assert_eq!(page.value("pg_up", &[]), Some(1.0));
    let label = format!("{major}.");
    let version = page.samples("pg_static").next().and_then(|sample| sample.label("short_version"));
    assert!(version.is_some_and(|version| version.starts_with(&label)), "{version:?}");
    // The same rows as the view, whatever the version counts as a table.
    let tables = server.psql("SELECT count(*) FROM pg_stat_user_tables").await?;
    let rows = page.samples("pg_stat_user_tables_seq_scan").count();
    assert_eq!(Some(rows.to_string()), tables);
    assert_eq!(page.samples("pg_stat_user_tables_table_size_bytes").count(), rows);
    let checkpoints = page.family("pg_stat_bgwriter_checkpoints_timed_total").is_some();
    assert_eq!(checkpoints, major < 17);
    Ok(())
}

/// Collectors that a version has nothing for.
fn needs_newer(major: u32) -> Vec<&'static str> {
    let since = [
        ("buffercache_summary", 16),
        ("stat_checkpointer", 17),
        ("stat_io", 16),
        ("stat_recovery_prefetch", 15),
        ("stat_replication_slots", 14),
        ("stat_wal", 14),
    ];
    since.into_iter().filter(|(_, since)| major < *since).map(|(name, _)| name).collect()
}

#[rstest]
#[case(13)]
#[case(14)]
#[case(15)]
#[case(16)]
#[case(17)]
#[case(18)]
#[tokio::test]
async fn all_collectors(#[case] major: u32) -> anyhow::Result<()> {
    let server =
        Postgres::builder().version(Version::Major(major)).preload("pg_stat_statements").start().await?;
    server.sql("CREATE TABLE deals (id serial PRIMARY KEY, note text)").await?;
    let all = crate::all_collectors();
    let exporter = exporter(&server.dsn(), &all.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let outcomes = async |outcome: &str| -> anyhow::Result<Vec<String>> {
        let page = exporter.scrape(10.0).await?;
        let has = |sample: &&exposition::parse::Sample| sample.label("outcome") == Some(outcome);
        let samples = page.samples("pg_exporter_collector_outcome").filter(has);
        Ok(samples.filter_map(|sample| sample.label("collector").map(str::to_owned)).collect())
    };
    assert_eq!(
        outcomes("missing_extension").await?,
        ["buffercache_summary", "stat_statements", "stat_statements_totals"]
    );
    // Extensions that appear are noticed, in whatever schema they are.
    server
        .sql(
            "CREATE SCHEMA \"Odd one\"; GRANT USAGE ON SCHEMA \"Odd one\" TO exporter;
             CREATE EXTENSION pg_stat_statements SCHEMA \"Odd one\"; CREATE EXTENSION pg_buffercache",
        )
        .await?;
    assert_eq!(outcomes("missing_extension").await?, Vec::<String>::new());
    assert_eq!(outcomes("unsupported_version").await?, needs_newer(major));
    let page = exporter.scrape(10.0).await?;
    assert_eq!(failed(&page), Vec::<String>::new());
    assert!(page.samples("pg_stat_statements_calls_total").count() > 0);
    Ok(())
}
