//! Features that are off by default: keys, counts, streams, scripts, clients.

use exposition::Page;
use redis_exporter::options::{Features, KeyArg, Options, Script};
use rstest::rstest;
use testkit::proxy::FaultProxy;
use testkit::redis::Version::{Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9};
use testkit::redis::{Redis, Version};

use crate::live::{failed, up};
use crate::support::{scrape, scraper};

fn with(features: Features) -> Options {
    Options { features, ..Options::default() }
}

fn keys(list: &str) -> Vec<KeyArg> {
    KeyArg::parse_list(list).unwrap()
}

async fn page_of(server: &Redis, features: Features) -> Page {
    let page = scrape(&scraper(&server.url(), with(features))).await;
    assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
    page
}

fn fill(server: &Redis, commands: &[&[&str]]) {
    for command in commands {
        server.command(command).unwrap();
    }
}

#[rstest]
#[tokio::test]
async fn chosen_keys_have_memory_size_and_value(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    let server = Redis::builder().version(version).start().await.unwrap();
    fill(
        &server,
        &[
            &["SET", "n:1", "42.5"],
            &["SET", "n:2", "hello"],
            &["SET", "n:long", &"x".repeat(5000)],
            &["RPUSH", "n:list", "a", "b", "c"],
            &["HSET", "n:hash", "a", "1"],
            &["ZADD", "n:zset", "1", "a", "2", "b"],
            &["SADD", "n:set", "a"],
            &["XADD", "n:stream", "*", "a", "1"],
            &["PFADD", "n:log", "a", "b", "c"],
            &["SET", "other", "1"],
        ],
    );
    let features = Features {
        patterns: keys("db0=n:*"),
        keys: keys("other,missing,n:1"),
        batch: 3,
        ..Features::default()
    };
    let page = page_of(&server, features).await;
    let size = |key: &str| page.value("redis_key_size", &[("db", "db0"), ("key", key)]);
    for (key, expected) in [
        ("n:1", 4.0),
        ("n:2", 5.0),
        ("n:long", 5000.0),
        ("n:list", 3.0),
        ("n:hash", 1.0),
        ("n:zset", 2.0),
        ("n:set", 1.0),
        ("n:stream", 1.0),
        ("n:log", 3.0),
        ("other", 1.0),
        ("missing", 0.0),
    ] {
        assert_eq!(size(key), Some(expected), "{key}");
    }
    let value = |key: &str| page.value("redis_key_value", &[("key", key)]);
    assert_eq!((value("n:1"), value("other"), value("n:2")), (Some(42.5), Some(1.0), None));
    let texts: Vec<_> =
        page.samples("redis_key_value_as_string").map(|s| (s.label("key"), s.label("val"))).collect();
    assert_eq!(texts, [(Some("n:2"), Some("hello"))]);
    assert_eq!(page.samples("redis_key_memory_usage_bytes").count(), 10);
    // Reading keys raised no error on the server: no PFCOUNT on plain strings, no GET on others.
    let page = page_of(&server, Features { patterns: keys("n:*"), ..Features::default() }).await;
    assert_eq!(page.value("redis_total_error_replies", &[]), Some(0.0));
}

#[tokio::test]
async fn a_denied_key_leaves_the_values_of_the_others_alone() {
    let server = Redis::start().await.unwrap();
    fill(
        &server,
        &[
            &["SET", "secret", "123456789"],
            &["SET", "pub:a", "1"],
            &["RPUSH", "pub:b", "1", "2"],
            &["SET", "pub:c", "333"],
        ],
    );
    let list = "secret,pub:a,pub:b,pub:c";
    let features = || Features { keys: keys(list), ..Features::default() };
    let whole = page_of(&server, features()).await;
    let url = server.acl_user("exporter", "secret", &["+@all", "~pub:*"]).unwrap();
    let part = scrape(&scraper(&url, with(features()))).await;
    assert_eq!((up(&part), failed(&part)), (Some(1.0), vec!["keys: permission".to_owned()]));
    for family in ["redis_key_size", "redis_key_memory_usage_bytes"] {
        assert_eq!(part.value(family, &[("key", "secret")]), None);
        for key in ["pub:a", "pub:b", "pub:c"] {
            let labels = [("key", key)];
            assert!(whole.value(family, &labels).is_some());
            assert_eq!(part.value(family, &labels), whole.value(family, &labels), "{family} {key}");
        }
    }
}

#[tokio::test]
async fn databases_are_kept_apart_and_values_stay_inside() {
    let server = Redis::start().await.unwrap();
    let proxy = FaultProxy::start(server.addr()).unwrap();
    fill(&server, &[&["SET", "k", "1"], &["SWAPDB", "0", "3"], &["SET", "k", &"v".repeat(1_000_000)]]);
    let features = Features {
        keys: keys("db3=k,k"),
        count: keys("db3=*,*,db5=*"),
        key_values: false,
        ..Features::default()
    };
    let scraper = scraper(&server.url_at(proxy.addr()), with(features));
    for _ in 0..2 {
        let before = proxy.bytes_to_client();
        let page = scrape(&scraper).await;
        assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
        let value = |family: &str, db: &str| page.value(family, &[("db", db)]);
        assert_eq!((value("redis_key_size", "db3"), value("redis_key_size", "db0")), (Some(1.0), Some(1e6)));
        assert_eq!(
            (value("redis_keys_count", "db3"), value("redis_keys_count", "db5")),
            (Some(1.0), Some(0.0))
        );
        assert!(page.family("redis_key_value").is_none());
        assert!(proxy.bytes_to_client() - before < 200_000);
    }
    assert_eq!(proxy.connections_opened(), 1);
}

#[tokio::test]
async fn keys_are_counted_once_each() {
    let server = Redis::start().await.unwrap();
    let script = "for i = 1, 5000 do redis.call('SET', 'user:' .. i, i) end \
        for i = 1, 300 do redis.call('SET', 'job:' .. i, i) end";
    server.command(&["EVAL", script, "0"]).unwrap();
    let features = Features { count: keys("user:*,job:*,none:*"), batch: 100, ..Features::default() };
    let page = page_of(&server, features).await;
    let count = |pattern: &str| page.value("redis_keys_count", &[("db", "db0"), ("key", pattern)]);
    assert_eq!((count("user:*"), count("job:*"), count("none:*")), (Some(5000.0), Some(300.0), Some(0.0)));
}

#[tokio::test]
async fn a_key_that_is_not_text_is_shown() {
    let server = Redis::start().await.unwrap();
    server.command(&["EVAL", "return redis.call('RPUSH', 'bin\\255', 'a')", "0"]).unwrap();
    let page = page_of(&server, Features { patterns: keys("bin*"), ..Features::default() }).await;
    assert_eq!(page.value("redis_key_size", &[("key", "bin\\xff")]), Some(1.0));
}

#[tokio::test]
async fn masters_are_left_alone_when_asked() {
    let master = Redis::start().await.unwrap();
    fill(&master, &[&["SET", "k", "1"]]);
    let replica = Redis::builder().replica_of(&master).start().await.unwrap();
    for (server, expected) in [(&master, None), (&replica, Some(1.0))] {
        let features = Features { keys: keys("k"), only_replicas: true, ..Features::default() };
        assert_eq!(page_of(server, features).await.value("redis_key_size", &[]), expected);
    }
}

#[rstest]
#[tokio::test]
async fn streams_groups_and_consumers(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    let server = Redis::builder().version(version).start().await.unwrap();
    fill(
        &server,
        &[
            &["XADD", "s:1", "1000-1", "a", "1"],
            &["XADD", "s:1", "2000-1", "a", "1"],
            &["XADD", "s:1", "3000-7", "a", "1"],
            &["XGROUP", "CREATE", "s:1", "known", "0"],
            &["XREADGROUP", "GROUP", "known", "alice", "COUNT", "2", "STREAMS", "s:1", ">"],
            &["XDEL", "s:1", "2000-1"],
            &["XGROUP", "CREATE", "s:1", "unknown", "2500-0"],
        ],
    );
    let features = Features { stream_patterns: keys("s:*"), streams: keys("s:1"), ..Features::default() };
    let page = page_of(&server, features).await;
    let stream =
        |family: &str| page.value(&format!("redis_stream_{family}"), &[("db", "db0"), ("stream", "s:1")]);
    assert_eq!(stream("length"), Some(2.0));
    assert_eq!((stream("first_entry_id"), stream("last_entry_id")), (Some(1000.0), Some(3000.0)));
    assert_eq!((stream("last_generated_id"), stream("groups")), (Some(3000.0), Some(2.0)));
    let group =
        |family: &str, group| page.value(&format!("redis_stream_group_{family}"), &[("group", group)]);
    assert_eq!((group("messages_pending", "known"), group("consumers", "known")), (Some(2.0), Some(1.0)));
    let alice = [("group", "known"), ("consumer", "alice")];
    assert_eq!(page.value("redis_stream_group_consumer_messages_pending", &alice), Some(2.0));
    assert!(page.value("redis_stream_group_consumer_idle_seconds", &alice).is_some_and(|idle| idle < 60.0));
    // What the server does not know is absent, not 0.
    assert_eq!(group("lag", "unknown"), None);
    assert_eq!(stream("entries_added_total"), (version != Version::Redis62).then_some(3.0));
}

#[tokio::test]
async fn a_failing_script_costs_itself_only() {
    let server = Redis::start().await.unwrap();
    fill(&server, &[&["SET", "k", "1"]]);
    let script = |name: &str, text: &str| Script { name: name.to_owned(), text: text.to_owned() };
    let features = Features {
        scripts: vec![
            script("good", "return {'size', tostring(redis.call('DBSIZE')), 'half', '0.5'}"),
            script("empty", "return {}"),
            script("wrong", "return {'a', 'b'}"),
            script("bad", "return redis.call('NONSENSE')"),
        ],
        // Work in another database must not move the scripts there.
        keys: keys("db5=k"),
        ..Features::default()
    };
    let scraper = scraper(&server.url(), with(features));
    for _ in 0..2 {
        let page = scrape(&scraper).await;
        assert_eq!((up(&page), failed(&page)), (Some(1.0), vec!["scripts: error".to_owned()]));
        let result = |file| page.value("redis_script_result", &[("filename", file)]);
        assert_eq!(
            ["good", "empty", "wrong", "bad"].map(result),
            [Some(1.0), Some(2.0), Some(0.0), Some(0.0)]
        );
        let value = |key| page.value("redis_script_values", &[("key", key), ("filename", "good")]);
        assert_eq!((value("size"), value("half")), (Some(1.0), Some(0.5)));
        assert_eq!(page.samples("redis_script_values").count(), 2);
    }
}

#[rstest]
#[tokio::test]
async fn clients_are_listed(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    let server = Redis::builder().version(version).start().await.unwrap();
    let features = Features { clients: true, client_port: true, ..Features::default() };
    let page = page_of(&server, features).await;
    let own = [("name", "redis_exporter")];
    assert_eq!(page.value("redis_connected_client_info", &own), Some(1.0));
    let client = page.samples("redis_connected_client_info").next().unwrap();
    assert_eq!((client.label("host"), client.label("db")), (Some("127.0.0.1"), Some("0")));
    assert!(client.label("port").is_some_and(|port| port.parse::<u16>().is_ok()));
    assert!(page.value("redis_connected_client_query_buffer_free_space_bytes", &own).is_some());
    assert!(page.value("redis_connected_client_created_at_timestamp", &own).is_some_and(|at| at > 1e9));
}
