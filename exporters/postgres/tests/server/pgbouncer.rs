//! Through pgbouncer in transaction mode with one server connection: limits must not reach the next client.

use crate::{ask, connect, deadline};
use anyhow::Result;
use futures_util::future::join_all;
use pg_client::{Connector, Dsn, Limits, QueryErrorKind};
use std::time::Duration;
use testkit::pgbouncer::PgBouncer;
use testkit::postgres::Postgres;

/// Transactions of all clients on one connection to the server, so that a leak shows.
const ONE_CONNECTION: [(&str, &str); 2] = [("pool_mode", "transaction"), ("default_pool_size", "1")];

#[tokio::test]
async fn limits_do_not_reach_the_next_client() -> Result<()> {
    let server = Postgres::start().await?;
    let pool = PgBouncer::start(&server, &ONE_CONNECTION).await?;
    let ours = connect(&pool.dsn("postgres")).await?;
    let theirs = connect(&pool.dsn("postgres")).await?;
    assert!(ours.version_num() >= 130_000);
    let limits = Limits {
        statement_timeout: Some(Duration::from_millis(1234)),
        lock_timeout: Some(Duration::from_millis(567)),
        deadline: Some(deadline()),
        ..Limits::default()
    };
    let settings = "SELECT current_setting('statement_timeout') || ' ' || current_setting('lock_timeout')";
    for _ in 0..3 {
        let replies =
            join_all((0..15).map(|i| ours.query(if i == 7 { "SELECT 1/0" } else { settings }, &limits)))
                .await;
        for (i, reply) in replies.into_iter().enumerate() {
            match reply {
                Ok(rows) => assert_eq!(rows.first().and_then(|row| row.get(0)), Some("1234ms 567ms")),
                Err(error) => assert_eq!((i, error.kind), (7, QueryErrorKind::Other), "{error}"),
            }
        }
        assert_eq!(ask(&theirs, settings).await?.as_deref(), Some("0 0"));
    }
    // Both clients share the one server connection, so a leak would have shown.
    assert_eq!(ask(&ours, "SELECT pg_backend_pid()").await?, ask(&theirs, "SELECT pg_backend_pid()").await?);
    Ok(())
}

#[tokio::test]
async fn the_admin_console_answers() -> Result<()> {
    let server = Postgres::start().await?;
    let pool = PgBouncer::start(&server, &ONE_CONNECTION).await?;
    let session = connect(&pool.dsn("pgbouncer")).await?;
    let rows = session.query("SHOW POOLS", &Limits::default()).await?;
    assert!(rows.column("cl_active").is_some());
    Ok(())
}

/// A pooler is recognised, whether it refuses the startup options or drops them: nothing is set and nothing prepared.
#[tokio::test]
async fn a_pooler_is_not_taken_for_a_server_of_our_own() -> Result<()> {
    let server = Postgres::start().await?;
    for ignored in ["", "options"] {
        let settings = [&ONE_CONNECTION[..], &[("ignore_startup_parameters", ignored)]].concat();
        let pool = PgBouncer::start(&server, &settings).await?;
        let dsn = Dsn::parse(&pool.dsn("postgres"))?;
        let limits = (Duration::from_millis(700), Duration::from_millis(100));
        let connector = Connector::new(dsn).with_session_limits(limits.0, limits.1);
        let session = connector.connect(deadline()).await?;
        assert!(!session.is_own(), "{ignored:?}");
        let rows = session
            .query("SELECT pg_catalog.current_setting('statement_timeout')", &Limits::default())
            .await?;
        assert_eq!(rows.first().and_then(|row| row.get(0)), Some("0"));
    }
    Ok(())
}
