//! Hosts, sockets, passwords, roles, and the kinds of failure.

use crate::{ask, connect, deadline, dsn, refusal};
use anyhow::Result;
use pg_client::{ConnectErrorKind, Connector};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::free_port;
use testkit::postgres::{EXPORTER_PASSWORD, Postgres};
use testkit::proxy::{FaultProxy, Mode};
use tokio::time::Instant;

#[tokio::test]
async fn logs_in_by_password_and_tells_the_version() -> Result<()> {
    let server = Postgres::start().await?;
    let session = connect(&server.dsn()).await?;
    let num = ask(&session, "SHOW server_version_num").await?;
    assert_eq!(num.as_deref(), Some(session.version_num().to_string().as_str()));
    assert_eq!((session.is_superuser(), session.server_encoding()), (Some(false), Some("UTF8")));
    assert_eq!(session.was_in_recovery(), Some(false));
    assert_eq!(ask(&session, "SHOW application_name").await?.as_deref(), Some("pg-exporter"));
    assert_eq!(session.host(), format!("127.0.0.1:{}", server.port()));
    Ok(())
}

#[tokio::test]
async fn settings_of_the_dsn_reach_the_server() -> Result<()> {
    let server = Postgres::start().await?;
    let session = connect(&format!(
        "{}&application_name=a%20b&statement_timeout=4321&search_path=a,%20b&options=-c%20geqo=off",
        server.dsn()
    ))
    .await?;
    for (name, value) in [("application_name", "a b"), ("statement_timeout", "4321ms"), ("geqo", "off")] {
        assert_eq!(ask(&session, &format!("SHOW {name}")).await?.as_deref(), Some(value));
    }
    assert_eq!(ask(&session, "SHOW search_path").await?.as_deref(), Some("a, b"));
    // The server's default: nothing is sent, since poolers refuse it.
    assert_eq!(ask(&session, "SHOW extra_float_digits").await?.as_deref(), Some("1"));
    let error = refusal(&format!("{}&sslmod=x", server.dsn())).await?;
    assert_eq!(error.kind, ConnectErrorKind::Rejected);
    assert!(error.message.contains("sslmod"), "{error}");
    Ok(())
}

#[tokio::test]
async fn reads_the_password_file_at_each_connect() -> Result<()> {
    let server = Postgres::start().await?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("pgpass");
    let write = |password: &str| -> Result<()> {
        std::fs::write(&file, format!("127.0.0.1:{}:*:exporter:{password}\n", server.port()))?;
        Ok(std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?)
    };
    let text = format!(
        "host=127.0.0.1 port={} user=exporter dbname=postgres sslmode=disable passfile={}",
        server.port(),
        file.display()
    );
    write("wrong")?;
    let connector = Connector::new(dsn(&text)?);
    let error = connector.connect(deadline()).await.err().map(|error| error.kind);
    assert_eq!(error, Some(ConnectErrorKind::Auth));
    write(EXPORTER_PASSWORD)?;
    connector.connect(deadline()).await?;
    Ok(())
}

#[tokio::test]
async fn asks_the_password_source_at_each_connect() -> Result<()> {
    let server = Postgres::start().await?;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let password = Arc::new(Mutex::new("wrong"));
    let current = Arc::clone(&password);
    let connector = Connector::new(dsn(&server.dsn())?).with_password_source(Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
        current.lock().ok().map(|password| (*password).to_owned())
    }));
    assert!(connector.connect(deadline()).await.is_err());
    *password.lock().map_err(|_| anyhow::anyhow!("poisoned"))? = EXPORTER_PASSWORD;
    connector.connect(deadline()).await?;
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    Ok(())
}

#[tokio::test]
async fn connects_by_unix_socket_whatever_the_sslmode() -> Result<()> {
    let server = Postgres::start().await?;
    let dir = server.socket_dir().display().to_string();
    for mode in ["disable", "prefer", "require"] {
        let text = format!("host={dir} port={} user=postgres dbname=postgres sslmode={mode}", server.port());
        let session = connect(&text).await?;
        assert_eq!(session.host(), format!("{dir}:{}", server.port()));
        assert_eq!(ask(&session, "SELECT inet_client_addr() IS NULL").await?.as_deref(), Some("t"));
    }
    let error = refusal("host=/nowhere user=postgres").await?;
    assert_eq!(error.kind, ConnectErrorKind::Refused);
    Ok(())
}

#[tokio::test]
async fn failures_are_told_apart_without_secrets() -> Result<()> {
    let server = Postgres::builder().setting("max_connections", "5").setting("reserved_connections", "0");
    let server = server.hba("host all exporter 127.0.0.9/32 reject").start().await;
    // reserved_connections is of PostgreSQL 16.
    let server = match server {
        Ok(server) => server,
        Err(_) => Postgres::builder().setting("max_connections", "5").start().await?,
    };
    let port = server.port();
    let dead = free_port()?;
    let base = format!("127.0.0.1:{port}");
    for (text, kind, part) in [
        (format!("postgres://exporter:s3cret@{base}/postgres"), ConnectErrorKind::Auth, base.clone()),
        (
            format!("postgres://exporter@{base}/postgres?sslmode=disable"),
            ConnectErrorKind::Auth,
            "password".into(),
        ),
        (
            format!("postgres://exporter:{EXPORTER_PASSWORD}@{base}/none?sslmode=disable"),
            ConnectErrorKind::Rejected,
            "\"none\" does not exist".into(),
        ),
        (format!("postgres://e:s3cret@127.0.0.1:{dead}/"), ConnectErrorKind::Refused, dead.to_string()),
        (
            format!("postgres://e:s3cret@no-such-host.invalid:{port}/"),
            ConnectErrorKind::Dns,
            "no-such-host.invalid".into(),
        ),
        (
            format!("postgres://exporter:{EXPORTER_PASSWORD}@{base}/postgres?sslmode=require"),
            ConnectErrorKind::Tls,
            "does not support TLS".into(),
        ),
    ] {
        let error = refusal(&text).await?;
        assert_eq!(error.kind, kind, "{text}: {error}");
        assert!(error.message.contains(&part), "{text}: {error}");
        assert!(!error.message.contains("s3cret") && !error.message.contains(EXPORTER_PASSWORD), "{error}");
    }
    let mut sessions = Vec::new();
    let full = loop {
        match Connector::new(dsn(&server.dsn())?).connect(deadline()).await {
            Ok(session) => sessions.push(session),
            Err(error) => break error,
        }
        anyhow::ensure!(sessions.len() <= 5, "max_connections does not hold");
    };
    assert_eq!(full.kind, ConnectErrorKind::TooManyConnections, "{full}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_does_not_answer_ends_with_the_deadline() -> Result<()> {
    let server = Postgres::start().await?;
    let proxy = FaultProxy::start(server.addr())?;
    proxy.set(Mode::Hang);
    let connector = Connector::new(dsn(&server.dsn_at(proxy.addr()))?);
    let error = connector.connect(Instant::now() + Duration::from_millis(200)).await.err();
    assert_eq!(error.map(|error| error.kind), Some(ConnectErrorKind::Timeout));
    Ok(())
}

#[tokio::test]
async fn the_next_host_is_tried() -> Result<()> {
    let server = Postgres::start().await?;
    let hung = FaultProxy::start(server.addr())?;
    hung.set(Mode::Hang);
    let (dead, hung, live) = (free_port()?, hung.port(), server.port());
    let text = format!(
        "postgres://exporter:{EXPORTER_PASSWORD}@127.0.0.1:{dead},127.0.0.1:{hung},127.0.0.1:{live}/postgres\
         ?sslmode=disable&connect_timeout=1"
    );
    assert_eq!(connect(&text).await?.host(), format!("127.0.0.1:{live}"));
    let error =
        refusal(&format!("postgres://e@127.0.0.1:{dead},127.0.0.1:{hung}/?connect_timeout=1")).await?;
    assert!(
        error.message.contains(&dead.to_string()) && error.message.contains(&hung.to_string()),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn picks_the_server_by_its_role() -> Result<()> {
    let primary = Postgres::start().await?;
    let standby = primary.standby().await?;
    let (p, s) = (primary.port(), standby.port());
    for (attrs, port) in [
        ("any", s),
        ("primary", p),
        ("read-write", p),
        ("standby", s),
        ("read-only", s),
        ("prefer-standby", s),
    ] {
        let text = format!("host=127.0.0.1 port={s},{p} user=postgres dbname=postgres sslmode=disable");
        let text = text.replace("host=127.0.0.1", "host=127.0.0.1,127.0.0.1");
        let session = connect(&format!("{text} target_session_attrs={attrs}")).await?;
        assert_eq!(session.host(), format!("127.0.0.1:{port}"), "{attrs}");
    }
    let alone = format!("host=127.0.0.1 port={p} user=postgres dbname=postgres sslmode=disable");
    connect(&format!("{alone} target_session_attrs=prefer-standby")).await?;
    let error = refusal(&format!("{alone} target_session_attrs=standby")).await?;
    assert_eq!(error.kind, ConnectErrorKind::WrongRole);
    Ok(())
}
