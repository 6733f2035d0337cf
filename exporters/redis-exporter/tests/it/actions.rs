//! What the binary does instead of serving.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use exporter_kit::targets::glob;
use testkit::exporter::Exporter;
use testkit::redis::{Redis, RedisCluster, Version};

use crate::binary::BINARY;

async fn run(arguments: Vec<String>) -> (Option<i32>, String, String) {
    let run = move || Command::new(BINARY).args(arguments).env_clear().output().unwrap();
    let Output { status, stdout, stderr } = tokio::task::spawn_blocking(run).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn arguments(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[tokio::test]
async fn acl_prints_a_rule_for_each_server() {
    let (code, out, _) = run(arguments(&["acl", "-check-single-keys=queue", "--client-groups"])).await;
    assert_eq!(code, Some(0));
    let lines: Vec<&str> = out.lines().collect();
    assert!(
        lines[0].starts_with("# Redis 6.2")
            && lines[1].contains(" ~queue ")
            && lines[1].contains("+client|list")
    );
    assert!(out.contains("%R~queue") && out.contains("# Sentinel"));
    // The server takes them as they are.
    let server = Redis::start().await.unwrap();
    let rule = lines[lines.iter().position(|line| line.contains("Redis 7.0")).unwrap() + 1];
    server.command(&rule.split(' ').collect::<Vec<_>>()).unwrap();
}

#[tokio::test]
async fn check_says_what_is_missing_and_what_that_costs() {
    let server = Redis::start().await.unwrap();
    let words = ["check", "--url", &server.url(), "-check-single-keys=k", "--key-insight"];
    let (code, out, error) = run(arguments(&words)).await;
    assert_eq!((code, error.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("ok       getrange\n") && out.contains("ok       randomkey\n"), "{out}");
    let url = server
        .acl_user("exporter", "secret", &["+info", "+client", "+latency", "+config", "+slowlog|len"])
        .unwrap();
    let (code, out, error) = run(arguments(&["check", "--url", &url])).await;
    assert_eq!(code, Some(1));
    let missing: Vec<&str> = out.lines().filter(|line| line.starts_with("missing")).collect();
    assert!(
        missing.len() == 1 && missing[0].contains("slowlog|get (noperm): costs slowlog_last_id, "),
        "{out}"
    );
    assert!(error.contains("1 commands cannot be used") && !error.contains("secret"), "{error}");
}

#[tokio::test]
async fn once_prints_the_page() {
    let server = Redis::start().await.unwrap();
    let (code, out, _) = run(arguments(&["once", "-redis.addr", &server.url(), "-count-keys=*"])).await;
    let page = exposition::parse::page(&out).unwrap();
    assert_eq!(
        (code, page.value("redis_up", &[]), page.value("redis_keys_count", &[])),
        (Some(0), Some(1.0), Some(0.0))
    );
    let closed = format!("redis://127.0.0.1:{}", testkit::free_port().unwrap());
    let (code, out, error) = run(arguments(&["once", "--url", &closed])).await;
    assert_eq!((code, out.contains("redis_up 0")), (Some(1), true), "{error}");
}

#[tokio::test]
async fn a_server_in_the_file_of_targets_is_asked_as_the_user_that_stands_there() {
    let server = Redis::start().await.unwrap();
    server.acl_user("exporter", "s3cret", &["+@all"]).unwrap();
    server.command(&["CONFIG", "SET", "requirepass", "0ther"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("targets.yml");
    let rules = |place: &str| {
        let rule = format!("targets:\n  - match: [\"{place}\"]\n    user: exporter\n    password: s3cret\n");
        std::fs::write(&file, rule).unwrap();
    };
    rules(&server.addr().to_string());
    let url = format!("--url={}", server.addr());
    let targets = format!("--targets.file={}", file.display());
    let (code, page, error) = run(arguments(&["once", &url, &targets])).await;
    assert_eq!((code, page.contains("redis_up 1\n"), error.as_str()), (Some(0), true, ""));
    let old = folder.path().join("old.prom");
    std::fs::write(&old, page).unwrap();
    let old = old.display().to_string();
    for words in [&["check"][..], &["compare", "--old", &old], &["--report-unmapped"]] {
        let (code, out, error) = run(arguments(&[words, &[&url, &targets]].concat())).await;
        assert_eq!((code, error.as_str()), (Some(0), ""), "{words:?}: {out}");
    }
    // What serves does the same.
    let served = Exporter::start(BINARY, &[&url, &targets], |process| process).await.unwrap();
    let (code, out, error) =
        run(arguments(&["compare", "--old", &served.url("/metrics"), &url, &targets])).await;
    assert!(code == Some(0) && out.contains(" 0 missing, "), "{out}{error}");
    // It gets no password where no rule fits.
    rules("localhost:1");
    let (code, page, error) = run(arguments(&["once", &url, &targets])).await;
    assert_eq!((code, page.contains("redis_up 0\n")), (Some(1), true), "{error}");
    std::fs::write(&file, "targets: 1").unwrap();
    let (code, _, error) = run(arguments(&["once", &url, &targets])).await;
    assert!(code == Some(64) && error.contains("targets.yml"), "{code:?} {error}");
}

#[tokio::test]
async fn a_cluster_in_the_file_of_targets_is_asked_as_the_user_that_stands_there() {
    let cluster = RedisCluster::start(Version::Redis70).await.unwrap();
    for node in &cluster.nodes {
        node.acl_user("exporter", "s3cret", &["+@all"]).unwrap();
        node.command(&["CONFIG", "SET", "requirepass", "0ther"]).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("targets.yml");
    let rules = |place: &str| {
        let rule = format!("targets:\n  - match: [\"{place}\"]\n    user: exporter\n    password: s3cret\n");
        std::fs::write(&file, rule).unwrap();
    };
    let names: Vec<String> = cluster.nodes.iter().map(|node| node.addr().to_string()).collect();
    let (url, targets) = (format!("--url={}", names[0]), format!("--targets.file={}", file.display()));
    let seeds = format!("--cluster-seeds={}", names[1]);
    // A seed that the file does not know is refused; the login of the one that answers is that of all nodes.
    for place in ["127.0.0.1:*", &names[1]] {
        rules(place);
        let whole = ["--cluster", &url, &seeds, &targets];
        let (code, page, error) = run(arguments(&[&["once"][..], &whole].concat())).await;
        let up = page.lines().filter(|line| line.starts_with("redis_up{") && line.ends_with(" 1")).count();
        assert_eq!((code, up, error.contains("s3cret")), (Some(0), 3, false), "{place}: {error}");
        let served = Exporter::start(BINARY, &whole, |process| process).await.unwrap();
        let (code, out, error) =
            run(arguments(&[&["compare", "--old", &served.url("/metrics")][..], &whole].concat())).await;
        assert!(code == Some(0) && out.contains(" 0 missing, "), "{place}: {out}{error}");
        let (code, out, error) = run(arguments(&[&["check"][..], &whole].concat())).await;
        let asked = out.lines().filter(|line| line.starts_with("# ")).count();
        assert_eq!((code, asked, error.as_str()), (Some(0), 3, ""), "{place}: {out}");
    }
    // It gets no password where no rule fits.
    rules("localhost:*");
    let (code, page, _) = run(arguments(&["once", "--cluster", &url, &seeds, &targets])).await;
    assert_eq!((code, page.contains("redis_cluster_slot_coverage_ratio 1")), (Some(1), false), "{page}");
}

#[tokio::test]
async fn compare_shows_what_changes() {
    let server = Redis::start().await.unwrap();
    let url = format!("--url={}", server.url());
    let old = Exporter::start(BINARY, &[&url, "--compat=1.86", "-include-config-metrics"], |process| process)
        .await
        .unwrap();
    let old = old.url("/metrics");
    let (code, out, error) = run(arguments(&["compare", "--old", &old, &url])).await;
    assert_eq!(code, Some(1), "{error}");
    for part in ["  redis_config_value (gauge, ", "  redis_slowlog_entries_lost_total (counter, 1 series)"] {
        assert!(out.contains(part), "{part:?} is not in {out}");
    }
    assert!(out.contains("redis_latency_percentiles_usec{") && !out.contains("process_"), "{out}");
}

#[tokio::test]
async fn all_of_a_cluster_is_shown_compared_and_checked() {
    let mut cluster = RedisCluster::start(Version::Redis70).await.unwrap();
    let names: Vec<String> = cluster.nodes.iter().map(|node| node.addr().to_string()).collect();
    let url = format!("--url={}", cluster.nodes[0].url());
    let closed = format!("127.0.0.1:{}", testkit::free_port().unwrap());
    // The first seed is of no use.
    let (code, out, error) = run(arguments(&[
        "once",
        "--cluster",
        "--url",
        &closed,
        "--cluster-seeds",
        &names[0],
        "-count-keys=*",
    ]))
    .await;
    let page = exposition::parse::page(&out).unwrap();
    assert_eq!((code, page.value("redis_cluster_slot_coverage_ratio", &[])), (Some(0), Some(1.0)), "{error}");
    for node in &names {
        assert_eq!(page.value("redis_up", &[("node", node)]), Some(1.0));
    }
    assert_eq!(page.value("redis_cluster_sum_keys_count", &[]), Some(0.0));

    let old = Exporter::start(BINARY, &["--cluster", &url], |process| process).await.unwrap();
    let (code, out, error) =
        run(arguments(&["compare", "--old", &old.url("/metrics"), "--cluster", &url])).await;
    assert_eq!((code, error.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains(" 0 missing, "), "{out}");

    let lists = |out: &str| {
        let headings = out.lines().filter_map(|line| line.strip_prefix("# "));
        headings.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let all: BTreeSet<String> = names.iter().cloned().collect();
    let (code, out, error) = run(arguments(&["check", "--cluster", &url])).await;
    assert_eq!((code, lists(&out), error.as_str()), (Some(0), all.clone(), ""), "{out}");
    cluster.nodes[1].command(&["ACL", "SETUSER", "default", "-slowlog|len"]).unwrap();
    cluster.nodes[2].stop().unwrap();
    let (code, out, error) = run(arguments(&["check", "--cluster", &url])).await;
    assert_eq!((code, lists(&out)), (Some(1), all), "{error}");
    let wrong: BTreeSet<&str> = out.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(wrong, BTreeSet::from(["#", "down", "missing", "ok"]), "{out}");
    assert!(error.contains("1 commands and 1 servers"), "{error}");
    let (code, out, _) = run(arguments(&["once", "--cluster", &url])).await;
    let page = exposition::parse::page(&out).unwrap();
    let up: Vec<_> = names.iter().map(|node| page.value("redis_up", &[("node", node)])).collect();
    assert_eq!((code, up), (Some(1), vec![Some(1.0), Some(1.0), Some(0.0)]));
}

#[tokio::test]
async fn every_number_in_info_is_mapped_or_known_not_to_be() {
    let mut found = BTreeSet::new();
    for version in Version::ALL {
        let server = Redis::builder().version(version).start().await.unwrap();
        let replica = Redis::builder().version(version).replica_of(&server).start().await.unwrap();
        let mut all = String::new();
        for url in [server.url(), replica.url()] {
            let (code, out, error) =
                run(arguments(&["--report-unmapped", "-include-system-metrics", "--url", &url])).await;
            assert_eq!(code, Some(0), "{error}");
            all += &out;
        }
        let numbers = all.lines().filter(|line| line.starts_with("number\t"));
        found.extend(numbers.filter_map(|line| line.split('\t').nth(2)).map(str::to_owned));
    }
    let known: Vec<(&str, &str)> = include_str!("../data/unmapped.txt")
        .lines()
        .map(|line| line.split_once(' ').map_or((line, ""), |(pattern, reason)| (pattern, reason.trim())))
        .collect();
    let unexplained: Vec<_> = known.iter().filter(|(_, reason)| reason.is_empty()).collect();
    assert!(unexplained.is_empty(), "say why: {unexplained:?}");
    let new: Vec<_> =
        found.iter().filter(|field| !known.iter().any(|(pattern, _)| glob(pattern, field))).collect();
    assert!(new.is_empty(), "map them in fields.rs or review them into tests/data/unmapped.txt: {new:?}");
}

#[test]
fn the_rule_of_docker_compose_is_the_generated_one() {
    let output = Command::new(BINARY).arg("acl").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let mut lines = said.lines().skip_while(|line| !line.contains("Redis 8.2 and 8.4")).skip(1);
    let rule = lines.next().unwrap().strip_prefix("ACL SETUSER redis_exporter on >PASSWORD ").unwrap();
    let users = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docker/redis/users.acl"))
        .unwrap();
    assert!(
        users.lines().any(|line| line == format!("user exporter on #EXPORTER {rule}")),
        "{rule}\n{users}"
    );
}
