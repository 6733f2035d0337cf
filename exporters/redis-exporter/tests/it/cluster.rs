//! Whole clusters: every node on one page, work on keys at their owners, sums, what is said of nodes that are gone.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use exporter_kit::scrape::{Pages, Selection};
use exposition::Page;
use redis_exporter::address::{Address, Credentials, TlsFiles};
use redis_exporter::cluster::{Cluster, Settings};
use redis_exporter::lua_pattern::Pattern;
use redis_exporter::options::{Features, KeyArg, Options, SamplerOptions};
use redis_exporter::slots::slot;
use rstest::rstest;
use testkit::redis::Version::{Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9};
use testkit::redis::{Redis, RedisCluster, Version};
use tokio::time::Instant;

use crate::support::read;

const LIMIT: Duration = Duration::from_secs(60);

fn keys(list: &str) -> Vec<KeyArg> {
    KeyArg::parse_list(list).unwrap()
}

fn whole(seeds: &[String], features: Features) -> Arc<Cluster> {
    let features = Features { whole_cluster: true, ..features };
    let address =
        |seed: &String| Address::parse(seed, &Credentials::default(), &TlsFiles::default()).unwrap();
    let settings = Settings {
        seeds: seeds.iter().map(address).collect(),
        options: Arc::new(Options { features, ..Options::default() }),
        client_name: true,
        by_hostname: false,
        max_series: None,
        request_errors: Arc::new(AtomicU64::new(7)),
    };
    Cluster::new(settings, |_| {}).unwrap()
}

async fn scrape_within(cluster: &Arc<Cluster>, limit: Duration) -> Page {
    read(&*Arc::clone(cluster).page(Selection::ALL, Instant::now() + limit).await)
}

async fn scrape(cluster: &Arc<Cluster>) -> Page {
    scrape_within(cluster, Duration::from_secs(20)).await
}

async fn eventually(cluster: &Arc<Cluster>, what: &str, wanted: impl Fn(&Page) -> bool) -> Page {
    let deadline = Instant::now() + LIMIT;
    let mut between = tokio::time::interval(Duration::from_millis(100));
    loop {
        between.tick().await;
        let page = scrape(cluster).await;
        if wanted(&page) {
            return page;
        }
        assert!(Instant::now() < deadline, "no page with {what} in time");
    }
}

/// Collectors that did not end well, with their node.
fn failed(page: &Page) -> Vec<String> {
    let outcomes = page.samples("redis_exporter_collector_outcome");
    let bad = outcomes.filter(|sample| sample.label("outcome") != Some("ok"));
    bad.map(|sample| format!("{:?}", sample.labels)).collect()
}

fn up(page: &Page, node: &Redis) -> Option<f64> {
    page.value("redis_up", &[("node", &node.addr().to_string())])
}

/// Puts keys where they belong; gives how many each node got.
fn plant(cluster: &RedisCluster, names: &[String]) -> Vec<f64> {
    let owner = |key: &String| match slot(key.as_bytes()) {
        0..=5460 => 0,
        5461..=10922 => 1,
        _ => 2,
    };
    let mut planted = Vec::new();
    for (index, node) in cluster.nodes.iter().enumerate() {
        let own: Vec<&str> = names.iter().filter(|key| owner(key) == index).map(String::as_str).collect();
        let script = "for _, key in ipairs(ARGV) do redis.call('SET', key, key) end";
        node.command(&[&["EVAL", script, "0"], &own[..]].concat()).unwrap();
        planted.push(own.len() as f64);
    }
    planted
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{prefix}:{index}")).collect()
}

fn addresses(cluster: &RedisCluster) -> Vec<String> {
    cluster.nodes.iter().map(|node| node.addr().to_string()).collect()
}

#[rstest]
#[tokio::test]
async fn counts_over_all_nodes_are_what_was_planted_and_a_dead_node_costs_its_own(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    let mut servers = RedisCluster::start(version).await.unwrap();
    let planted = plant(&servers, &names("user", 500));
    plant(&servers, &names("job", 100));
    let features = Features {
        count: keys("user:*,job:*"),
        keys: keys("user:1,user:2,user:3,missing"),
        ..Features::default()
    };
    let cluster = whole(&addresses(&servers)[..1], features);
    let page = eventually(&cluster, "agreement", |page| {
        page.value("redis_cluster_topology_views", &[]) == Some(1.0)
    })
    .await;
    assert_eq!(failed(&page), Vec::<String>::new());
    for (node, planted) in servers.nodes.iter().zip(&planted) {
        let id = node.command(&["CLUSTER", "MYID"]).unwrap().text();
        let address = node.addr().to_string();
        let labels = [("node", address.as_str()), ("node_id", id.as_str()), ("role", "master")];
        assert_eq!(page.value("redis_up", &labels), Some(1.0));
        assert_eq!(page.value("redis_keys_count", &[("node", &address), ("key", "user:*")]), Some(*planted));
        // Keys were asked for where they are: nobody was sent elsewhere.
        assert_eq!(page.value("redis_total_error_replies", &labels[..1]), Some(0.0));
    }
    let sum =
        |family: &str, labels: &[(&str, &str)]| page.value(&format!("redis_cluster_sum_{family}"), labels);
    assert_eq!(sum("keys_count", &[("key", "user:*")]), Some(500.0));
    assert_eq!(sum("keys_count", &[("key", "job:*")]), Some(100.0));
    assert_eq!(sum("db_keys", &[("db", "db0")]), Some(600.0));
    let memory: f64 = page.samples("redis_memory_used_bytes").map(|sample| sample.value).sum();
    assert_eq!(sum("memory_used_bytes", &[]), Some(memory));
    for key in ["user:1", "user:2", "user:3", "missing"] {
        assert_eq!(
            page.samples("redis_key_size").filter(|s| s.label("key") == Some(key)).count(),
            1,
            "{key}"
        );
    }
    let value = |page: &Page, family: &str| page.value(&format!("redis_cluster_{family}"), &[]);
    assert_eq!(value(&page, "slot_coverage_ratio"), Some(1.0));
    assert_eq!((value(&page, "slots_contested"), value(&page, "epoch_views")), (Some(0.0), Some(1.0)));
    assert_eq!(page.value("redis_cluster_nodes_answering", &[("role", "master")]), Some(3.0));
    assert_eq!(page.value("redis_target_scrape_request_errors_total", &[]), Some(7.0));

    let shown = |page: &Page, node: &Redis| {
        let address = node.addr().to_string();
        let families = page.families.iter().flat_map(|family| &family.samples);
        families.filter(|sample| sample.label("node") == Some(&address)).count()
    };
    let before: Vec<usize> = servers.nodes.iter().map(|node| shown(&page, node)).collect();
    servers.nodes[1].stop().unwrap();
    let page = scrape(&cluster).await;
    for index in [0, 2] {
        assert_eq!(up(&page, &servers.nodes[index]), Some(1.0));
        assert!(shown(&page, &servers.nodes[index]) >= before[index]);
    }
    assert_eq!(up(&page, &servers.nodes[1]), Some(0.0));
    let id_known =
        page.samples("redis_up").all(|up| up.label("node_id").is_some() && up.label("shard").is_some());
    assert!(id_known, "a node that is down is still known");
    assert_eq!(value(&page, "slot_coverage_ratio"), Some(10_922.0 / 16_384.0));
    assert_eq!(page.value("redis_cluster_nodes_answering", &[("role", "master")]), Some(2.0));
    assert_eq!(page.value("redis_cluster_nodes", &[("role", "master")]), Some(3.0));
    assert!(page.families.iter().all(|family| !family.name.starts_with("redis_cluster_sum_")));
    // The seed may be the one that goes.
    servers.nodes[1].restart().await.unwrap();
    servers.nodes[0].stop().unwrap();
    let page =
        eventually(&cluster, "the node that is back", |page| up(page, &servers.nodes[1]) == Some(1.0)).await;
    assert_eq!(up(&page, &servers.nodes[0]), Some(0.0));
}

#[tokio::test]
async fn any_seed_will_do_and_without_one_every_seed_is_down() {
    let closed = format!("127.0.0.1:{}", testkit::free_port().unwrap());
    let cluster = whole(std::slice::from_ref(&closed), Features::default());
    let page = scrape(&cluster).await;
    assert_eq!(page.value("redis_up", &[("node", &closed)]), Some(0.0));
    let reason = page.samples("redis_exporter_last_scrape_error").next().unwrap();
    assert_eq!(reason.label("err"), Some("refused"));

    let servers = RedisCluster::start(Version::Redis70).await.unwrap();
    let cluster = whole(&[closed, addresses(&servers)[2].clone()], Features::default());
    let page = scrape(&cluster).await;
    assert_eq!(page.samples("redis_up").map(|up| up.value).collect::<Vec<_>>(), [1.0; 3]);
}

#[tokio::test]
async fn a_hung_node_costs_its_own_samples_only() {
    let mut servers = RedisCluster::start(Version::Redis70).await.unwrap();
    let cluster = whole(&addresses(&servers)[..1], Features::default());
    scrape(&cluster).await;
    servers.nodes[2].pause().unwrap();
    let page = scrape_within(&cluster, Duration::from_secs(5)).await;
    let all: Vec<_> = servers.nodes.iter().map(|node| up(&page, node)).collect();
    assert_eq!(all, [Some(1.0), Some(1.0), Some(0.0)]);
    servers.nodes[2].resume().unwrap();
    let page = scrape(&cluster).await;
    assert_eq!(up(&page, &servers.nodes[2]), Some(1.0));
}

#[rstest]
#[tokio::test]
async fn a_replica_is_in_its_masters_shard_and_may_read_keys_for_it(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    let mut servers = RedisCluster::start(version).await.unwrap();
    let planted = plant(&servers, &names("user", 300));
    let replica = servers.add_replica(0).await.unwrap();
    let features =
        Features { count: keys("user:*"), keys: keys("user:1,user:2,user:3"), ..Features::default() };
    let on_replicas = Features { only_replicas: true, ..features.clone() };
    let address = replica.addr().to_string();
    let master = servers.nodes[0].addr().to_string();

    let cluster = whole(&addresses(&servers)[1..2], features);
    let page = eventually(&cluster, "the replica", |page| {
        page.value("redis_cluster_nodes_answering", &[("role", "slave")]) == Some(1.0)
            && page.value("redis_cluster_topology_views", &[]) == Some(1.0)
    })
    .await;
    assert_eq!(failed(&page), Vec::<String>::new());
    let shard = |node: &str| {
        let up = page.samples("redis_up").find(|up| up.label("node") == Some(node)).unwrap();
        (up.label("shard").map(str::to_owned), up.label("role").map(str::to_owned))
    };
    assert_eq!(shard(&address), (shard(&master).0, Some("slave".to_owned())));
    // The replica has the same keys: they count once.
    assert_eq!(page.value("redis_keys_count", &[("node", &address)]), None);
    assert_eq!(page.value("redis_cluster_sum_keys_count", &[]), Some(300.0));
    assert_eq!(page.value("redis_cluster_sum_db_keys", &[("db", "db0")]), Some(300.0));

    let cluster = whole(&addresses(&servers)[1..2], on_replicas);
    let page = scrape(&cluster).await;
    assert_eq!(failed(&page), Vec::<String>::new());
    let counts: Vec<_> = page.samples("redis_keys_count").map(|s| (s.label("node"), s.value)).collect();
    assert_eq!(counts, [(Some(address.as_str()), planted[0])]);
    let sizes = page.samples("redis_key_size").filter(|size| size.label("node") == Some(&address)).count();
    let own = names("user", 4).iter().skip(1).filter(|key| slot(key.as_bytes()) <= 5460).count();
    assert_eq!(sizes, own);
}

#[rstest]
#[tokio::test]
async fn one_nodes_page_has_the_keys_of_all(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    let mut servers = RedisCluster::start(version).await.unwrap();
    plant(&servers, &names("user", 200));
    plant(&servers, &names("job", 50));
    let features = Features {
        count: keys("user:*"),
        keys: keys("user:1,user:2,user:3,user:4"),
        key_groups: Pattern::parse_list("^(%a+):").unwrap(),
        one_node: true,
        ..Features::default()
    };
    let cluster = whole(&addresses(&servers)[1..2], features);
    for _ in 0..2 {
        let page = scrape(&cluster).await;
        assert_eq!(failed(&page), Vec::<String>::new());
        assert_eq!(page.value("redis_up", &[]), Some(1.0));
        assert!(page.samples("redis_up").all(|up| up.labels.is_empty()));
        assert_eq!(page.samples("redis_key_size").count(), 4);
        assert_eq!(page.value("redis_keys_count", &[("db", "db0"), ("key", "user:*")]), Some(200.0));
        let group = |group| page.value("redis_key_group_count", &[("db", "db0"), ("key_group", group)]);
        assert_eq!((group("user"), group("job")), (Some(200.0), Some(50.0)));
        assert_eq!(page.value("redis_number_of_distinct_key_groups", &[("db", "db0")]), Some(2.0));
        assert_eq!(page.value("redis_total_error_replies", &[]), Some(0.0));
    }
    servers.nodes[0].stop().unwrap();
    let page = scrape(&cluster).await;
    assert_eq!(page.value("redis_up", &[]), Some(1.0));
    assert!(page.family("redis_keys_count").is_none() && page.family("redis_key_group_count").is_none());
}

#[tokio::test]
async fn each_node_has_its_sampler() {
    let servers = RedisCluster::start(Version::Redis70).await.unwrap();
    plant(&servers, &names("user", 200));
    let budget = Duration::from_millis(900);
    let sampler = Some(SamplerOptions { budget, ..SamplerOptions::default() });
    let cluster =
        whole(&addresses(&servers)[..1], Features { count: keys("user:*"), sampler, ..Features::default() });
    let page =
        eventually(&cluster, "the sum", |page| page.family("redis_cluster_sum_keys_count").is_some()).await;
    assert_eq!(page.value("redis_cluster_sum_keys_count", &[("key", "user:*")]), Some(200.0));
}
