//! The paths beside `/metrics`: other targets, discovery, health, reload; users and TLS of the listener.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::exporter::Exporter;
use testkit::redis::{Redis, RedisCluster, Version};

use crate::binary::BINARY;
use crate::live::{reason, up};

async fn exporter(args: &[&str]) -> Exporter {
    Exporter::start(BINARY, args, |process| process).await.unwrap()
}

/// A listener that keeps every byte it is sent.
fn trap() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = Arc::<Mutex<Vec<u8>>>::default();
    let bytes = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, bytes) = (stream.unwrap(), Arc::clone(&bytes));
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                bytes.lock().unwrap().extend(&buffer[..count]);
            }
        }
    });
    (address, heard)
}

#[tokio::test]
async fn a_password_goes_only_where_it_was_configured_for() {
    let own = Redis::builder().password("0wn-s3cret").start().await.unwrap();
    let other = Redis::builder().password("other-s3cret").start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (trap, heard) = trap();
    let file = folder.path().join("targets.yml");
    let rules = format!(
        "targets:\n  - match: [\"{}\"]\n    password: {{env: OTHER_PASSWORD}}\n  - match: [\"localhost:{}\"]\n",
        other.addr(),
        trap.rsplit_once(':').unwrap().1,
    );
    fs::write(&file, rules).unwrap();
    let url = format!("-redis.addr={}", own.addr());
    let targets = format!("--targets.file={}", file.display());
    let exporter = Exporter::start(BINARY, &[&url, &targets], |process| {
        process.env("REDIS_PASSWORD", "0wn-s3cret").env("OTHER_PASSWORD", "other-s3cret")
    })
    .await
    .unwrap();

    for allowed in [own.addr(), other.addr()] {
        for _ in 0..2 {
            let reply = exporter.get(&format!("/scrape?target=redis://{allowed}")).await.unwrap();
            let page = exposition::parse::page(&reply.text).unwrap();
            assert_eq!((up(&page), reason(&page)), (Some(1.0), Some("")));
            assert!(page.family("process_cpu_seconds_total").is_none());
            assert!(page.family("redis_exporter_build_info").is_some());
        }
    }
    let refused = [
        trap.clone(),
        format!("redis://{trap}"),
        format!("redis://:0wn-s3cret@{trap}"),
        format!("redis://{}@{trap}", other.addr()),
        format!("redis://{trap}%23{}", own.addr()),
        "unix:///etc/passwd".to_owned(),
    ];
    for target in &refused {
        let reply = exporter.get(&format!("/scrape?target={target}")).await.unwrap();
        assert!(matches!(reply.status.as_u16(), 400 | 403), "{target}: {}", reply.status);
        assert!(!reply.text.contains("s3cret"), "{}", reply.text);
    }
    assert_eq!(*heard.lock().unwrap(), b"");
    // Allowed without credentials: it is connected to, and hears none.
    let port = trap.rsplit_once(':').unwrap().1;
    let request = testkit::http::Request::new(
        http::Method::GET,
        exporter.url(&format!("/scrape?target=localhost:{port}")),
    );
    let reply = request.header("X-Prometheus-Scrape-Timeout-Seconds", "1").send().await.unwrap();
    assert_eq!(up(&exposition::parse::page(&reply.text).unwrap()), Some(0.0));
    let heard = String::from_utf8_lossy(&heard.lock().unwrap()).into_owned();
    assert!(!heard.contains("s3cret") && !heard.contains("AUTH") && heard.contains("CLIENT"), "{heard:?}");

    let missing = exporter.get("/scrape").await.unwrap();
    assert_eq!(missing.status, 400);
    let bad_keys = exporter.get(&format!("/scrape?target={}&check-keys=a=b=c", own.addr())).await.unwrap();
    assert_eq!(bad_keys.status, 400);
    let counted = exporter.scrape(10.0).await.unwrap().value("redis_target_scrape_request_errors_total", &[]);
    assert_eq!(counted, Some(refused.len() as f64 + 2.0));

    // The file is read again on demand.
    fs::write(&file, "targets: []\n").unwrap();
    assert_eq!(exporter.get("/-/reload").await.unwrap().status, 200);
    let reply = exporter.get(&format!("/scrape?target={}", other.addr())).await.unwrap();
    assert_eq!(reply.status, 403);
    fs::write(&file, "targets: 5\n").unwrap();
    assert_eq!(exporter.get("/-/reload").await.unwrap().status, 500);
    assert!(!exporter.process.log().contains("s3cret"));
}

#[tokio::test]
async fn the_password_file_allows_what_it_names() {
    let server = Redis::builder().password("s3cret").start().await.unwrap();
    server.command(&["SET", "k", "7"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passwords.json");
    fs::write(&file, format!("{{\"redis://{}\": \"s3cret\"}}", server.addr())).unwrap();
    let exporter = exporter(&["-redis.addr=", &format!("-redis.password-file={}", file.display())]).await;
    let exporter = exporter.with_secret("s3cret");
    let path = format!("/scrape?target=redis://{}&check-single-keys=k", server.addr());
    let page = exposition::parse::page(&exporter.get(&path).await.unwrap().text).unwrap();
    assert_eq!((up(&page), page.value("redis_key_value", &[("key", "k")])), (Some(1.0), Some(7.0)));
    fs::write(&file, "{}").unwrap();
    assert_eq!(exporter.get("/-/reload").await.unwrap().status, 200);
    assert_eq!(exporter.get(&path).await.unwrap().status, 403);
}

#[tokio::test]
async fn scrape_can_be_switched_off() {
    let exporter = exporter(&["-redis.addr=", "-disable-scrape-endpoint"]).await;
    assert_eq!(exporter.get("/scrape?target=localhost:1").await.unwrap().status, 404);
    let health = exporter.get("/health").await.unwrap();
    assert_eq!((health.status.as_u16(), health.text.as_str()), (200, "ok"));
    assert_eq!(exporter.get("/discover-cluster-nodes").await.unwrap().status, 400);
}

#[tokio::test]
async fn a_cluster_is_discovered() {
    let cluster = RedisCluster::start(Version::Redis70).await.unwrap();
    let url = format!("-redis.addr={}", cluster.nodes[0].addr());
    let exporter = exporter(&[&url, "-is-cluster"]).await;
    let reply = exporter.get("/discover-cluster-nodes").await.unwrap();
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let groups = reply.json().unwrap();
    let mut found: Vec<String> =
        groups[0]["targets"].as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned()).collect();
    let mut expected: Vec<String> = cluster.nodes.iter().map(|n| format!("redis://{}", n.addr())).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn the_listener_asks_for_the_user_of_the_flags() {
    let exporter = Exporter::start(BINARY, &["-redis.addr=", "-basic-auth-username=me"], |process| {
        process.env("REDIS_EXPORTER_BASIC_AUTH_PASSWORD", "s3cret")
    })
    .await
    .unwrap();
    let refused = exporter.get("/health").await.unwrap();
    let realm = "Basic realm=\"redis-exporter, charset=UTF-8\"";
    assert_eq!((refused.status.as_u16(), refused.header("www-authenticate")), (401, Some(realm)));
    let request = testkit::http::Request::new(http::Method::GET, exporter.url("/health"));
    let reply = request.header("Authorization", "Basic bWU6czNjcmV0").send().await.unwrap();
    assert_eq!(reply.status, 200);
}
