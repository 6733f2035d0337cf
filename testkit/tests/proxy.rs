//! The fault proxy, in front of real servers and of a plain echo.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside #[test]")]

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use testkit::{
    postgres::{EXPORTER, EXPORTER_PASSWORD, Postgres},
    proxy::{FaultProxy, Mode},
    redis::Redis,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_postgres::NoTls;

const SOON: Duration = Duration::from_secs(10);

/// A server that answers each read with the same bytes.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    addr
}

async fn say(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn counts_round_trips_connections_and_bytes() {
    let proxy = FaultProxy::start(echo().await).unwrap();
    let mut first = TcpStream::connect(proxy.addr()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(say(&mut first, b"ping").await.unwrap(), b"ping");
    }
    assert_eq!((proxy.round_trips(), proxy.bytes_to_server(), proxy.bytes_to_client()), (3, 12, 12));
    let second = TcpStream::connect(proxy.addr()).await.unwrap();
    until("two connections", || (proxy.connections_opened(), proxy.connections_open()) == (2, 2)).await;
    drop((first, second));
    until("no connection", || proxy.connections_open() == 0).await;
    assert_eq!(proxy.connections_opened(), 2);
}

#[tokio::test]
async fn hangs_and_a_connection_that_lost_bytes_stays_dead() {
    let proxy = FaultProxy::start(echo().await).unwrap();
    let mut old = TcpStream::connect(proxy.addr()).await.unwrap();
    say(&mut old, b"a").await.unwrap();
    proxy.set(Mode::Hang);
    timeout(Duration::from_millis(100), say(&mut old, b"b")).await.expect_err("swallowed");
    let mut new = TcpStream::connect(proxy.addr()).await.unwrap();
    timeout(Duration::from_millis(100), say(&mut new, b"c")).await.expect_err("swallowed");
    proxy.set(Mode::Pass);
    timeout(Duration::from_millis(100), say(&mut old, b"d")).await.expect_err("stays dead");
    let mut fresh = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(say(&mut fresh, b"e").await.unwrap(), b"e");
}

#[tokio::test]
async fn resets_open_and_new_connections() {
    let proxy = FaultProxy::start(echo().await).unwrap();
    let mut old = TcpStream::connect(proxy.addr()).await.unwrap();
    say(&mut old, b"a").await.unwrap();
    proxy.set(Mode::Reset);
    let error = timeout(SOON, old.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let outcome = async {
        let mut new = TcpStream::connect(proxy.addr()).await?;
        say(&mut new, b"b").await
    };
    let kind = timeout(SOON, outcome).await.unwrap().unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind}");
}

#[tokio::test]
async fn refuses_and_listens_again_on_the_same_port() {
    let proxy = FaultProxy::start(echo().await).unwrap();
    let mut old = TcpStream::connect(proxy.addr()).await.unwrap();
    say(&mut old, b"a").await.unwrap();
    for _ in 0..3 {
        proxy.set(Mode::Refuse);
        let error = TcpStream::connect(proxy.addr()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(timeout(SOON, old.read_u8()).await.unwrap().is_err(), "the open one is closed");
        proxy.set(Mode::Pass);
        old = TcpStream::connect(proxy.addr()).await.unwrap();
        assert_eq!(say(&mut old, b"b").await.unwrap(), b"b");
    }
}

#[tokio::test]
async fn cuts_after_so_many_bytes() {
    let proxy = FaultProxy::start(echo().await).unwrap();
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    say(&mut stream, b"before").await.unwrap();
    proxy.set(Mode::CutAfter(5));
    stream.write_all(b"0123456789").await.unwrap();
    let mut rest = Vec::new();
    timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"01234");
}

#[tokio::test]
async fn a_delay_is_not_shorter_than_asked() {
    let proxy = FaultProxy::start(echo().await).unwrap();
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    let delay = Duration::from_millis(60);
    proxy.set(Mode::Delay(delay));
    let start = Instant::now();
    assert_eq!(say(&mut stream, b"a").await.unwrap(), b"a");
    // A lower bound: a slow machine cannot break it.
    assert!(start.elapsed() >= delay);
}

#[tokio::test]
async fn joined_statements_are_one_round_trip_of_postgres() {
    let server = Postgres::start().await.unwrap();
    let proxy = FaultProxy::start(server.addr()).unwrap();
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(proxy.port()).user(EXPORTER).password(EXPORTER_PASSWORD).dbname("postgres");
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let before = proxy.round_trips();
    client.simple_query("SELECT 1; SELECT 2").await.unwrap();
    assert_eq!(proxy.round_trips() - before, 1);
    assert_eq!(proxy.connections_open(), 1);
}

#[tokio::test]
async fn passes_redis_and_survives_a_server_that_is_down() {
    let mut server = Redis::start().await.unwrap();
    let proxy = FaultProxy::start(server.addr()).unwrap();
    let ping = async || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(proxy.addr()).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = vec![0; 7];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    assert_eq!(ping().await.unwrap(), b"+PONG\r\n");
    server.stop().unwrap();
    timeout(SOON, ping()).await.unwrap().unwrap_err();
    server.restart().await.unwrap();
    assert_eq!(ping().await.unwrap(), b"+PONG\r\n");
}
