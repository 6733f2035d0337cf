//! The binary itself: what it serves, and how it refuses what cannot work.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::Duration;

use testkit::exporter::Exporter;
use testkit::process::Process;
use testkit::redis::{Redis, RedisCluster, SentinelSetup, Version};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_redis-exporter");

const SECRET: &str = "s3cr3t-w0rd";

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
async fn the_network_families_count_its_own_connections_and_no_others() {
    let server = Redis::builder().start().await.unwrap();
    let url = format!("--url={}", server.url());
    let exporter = Exporter::start(BINARY, &[&url], |process| process).await.unwrap();
    let scrape = async || {
        let text = exporter.get("/metrics").await.unwrap().text;
        let page = exposition::parse::page(&text).unwrap();
        let value = |name| page.value(name, &[]).unwrap();
        let traffic =
            ["process_network_receive_bytes_total", "process_network_transmit_bytes_total"].map(value);
        (text.len() as f64, traffic)
    };
    scrape().await;
    let (length, before) = scrape().await;
    // What others send in the same network namespace.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut other, _) = listener.accept().unwrap();
    let mut read = Vec::new();
    let sender = std::thread::spawn(move || client.write_all(&vec![b'x'; 1 << 20]));
    other.read_to_end(&mut read).unwrap();
    sender.join().unwrap().unwrap();
    assert_eq!(read.len(), 1 << 20);

    let (_, after) = scrape().await;
    let [received, sent] = [after[0] - before[0], after[1] - before[1]];
    // The page before and its headers, and the commands of a scrape.
    assert!(sent > length && sent < length + 4096.0, "{sent} for a page of {length}");
    // The replies to these, and a request.
    assert!(received > 4096.0 && received < 65_536.0, "{received}");
}

/// What promtool says of the page of a server.
async fn lint(server: &Redis, args: &[&str]) -> Vec<String> {
    let url = format!("--url={}", server.url());
    let args = [&[url.as_str()], args].concat();
    let exporter = Exporter::start(BINARY, &args, |process| process).await.unwrap();
    let text = exporter.get("/metrics").await.unwrap().text;
    let findings = testkit::page::promtool_findings(&text).await.unwrap();
    // Fields of CLUSTER INFO are families as they come; which there are depends on what the nodes said so far.
    let of_field = |finding: &String| finding.starts_with("redis_cluster_stats_");
    let suffix = "counter metrics should have \"_total\" suffix";
    let (fields, mut others): (Vec<_>, Vec<_>) = findings.into_iter().partition(of_field);
    assert!(fields.iter().all(|finding| finding.ends_with(suffix)), "{fields:?}");
    others.extend(fields.first().map(|_| format!("redis_cluster_stats_* {suffix}")));
    others
}

/// What promtool says of every kind of server, with the peer's names and with clean ones.
#[tokio::test]
async fn promtool_finds_only_the_peers_own_names() {
    let (mut findings, mut clean) = (BTreeSet::new(), BTreeSet::new());
    let mut both = async |server: &Redis, args: &[&str]| {
        findings.extend(lint(server, args).await);
        clean.extend(lint(server, &[args, &["--names=clean"]].concat()).await);
    };
    for version in Version::ALL {
        let server = Redis::builder().version(version).start().await.unwrap();
        let _replica = Redis::builder().version(version).replica_of(&server).start().await.unwrap();
        both(&server, &[]).await;
    }
    let cluster = RedisCluster::start(Version::Valkey9).await.unwrap();
    both(&cluster.nodes[0], &["--cluster", "-count-keys=*", "--key-insight"]).await;
    let setup = SentinelSetup::start(Version::Valkey9).await.unwrap();
    both(&setup.sentinels[0], &["-include-sentinel-peer-info"]).await;
    assert_eq!(clean, BTreeSet::new());
    let findings: Vec<&str> = findings.iter().map(String::as_str).collect();
    // What is wrong with a name of the peer stays: it is what makes us a drop-in. Names of our own are clean.
    let known: Vec<&str> = include_str!("../data/lint.txt").lines().collect();
    assert_eq!(findings, known, "review, then correct tests/data/lint.txt");
}

/// Arguments, environment, exit code, and words of the message.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], i32, &'a [&'a str]);

#[test]
fn what_cannot_work_ends_with_one_line_and_the_right_code() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let passwords = file("passwords.json", &format!("{{\"redis://h\": {SECRET}}}"));
    let web = file("web.yml", &format!("basic_auth_users: {{me: {SECRET}}}\n"));
    let passwords = format!("-redis.password-file={passwords}");
    let cases: &[Case] = &[
        (&["--url=http://h:1"], &[], 64, &["not an address of a Redis server"]),
        (&[], &[("REDIS_ADDR", &format!("http://me:{SECRET}@h"))], 64, &["not an address of a Redis server"]),
        (&["-redis.password-file=/nowhere/p.json"], &[], 64, &["/nowhere/p.json"]),
        (&[&passwords], &[], 64, &["passwords.json"]),
        (&["-tls-ca-cert-file=/nowhere/ca.pem", "--url=rediss://h"], &[], 64, &["/nowhere/ca.pem"]),
        (&["--web.config.file=/nowhere/web.yml"], &[], 64, &["/nowhere/web.yml"]),
        (&["--web.config.file", &web], &[], 64, &["web.yml", "\"me\"", "bcrypt"]),
        (&["-web.listen-address", &taken], &[("REDIS_PASSWORD", SECRET)], 1, &[&taken, "in use"]),
        (&["-web.listen-address=nowhere"], &[], 2, &["the port is missing"]),
        (&["-no-such-flag"], &[], 2, &["unexpected argument"]),
    ];
    for (arguments, environment, code, words) in cases {
        let mut command = Command::new(BINARY);
        let output = command.env_clear().args(*arguments).envs(environment.iter().copied()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {text}");
        for word in *words {
            assert_eq!(text.matches(word).count(), 1, "{arguments:?} says {word:?} once: {text}");
        }
        assert!(!text.contains(SECRET), "{arguments:?}: a secret is printed: {text}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_in_the_log_and_the_password_is_not() {
    let server = Redis::builder().password("right").start().await.unwrap();
    let url = format!("--url=redis://:{SECRET}@{}", server.addr());
    let exporter = Exporter::start(BINARY, &[&url, "--log.level=debug"], |process| process).await.unwrap();
    let page = exporter.scrape(5.0).await.unwrap();
    assert_eq!(page.value("redis_up", &[]), Some(0.0));
    let unknown = exporter.get("/metrics?collect[]=nonsense").await.unwrap();
    assert_eq!(unknown.status, 400);
    assert!(unknown.text.contains("nonsense"), "{}", unknown.text);
    let log = exporter.process.log();
    assert!(log.contains("refused user or password") && !log.contains(SECRET), "{log}");
}

#[tokio::test]
async fn healthcheck_tells_whether_the_exporter_runs() {
    // The server is no matter of the exporter's own health.
    let exporter = Exporter::start(BINARY, &["--url=redis://127.0.0.1:1"], |process| process).await.unwrap();
    let address = format!("--web.listen-address={}", exporter.address());
    let healthcheck = || Command::new(BINARY).args([&address, "healthcheck"]).output().unwrap();
    assert!(healthcheck().status.success());
    drop(exporter);
    let output = healthcheck();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("cannot connect"), "{output:?}");
}
