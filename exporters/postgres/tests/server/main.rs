//! pg-client against real servers: logins and TLS, queries and their limits, the kept session, pgbouncer.

mod kept;
mod login;
mod pgbouncer;
mod queries;
mod tls;

use anyhow::{Context, Result};
use pg_client::{Connector, Dsn, Environment, Session};
use std::future::Future;
use std::time::Duration;
use testkit::postgres::Postgres;
use tokio::time::Instant;

/// Long enough for any answer on a loaded machine; no test waits for it when things work.
fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// Parses without this machine's environment.
fn dsn(text: &str) -> Result<Dsn> {
    Dsn::parse_in(text, &Environment::new([("USER", "nobody")])).with_context(|| format!("parsing {text}"))
}

async fn connect(text: &str) -> Result<Session> {
    Ok(Connector::new(dsn(text)?).connect(deadline()).await?)
}

/// The failure of a connect that must fail.
async fn refusal(text: &str) -> Result<pg_client::ConnectError> {
    match Connector::new(dsn(text)?).connect(deadline()).await {
        Ok(session) => anyhow::bail!("{text} connected to {}", session.host()),
        Err(error) => Ok(error),
    }
}

/// The first cell of the first row.
async fn ask(session: &Session, sql: &str) -> Result<Option<String>> {
    let rows = session.query(sql, &pg_client::Limits::default()).await?;
    Ok(rows.first().and_then(|row| row.get(0)).map(str::to_owned))
}

/// Asks again until the answer is the wanted one.
async fn until<F: Future<Output = Result<bool>>>(what: &str, mut condition: impl FnMut() -> F) -> Result<()> {
    let deadline = deadline();
    while !condition().await? {
        anyhow::ensure!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Waits until a count that the superuser asks for has a value.
async fn until_count(server: &Postgres, sql: &str, count: &str) -> Result<()> {
    until(sql, || async { Ok(server.psql(sql).await?.as_deref() == Some(count)) }).await
}
