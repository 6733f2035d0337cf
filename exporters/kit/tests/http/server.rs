//! The server against real sockets: slow and greedy clients, the cap on connections, shutdown.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{closed, echo, get, receive, send, soon, start};
use exporter_kit::http::{Limits, ServerConfig};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

fn limits(change: impl FnOnce(&mut Limits)) -> ServerConfig {
    let mut config = ServerConfig::default();
    change(&mut config.limits);
    config
}

#[tokio::test]
async fn a_client_that_never_asks_is_closed_and_one_that_asked_is_kept() {
    let server = echo(limits(|limits| limits.first_request = Duration::from_millis(100))).await;
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    assert!(get(&mut kept, "/one", "").await.starts_with("HTTP/1.1 200"));
    for start in ["", "PRI * HT", "GET / HTTP/1.1\r\nhost: te", "\r\n"] {
        let mut slow = TcpStream::connect(server.address).await.unwrap();
        slow.write_all(start.as_bytes()).await.unwrap();
        closed(&mut slow).await;
    }
    // By now the first client's own limit has long passed too.
    assert!(get(&mut kept, "/two", "").await.ends_with("/two"));
}

#[tokio::test]
async fn an_idle_connection_is_closed_by_its_own_limit() {
    let server = echo(limits(|limits| limits.idle = Duration::from_millis(100))).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    assert!(get(&mut client, "/", "").await.starts_with("HTTP/1.1 200"));
    closed(&mut client).await;
}

#[test]
fn a_connection_outlives_the_usual_scrape_interval() {
    let limits = Limits::default();
    assert!(limits.idle > Duration::from_secs(60));
    assert!(limits.first_request < limits.idle);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_answered_431() {
    let server = echo(ServerConfig::default()).await;
    let long = format!("x-long: {}\r\n", "a".repeat(64 * 1024));
    let many: String = (0..200).map(|index| format!("x-{index}: 1\r\n")).collect();
    for headers in [long, many] {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = client.write_all(format!("GET / HTTP/1.1\r\n{headers}\r\n").as_bytes()).await;
        let response = soon("a refusal", receive(&mut client)).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 431"), "{response}");
    }
    let mut client = TcpStream::connect(server.address).await.unwrap();
    assert!(get(&mut client, "/", "x-small: 1\r\n").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn connections_above_the_cap_wait_for_one_that_ends() {
    let seen = Arc::new(AtomicUsize::new(0));
    let third_seen = Arc::clone(&seen);
    let server = start(limits(|limits| limits.max_connections = 2), move |path| {
        if path == "/third" {
            third_seen.fetch_add(1, Ordering::Relaxed);
        }
        async move { path }
    })
    .await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    let mut second = TcpStream::connect(server.address).await.unwrap();
    get(&mut first, "/first", "").await;
    get(&mut second, "/second", "").await;
    let mut third = TcpStream::connect(server.address).await.unwrap();
    send(&mut third, "/third", "").await;
    for _ in 0..100 {
        get(&mut first, "/first", "").await;
    }
    assert_eq!(seen.load(Ordering::Relaxed), 0, "the third connection was served above the cap");
    drop(second);
    assert!(soon("the third client's turn", receive(&mut third)).await.unwrap().ends_with("/third"));
}

#[tokio::test]
async fn aborted_requests_give_their_places_back() {
    let gate = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&gate);
    let server = start(limits(|limits| limits.max_connections = 4), move |path| {
        let gate = Arc::clone(&waiting);
        async move {
            if path == "/hang" {
                let _ = gate.acquire().await;
            }
            path
        }
    })
    .await;
    for _ in 0..100 {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        send(&mut client, "/hang", "").await;
        drop(client);
    }
    let mut client = TcpStream::connect(server.address).await.unwrap();
    assert!(get(&mut client, "/after", "").await.ends_with("/after"));
}

#[tokio::test]
async fn a_running_request_finishes_after_shutdown_and_new_connections_are_refused() {
    let gate = Arc::new(Semaphore::new(0));
    let arrived = Arc::new(Semaphore::new(0));
    let (opened, arrives) = (Arc::clone(&gate), Arc::clone(&arrived));
    let server = start(ServerConfig::default(), move |path| {
        let (opened, arrives) = (Arc::clone(&opened), Arc::clone(&arrives));
        async move {
            arrives.add_permits(1);
            let _ = opened.acquire().await;
            path
        }
    })
    .await;
    let mut running = TcpStream::connect(server.address).await.unwrap();
    send(&mut running, "/running", "").await;
    let _arrived = soon("the request at the service", arrived.acquire()).await.unwrap();

    server.shutdown.cancel();
    soon("refusal of new connections", async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!server.task.is_finished());
    gate.add_permits(1);
    let response = soon("the running request's answer", receive(&mut running)).await.unwrap();
    assert!(response.ends_with("/running"), "{response}");
    assert!(response.to_ascii_lowercase().contains("connection: close"), "{response}");
    closed(&mut running).await;
    soon("the server's end", server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off_when_the_drain_is_over() {
    let config = limits(|limits| limits.drain = Duration::from_millis(100));
    let server = start(config, |_| std::future::pending()).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    send(&mut client, "/", "").await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET").await.unwrap();
    server.shutdown.cancel();
    assert_eq!(closed(&mut client).await, b"");
    closed(&mut idle).await;
    soon("the server's end", server.task).await.unwrap().unwrap();
}

/// The service need not be `Sync`: this is checked by compiling.
#[tokio::test]
async fn a_service_that_is_not_sync_is_served() {
    let cell = std::cell::Cell::new(1);
    let server = start(ServerConfig::default(), move |path| {
        cell.set(cell.get() + 1);
        async move { path }
    })
    .await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    assert!(get(&mut client, "/x", "").await.ends_with("/x"));
}
