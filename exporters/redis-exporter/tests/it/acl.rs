//! The generated rules, on real servers: they are enough and refuse nothing; without one command just what is stated is
//! lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use exposition::Page;
use redis_exporter::acl::{self, Need};
use redis_exporter::info::Info;
use redis_exporter::lua_pattern::Pattern;
use redis_exporter::options::{ClientGroups, Features, KeyArg, Options, SamplerOptions, Script};
use redis_exporter::request::Server;
use rstest::rstest;
use testkit::redis::Version::{Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9};
use testkit::redis::{Redis, RedisCluster, SentinelSetup, Value, Version};

use crate::insight::eventually;
use crate::live::{failed, up};
use crate::support::{scrape, scraper};

fn keys(list: &str) -> Vec<KeyArg> {
    KeyArg::parse_list(list).unwrap()
}

/// What costs more than the default, all of it.
fn everything() -> Features {
    let script = Script { name: "s".to_owned(), text: "return {'a', '1'}".to_owned() };
    Features {
        patterns: keys("p:*"),
        keys: keys("named,db1=other"),
        stream_patterns: keys("s:*"),
        count: keys("*"),
        key_groups: Pattern::parse_list("^(.)").unwrap(),
        scripts: vec![script],
        ping: true,
        rdb_file_size: true,
        clients: true,
        client_groups: Some(ClientGroups::default()),
        ..Features::default()
    }
}

fn options(features: Features) -> Options {
    Options { features, include_config: true, ..Options::default() }
}

fn fill(server: &Redis) {
    for command in [
        &["SET", "named", "1"][..],
        &["SET", "other", "1"],
        &["COPY", "other", "other", "DB", "1"],
        &["SET", "p:string", "text"],
        &["SET", "p:number", "1"],
        &["HSET", "p:hash", "a", "1"],
        &["RPUSH", "p:list", "a"],
        &["SADD", "p:set", "a"],
        &["ZADD", "p:zset", "1", "a"],
        &["XADD", "p:stream", "*", "a", "1"],
        &["XADD", "s:1", "*", "a", "1"],
        &["XGROUP", "CREATE", "s:1", "g", "0"],
        &["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s:1", ">"],
        &["CONFIG", "SET", "latency-monitor-threshold", "1"],
        &["CONFIG", "SET", "slowlog-log-slower-than", "0"],
        &["CONFIG", "RESETSTAT"],
    ] {
        server.command(command).unwrap_or_else(|error| panic!("{command:?}: {error:#}"));
    }
    // A spike, for the families that show one.
    server.command(&["EVAL", "for i = 1, 2000000 do local x = i * i end", "0"]).unwrap();
}

fn facts(server: &Redis) -> Server {
    Server::new(&Info::parse(server.command(&["INFO", "ALL"]).unwrap().text()))
}

/// Whoever may do what these words say.
fn user(server: &Redis, words: &[String]) -> String {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    server.acl_user("exporter", "secret", &words).unwrap()
}

fn denials(server: &Redis) -> Vec<Value> {
    match server.command(&["ACL", "LOG"]).unwrap() {
        Value::Array(entries) => entries,
        other => panic!("{other:?}"),
    }
}

/// Samples of each family of the server, without the namespace. The logs hold our own commands too, and clients are our
/// connections of before: of those only whether there are any.
fn sizes(page: &Page) -> BTreeMap<String, usize> {
    let of_server = page.families.iter().filter(|family| !family.name.starts_with("redis_exporter_"));
    of_server
        .map(|family| {
            (
                family.name.trim_start_matches("redis_").to_owned(),
                if ["log_entr", "client"].iter().any(|part| family.name.contains(part)) {
                    1
                } else {
                    family.samples.len()
                },
            )
        })
        .collect()
}

fn is_stated(need: &Need, family: &str) -> bool {
    need.lost().iter().any(|lost| match lost.strip_suffix('*') {
        Some(prefix) => family.starts_with(prefix),
        None => *lost == family || lost.ends_with(&format!(" in {family}")),
    })
}

async fn matrix(server: &Redis, features: Features, skipped: &[&str]) {
    let options = options(features);
    let known = facts(server);
    let rule = acl::rule(&options, &known, true);
    // Two entries each of which the second scrape counts.
    let page_with = |rule: Vec<String>| {
        let options = options.clone();
        async move {
            let scraper = scraper(&user(server, &rule), options);
            scrape(&scraper).await;
            server.command(&["PING"]).unwrap();
            scrape(&scraper).await
        }
    };
    let whole = page_with(rule.clone()).await;
    assert_eq!((up(&whole), failed(&whole)), (Some(1.0), vec![]));
    assert_eq!(denials(server), vec![], "{rule:?}");
    let whole = sizes(&whole);
    for need in acl::needs(&options, &known, true) {
        if skipped.contains(&need.name.as_str()) {
            continue;
        }
        let without: Vec<String> =
            rule.iter().filter(|word| **word != format!("+{}", need.name)).cloned().collect();
        assert_eq!(without.len() + 1, rule.len(), "{}", need.name);
        // The rules of one user add up, unless begun anew.
        let page =
            page_with([vec!["reset".to_owned(), "on".to_owned(), ">secret".to_owned()], without].concat())
                .await;
        let left = sizes(&page);
        let lost: BTreeSet<&String> = whole
            .iter()
            .filter(|(family, size)| left.get(*family).unwrap_or(&0) < *size)
            .map(|(family, _)| family)
            .collect();
        if need.name == "info" {
            assert_eq!(up(&page), Some(0.0));
            continue;
        }
        assert_eq!(up(&page), Some(1.0), "{}", need.name);
        let stated: BTreeSet<&String> = whole.keys().filter(|family| is_stated(&need, family)).collect();
        assert_eq!(lost, stated, "without {}", need.name);
    }
}

#[rstest]
#[tokio::test]
async fn without_one_command_just_what_is_stated_is_lost(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    let server = Redis::builder().version(version).start().await.unwrap();
    fill(&server);
    // What SELECT costs depends on the keys; PFCOUNT is for a type of string.
    matrix(&server, everything(), &["select", "pfcount"]).await;
}

#[rstest]
#[tokio::test]
async fn a_cluster_node_needs_what_the_rule_says(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    let cluster = RedisCluster::start(version).await.unwrap();
    // Valkey says in INFO what CLUSTER INFO says.
    let skipped: &[&str] = if version == Version::Valkey9 { &["cluster|info"] } else { &[] };
    let features = Features { whole_cluster: true, ..Features::default() };
    matrix(&cluster.nodes[0], features, skipped).await;
}

#[rstest]
#[tokio::test]
async fn a_sentinel_needs_what_the_rule_says(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    let setup = SentinelSetup::start(version).await.unwrap();
    matrix(&setup.sentinels[0], Features { sentinel_peers: true, ..Features::default() }, &[]).await;
}

#[rstest]
#[tokio::test]
async fn the_sampler_needs_what_the_rule_says_and_learns_from_refusals(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    let server = Redis::builder().version(version).start().await.unwrap();
    server.command(&["SET", "k", "1"]).unwrap();
    let budget = Duration::from_millis(500);
    let sampler = SamplerOptions { insight: true, budget, ..SamplerOptions::default() };
    let options = options(Features { sampler: Some(sampler), count: keys("*"), ..Features::default() });
    let rule = acl::rule(&options, &facts(&server), true);
    for (without, lost) in [
        ("", &[][..]),
        ("+randomkey", &["redis_sampled_key_memory_bytes"]),
        ("+pttl", &["redis_sampled_key_memory_bytes"]),
        ("+memory|usage", &["redis_big_key_memory_bytes", "redis_sampled_key_memory_bytes"]),
    ] {
        let reset = ["reset", "on", ">secret"].map(str::to_owned);
        let words: Vec<String> =
            reset.into_iter().chain(rule.iter().filter(|word| *word != without).cloned()).collect();
        server.command(&["ACL", "LOG", "RESET"]).unwrap();
        let scraper = scraper(&user(&server, &words), options.clone());
        let task = tokio::spawn(scraper.source().sampler().unwrap().run());
        let page = eventually(&scraper, "a walk", |page| page.family("redis_keys_count").is_some()).await;
        task.abort();
        for family in ["redis_big_key_memory_bytes", "redis_sampled_key_memory_bytes"] {
            assert_eq!(page.family(family).is_none(), lost.contains(&family), "{family} without {without}");
        }
        let denials = denials(&server).len();
        assert!(
            if without.is_empty() { denials == 0 } else { (1..=2).contains(&denials) },
            "{without}: {denials}"
        );
    }
}
