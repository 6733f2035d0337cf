//! Fetched binaries run on this machine with the libraries that were fetched with them.

use std::time::Duration;

use testkit::{
    free_port,
    peer::{PEERS, SQL_EXPORTER},
    pgbouncer::PgBouncer,
    postgres::{Postgres, Version},
    servers, user,
};

use tokio_postgres::NoTls;

const SOON: Duration = Duration::from_secs(30);

/// Runs `binary --version` and gives what it says.
async fn version(server: &str, binary: &str) -> anyhow::Result<String> {
    let installed = servers::get(server).await?;
    let folder = tempfile::tempdir()?;
    let mut process =
        installed.process(binary, binary, folder.path().join("log")).arg("--version").spawn()?;
    let status = process.wait_for_exit(SOON).await?;
    anyhow::ensure!(status.success(), process.failure("failed"));
    Ok(process.log())
}

#[tokio::test]
async fn debians_postgres_runs_without_being_installed() {
    let server = Postgres::builder().version(Version::Debian).start().await.unwrap();
    let version = server.psql("SHOW server_version").await.unwrap().unwrap();
    assert!(version.starts_with("15."), "{version}");
    // Needs a library of its own.
    server.sql("CREATE EXTENSION pgcrypto; CREATE EXTENSION xml2").await.unwrap();
}

#[tokio::test]
async fn pgbouncer_finds_its_libraries() {
    let said = version("pgbouncer", "pgbouncer").await.unwrap();
    assert!(said.starts_with("PgBouncer 1."), "{said}");
}

#[tokio::test]
async fn the_monitoring_binaries_are_recent() {
    for (binary, start) in [
        ("prometheus", "prometheus, version 3."),
        ("promtool", "promtool, version 3."),
        ("prometheus-alertmanager", "alertmanager, version 0."),
        ("amtool", "amtool, version 0."),
        ("prometheus-node-exporter", "node_exporter, version 1."),
    ] {
        let said = version("monitoring", binary).await.unwrap();
        assert!(said.starts_with(start), "{said}");
    }
}

#[tokio::test]
async fn the_peers_run_and_have_the_version_that_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yml");
    std::fs::write(&file, "jobs: []").unwrap();
    let config = format!("--config.file={}", file.display());
    for peer in PEERS {
        // It does not start without a file, and Debian's build of it does not know its version.
        let (args, version) =
            if peer.name == SQL_EXPORTER.name { (vec![config.as_str()], "") } else { (vec![], peer.version) };
        let page = peer.start(&args, &[]).await.unwrap().page().await.unwrap();
        let family = format!("{}_build_info", peer.name);
        let said = page.samples(&family).next().and_then(|sample| sample.label("version"));
        assert!(said.is_some_and(|said| said.starts_with(version)), "{family}: {said:?}");
    }
}

#[tokio::test]
async fn an_unknown_server_is_named() {
    let message = format!("{:#}", servers::get("redis-1").await.unwrap_err());
    assert_eq!(message, "testkit's table of servers has no \"redis-1\"");
}

#[tokio::test]
async fn pgbouncer_pools_transactions() {
    let server = Postgres::start().await.unwrap();
    let bouncer = PgBouncer::start(&server, &[("pool_mode", "transaction")]).await.unwrap();
    let connect = async |database: &str| {
        let (client, connection) = tokio_postgres::connect(&bouncer.dsn(database), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    };
    let (first, second) = (connect("postgres").await, connect("postgres").await);
    let pid = async |client: &tokio_postgres::Client| {
        let rows = client.simple_query("SELECT pg_backend_pid()").await.unwrap();
        rows.iter().find_map(|row| match row {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
    };
    assert_eq!(pid(&first).await, pid(&second).await, "two clients share one session of the server");
    connect("pgbouncer").await.simple_query("SHOW POOLS").await.unwrap();
}

#[tokio::test]
async fn alertmanager_starts_with_the_templates_it_was_unpacked_with() {
    let installed = servers::get("monitoring").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    user::give(folder.path()).unwrap();
    let config = folder.path().join("alertmanager.yml");
    std::fs::write(&config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n").unwrap();
    let port = free_port().unwrap();
    let mut process = installed
        .process("alertmanager", "prometheus-alertmanager", folder.path().join("log"))
        .current_dir(installed.root.join("usr/share/prometheus/alertmanager"))
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", data.display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--cluster.listen-address=")
        .spawn()
        .unwrap();
    process.wait_for_log("Listening on", SOON).await.unwrap();
}
