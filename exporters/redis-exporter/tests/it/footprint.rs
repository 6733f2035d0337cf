//! The exporter does not change what it measures, and a large server costs it no more than a bounded page.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use exporter_kit::scrape::Selection;
use exposition::{Page, text};
use redis_exporter::options::{ClientGroups, Features, KeyArg, Options, SamplerOptions};
use rstest::rstest;
use testkit::proxy::FaultProxy;
use testkit::redis::Version::{Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9};
use testkit::redis::{Redis, Value, Version};
use tokio::time::Instant;

use crate::insight::eventually;
use crate::live::{failed, up};
use crate::support::{scrape, scraper};

fn info(server: &Redis) -> redis_exporter::info::Info {
    redis_exporter::info::Info::parse(server.command(&["INFO", "ALL"]).unwrap().text())
}

#[rstest]
#[tokio::test]
async fn a_hundred_scrapes_leave_no_trace(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    let server = Redis::builder()
        .version(version)
        .args(["--slowlog-log-slower-than", "1000000"])
        .start()
        .await
        .unwrap();
    server.command(&["SET", "k", "1"]).unwrap();
    let features = Features {
        clients: true,
        client_groups: Some(ClientGroups::default()),
        sampler: Some(SamplerOptions::default()),
        count: KeyArg::parse_list("k*").unwrap(),
        ..Features::default()
    };
    let scraper = scraper(&server.url(), Options { features, ..Options::default() });
    scrape(&scraper).await;
    let fields = [
        "keyspace_hits",
        "keyspace_misses",
        "total_error_replies",
        "acl_access_denied_cmd",
        "rejected_connections",
        "evicted_keys",
    ];
    let read = || {
        let info = info(&server);
        let errors: Vec<String> = info.section("Errorstats").map(|field| field.value.to_owned()).collect();
        (fields.map(|field| info.number(field)), errors, info.number("total_connections_received"))
    };
    let before = read();
    for _ in 0..100 {
        let page = scrape(&scraper).await;
        assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
    }
    let after = read();
    // Asking is a connection of its own.
    assert_eq!(after.2, before.2.map(|count| count + 1.0));
    assert_eq!((before.0, before.1), (after.0, after.1));
    assert_eq!(server.command(&["SLOWLOG", "LEN"]).unwrap(), Value::Integer(0));
    assert_eq!(server.command(&["ACL", "LOG"]).unwrap(), Value::Array(vec![]));
}

/// Connections that were accepted: each has its answer.
fn connect(server: &Redis, count: usize) -> Vec<TcpStream> {
    (0..count)
        .map(|at| {
            let mut stream = TcpStream::connect(server.addr()).unwrap();
            let name = format!("app-{}", at % 50);
            write!(stream, "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n${}\r\n{name}\r\n", name.len()).unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"+OK\r\n");
            stream
        })
        .collect()
}

/// Runs as many different commands as the server lets us without arguments: most fail, all are in commandstats.
fn commandstats(server: &Redis, wanted: usize) -> usize {
    let Value::Array(commands) = server.command(&["COMMAND"]).unwrap() else { panic!("COMMAND") };
    let harmful = [
        "shutdown",
        "debug",
        "monitor",
        "quit",
        "replicaof",
        "slaveof",
        "failover",
        "sync",
        "psync",
        "subscribe",
        "psubscribe",
        "ssubscribe",
        "reset",
        "flushall",
        "flushdb",
        "save",
        "bgsave",
        "bgrewriteaof",
        // These wait.
        "blpop",
        "brpop",
        "blmove",
        "blmpop",
        "brpoplpush",
        "bzpopmin",
        "bzpopmax",
        "bzmpop",
        "wait",
        "xread",
    ];
    let mut run = 0;
    for command in commands {
        let Value::Array(parts) = command else { continue };
        let (Some(Value::Text(name)), Some(Value::Integer(arity))) = (parts.first(), parts.get(1)) else {
            continue;
        };
        if run >= wanted || harmful.contains(&name.as_str()) {
            continue;
        }
        let words: Vec<&str> =
            std::iter::once(name.as_str()).chain((1..arity.unsigned_abs()).map(|_| "1")).collect();
        let _ = server.command(&words);
        run += 1;
    }
    run
}

#[tokio::test]
async fn a_large_server_has_a_bounded_page_and_never_waits_for_scan() {
    let (clients, keys, small) = if testkit::full() { (5000, 2_000_000, 5) } else { (1000, 200_000, 1) };
    // A slow command would be one more round trip, and listing so many clients may be one on a busy machine.
    let arguments = ["--maxclients", "9000", "--slowlog-log-slower-than", "10000000"];
    let server = Redis::builder().args(arguments).start().await.unwrap();
    let script = "for i = ARGV[1] + 0, ARGV[2] + 0 do redis.call('SET', 'user:' .. i, i) end";
    for from in (1..=keys).step_by(50_000) {
        let to = (from + 49_999).to_string();
        server.command(&["EVAL", script, "0", &from.to_string(), &to]).unwrap();
    }
    assert!(commandstats(&server, 200) >= 200);
    let _connections = connect(&server, clients);
    let proxy = FaultProxy::start(server.addr()).unwrap();
    let with_budget = |milliseconds| {
        let budget = Duration::from_millis(milliseconds);
        let features = Features {
            client_groups: Some(ClientGroups::default()),
            count: KeyArg::parse_list("user:*,user:1*,none:*,*7").unwrap(),
            batch: 10_000,
            sampler: Some(SamplerOptions { budget, insight: false, top: 20 }),
            ..Features::default()
        };
        scraper(&server.url_at(proxy.addr()), Options { features, ..Options::default() })
    };
    let scraper = with_budget(500);
    scrape(&scraper).await;
    // Without the sampler's own commands a scrape is one round trip, whatever is searched for.
    let before = proxy.round_trips();
    let page = scrape(&scraper).await;
    assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
    assert_eq!(proxy.round_trips() - before, 1);
    assert!(page.samples("redis_commands_total").count() >= 100);

    // With so small a budget the walk is never far. It has begun once the first rest is over, which is long where the server
    // has much else to do.
    let slow = with_budget(small);
    let walk = tokio::spawn(slow.source().sampler().unwrap().run());
    let count = |page: &Page, key| page.value("redis_keys_count", &[("key", key)]);
    let walking =
        |page: &Page| !page.samples("redis_key_sampler_walk_progress_ratio").collect::<Vec<_>>().is_empty();
    let early = eventually(&slow, "a walk under way", walking).await;
    assert_eq!((up(&early), failed(&early)), (Some(1.0), vec![]));
    assert_eq!(count(&early, "user:*"), None, "the walk is not waited for");
    walk.abort();

    tokio::spawn(scraper.source().sampler().unwrap().run());
    let page = eventually(&scraper, "the counts", |page| count(page, "user:*").is_some()).await;
    let extra = page.value("redis_db_keys", &[("db", "db0")]).unwrap() - f64::from(keys);
    assert_eq!((count(&page, "user:*"), count(&page, "none:*")), (Some(f64::from(keys)), Some(0.0)));
    // The commands above left a key or two.
    let sevens = f64::from(keys) / 10.0;
    assert!((sevens..=sevens + extra).contains(&count(&page, "*7").unwrap()));
    let clients_seen: f64 = page.samples("redis_client_group_clients").map(|sample| sample.value).sum();
    assert_eq!(Some(clients_seen), page.value("redis_connected_clients", &[]));
    let page = scraper.scrape(Selection::ALL, Instant::now() + Duration::from_secs(60)).await;
    let mut out = String::new();
    text::encode(page.snapshot(), &mut out);
    assert!(
        out.len() < 300 * 1024 && page.snapshot().len() < 6000,
        "{} bytes, {} series",
        out.len(),
        page.snapshot().len()
    );
}
