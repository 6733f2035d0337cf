//! Beside the real postgres_exporter 0.19.1: with the same flags and variables on the same server, `--compat=0.19` has
//! its families, types, labels and values, but for what `tests/data/peer-waivers.tsv` waives.

use std::time::{Duration, Instant};

use rstest::rstest;
use testkit::exporter::Exporter;
use testkit::peer::{POSTGRES_EXPORTER, Waiver, differences};
use testkit::postgres::{Postgres, Version};

/// Every collector of the peer that is off by default.
const FLAGS: &[&str] = &[
    "--collector.buffercache_summary",
    "--collector.database_wraparound",
    "--collector.long_running_transactions",
    "--collector.postmaster",
    "--collector.process_idle",
    "--collector.stat_activity_autovacuum",
    "--collector.stat_checkpointer",
    "--collector.stat_statements",
    "--collector.stat_statements.include_query",
    "--collector.stat_statements.limit=1000",
    "--collector.stat_wal_receiver",
    "--collector.statio_user_indexes",
    "--collector.xlog_location",
];

/// A primary with something of everything, where nothing happens any more, and its standby.
async fn quiet(major: u32) -> anyhow::Result<[Postgres; 2]> {
    let primary = Postgres::builder()
        .version(Version::Major(major))
        .setting("autovacuum", "off")
        .setting("wal_level", "logical")
        .preload("pg_stat_statements")
        .start()
        .await?;
    primary
        .sql(
            "SELECT pg_create_physical_replication_slot('physical', true);
             SELECT pg_create_logical_replication_slot('logical', 'pgoutput');
             CREATE EXTENSION pg_stat_statements; CREATE EXTENSION pg_buffercache;
             CREATE SCHEMA \"odd \"\"schema\";
             CREATE TABLE deals (id int PRIMARY KEY, note text);
             CREATE INDEX ON deals (note);
             CREATE TABLE \"odd \"\"schema\".\"line\nbreak\\\" (id int);
             CREATE MATERIALIZED VIEW deals_now AS SELECT * FROM deals;
             INSERT INTO deals SELECT g, repeat(md5(g::text), 100) FROM generate_series(1, 1000) g;
             UPDATE deals SET note = 'x' WHERE id < 100;
             DELETE FROM deals WHERE id > 900;
             SELECT count(*) FROM deals WHERE id = 7",
        )
        .await?;
    primary.sql("CREATE DATABASE other").await?;
    primary.sql("VACUUM ANALYZE deals").await?;
    let standby = primary.standby().await?;
    standby.sql("ALTER SYSTEM SET primary_slot_name = 'physical'").await?;
    standby.sql("SELECT pg_reload_conf()").await?;
    Ok([primary, standby])
}

#[rstest]
#[tokio::test]
async fn the_compatible_page_is_the_one_of_the_running_peer(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    if !POSTGRES_EXPORTER.is_here().await {
        return Ok(());
    }
    let waivers = Waiver::table(include_str!("../data/peer-waivers.tsv"))?;
    let mut unused = waivers.clone();
    for server in quiet(major).await? {
        let dsn = server.dsn();
        let variables = [("DATA_SOURCE_NAME", dsn.as_str())];
        let peer = POSTGRES_EXPORTER.start(FLAGS, &variables).await?;
        let flags = [FLAGS, &["--compat=0.19", "--size-refresh=0"]].concat();
        let exporter = Exporter::start(env!("CARGO_BIN_EXE_pg-exporter"), &flags, |process| {
            process.env("DATA_SOURCE_NAME", &dsn)
        })
        .await?;
        // The first scrapes leave traces of their own on the server: sessions, statements, blocks read. And the server
        // does something by itself now and then, as a standby does.
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let before = peer.page().await?;
            let ours = exporter.scrape(10.0).await?;
            let after = peer.page().await?;
            let found = differences([&before, &after], &ours, &waivers);
            if found.is_empty() {
                unused.retain(|waiver| !waiver.is_about(&before) && !waiver.is_about(&ours));
                break;
            }
            assert!(Instant::now() < deadline, "{found:#?}");
        }
    }
    assert!(unused.is_empty(), "waive nothing: {unused:#?}");
    Ok(())
}
