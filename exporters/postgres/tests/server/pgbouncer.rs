//! Through pgbouncer in transaction mode with one server connection: limits must not reach the next client.

use crate::{ask, connect, deadline};
use anyhow::{Context, Result};
use futures_util::future::join_all;
use pg_client::{Connector, Dsn, Limits, QueryErrorKind};
use std::time::Duration;
use testkit::postgres::{EXPORTER, EXPORTER_PASSWORD, Postgres};
use testkit::process::Process;
use testkit::{free_port, servers};

struct Pgbouncer {
    port: u16,
    _process: Process,
    _folder: tempfile::TempDir,
}

impl Pgbouncer {
    async fn start(upstream: &Postgres) -> Result<Pgbouncer> {
        Pgbouncer::start_with(upstream, "").await
    }

    /// With further lines of configuration.
    async fn start_with(upstream: &Postgres, further: &str) -> Result<Pgbouncer> {
        let installed = servers::get("pgbouncer").await?;
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let users = folder.path().join("users.txt");
        let config = folder.path().join("pgbouncer.ini");
        std::fs::write(&users, format!("\"{EXPORTER}\" \"{EXPORTER_PASSWORD}\"\n"))?;
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = 1\nmax_client_conn = 20\nadmin_users = {EXPORTER}\n{further}",
            upstream.port(),
            users.display()
        );
        std::fs::write(&config, text)?;
        for path in [folder.path(), &users, &config] {
            testkit::user::give(path)?;
        }
        let log = folder.path().join("log");
        let mut process = installed
            .process("pgbouncer", "pgbouncer", log)
            .arg(&config)
            .unprivileged()
            .spawn()
            .context("pgbouncer")?;
        process.wait_for_port(([127, 0, 0, 1], port).into(), Duration::from_secs(30)).await?;
        Ok(Pgbouncer { port, _process: process, _folder: folder })
    }

    fn dsn(&self, database: &str) -> String {
        format!("postgres://{EXPORTER}:{EXPORTER_PASSWORD}@127.0.0.1:{}/{database}?sslmode=prefer", self.port)
    }
}

#[tokio::test]
async fn limits_do_not_reach_the_next_client() -> Result<()> {
    let server = Postgres::start().await?;
    let pool = Pgbouncer::start(&server).await?;
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
    let pool = Pgbouncer::start(&server).await?;
    let session = connect(&pool.dsn("pgbouncer")).await?;
    let rows = session.query("SHOW POOLS", &Limits::default()).await?;
    assert!(rows.column("cl_active").is_some());
    Ok(())
}

/// A pooler is recognised, whether it refuses the startup options or drops them: nothing is set and nothing prepared.
#[tokio::test]
async fn a_pooler_is_not_taken_for_a_server_of_our_own() -> Result<()> {
    let server = Postgres::start().await?;
    for ignored in ["", "ignore_startup_parameters = options\n"] {
        let pool = Pgbouncer::start_with(&server, ignored).await?;
        let dsn = Dsn::parse(&pool.dsn("postgres"))?;
        let limits = (Duration::from_millis(700), Duration::from_millis(100));
        let connector = Connector::new(dsn).with_session_limits(limits.0, limits.1);
        let session = connector.connect(deadline()).await?;
        assert!(!session.is_own(), "{ignored}");
        let rows = session
            .query("SELECT pg_catalog.current_setting('statement_timeout')", &Limits::default())
            .await?;
        assert_eq!(rows.first().and_then(|row| row.get(0)), Some("0"));
    }
    Ok(())
}
