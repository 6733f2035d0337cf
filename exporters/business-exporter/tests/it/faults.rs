//! What one query costs is its own affair, and what the server does is said in time.

use futures_util::future::try_join_all;
use rstest::rstest;
use std::time::{Duration, Instant};

use testkit::page::value;
use testkit::process::Stat;
use testkit::proxy::{FaultProxy, Mode};

use crate::support::{Definition, database, failure, outcome, server};

#[rstest]
#[tokio::test]
async fn a_locked_table_costs_its_own_query_only(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = database(major).await? else { return Ok(()) };
    let definition = Definition::of_queries(&[
        ("deals", "SELECT count(*) AS v FROM deals"),
        ("users", "SELECT count(*) AS v FROM users"),
    ])?;
    let exporter = definition.exporter(&server.dsn()).await?;
    let locker = server.client().await?;
    locker.batch_execute("BEGIN; LOCK TABLE deals IN ACCESS EXCLUSIVE MODE").await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!(outcome(&page, "deals"), Some("lock_timeout"));
    assert_eq!(outcome(&page, "users"), Some("ok"));
    assert_eq!((page.value("deals", &[]), page.value("users", &[])), (None, Some(0.0)));
    locker.batch_execute("COMMIT").await?;
    assert_eq!(outcome(&exporter.scrape(10.0).await?, "deals"), Some("ok"));
    Ok(())
}

/// However many ask meanwhile: one connection, and no statement waits longer than its limit.
#[rstest]
#[tokio::test]
async fn an_alter_table_that_stays_open_takes_no_connections(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = database(major).await? else { return Ok(()) };
    let proxy = FaultProxy::start(server.addr())?;
    let definition = Definition::of_queries(&[
        ("deals", "SELECT count(*) AS v FROM deals"),
        ("users", "SELECT count(*) AS v FROM users"),
    ])?;
    let exporter = definition.exporter(&server.dsn_at(proxy.addr())).await?;
    exporter.scrape(10.0).await?;
    let opened = proxy.connections_opened();
    let altering = server.client().await?;
    altering.batch_execute("BEGIN; ALTER TABLE deals ADD COLUMN one int").await?;
    for _ in 0..3 {
        for page in try_join_all((0..10).map(|_| exporter.scrape(10.0))).await? {
            assert_eq!(
                (outcome(&page, "deals"), outcome(&page, "users")),
                (Some("lock_timeout"), Some("ok"))
            );
        }
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        assert_eq!(server.psql(waiting).await?.as_deref(), Some("0"));
    }
    assert_eq!(proxy.connections_opened(), opened);
    altering.batch_execute("COMMIT").await?;
    assert_eq!(outcome(&exporter.scrape(10.0).await?, "deals"), Some("ok"));
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_slow_query_is_ended_by_the_server_and_the_rest_is_there(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = database(major).await? else { return Ok(()) };
    let text = "
version: 1
families: [{name: slow, type: gauge, help: A.}, {name: fast, type: gauge, help: A.}]
queries:
- {name: slow, timeout: 200ms, sql: 'SELECT 1 AS v FROM pg_sleep(60)', emit: [{family: slow, value: v}]}
- {name: slow_too, timeout: 200ms, sql: 'SELECT 1 AS v FROM pg_sleep(60)', emit: [{family: slow, value: v}]}
- {name: fast, sql: 'SELECT 1 AS v', emit: [{family: fast, value: v}]}
";
    let exporter = Definition::new(text)?.exporter(&server.dsn()).await?;
    // They run one after the other: if only the deadline ended them, nothing would be left for the last.
    let page = exporter.scrape(10.0).await?;
    assert_eq!((outcome(&page, "slow"), outcome(&page, "fast")), (Some("timeout"), Some("ok")));
    assert_eq!(page.value("business_exporter_up", &[("database", "main")]), Some(1.0));
    let running =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active'
                   AND pid <> pg_backend_pid()";
    assert_eq!(server.psql(running).await?.as_deref(), Some("0"));
    Ok(())
}

/// Resident memory of a process at its largest, in KiB.
fn peak(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[rstest]
#[tokio::test]
async fn a_million_rows_stop_at_the_limit(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = database(major).await? else { return Ok(()) };
    let exporter = Definition::of_queries(&[
        ("many", "SELECT repeat('x', 100) AS pad, i AS v FROM generate_series(1, 1000000) AS i"),
        ("few", "SELECT 1 AS v"),
    ])?
    .exporter(&server.dsn())
    .await?;
    exporter.get("/-/healthy").await?;
    let before = peak(exporter.process.pid())?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!((outcome(&page, "many"), outcome(&page, "few")), (Some("error"), Some("ok")));
    assert_eq!(page.value("business_exporter_query_rows", &[("query", "many")]), None);
    assert!(exporter.process.log().contains("more than max_rows = 500"), "{}", exporter.process.log());
    let grown = peak(exporter.process.pid())? - before;
    // The rows are more than 100 MB.
    assert!(grown < 16 * 1024, "{grown} KiB");
    assert!(Stat::of(exporter.process.pid()).is_some());
    Ok(())
}

#[rstest]
#[tokio::test]
async fn too_many_series_cost_their_query_only(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = database(major).await? else { return Ok(()) };
    let text = "
version: 1
defaults: {max_series: 10}
families: [{name: wide, type: gauge, help: A., labels: [k]}, {name: narrow, type: gauge, help: A., labels: [k]}]
queries:
- {name: wide, sql: 'SELECT i AS k, 1 AS v FROM generate_series(1, 11) AS i', emit: [{family: wide, value: v, labels: [k]}]}
- {name: narrow, sql: 'SELECT i AS k, 1 AS v FROM generate_series(1, 10) AS i', emit: [{family: narrow, value: v, labels: [k]}]}
";
    let exporter = Definition::new(text)?.exporter(&server.dsn()).await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!((page.samples("wide").count(), page.samples("narrow").count()), (0, 10));
    assert!(exporter.process.log().contains("wide: more than max_series = 10"), "{}", exporter.process.log());
    Ok(())
}

/// Where `query_typed` would wait for ever: a type that was not met before, and more rows than one read takes.
#[rstest]
#[tokio::test]
async fn an_enum_in_a_big_result_works(#[values(13, 14, 15, 16, 17, 18)] major: u32) -> anyhow::Result<()> {
    let Some(server) = database(major).await? else { return Ok(()) };
    let text = "
version: 1
defaults: {max_rows: 50000, max_series: 50000}
families: [{name: big, type: gauge, help: A., labels: [status, i]}]
queries:
- {name: big, sql: \"SELECT 'pending'::dealstatus AS status, i, i AS v FROM generate_series(1, 20000) AS i\", emit: [{family: big, value: v, labels: [status, i]}]}
";
    let exporter = Definition::new(text)?.exporter(&server.dsn()).await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!(page.samples("big").count(), 20_000);
    assert_eq!(value(&page, "big", &[("status", "pending"), ("i", "777")])?, 777.0);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn all_queries_are_one_round_trip_on_one_connection(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = database(major).await? else { return Ok(()) };
    let proxy = FaultProxy::start(server.addr())?;
    let queries: Vec<String> = (0..20).map(|index| format!("q{index}")).collect();
    let queries: Vec<(&str, &str)> = queries.iter().map(|name| (name.as_str(), "SELECT 1 AS v")).collect();
    let exporter = Definition::of_queries(&queries)?.exporter(&server.dsn_at(proxy.addr())).await?;
    exporter.scrape(10.0).await?;
    let (trips, opened) = (proxy.round_trips(), proxy.connections_opened());
    for _ in 0..5 {
        exporter.scrape(10.0).await?;
    }
    assert_eq!((proxy.round_trips() - trips, proxy.connections_opened()), (5, opened));
    Ok(())
}

async fn up(exporter: &testkit::exporter::Exporter, timeout: f64) -> anyhow::Result<f64> {
    value(&exporter.scrape(timeout).await?, "business_exporter_up", &[("database", "main")])
}

#[rstest]
#[tokio::test]
async fn a_server_that_is_gone_or_hangs_is_down_in_time_and_then_up_again(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(mut server) = database(major).await? else { return Ok(()) };
    let proxy = FaultProxy::start(server.addr())?;
    let exporter =
        Definition::of_queries(&[("one", "SELECT 1 AS v")])?.exporter(&server.dsn_at(proxy.addr())).await?;
    assert_eq!(up(&exporter, 10.0).await?, 1.0);
    proxy.set(Mode::Hang);
    // The request itself would fail after its own time limit, so an answer is an answer in time.
    assert_eq!(up(&exporter, 5.0).await?, 0.0);
    proxy.set(Mode::Pass);
    let deadline = Instant::now() + Duration::from_secs(20);
    while up(&exporter, 10.0).await? < 1.0 {
        anyhow::ensure!(Instant::now() < deadline, "not up again:\n{}", exporter.process.log());
    }
    server.stop()?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!(value(&page, "business_exporter_up", &[("database", "main")])?, 0.0);
    assert_eq!(outcome(&page, "one"), Some("connection"));
    assert!(page.family("one").is_none());
    server.restart().await?;
    assert_eq!(up(&exporter, 10.0).await?, 1.0);
    // Behind a connection that died unseen, the first scrape is whole, too.
    proxy.set(Mode::Reset);
    proxy.set(Mode::Pass);
    assert_eq!(up(&exporter, 10.0).await?, 1.0);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn once_prints_the_page_and_fails_when_a_query_does(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    let definition = Definition::of_queries(&[("one", "SELECT 1 AS v")])?;
    let output = definition.run(&["once"], Some(&server.dsn()))?;
    assert!(output.status.success(), "{:?}", failure(&output));
    let page = testkit::page::parse(&String::from_utf8(output.stdout)?)?;
    assert_eq!(page.value("one", &[]), Some(1.0));
    let broken = Definition::of_queries(&[("one", "SELECT 1 AS v"), ("two", "SELECT 1 AS w")])?;
    let output = broken.run(&["once"], Some(&server.dsn()))?;
    let (code, message) = failure(&output);
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains("query \"two\": two: no column \"v\"; there are [\"w\"]"), "{message}");
    assert!(String::from_utf8(output.stdout)?.contains("\none 1\n"));
    let output = definition.run(&["once"], Some("host=127.0.0.1 port=1 user=u sslmode=disable"))?;
    let (code, message) = failure(&output);
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains("127.0.0.1:1"), "{message}");
    Ok(())
}
