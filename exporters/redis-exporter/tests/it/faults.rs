//! Servers that refuse, and clients that go away.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use redis_exporter::options::Options;
use testkit::exporter::Exporter;
use testkit::proxy::{FaultProxy, Mode};
use testkit::redis::{Redis, SentinelSetup, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::binary::BINARY;
use crate::live::{failed, reason, up};
use crate::recording::{Fault, Stub, script};
use crate::support::{scrape, scraper};

const LIMIT: Duration = Duration::from_secs(20);

/// However many of them there are.
#[tokio::test]
async fn what_was_lost_with_a_connection_is_sent_again_at_once() {
    let setup = SentinelSetup::start(Version::Redis70).await.unwrap();
    let (sentinel, primary) = (&setup.sentinels[0], setup.primary.port().to_string());
    for number in 0..20 {
        let name = format!("also{number}");
        sentinel.command(&["SENTINEL", "MONITOR", &name, "127.0.0.1", &primary, "2"]).unwrap();
    }
    let proxy = FaultProxy::start(sentinel.addr()).unwrap();
    let scraper = scraper(&sentinel.url_at(proxy.addr()), Options::default());
    scrape(&scraper).await;
    proxy.set(Mode::Refuse);
    proxy.set(Mode::Pass);
    let (round_trips, connections) = (proxy.round_trips(), proxy.connections_opened());
    let page = scrape(&scraper).await;
    assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
    assert_eq!(page.samples("redis_sentinel_master_ckquorum_status").count(), 21);
    assert_eq!(proxy.connections_opened() - connections, 1);
    // The greeting, INFO, the first of what a collector asks for and the rest of it.
    let round_trips = proxy.round_trips() - round_trips;
    assert!(round_trips <= 4, "{round_trips}");
}

#[tokio::test]
async fn a_thousand_aborted_scrapes_leak_nothing() {
    let server = Redis::start().await.unwrap();
    let proxy = FaultProxy::start(server.addr()).unwrap();
    let mut exporter =
        Exporter::start(BINARY, &[&format!("--url={}", server.url_at(proxy.addr()))], |process| process)
            .await
            .unwrap();
    exporter.scrape(10.0).await.unwrap();
    let open_files = format!("/proc/{}/fd", exporter.process.pid());
    let count = move || std::fs::read_dir(&open_files).unwrap().count();
    let before = count();
    let connections = proxy.connections_opened();
    for _ in 0..1_000 {
        let mut client = TcpStream::connect(exporter.address()).unwrap();
        client.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    exporter
        .process
        .wait_until("its files to be closed", LIMIT, || {
            let closed = count() <= before;
            async move { closed.then_some(()) }
        })
        .await
        .unwrap();
    assert_eq!((proxy.connections_opened(), proxy.connections_open()), (connections, 1));
    let page = exporter.scrape(10.0).await.unwrap();
    assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
    assert_eq!(proxy.connections_opened(), connections);
}

#[tokio::test]
async fn a_full_server_is_named() {
    let server = Redis::start().await.unwrap();
    let _held = TcpStream::connect(server.addr()).unwrap();
    server.command(&["CONFIG", "SET", "maxclients", "1"]).unwrap();
    let page = scrape(&scraper(&server.url(), Options::default())).await;
    assert_eq!((up(&page), reason(&page)), (Some(0.0), Some("maxclients")));
}

#[tokio::test]
async fn a_server_in_a_script_is_busy_and_whole_again_afterwards() {
    let server = Redis::builder().args(["--lua-time-limit", "5"]).start().await.unwrap();
    let scraper = scraper(&server.url(), Options::default());
    assert_eq!(up(&scrape(&scraper).await), Some(1.0));
    let mut script = TcpStream::connect(server.addr()).unwrap();
    script.write_all(b"*3\r\n$4\r\nEVAL\r\n$17\r\nwhile true do end\r\n$1\r\n0\r\n").unwrap();
    // PING is refused as soon as the script is over its time.
    let deadline = std::time::Instant::now() + LIMIT;
    while server.command(&["PING"]).is_ok() {
        assert!(std::time::Instant::now() < deadline, "the script does not block the server");
    }
    let page = scrape(&scraper).await;
    assert_eq!((up(&page), reason(&page)), (Some(0.0), Some("busy")));
    server.command(&["SCRIPT", "KILL"]).unwrap();
    while server.command(&["PING"]).is_err() {
        assert!(std::time::Instant::now() < deadline, "the script does not end");
    }
    let page = scrape(&scraper).await;
    assert_eq!((up(&page), reason(&page), failed(&page)), (Some(1.0), Some(""), vec![]));
}

#[tokio::test]
async fn a_replica_without_its_master_is_scraped_whole() {
    let mut master = Redis::start().await.unwrap();
    let mut replica = Redis::builder()
        .replica_of(&master)
        .args(["--replica-serve-stale-data", "no"])
        .start()
        .await
        .unwrap();
    master.stop().unwrap();
    replica.wait_for_info("master_link_status:down").await.unwrap();
    let page = scrape(&scraper(&replica.url(), Options::default())).await;
    assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
    assert_eq!(page.value("redis_master_link_up", &[]), Some(0.0));
}

#[tokio::test]
async fn what_a_server_says_instead_of_info_is_the_reason() {
    for (line, expected) in [
        ("LOADING Redis is loading the dataset in memory", "loading"),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "masterdown"),
        ("NOPERM this user has no permissions to run the 'info' command", "noperm"),
        ("NOAUTH Authentication required.", "auth"),
    ] {
        let stub = Stub::start(script("standalone")).await;
        stub.fail(&["INFO"], Fault::Reply(format!("-{line}\r\n").into_bytes()));
        let page = scrape(&scraper(&stub.address, Options::default())).await;
        assert_eq!((up(&page), reason(&page)), (Some(0.0), Some(expected)), "{line}");
    }
}

/// A server that says the same to everybody, listens until it was asked something, and goes away.
async fn babbler() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let words = Arc::new(Mutex::new(Vec::new()));
    let said = Arc::clone(&words);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let words = said.lock().unwrap().clone();
            let _ = stream.write_all(&words).await;
        }
    });
    (address, words)
}

#[test]
fn arbitrary_bytes_instead_of_replies_never_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (address, words) = runtime.block_on(babbler());
    // A panic of a collector ends the collector only.
    let panics = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&panics);
    std::panic::set_hook(Box::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    let structure = select(b"*$+-:,_#!=(%~>|\r\n\r\n\r\n0123456789abINFO.".to_vec());
    let byte = prop_oneof![9 => structure, 1 => any::<u8>()];
    proptest!(|(bytes in proptest::collection::vec(byte, 0..200))| {
        *words.lock().unwrap() = bytes;
        let page = runtime.block_on(async { scrape(&scraper(&address, Options::default())).await });
        prop_assert!(up(&page).is_some() && reason(&page).is_some());
        prop_assert_eq!(panics.load(Ordering::Relaxed), 0);
    });
}
