//! The kept session: reuse, restarts, and backing off.

use crate::{ask, deadline, dsn, until, until_count};
use anyhow::Result;
use pg_client::{ConnectErrorKind, Connector, Limits, QueryErrorKind, Warm};
use std::time::Duration;
use testkit::postgres::Postgres;
use testkit::proxy::{FaultProxy, Mode};
use tokio::time::Instant;

fn warm(text: &str) -> Result<Warm> {
    Ok(Warm::new(Connector::new(dsn(text)?)))
}

const PID: &str = "SELECT pg_backend_pid()";

#[tokio::test]
async fn one_session_serves_all_leases() -> Result<()> {
    let server = Postgres::start().await?;
    let proxy = FaultProxy::start(server.addr())?;
    let warm = warm(&server.dsn_at(proxy.addr()))?;
    let leases = (0..50).map(|_| async {
        let lease = warm.lease(deadline()).await?;
        ask(&lease, PID).await
    });
    let pids = futures_util::future::try_join_all(leases).await?;
    assert!(pids.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(proxy.connections_opened(), 1);
    warm.close();
    until("the session to close", || async { Ok(proxy.connections_open() == 0) }).await
}

#[tokio::test]
async fn a_restart_is_noticed_before_the_lease() -> Result<()> {
    let mut server = Postgres::start().await?;
    let warm = warm(&server.dsn())?;
    let first = ask(&*warm.lease(deadline()).await?, PID).await?;
    server.restart().await?;
    let lease = warm.lease(deadline()).await?;
    assert!(!lease.is_reused());
    assert_ne!(ask(&lease, PID).await?, first);
    Ok(())
}

#[tokio::test]
async fn a_terminated_backend_is_replaced() -> Result<()> {
    let server = Postgres::start().await?;
    let warm = warm(&server.dsn())?;
    drop(warm.lease(deadline()).await?);
    server
        .sql("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'exporter'")
        .await?;
    until_count(&server, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'exporter'", "0").await?;
    let lease = warm.lease(deadline()).await?;
    assert!(!lease.is_reused());
    assert!(ask(&lease, PID).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn an_unseen_loss_is_renewed() -> Result<()> {
    let server = Postgres::start().await?;
    let warm = warm(&server.dsn())?;
    drop(warm.lease(deadline()).await?);
    let lease = warm.lease(deadline()).await?;
    assert!(lease.is_reused());
    server
        .sql("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'exporter'")
        .await?;
    let error = lease.query("SELECT 1", &Limits::default()).await.err();
    assert_eq!(error.map(|error| error.kind), Some(QueryErrorKind::Connection));
    let lease = lease.renew(deadline()).await?;
    assert!(!lease.is_reused());
    assert!(ask(&lease, PID).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn a_broken_session_is_not_kept() -> Result<()> {
    let server = Postgres::start().await?;
    let warm = warm(&server.dsn())?;
    let lease = warm.lease(deadline()).await?;
    let limits = Limits { deadline: Some(Instant::now() + Duration::from_millis(50)), ..Limits::default() };
    assert!(lease.query("SELECT pg_sleep(600)", &limits).await.is_err());
    drop(lease);
    assert!(!warm.lease(deadline()).await?.is_reused());
    until_count(&server, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'exporter'", "1").await
}

#[tokio::test]
async fn background_work_waits_after_a_failure_and_scrapes_do_not() -> Result<()> {
    let server = Postgres::start().await?;
    let proxy = FaultProxy::start(server.addr())?;
    let warm = warm(&server.dsn_at(proxy.addr()))?;
    proxy.set(Mode::Reset);
    assert!(warm.lease_patiently(deadline()).await.is_err());
    let opened = proxy.connections_opened();
    proxy.set(Mode::Pass);
    assert!(warm.lease_patiently(deadline()).await.is_err());
    assert_eq!(proxy.connections_opened(), opened);
    warm.lease(deadline()).await?;
    assert!(warm.lease_patiently(deadline()).await?.is_reused());
    Ok(())
}

#[tokio::test]
async fn a_lease_in_use_is_waited_for_until_the_deadline() -> Result<()> {
    let server = Postgres::start().await?;
    let warm = warm(&server.dsn())?;
    let lease = warm.lease(deadline()).await?;
    let error = warm.lease(Instant::now() + Duration::from_millis(50)).await.err();
    assert_eq!(error.map(|error| error.kind), Some(ConnectErrorKind::Timeout));
    drop(lease);
    assert!(warm.lease(deadline()).await?.is_reused());
    Ok(())
}
