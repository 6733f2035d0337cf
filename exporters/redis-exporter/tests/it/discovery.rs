//! `/sd`: what the configured server knows of others, as far as `/scrape` may reach it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use testkit::exporter::Exporter;
use testkit::redis::{Redis, RedisCluster, SentinelSetup, Version};
use tokio::time::Instant;

use crate::binary::BINARY;
use crate::live::up;

const LIMIT: Duration = Duration::from_secs(60);

/// An exporter of a server that may reach all servers of this machine.
struct Discovering {
    exporter: Exporter,
    _folder: tempfile::TempDir,
}

type Group = BTreeMap<String, String>;

impl Discovering {
    async fn start(rules: &str, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("targets.yml");
        fs::write(&file, rules).unwrap();
        let file = format!("--targets.file={}", file.display());
        let args = [args, &[file.as_str()]].concat();
        let exporter = Exporter::start(BINARY, &args, |process| process).await.unwrap();
        Self { exporter, _folder: folder }
    }

    /// The labels of each group; every group is this exporter's.
    async fn groups(&self) -> Vec<Group> {
        let reply = self.exporter.get("/sd").await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, Some("application/json")));
        let groups = reply.json().unwrap();
        let groups = groups.as_array().unwrap().iter().map(|group| {
            assert_eq!(group["targets"], serde_json::json!([self.exporter.address().to_string()]));
            serde_json::from_value::<Group>(group["labels"].clone()).unwrap()
        });
        groups.collect()
    }

    async fn eventually(&self, what: &str, wanted: impl Fn(&[Group]) -> bool) -> Vec<Group> {
        let deadline = Instant::now() + LIMIT;
        let mut between = tokio::time::interval(Duration::from_millis(200));
        loop {
            between.tick().await;
            let groups = self.groups().await;
            if wanted(&groups) {
                return groups;
            }
            assert!(Instant::now() < deadline, "no list with {what} in time: {groups:?}");
        }
    }

    /// Each listed target is one that `/scrape` serves.
    async fn scrape_all(&self, groups: &[Group]) {
        for group in groups {
            assert_eq!(group["__metrics_path__"], "/scrape");
            let path = format!("/scrape?target={}", group["__param_target"]);
            let page = exposition::parse::page(&self.exporter.get(&path).await.unwrap().text).unwrap();
            assert_eq!(up(&page), Some(1.0), "{group:?}");
        }
    }
}

const ALL: &str = "targets:\n  - match: [\"127.0.0.1:*\"]\n";

/// Role and address of each group.
fn roles(groups: &[Group]) -> BTreeSet<(String, String)> {
    groups.iter().map(|group| (group["__meta_redis_role"].clone(), group["instance"].clone())).collect()
}

fn expected(servers: &[(&str, &Redis)]) -> BTreeSet<(String, String)> {
    servers.iter().map(|(role, server)| ((*role).to_owned(), server.addr().to_string())).collect()
}

#[tokio::test]
async fn nodes_of_a_cluster_are_listed_until_they_fail() {
    let mut cluster = RedisCluster::start(Version::Redis70).await.unwrap();
    let replica = cluster.add_replica(0).await.unwrap();
    let url = format!("--url={}", cluster.nodes[1].url());
    let discovering = Discovering::start(ALL, &[&url, "--cluster"]).await;
    let groups = discovering.groups().await;
    let [a, b, c] = &cluster.nodes[..] else { panic!("not three nodes") };
    assert_eq!(roles(&groups), expected(&[("master", a), ("master", b), ("master", c), ("slave", &replica)]));
    discovering.scrape_all(&groups).await;
    let id = a.command(&["CLUSTER", "MYID"]).unwrap().text();
    let group = groups.iter().find(|group| group["__meta_redis_node_id"] == id).unwrap();
    let address = a.addr().to_string();
    let shown: Vec<(&str, &str)> =
        group.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let target = format!("redis://{address}");
    assert_eq!(
        shown,
        [
            ("__meta_redis_node_id", id.as_str()),
            ("__meta_redis_role", "master"),
            ("__meta_redis_shard", id.as_str()),
            ("__meta_redis_slots", "5461"),
            ("__meta_redis_tls", "false"),
            ("__metrics_path__", "/scrape"),
            ("__param_target", &target),
            ("instance", &address),
        ]
    );
    cluster.nodes[2].stop().unwrap();
    let gone = cluster.nodes[2].addr().to_string();
    let without = |groups: &[Group]| groups.iter().all(|group| group["instance"] != gone);
    assert_eq!(discovering.eventually("the failed node left out", without).await.len(), 3);
}

#[tokio::test]
async fn a_sentinel_lists_the_new_master_after_a_failover() {
    let mut setup = SentinelSetup::start(Version::Redis70).await.unwrap();
    let url = format!("--url={}", setup.sentinels[0].url());
    let discovering = Discovering::start(ALL, &[&url]).await;
    let [a, b, c] = &setup.sentinels[..] else { panic!("not three sentinels") };
    let sentinels = [("sentinel", a), ("sentinel", b), ("sentinel", c)];
    let before =
        expected(&[&sentinels[..], &[("master", &setup.primary), ("slave", &setup.replica)]].concat());
    // Sentinels that know each other connect to each other a little later.
    let groups = discovering.eventually("all five", |groups| roles(groups) == before).await;
    assert!(groups.iter().all(|group| {
        let name = group.get("__meta_redis_master_name").map(String::as_str);
        name == (group["__meta_redis_role"] != "sentinel").then_some("mymaster")
    }));
    discovering.scrape_all(&groups).await;
    setup.primary.stop().unwrap();
    let after = expected(&[&sentinels[..], &[("master", &setup.replica)]].concat());
    let groups = discovering.eventually("the new master alone", |groups| roles(groups) == after).await;
    discovering.scrape_all(&groups).await;
}

#[tokio::test]
async fn only_what_may_be_scraped_is_listed() {
    let master = Redis::start().await.unwrap();
    let replica = Redis::builder().replica_of(&master).start().await.unwrap();
    let url = format!("--url={}", master.url());
    let rules = "targets:\n  - match: [\"cache-1:6380\", \"other-*\"]\n    labels: {team: a}\n";
    let discovering = Discovering::start(rules, &[&url]).await;
    let groups = discovering.groups().await;
    let instances: Vec<&str> = groups.iter().map(|group| group["instance"].as_str()).collect();
    assert_eq!(instances, [master.addr().to_string().as_str(), "cache-1:6380"]);
    assert_eq!((groups[1]["team"].as_str(), groups[0]["__meta_redis_role"].as_str()), ("a", "master"));
    let both = expected(&[("master", &master), ("slave", &replica)]);
    for server in [&master, &replica] {
        let url = format!("--url={}", server.url());
        let discovering = Discovering::start(ALL, &[&url]).await;
        assert_eq!(roles(&discovering.groups().await), both);
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_an_error_that_prometheus_survives() {
    let closed = format!("--url=127.0.0.1:{}", testkit::free_port().unwrap());
    let exporter = Exporter::start(BINARY, &[&closed], |process| process).await.unwrap();
    let reply = exporter.get("/sd").await.unwrap();
    assert_eq!(reply.status, 503);
    let exporter = Exporter::start(BINARY, &["--url="], |process| process).await.unwrap();
    assert_eq!(exporter.get("/sd").await.unwrap().text, "[]");
}

/// Calls of a command, by the server's own count.
fn calls(server: &Redis, command: &str) -> f64 {
    let info = redis_exporter::info::Info::parse(server.command(&["INFO", "commandstats"]).unwrap().text());
    let calls =
        info.get(&format!("cmdstat_{command}")).and_then(|line| redis_exporter::info::part(line, "calls"));
    calls.map_or(0.0, |calls| calls.parse().unwrap())
}

#[tokio::test]
async fn many_who_ask_cost_the_server_no_more_than_one() {
    let cluster = RedisCluster::start(Version::Redis70).await.unwrap();
    let node = &cluster.nodes[0];
    let url = format!("--url={}", node.url());
    let discovering = Discovering::start(ALL, &[&url, "--cluster"]).await;
    let groups = discovering.groups().await;
    assert_eq!((groups.len(), calls(node, "cluster|nodes")), (3, 1.0));
    let (began, mut between) = (Instant::now(), tokio::time::interval(Duration::from_millis(100)));
    let mut asked = 0;
    while calls(node, "cluster|nodes") < 2.0 {
        between.tick().await;
        let together = futures_util::future::join_all((0..20).map(|_| discovering.groups())).await;
        assert!(together.iter().all(|other| *other == groups));
        asked += together.len();
        assert!(began.elapsed() < LIMIT, "the list is never read again, after {asked} requests");
    }
    // An answer is kept for five seconds.
    let most = 1.0 + (began.elapsed().as_secs_f64() / 5.0).floor();
    assert!(calls(node, "cluster|nodes") <= most, "{most} for {asked} requests");
}
