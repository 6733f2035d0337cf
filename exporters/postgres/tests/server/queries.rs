//! Joined statements, their limits and errors, and giving up.

use crate::{ask, connect, deadline, until, until_count};
use anyhow::Result;
use futures_util::future::join_all;
use pg_client::{Limits, QueryErrorKind};
use std::time::Duration;
use testkit::postgres::Postgres;
use testkit::proxy::{FaultProxy, Mode};
use tokio::time::Instant;

fn limits(statement: u64, lock: u64) -> Limits {
    Limits {
        statement_timeout: Some(Duration::from_millis(statement)),
        lock_timeout: Some(Duration::from_millis(lock)),
        deadline: Some(deadline()),
        ..Limits::default()
    }
}

#[tokio::test]
async fn fifteen_joined_statements_cost_one_round_trip() -> Result<()> {
    let server = Postgres::start().await?;
    let proxy = FaultProxy::start(server.addr())?;
    let session = connect(&server.dsn_at(proxy.addr())).await?;
    for _ in 0..3 {
        let before = proxy.round_trips();
        let statements: Vec<String> = (0..15).map(|i| format!("SELECT {i}, repeat('x', 1000)")).collect();
        let limits = limits(20_000, 10_000);
        let replies = join_all(statements.iter().map(|sql| session.query(sql, &limits))).await;
        for (i, reply) in replies.into_iter().enumerate() {
            assert_eq!(reply?.first().and_then(|row| row.float(0)), Some(i as f64));
        }
        assert_eq!(proxy.round_trips() - before, 1);
    }
    assert_eq!(proxy.connections_opened(), 1);
    Ok(())
}

#[tokio::test]
async fn an_error_does_not_touch_the_others() -> Result<()> {
    let server = Postgres::start().await?;
    server.sql("CREATE TABLE secret (v int)").await?;
    let session = connect(&server.dsn()).await?;
    let limits = limits(20_000, 10_000);
    for (sql, kind, state) in [
        ("SELECT 1/0", QueryErrorKind::Other, "22012"),
        ("SELECT * FROM absent", QueryErrorKind::UndefinedObject, "42P01"),
        ("SELECT absent()", QueryErrorKind::UndefinedObject, "42883"),
        ("SELECT absent.absent()", QueryErrorKind::UndefinedObject, "3F000"),
        ("SELECT '1'::absent", QueryErrorKind::UndefinedObject, "42704"),
        ("SELECT absent FROM pg_class", QueryErrorKind::UndefinedObject, "42703"),
        ("SELECT * FROM secret", QueryErrorKind::Permission, "42501"),
        ("SELECT lo_import('/x') FROM absent.absent.absent", QueryErrorKind::FeatureNotSupported, "0A000"),
        ("SELECT pg_sleep(5)", QueryErrorKind::Timeout, "57014"),
        ("SELEC", QueryErrorKind::Other, "42601"),
    ] {
        let mut wrong = limits;
        if sql.contains("sleep") {
            wrong.statement_timeout = Some(Duration::from_millis(20));
        }
        let (before, middle, after) = tokio::join!(
            session.query("SELECT 1", &limits),
            session.query(sql, &wrong),
            session.query("SELECT 2, current_setting('statement_timeout')", &limits),
        );
        assert_eq!(before?.first().and_then(|row| row.float(0)), Some(1.0));
        let after = after?;
        let row = after.first().map(|row| (row.float(0), row.get(1)));
        assert_eq!(row, Some((Some(2.0), Some("20s"))));
        let Err(error) = middle else { anyhow::bail!("{sql} succeeded") };
        assert_eq!((error.kind, error.sqlstate.as_deref()), (kind, Some(state)), "{sql}: {error}");
    }
    assert!(session.is_healthy());
    assert_eq!(ask(&session, "SHOW statement_timeout").await?.as_deref(), Some("0"));
    assert_eq!(ask(&session, "SHOW lock_timeout").await?.as_deref(), Some("0"));
    Ok(())
}

#[tokio::test]
async fn the_statements_own_limit_beats_the_roles() -> Result<()> {
    let server = Postgres::start().await?;
    let session = connect(&format!("{}&statement_timeout=50", server.dsn())).await?;
    let error = ask(&session, "SELECT pg_sleep(5)").await.err();
    assert!(error.is_some_and(|error| error.to_string().contains("57014")));
    session.query("SELECT pg_sleep(0.2)", &limits(20_000, 100)).await?;
    Ok(())
}

#[tokio::test]
async fn a_locked_table_costs_its_statement_only() -> Result<()> {
    let server = Postgres::start().await?;
    server.sql("CREATE TABLE t (v int); GRANT SELECT ON t TO exporter").await?;
    let holder = server.client().await?;
    holder.batch_execute("BEGIN; LOCK t").await?;
    let session = connect(&server.dsn()).await?;
    let limits = limits(20_000, 50);
    let (locked, free) =
        tokio::join!(session.query("SELECT * FROM t", &limits), session.query("SELECT 1", &limits));
    let error = locked.err().map(|error| (error.kind, error.sqlstate));
    assert_eq!(error, Some((QueryErrorKind::LockTimeout, Some("55P03".into()))));
    assert_eq!(free?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn at_the_deadline_the_statement_is_cancelled_and_the_session_given_up() -> Result<()> {
    let server = Postgres::start().await?;
    let proxy = FaultProxy::start(server.addr())?;
    let session = connect(&server.dsn_at(proxy.addr())).await?;
    let limits = Limits { deadline: Some(Instant::now() + Duration::from_millis(100)), ..Limits::default() };
    let (one, two) =
        tokio::join!(session.query("SELECT pg_sleep(600)", &limits), session.query("SELECT 1", &limits));
    for reply in [one, two] {
        assert_eq!(reply.err().map(|error| error.kind), Some(QueryErrorKind::Timeout));
    }
    assert!(!session.is_healthy());
    let error = session.query("SELECT 1", &Limits::default()).await.err();
    assert_eq!(error.map(|error| error.kind), Some(QueryErrorKind::Connection));
    drop(session);
    until_count(&server, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'exporter'", "0").await?;
    until("the proxy's connections to end", || async { Ok(proxy.connections_open() == 0) }).await?;
    // One for the session and one CancelRequest for both statements.
    assert_eq!(proxy.connections_opened(), 2);
    Ok(())
}

#[tokio::test]
async fn a_dropped_future_is_cancelled_too() -> Result<()> {
    let server = Postgres::start().await?;
    let session = connect(&server.dsn()).await?;
    let limits = Limits::default();
    let running = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'exporter' AND state = 'active'";
    tokio::select! {
        _ = session.query("SELECT pg_sleep(600)", &limits) => anyhow::bail!("slept"),
        started = until_count(&server, running, "1") => started?,
    }
    assert!(!session.is_healthy());
    until_count(&server, running, "0").await
}

#[tokio::test]
async fn a_lost_connection_is_told() -> Result<()> {
    let server = Postgres::start().await?;
    for mode in [Mode::Reset, Mode::CutAfter(10)] {
        let proxy = FaultProxy::start(server.addr())?;
        let session = connect(&server.dsn_at(proxy.addr())).await?;
        proxy.set(mode);
        let error = session.query("SELECT repeat('x', 1000)", &Limits::default()).await.err();
        assert_eq!(error.map(|error| error.kind), Some(QueryErrorKind::Connection), "{mode:?}");
        assert!(!session.is_healthy());
    }
    Ok(())
}

#[tokio::test]
async fn rows_columns_nulls_and_the_row_limit() -> Result<()> {
    let server = Postgres::start().await?;
    let session = connect(&server.dsn()).await?;
    let sql = "SELECT i, NULL AS n, 'é' || i AS t FROM generate_series(1, 50000) i";
    let rows = session.query(sql, &limits(20_000, 1)).await?;
    assert_eq!(rows.columns().collect::<Vec<_>>(), ["i", "n", "t"]);
    assert_eq!((rows.len(), rows.column("t"), rows.is_truncated()), (50_000, Some(2), false));
    let last = rows.iter().last().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)));
    assert_eq!(last, Some((Some("50000"), None, Some("é50000"), None)));
    let rows = session.query(sql, &Limits { max_rows: Some(10), ..Limits::default() }).await?;
    assert_eq!((rows.len(), rows.is_truncated()), (10, true));
    let rows = session.query("SELECT 1 AS one WHERE false", &Limits::default()).await?;
    assert_eq!((rows.columns().len(), rows.is_empty()), (1, true));
    let error = session.query("SELECT 1; SELECT 2", &Limits::default()).await.err();
    assert!(error.is_some_and(|error| error.message.contains("more than one statement")));
    assert!(session.is_healthy());
    assert_eq!(ask(&session, "SELECT 'on'").await?.as_deref(), Some("on"));
    Ok(())
}

#[tokio::test]
async fn a_session_that_ends_says_goodbye() -> Result<()> {
    let server = Postgres::builder().setting("log_disconnections", "on").start().await?;
    drop(connect(&server.dsn()).await?);
    until_count(&server, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'exporter'", "0").await?;
    assert!(!server.log().contains("unexpected EOF"), "{}", server.log());
    Ok(())
}

/// A session on a server of our own, with limits of the login, and a proxy that counts round trips.
async fn own_session(server: &Postgres) -> Result<(pg_client::Session, FaultProxy)> {
    let proxy = FaultProxy::start(server.addr())?;
    let dsn = pg_client::Dsn::parse(&server.dsn_at(proxy.addr()))?;
    let connector = pg_client::Connector::new(dsn)
        .with_session_limits(Duration::from_millis(700), Duration::from_millis(100));
    let session = connector.connect(Instant::now() + Duration::from_secs(10)).await?;
    anyhow::ensure!(session.is_own());
    Ok((session, proxy))
}

/// What is asked for together is one round trip, from the first time on, prepared or not.
#[tokio::test]
async fn statements_of_a_session_of_our_own_are_one_message() -> Result<()> {
    let server = Postgres::start().await?;
    let (session, proxy) = own_session(&server).await?;
    let statements: Vec<String> = (0..10).map(|n| format!("SELECT {n} + 1 AS n -- a comment")).collect();
    let before = proxy.round_trips();
    for round in 1..=3 {
        let replies = statements.iter().enumerate().map(|(n, sql)| session.query_own(sql, n != 3));
        for (n, rows) in join_all(replies).await.into_iter().enumerate() {
            let rows = rows?;
            assert_eq!(rows.first().and_then(|row| row.float(0)), Some(n as f64 + 1.0));
            assert_eq!((rows.len(), rows.column("n")), (1, Some(0)));
        }
        assert_eq!(proxy.round_trips() - before, round);
    }
    let held = "SELECT count(*) FROM pg_prepared_statements";
    let rows = session.query_own(held, false).await?;
    assert_eq!(rows.first().and_then(|row| row.get(0)), Some("9"));
    Ok(())
}

/// A statement that fails costs the others a second round trip when it worked before, and none from then on. Once it works
/// again, it is back among them.
#[tokio::test]
async fn a_statement_that_fails_costs_the_others_nothing() -> Result<()> {
    let server = Postgres::start().await?;
    let (session, proxy) = own_session(&server).await?;
    let statements = [
        "SELECT 'first'",
        "SELECT 1 / (SELECT count(*) FROM pg_roles WHERE rolname = 'comes later')",
        "SELECT 'between'",
        "SELECT * FROM nowhere",
        "SELECT pg_sleep(30)",
        "SELECT 'last'",
    ];
    let run = async || {
        let before = proxy.round_trips();
        let replies = join_all(statements.map(|sql| session.query_own(sql, true))).await;
        (replies, proxy.round_trips() - before)
    };
    for _ in 0..3 {
        let (replies, took) = run().await;
        assert_eq!(took, 1);
        for (sql, expected) in [(0, "first"), (2, "between"), (5, "last")] {
            let rows = replies[sql].as_ref().expect(statements[sql]);
            assert_eq!(rows.first().and_then(|row| row.get(0)), Some(expected));
        }
        let kind = |index: usize| replies[index].as_ref().expect_err(statements[index]).kind;
        assert_eq!(kind(1), QueryErrorKind::Other);
        assert_eq!(kind(3), QueryErrorKind::UndefinedObject);
        assert_eq!(kind(4), QueryErrorKind::Timeout);
        assert!(session.is_healthy());
    }
    server.sql("CREATE ROLE \"comes later\"").await?;
    for _ in 0..3 {
        let (replies, took) = run().await;
        assert_eq!(took, 1);
        assert_eq!(replies[1].as_ref().expect("a row").first().and_then(|row| row.get(0)), Some("1"));
    }
    server.sql("DROP ROLE \"comes later\"").await?;
    for round_trips in [2, 1] {
        let (replies, took) = run().await;
        assert_eq!(took, round_trips);
        assert_eq!(replies[1].as_ref().expect_err("no row").kind, QueryErrorKind::Other);
        for working in [0, 2, 5] {
            assert!(replies[working].is_ok(), "{}", statements[working]);
        }
    }
    Ok(())
}

/// A table that got another shape makes a prepared statement fail; the next one is a new one.
#[tokio::test]
async fn a_plan_that_became_invalid_is_made_again() -> Result<()> {
    let server = Postgres::start().await?;
    let (session, _proxy) = own_session(&server).await?;
    server.sql("CREATE TABLE t AS SELECT 1 AS a; GRANT SELECT ON t TO PUBLIC").await?;
    let ask = || session.query_own("SELECT * FROM t", true);
    assert_eq!(ask().await?.columns().len(), 1);
    server.sql("ALTER TABLE t ADD COLUMN b int").await?;
    let error = ask().await.expect_err("another shape").message;
    assert!(error.contains("cached plan must not change result type"), "{error}");
    assert_eq!(ask().await?.columns().len(), 2);
    Ok(())
}

#[tokio::test]
async fn prepared_statements_do_not_pile_up() -> Result<()> {
    let server = Postgres::start().await?;
    let (session, _proxy) = own_session(&server).await?;
    for n in 0..600 {
        let rows = session.query_own(&format!("SELECT {n}"), true).await?;
        assert_eq!(rows.first().and_then(|row| row.float(0)), Some(f64::from(n)));
    }
    let rows = session.query_own("SELECT count(*) FROM pg_prepared_statements", true).await?;
    let held = rows.first().and_then(|row| row.float(0)).expect("a count");
    assert!((1.0..=257.0).contains(&held), "{held}");
    Ok(())
}
