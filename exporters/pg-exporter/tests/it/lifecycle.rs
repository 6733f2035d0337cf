//! How the process lives with systemd and with a pooler: notifications, passed sockets, signals, logs.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use testkit::exporter::Exporter;
use testkit::http::{Request, get};
use testkit::pgbouncer::PgBouncer;
use testkit::postgres::Postgres;

use crate::{exporter, failed};

const BINARY: &str = env!("CARGO_BIN_EXE_pg-exporter");
const LIMIT: Duration = Duration::from_secs(20);

/// Waits for a datagram that systemd would get.
fn notified(socket: &UnixDatagram) -> anyhow::Result<String> {
    let mut bytes = [0; 512];
    let length = socket.recv(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

#[tokio::test]
async fn systemd_is_told_of_start_life_and_end() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(LIMIT))?;
    let args = ["--dsn", "host=127.0.0.1 port=1 sslmode=disable", "--log.format=json"];
    let mut exporter = testkit::process::Process::builder("pg-exporter", BINARY, folder.path().join("log"))
        .args(["--web.listen-address=127.0.0.1:0"])
        .args(args)
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000")
        .spawn()?;
    assert_eq!(notified(&socket)?.trim(), "READY=1");
    for _ in 0..2 {
        assert_eq!(notified(&socket)?.trim(), "WATCHDOG=1");
    }
    // SIGHUP is no end, also without a file to read again.
    exporter.signal(Signal::SIGHUP)?;
    exporter.wait_for_log("reloaded", LIMIT).await?;
    exporter.signal(Signal::SIGTERM)?;
    let deadline = Instant::now() + LIMIT;
    while notified(&socket)?.trim() != "STOPPING=1" {
        anyhow::ensure!(Instant::now() < deadline, "systemd is not told of the end");
    }
    assert!(exporter.wait_for_exit(LIMIT).await?.success());
    // Each line is JSON, with the keys of the peers.
    let log = exporter.log();
    for line in log.lines() {
        anyhow::ensure!(line.starts_with("{\"ts\":") || line.starts_with("{\"time\":"), "{line}");
        anyhow::ensure!(line.ends_with('}') && line.contains("\"level\":\"info\""), "{line}");
    }
    assert!(log.lines().count() >= 3, "{log}");
    Ok(())
}

/// Ends the child also when the test fails.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_socket_passed_by_systemd_is_served() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // The socket is descriptor 3 of a process that knows its own id, as systemd passes it.
    let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
    let child = Command::new("sh")
        .args([
            "-c",
            script,
            BINARY,
            "--web.systemd-socket",
            "--dsn",
            "host=127.0.0.1 port=1 sslmode=disable",
        ])
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stderr(Stdio::null())
        .spawn()?;
    let _ended = Ended(child);
    // The kernel accepts for the socket before the exporter runs: the answer is the condition.
    assert_eq!(get(&format!("http://{address}/-/healthy")).await?.text, "Healthy.\n");
    Ok(())
}

#[tokio::test]
async fn pages_are_compressed_and_in_openmetrics_when_asked_for() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let exporter = exporter(&server.dsn(), &["--web.enable-openmetrics"]).await?;
    let ask = |accept: &str, encoding: &str| {
        let request = Request::new(http::Method::GET, exporter.url("/metrics"))
            .header("Accept", accept)
            .header("Accept-Encoding", encoding);
        exporter.send(request)
    };
    let open = ask("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "identity").await?;
    assert!(open.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
    exposition::parse::openmetrics(&open.text)?;
    let plain = ask("text/plain", "identity").await?;
    assert!(plain.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    let small = ask("text/plain", "gzip").await?;
    assert_eq!(small.header("content-encoding"), Some("gzip"));
    assert!(small.body.len() * 3 < plain.body.len(), "{} of {}", small.body.len(), plain.body.len());
    Ok(())
}

/// In transaction mode a scrape is whole, and what it limits for itself holds for nobody else on that connection.
#[tokio::test]
async fn a_transaction_pooler_is_scraped_whole_and_left_as_it_was() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let pool = PgBouncer::start(&server, &[("pool_mode", "transaction")]).await?;
    let exporter = exporter(&pool.dsn("postgres"), &[]).await?;
    let other = tokio_postgres::connect(&pool.dsn("postgres"), tokio_postgres::NoTls).await?;
    tokio::spawn(other.1);
    for _ in 0..3 {
        let page = exporter.scrape(10.0).await?;
        assert_eq!((page.value("pg_up", &[]), failed(&page)), (Some(1.0), vec![]));
        assert!(page.value("pg_database_size_bytes", &[("datname", "postgres")]).is_some());
        let settings = "SELECT name, setting FROM pg_settings WHERE source = 'session' AND name <> 'TimeZone'
            AND (name LIKE '%timeout' OR name IN ('search_path', 'default_transaction_read_only'))";
        let changed = other.0.simple_query(settings).await?;
        let changed: Vec<_> = changed
            .iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .collect();
        assert_eq!(changed, Vec::<String>::new());
    }
    Ok(())
}

#[tokio::test]
async fn an_exporter_without_a_server_starts_and_says_down() -> anyhow::Result<()> {
    let dsn = format!("host=127.0.0.1 port={} sslmode=disable", testkit::free_port()?);
    let exporter: Exporter = exporter(&dsn, &[]).await?;
    let page = exporter.scrape(5.0).await?;
    assert_eq!(page.value("pg_up", &[]), Some(0.0));
    assert!(
        page.family("postgres_exporter_build_info").is_some() && page.family("process_open_fds").is_some()
    );
    Ok(())
}
