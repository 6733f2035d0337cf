//! What redis_exporter does not have: log entries counted once, clients by group, the background sampler of keys.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use exporter_kit::scrape::Scraper;
use exposition::Page;
use redis_exporter::exporter::Exporter;
use redis_exporter::options::{ClientGroups, Features, KeyArg, Options, SamplerOptions};
use rstest::rstest;
use testkit::proxy::{FaultProxy, Mode};
use testkit::redis::Version::{Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9};
use testkit::redis::{Redis, RedisCluster, Version};
use tokio::time::{Instant, MissedTickBehavior};

use crate::live::{failed, up};
use crate::support::{scrape, scraper};

const LIMIT: Duration = Duration::from_secs(200);

/// The first page, scraped again and again, that is as wanted.
pub(crate) async fn eventually(
    scraper: &Arc<Scraper<Exporter>>,
    what: &str,
    wanted: impl Fn(&Page) -> bool,
) -> Page {
    let deadline = Instant::now() + LIMIT;
    let mut between = tokio::time::interval(Duration::from_millis(200));
    // Scraping without a pause would take the sampler's thread.
    between.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        between.tick().await;
        let page = scrape(scraper).await;
        if wanted(&page) {
            return page;
        }
        assert!(Instant::now() < deadline, "no page with {what} in time");
    }
}

fn with(features: Features) -> Options {
    Options { features, ..Options::default() }
}

fn keys(list: &str) -> Vec<KeyArg> {
    KeyArg::parse_list(list).unwrap()
}

/// A scraper whose sampler runs.
fn sampling(address: &str, features: Features) -> Arc<Scraper<Exporter>> {
    let scraper = scraper(address, with(features));
    tokio::spawn(scraper.source().sampler().unwrap().run());
    scraper
}

fn budget(milliseconds: u64) -> SamplerOptions {
    SamplerOptions { budget: Duration::from_millis(milliseconds), ..SamplerOptions::default() }
}

fn logging(server: &Redis, commands: &[&[&str]]) {
    server.command(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]).unwrap();
    for command in commands {
        server.command(command).unwrap();
    }
    server.command(&["CONFIG", "SET", "slowlog-log-slower-than", "-1"]).unwrap();
}

#[rstest]
#[tokio::test]
async fn each_slow_command_counts_once_and_what_left_the_log_is_lost(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    let arguments = ["--slowlog-max-len", "128", "--slowlog-log-slower-than", "-1"];
    let mut server = Redis::builder().version(version).args(arguments).start().await.unwrap();
    logging(&server, &[&["GET", "before"]]);
    let scraper = scraper(&server.url(), Options::default());
    let count = |page: &Page, cmd| page.value("redis_slowlog_entries_total", &[("cmd", cmd)]);
    let lost = |page: &Page| page.value("redis_slowlog_entries_lost_total", &[]);
    let page = scrape(&scraper).await;
    assert_eq!((count(&page, "get"), lost(&page)), (None, Some(0.0)), "what came before is not ours");

    logging(&server, &[&["gEt", "k"] as &[&str]; 100]);
    for _ in 0..2 {
        let page = scrape(&scraper).await;
        assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
        // CONFIG SET is the first that is logged.
        assert_eq!(
            (count(&page, "get"), count(&page, "config"), lost(&page)),
            (Some(100.0), Some(1.0), Some(0.0))
        );
        let seconds = |suffix: &str, labels| {
            page.value(&format!("redis_slowlog_entry_duration_seconds_{suffix}"), labels)
        };
        assert_eq!(seconds("count", &[("cmd", "get")]), Some(100.0));
        assert!(seconds("sum", &[("cmd", "get")]).is_some_and(|sum| sum < 10.0));
    }

    // 301 entries into a log of 128.
    logging(&server, &[&["GET", "k"] as &[&str]; 300]);
    for _ in 0..2 {
        let page = scrape(&scraper).await;
        assert_eq!((count(&page, "get"), lost(&page)), (Some(228.0), Some(173.0)));
    }

    // Numbers begin again with a new process: nothing is counted twice and nothing is missed.
    server.restart().await.unwrap();
    logging(&server, &[&["GET", "k"] as &[&str]; 3]);
    let page = scrape(&scraper).await;
    assert_eq!(
        (count(&page, "get"), count(&page, "config"), lost(&page)),
        (Some(231.0), Some(2.0), Some(173.0))
    );
    server.command(&["SLOWLOG", "RESET"]).unwrap();
    logging(&server, &[&["GET", "k"]]);
    let page = scrape(&scraper).await;
    assert_eq!((count(&page, "get"), lost(&page)), (Some(232.0), Some(173.0)));
}

#[tokio::test]
async fn large_requests_and_replies_are_counted_once() {
    let arguments =
        ["--commandlog-reply-larger-than", "100000", "--commandlog-request-larger-than", "100000"];
    let server = Redis::builder().version(Version::Valkey9).args(arguments).start().await.unwrap();
    let proxy = FaultProxy::start(server.addr()).unwrap();
    let scraper = scraper(&server.url_at(proxy.addr()), Options::default());
    scrape(&scraper).await;
    server.command(&["SET", "k", &"v".repeat(200_000)]).unwrap();
    server.command(&["GET", "k"]).unwrap();
    server.command(&["GET", "k"]).unwrap();
    for _ in 0..2 {
        let page = scrape(&scraper).await;
        assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
        let value = |family: &str, kind, cmd| page.value(family, &[("type", kind), ("cmd", cmd)]);
        assert_eq!(value("redis_commandlog_entries_total", "large-request", "set"), Some(1.0));
        assert_eq!(value("redis_commandlog_entries_total", "large-reply", "get"), Some(2.0));
        assert_eq!(
            value("redis_commandlog_entry_size_bytes_sum", "large-reply", "get").map(|sum| sum >= 400_000.0),
            Some(true)
        );
    }
    // Nothing new: nothing but the batch of the scrape.
    let before = proxy.round_trips();
    scrape(&scraper).await;
    assert_eq!(proxy.round_trips() - before, 1);
}

/// Connections that keep their name until they are dropped.
fn named(server: &Redis, count: usize, names: usize) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for at in 0..count {
        let mut stream = TcpStream::connect(server.addr()).unwrap();
        let name = format!("app={}", at % names);
        write!(stream, "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n${}\r\n{name}\r\n", name.len()).unwrap();
        connections.push(stream);
    }
    connections
}

#[rstest]
#[tokio::test]
async fn clients_are_grouped_within_bounds(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    let server = Redis::builder().version(version).start().await.unwrap();
    let _connections = named(&server, 300, 50);
    let features = |limits| Features { client_groups: Some(limits), ..Features::default() };
    let limits = ClientGroups { groups: 20, top: 5, ..ClientGroups::default() };
    let scraper_of = |limits| scraper(&server.url(), with(features(limits)));
    let scraper = scraper_of(limits);
    let clients = |page: &Page| page.samples("redis_client_group_clients").map(|s| s.value).sum::<f64>();
    let page = eventually(&scraper, "all clients", |page| clients(page) == 301.0).await;
    assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
    assert_eq!(page.value("redis_connected_clients", &[]), Some(301.0));
    assert_eq!(page.samples("redis_client_group_clients").count(), 21);
    assert_eq!(page.value("redis_client_groups_folded", &[]), Some(31.0));
    assert_eq!(page.samples("redis_client_top_memory_bytes").count(), 5);
    let group = page.samples("redis_client_group_memory_bytes").next().unwrap();
    assert!(group.label("name").is_some_and(|name| name.starts_with("app=")) && group.value > 0.0);

    let few = scraper_of(ClientGroups { clients: 100, ..limits });
    let list = |page: &Page| page.value("redis_commands_total", &[("cmd", "client|list")]);
    scrape(&few).await;
    let (before, after) = (scrape(&few).await, scrape(&few).await);
    assert_eq!(page.value("redis_client_groups_skipped", &[("reason", "too_many_clients")]), Some(0.0));
    assert_eq!(after.value("redis_client_groups_skipped", &[("reason", "too_many_clients")]), Some(1.0));
    assert!(after.family("redis_client_group_clients").is_none());
    assert_eq!(list(&after), list(&before), "the list costs too much and is not asked for");
}

fn plant(server: &Redis, prefix: &str, count: u32) {
    let script = format!("for i = 1, {count} do redis.call('SET', '{prefix}' .. i, i) end");
    server.command(&["EVAL", &script, "0"]).unwrap();
}

fn counts<'a>(page: &'a Page, database: &'a str) -> impl Fn(&str) -> Option<f64> + 'a {
    move |pattern| page.value("redis_keys_count", &[("db", database), ("key", pattern)])
}

#[rstest]
#[tokio::test]
async fn the_sampler_counts_checks_and_finds_the_greatest(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    let server = Redis::builder().version(version).start().await.unwrap();
    plant(&server, "user:", 5000);
    plant(&server, "job:", 300);
    server.command(&["SET", "great", &"x".repeat(5_000_000)]).unwrap();
    server.command(&["SET", "short", "42", "EX", "5000"]).unwrap();
    let features = Features {
        count: keys("user:*,job:*,none:*,user:1?,db3=*"),
        patterns: keys("sh?rt"),
        keys: keys("job:7"),
        sampler: Some(SamplerOptions { insight: true, top: 3, ..budget(500) }),
        ..Features::default()
    };
    let scraper = sampling(&server.url(), features);
    let page = eventually(&scraper, "both walks", |page| {
        page.samples("redis_key_sampler_walk_age_seconds").count() == 2
    })
    .await;
    assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
    assert_eq!(
        ["user:*", "job:*", "none:*", "user:1?"].map(counts(&page, "db0")),
        [Some(5000.0), Some(300.0), Some(0.0), Some(10.0)]
    );
    assert_eq!(counts(&page, "db3")("*"), Some(0.0));
    let value = |key| page.value("redis_key_value", &[("key", key)]);
    assert_eq!((value("short"), value("job:7")), (Some(42.0), Some(7.0)));
    let big: Vec<_> = page.samples("redis_big_key_memory_bytes").collect();
    assert_eq!(big.len(), 3);
    assert!(big.iter().any(|sample| sample.label("key") == Some("great") && sample.value >= 5e6));
    let sampled = page.value("redis_sampled_key_memory_bytes_count", &[("db", "db0"), ("type", "string")]);
    assert!(sampled.is_some_and(|count| count >= 50.0));
    assert_eq!(page.value("redis_key_sampler_walk_deduplicated", &[("db", "db0")]), Some(1.0));
    assert_eq!(page.value("redis_exporter_connections_opened_total", &[]), Some(1.0));
    assert_eq!(page.value("redis_total_error_replies", &[]), Some(0.0));
}

#[tokio::test]
async fn a_cut_connection_does_not_lose_the_walk() {
    let server = Redis::start().await.unwrap();
    plant(&server, "user:", 30_000);
    let proxy = FaultProxy::start(server.addr()).unwrap();
    let features = Features {
        count: keys("user:*,user:2*"),
        sampler: Some(budget(20)),
        batch: 100,
        ..Features::default()
    };
    let scraper = sampling(&server.url_at(proxy.addr()), features);
    let running = |page: &Page| page.value("redis_key_sampler_walk_progress_ratio", &[]).unwrap_or(0.0);
    eventually(&scraper, "half a walk", |page| running(page) > 0.3).await;
    proxy.set(Mode::Reset);
    proxy.set(Mode::Pass);
    let page = eventually(&scraper, "a count", |page| counts(page, "db0")("user:*").is_some()).await;
    assert_eq!(["user:*", "user:2*"].map(counts(&page, "db0")), [Some(30_000.0), Some(11_111.0)]);
    // It went on where it was: a second walk would have taken half as many calls more.
    let calls = page.value("redis_commands_total", &[("cmd", "scan")]).unwrap();
    assert!(calls <= 310.0, "{calls} calls for 300 batches");
}

#[tokio::test]
async fn the_sampler_keeps_to_its_budget() {
    let server = Redis::start().await.unwrap();
    plant(&server, "user:", 20_000);
    let share = 0.02;
    let features = Features {
        count: keys("user:*,x:*"),
        sampler: Some(SamplerOptions { insight: true, ..budget(20) }),
        ..Features::default()
    };
    let began = Instant::now();
    let scraper = sampling(&server.url(), features);
    let spent = |page: &Page| page.value("redis_key_sampler_server_seconds_total", &[]).unwrap_or(0.0);
    let page = eventually(&scraper, "some work", |page| spent(page) > 0.1).await;
    let commands = ["scan", "memory|usage", "type", "pttl", "randomkey"];
    let seconds = |cmd| page.value("redis_commands_duration_seconds_total", &[("cmd", cmd)]).unwrap_or(0.0);
    let taken: f64 = commands.map(seconds).iter().sum();
    // One batch is begun before the first rest.
    let allowed = share * began.elapsed().as_secs_f64() + 0.02;
    assert!(taken > 0.0 && taken <= allowed, "{taken} s of the server, {allowed} allowed");
}

#[tokio::test]
async fn time_on_the_way_is_not_the_servers() {
    let server = Redis::start().await.unwrap();
    plant(&server, "user:", 20_000);
    let proxy = FaultProxy::start(server.addr()).unwrap();
    let features = Features { count: keys("user:*,x:*"), sampler: Some(budget(20)), ..Features::default() };
    let scraper = sampling(&server.url_at(proxy.addr()), features);
    let walked = |page: &Page| page.value("redis_key_sampler_walk_age_seconds", &[("db", "db0")]);
    eventually(&scraper, "a walk", |page| walked(page).is_some()).await;
    // As on a far or a busy machine: each batch comes back late, and not always equally late.
    let booked = |page: &Page| page.value("redis_key_sampler_server_seconds_total", &[]).unwrap();
    let calls = |page: &Page| page.value("redis_commands_total", &[("cmd", "scan")]).unwrap();
    let before = scrape(&scraper).await;
    let lates = AtomicU64::new(0);
    let page = eventually(&scraper, "a walk on a slow network", |page| {
        let late = lates.fetch_add(1, Ordering::Relaxed) % 3;
        proxy.set(Mode::Delay(Duration::from_millis(50 * (1 + late))));
        calls(page) >= calls(&before) + 40.0 && booked(page) > booked(&before)
    })
    .await;
    let batches = calls(&page) - calls(&before);
    let waited = batches * 0.05;
    let more = booked(&page) - booked(&before);
    // Ours and those of the scrapes.
    let taken: f64 = ["scan", "info"]
        .iter()
        .map(|cmd| page.value("redis_commands_duration_seconds_total", &[("cmd", cmd)]).unwrap())
        .sum();
    assert!(more <= taken && more < waited / 3.0, "{more} s booked of {taken} s taken and {waited} s waited");
}

#[tokio::test]
async fn patterns_mean_what_the_server_means() {
    let server = Redis::start().await.unwrap();
    for key in ["a", "ab", "a*b", "a?b", "a[b", "a]b", "a^b", "a\\b", "a-b", "axb", "**", "é"] {
        server.command(&["SET", key, "1"]).unwrap();
    }
    let patterns = [
        "a*", "a?b", "a\\*b", "a\\?b", "a[*?]b", "a[^x]b", "a[a-z]b", "a[z-a]b", "[a", "a[]b", "*b",
        "a\\\\b", "**", "\\", "?", "??", "a[\\]x]b", "a[-x]b", "[^]*",
    ];
    let count: Vec<KeyArg> =
        patterns.iter().map(|pattern| KeyArg { database: 0, key: (*pattern).to_owned() }).collect();
    let features = Features { count, sampler: Some(budget(500)), ..Features::default() };
    let scraper = sampling(&server.url(), features);
    let page = eventually(&scraper, "counts", |page| page.samples("redis_keys_count").count() > 0).await;
    for pattern in patterns {
        let reply = server.command(&["SCAN", "0", "MATCH", pattern, "COUNT", "1000"]).unwrap();
        let testkit::redis::Value::Array(parts) = reply else { panic!("{reply:?}") };
        let testkit::redis::Value::Array(keys) = &parts[1] else { panic!("{parts:?}") };
        assert_eq!(counts(&page, "db0")(pattern), Some(keys.len() as f64), "{pattern}");
    }
}

#[rstest]
#[tokio::test]
async fn slots_with_the_most_keys_are_shown(
    #[values(Version::Redis82, Version::Redis86, Version::Valkey9)] version: Version,
) {
    let cluster = RedisCluster::start(version).await.unwrap();
    let features =
        Features { sampler: Some(SamplerOptions { insight: true, ..budget(500) }), ..Features::default() };
    let node = &cluster.nodes[2];
    // {foo} is slot 12182, which is the third node's.
    for key in ["{foo}1", "{foo}2", "{foo}3"] {
        node.command(&["SET", key, "1"]).unwrap();
    }
    let page = scrape(&scraper(&node.url(), with(features))).await;
    assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
    assert_eq!(page.value("redis_cluster_slot_keys", &[("slot", "12182")]), Some(3.0));
    assert_eq!(page.samples("redis_cluster_slot_keys").count(), 20);
}

#[tokio::test]
async fn keys_are_shown_by_size_where_the_server_counts_them() {
    let server = Redis::builder().version(Version::Redis82).start().await.unwrap();
    for (key, length) in [("a", 3), ("b", 1), ("c", 1000)] {
        server.command(&["SET", key, &"x".repeat(length)]).unwrap();
    }
    server.command(&["RPUSH", "list", "1", "2", "3", "4", "5"]).unwrap();
    let page = scrape(&scraper(&server.url(), Options::default())).await;
    assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
    let keys =
        |kind, size| page.value("redis_db_key_sizes", &[("db", "db0"), ("type", kind), ("size", size)]);
    assert_eq!(["1", "2", "512"].map(|size| keys("string", size)), [Some(1.0); 3]);
    assert_eq!(keys("list", "4"), Some(1.0));
}
