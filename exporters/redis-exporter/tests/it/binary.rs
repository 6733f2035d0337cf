//! The binary itself: what it serves, and how it refuses what cannot work.

use std::process::Command;
use std::time::Duration;

use testkit::exporter::Exporter;
use testkit::process::Process;
use testkit::redis::{Redis, Version};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_redis-exporter");

#[tokio::test]
async fn the_binary_serves_a_server_with_the_peers_flags_and_environment() {
    let server = Redis::builder().password("s3cret").start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", testkit::free_port().unwrap());
    let mut exporter = Process::builder("redis-exporter", BINARY, folder.path().join("log"))
        .args([&format!("-web.listen-address={address}"), "-log-format=txt", "-include-system-metrics"])
        .env("REDIS_ADDR", server.addr().to_string())
        .env("REDIS_PASSWORD", "s3cret")
        .spawn()
        .unwrap();
    exporter.wait_for_port(address.parse().unwrap(), Duration::from_secs(20)).await.unwrap();
    let reply = testkit::http::get(&format!("http://{address}/metrics")).await.unwrap();
    let page = exposition::parse::page(&reply.text).unwrap();
    assert_eq!((reply.status.as_u16(), page.value("redis_up", &[])), (200, Some(1.0)));
    for family in
        ["redis_total_system_memory_bytes", "redis_exporter_build_info", "process_resident_memory_bytes"]
    {
        assert!(page.family(family).is_some(), "{family}");
    }
    let log = exporter.log();
    assert!(log.contains("scraping") && !log.contains("s3cret"), "{log}");
}

#[tokio::test]
async fn promtool_finds_only_the_peers_own_names() {
    let mut findings = std::collections::BTreeSet::new();
    for version in Version::ALL {
        let server = Redis::builder().version(version).start().await.unwrap();
        let _replica = Redis::builder().version(version).replica_of(&server).start().await.unwrap();
        let url = format!("--url={}", server.url());
        let exporter = Exporter::start(BINARY, &[&url], |process| process).await.unwrap();
        let text = exporter.get("/metrics").await.unwrap().text;
        findings.extend(testkit::page::promtool_findings(&text).await.unwrap());
    }
    let findings: Vec<&str> = findings.iter().map(String::as_str).collect();
    // What is wrong with a name of the peer stays: it is what makes us a drop-in. Names of our own are clean.
    let known: Vec<&str> = include_str!("../data/lint.txt").lines().collect();
    assert_eq!(findings, known, "review, then correct tests/data/lint.txt");
}

#[test]
fn what_cannot_work_ends_with_one_line_and_the_right_code() {
    for (arguments, code, expected) in [
        (&["--url=http://h:1"][..], 64, "not an address of a Redis server"),
        (&["-redis.password-file=/nowhere/p.json"], 64, "/nowhere/p.json"),
        (&["-no-such-flag"], 2, "--no-such-flag"),
    ] {
        let output = Command::new(BINARY).args(arguments).env_clear().output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}
