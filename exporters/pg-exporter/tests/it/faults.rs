//! Whatever happens to the server, a scrape answers in time, says what is missing, and the next one is whole.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use testkit::http::Request;
use testkit::postgres::Postgres;
use testkit::proxy::{FaultProxy, Mode};

use crate::{exporter, failed};

/// Scrapes until the page is whole again.
async fn wait_until_whole(exporter: &testkit::exporter::Exporter) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let page = exporter.scrape(10.0).await?;
        if page.value("pg_up", &[]) == Some(1.0) && failed(&page).is_empty() {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "not whole again: {:?}", failed(&page));
    }
}

#[tokio::test]
async fn one_round_trip_and_one_connection_at_steady_state() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let proxy = FaultProxy::start(server.addr())?;
    let exporter = exporter(&server.dsn_at(proxy.addr()), &[]).await?;
    for _ in 0..2 {
        exporter.scrape(10.0).await?;
    }
    let (trips, opened) = (proxy.round_trips(), proxy.connections_opened());
    for _ in 0..10 {
        assert_eq!(failed(&exporter.scrape(10.0).await?), Vec::<String>::new());
    }
    assert_eq!(proxy.round_trips() - trips, 10);
    assert_eq!(proxy.connections_opened(), opened);
    // Statistics and sizes.
    assert!(proxy.connections_open() <= 2, "{}", proxy.connections_open());
    Ok(())
}

#[tokio::test]
async fn fifty_scrapes_at_once_open_at_most_one_more_connection() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let proxy = FaultProxy::start(server.addr())?;
    let exporter = exporter(&server.dsn_at(proxy.addr()), &[]).await?;
    exporter.scrape(10.0).await?;
    let opened = proxy.connections_opened();
    for page in join_all((0..50).map(|_| exporter.scrape(10.0))).await {
        assert_eq!(failed(&page?), Vec::<String>::new());
    }
    assert!(proxy.connections_opened() <= opened + 1);
    Ok(())
}

#[tokio::test]
async fn a_stopped_server_is_down_and_comes_back() -> anyhow::Result<()> {
    let mut server = Postgres::start().await?;
    let exporter = exporter(&server.dsn(), &[]).await?;
    wait_until_whole(&exporter).await?;
    server.stop()?;
    let page = exporter.scrape(5.0).await?;
    assert_eq!(page.value("pg_up", &[]), Some(0.0));
    assert_eq!(page.value("pg_exporter_last_scrape_error", &[]), Some(1.0));
    server.restart().await?;
    // The first scrape after the restart is whole: no false alarm.
    let page = exporter.scrape(10.0).await?;
    assert_eq!(page.value("pg_up", &[]), Some(1.0));
    assert_eq!(failed(&page), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_restart_between_two_scrapes_goes_unnoticed() -> anyhow::Result<()> {
    let mut server = Postgres::start().await?;
    let exporter = exporter(&server.dsn(), &[]).await?;
    wait_until_whole(&exporter).await?;
    server.restart().await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!(page.value("pg_up", &[]), Some(1.0));
    assert_eq!(failed(&page), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_hung_server_is_down_inside_the_deadline() -> anyhow::Result<()> {
    let mut server = Postgres::start().await?;
    let proxy = FaultProxy::start(server.addr())?;
    let exporter = exporter(&server.dsn_at(proxy.addr()), &[]).await?;
    wait_until_whole(&exporter).await?;
    server.pause().await?;
    let memory =
        |page: &exposition::Page| page.value("process_resident_memory_bytes", &[]).unwrap_or_default();
    // `scrape` gives up after the five seconds that the header promises.
    let mut used = Vec::new();
    for _ in 0..2 {
        for page in join_all((0..50).map(|_| exporter.scrape(5.0))).await {
            let page = page?;
            assert_eq!(page.value("pg_up", &[]), Some(0.0));
            used.push(memory(&page));
        }
        assert!(proxy.connections_open() <= 2, "{}", proxy.connections_open());
    }
    let grown = used.last().unwrap_or(&0.0) - used.first().unwrap_or(&0.0);
    assert!(grown < 16e6, "{grown} bytes more after a hundred scrapes");
    server.resume()?;
    wait_until_whole(&exporter).await
}

#[tokio::test]
async fn a_stopped_postmaster_is_down_for_who_is_not_connected_only() -> anyhow::Result<()> {
    let mut server = Postgres::start().await?;
    let (kept, new) = (FaultProxy::start(server.addr())?, FaultProxy::start(server.addr())?);
    let warm = exporter(&server.dsn_at(kept.addr()), &[]).await?;
    let cold = exporter(&server.dsn_at(new.addr()), &[]).await?;
    wait_until_whole(&warm).await?;
    let opened = kept.connections_opened();
    server.pause_postmaster()?;
    for page in join_all((0..50).map(|_| warm.scrape(10.0))).await {
        let page = page?;
        assert_eq!((page.value("pg_up", &[]), failed(&page)), (Some(1.0), vec![]));
    }
    assert_eq!(kept.connections_opened(), opened);
    for page in join_all((0..50).map(|_| cold.scrape(5.0))).await {
        assert_eq!(page?.value("pg_up", &[]), Some(0.0));
    }
    // A connection for each pass, and each is closed when its pass ends.
    assert!(new.connections_opened() <= 4, "{}", new.connections_opened());
    assert!(new.connections_open() <= 2, "{}", new.connections_open());
    server.resume()?;
    wait_until_whole(&cold).await
}

#[tokio::test]
async fn a_network_that_swallows_everything_is_down_inside_the_deadline() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let proxy = FaultProxy::start(server.addr())?;
    let exporter = exporter(&server.dsn_at(proxy.addr()), &[]).await?;
    wait_until_whole(&exporter).await?;
    for mode in [Mode::Hang, Mode::Refuse, Mode::Reset, Mode::CutAfter(600)] {
        proxy.set(mode);
        let page = exporter.scrape(2.0).await?;
        assert!(!failed(&page).is_empty() || page.value("pg_up", &[]) == Some(0.0), "{mode:?}");
        proxy.set(Mode::Pass);
        wait_until_whole(&exporter).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_locked_table_costs_its_own_sizes_only() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    server
        .sql("CREATE TABLE locked (id int PRIMARY KEY, note text); CREATE TABLE free (id int PRIMARY KEY)")
        .await?;
    let holder = server.client().await?;
    holder.batch_execute("BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE").await?;
    let exporter = exporter(&server.dsn(), &["--size-refresh", "0"]).await?;
    // The header's timeout is the bound: the whole answer must come within one second.
    let page = exporter.scrape(1.0).await?;
    assert_eq!(failed(&page), Vec::<String>::new());
    let size = |relname| page.value("pg_stat_user_tables_table_size_bytes", &[("relname", relname)]);
    assert_eq!(size("locked"), None);
    assert!(size("free").is_some());
    assert_eq!(page.value("pg_exporter_locked_relations", &[]), Some(1.0));
    assert!(page.value("pg_database_size_bytes", &[("datname", "postgres")]).is_some());
    assert_eq!(page.value("pg_stat_user_tables_n_live_tup", &[("relname", "locked")]), Some(0.0));

    // The same when the lock is only queued for, behind a reader.
    holder.batch_execute("COMMIT; BEGIN; SELECT * FROM locked").await?;
    let waiter = server.client().await?;
    let waiting = tokio::spawn(async move {
        waiter.batch_execute("BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE").await
    });
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.psql("SELECT 1 FROM pg_locks WHERE NOT granted").await?.is_none() {
        anyhow::ensure!(Instant::now() < deadline, "nobody waits for the lock");
    }
    let page = exporter.scrape(1.0).await?;
    assert_eq!(failed(&page), Vec::<String>::new());
    assert_eq!(page.value("pg_stat_user_tables_table_size_bytes", &[("relname", "locked")]), None);
    assert_eq!(page.value("pg_exporter_locked_relations", &[]), Some(1.0));
    waiting.abort();
    Ok(())
}

#[tokio::test]
async fn clients_that_go_away_leak_nothing() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let proxy = FaultProxy::start(server.addr())?;
    proxy.set(Mode::Delay(Duration::from_millis(40)));
    let exporter = exporter(&server.dsn_at(proxy.addr()), &[]).await?;
    exporter.scrape(10.0).await?;
    let open_files = |exporter: &testkit::exporter::Exporter| {
        std::fs::read_dir(format!("/proc/{}/fd", exporter.process.pid())).map(Iterator::count)
    };
    let before = open_files(&exporter)?;
    for _ in 0..20 {
        // Fifty clients that give up before the server can have answered.
        let aborted = (0..50).map(|_| {
            Request::new(http::Method::GET, exporter.url("/metrics")).timeout(Duration::from_millis(5)).send()
        });
        join_all(aborted).await;
    }
    assert!(proxy.connections_opened() <= 3, "{}", proxy.connections_opened());
    wait_until_whole(&exporter).await?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while open_files(&exporter)? > before + 2 {
        anyhow::ensure!(Instant::now() < deadline, "{} files open, {before} before", open_files(&exporter)?);
        exporter.scrape(10.0).await?;
    }
    let page = exporter.scrape(10.0).await?;
    assert_eq!(page.value("promhttp_metric_handler_requests_in_flight", &[]), Some(1.0));
    Ok(())
}

#[tokio::test]
async fn sigterm_lets_a_running_scrape_finish() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let proxy = FaultProxy::start(server.addr())?;
    let mut exporter = exporter(&server.dsn_at(proxy.addr()), &[]).await?;
    exporter.scrape(10.0).await?;
    proxy.set(Mode::Delay(Duration::from_millis(400)));
    let trips = proxy.round_trips();
    let url = exporter.url("/metrics");
    let running = tokio::spawn(async move { testkit::http::get(&url).await });
    let deadline = Instant::now() + Duration::from_secs(10);
    while proxy.round_trips() == trips {
        anyhow::ensure!(Instant::now() < deadline, "the scrape did not start");
        tokio::task::yield_now().await;
    }
    exporter.process.signal(nix::sys::signal::Signal::SIGTERM)?;
    let page = exporter.checked(running.await??)?;
    assert!(page.text.contains("\npg_up 1\n"));
    let status = exporter.process.wait_for_exit(Duration::from_secs(10)).await?;
    assert!(status.success(), "{status}");
    Ok(())
}
