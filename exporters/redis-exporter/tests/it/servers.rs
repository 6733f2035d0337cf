//! What only some servers have: Sentinel's peers and configuration, an RDB file on this machine, the search module,
//! Tile38; and PING.

use std::collections::BTreeSet;

use redis_exporter::options::{Features, KeyArg, Options};
use rstest::rstest;
use testkit::redis::Version::{Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9};
use testkit::redis::{Redis, SentinelSetup, Version};

use crate::live::{failed, up};
use crate::recording::{Script, Stub, script};
use crate::support::{scrape, scraper};

fn with(features: Features) -> Options {
    Options { features, ..Options::default() }
}

#[rstest]
#[tokio::test]
async fn a_sentinel_shows_its_peers_and_its_configuration(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    let setup = SentinelSetup::start(version).await.unwrap();
    let [sentinel, peers @ ..] = &setup.sentinels[..] else { panic!("no sentinels") };
    sentinel.command(&["SENTINEL", "CONFIG", "SET", "sentinel-user", "me"]).unwrap();
    sentinel.command(&["SENTINEL", "CONFIG", "SET", "sentinel-pass", "s3cret"]).unwrap();
    let features = Features { sentinel_peers: true, ..Features::default() };
    let options = Options { include_config: true, ..with(features) };
    let page = scrape(&scraper(&sentinel.url(), options)).await;
    assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
    let shown: BTreeSet<_> =
        page.samples("redis_sentinel_peer_info").filter_map(|peer| peer.label("port")).collect();
    let expected: Vec<String> = peers.iter().map(|peer| peer.port().to_string()).collect();
    assert_eq!(shown, expected.iter().map(String::as_str).collect());
    let master = format!("127.0.0.1:{}", setup.primary.port());
    for peer in page.samples("redis_sentinel_peer_info") {
        let of = (peer.label("master_name"), peer.label("master_address"));
        assert_eq!((of, peer.value), ((Some("mymaster"), Some(master.as_str())), 1.0));
        assert!(peer.label("flags").is_some_and(|flags| flags.split(',').any(|flag| flag == "sentinel")));
    }
    let keys: BTreeSet<_> =
        page.samples("redis_sentinel_config_key_value").filter_map(|sample| sample.label("key")).collect();
    assert!(keys.contains("announce-port") && !keys.contains("sentinel-pass"), "{keys:?}");
    assert_eq!(page.value("redis_sentinel_config_value", &[("key", "announce-port")]), Some(0.0));
}

#[rstest]
#[tokio::test]
async fn the_rdb_file_has_a_size(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    let server = Redis::builder().version(version).start().await.unwrap();
    let features = Features { rdb_file_size: true, ..Features::default() };
    let scraper = scraper(&server.url(), with(features));
    let page = scrape(&scraper).await;
    assert_eq!((failed(&page), page.value("redis_rdb_current_size_bytes", &[])), (vec![], Some(0.0)));
    server.command(&["SET", "k", &"v".repeat(1000)]).unwrap();
    server.command(&["SAVE"]).unwrap();
    let folder = server.command(&["CONFIG", "GET", "dir"]).unwrap().text();
    let file = std::path::Path::new(folder.lines().nth(1).unwrap()).join("dump.rdb");
    let size = std::fs::metadata(file).unwrap().len() as f64;
    let page = scrape(&scraper).await;
    assert_eq!((failed(&page), page.value("redis_rdb_current_size_bytes", &[])), (vec![], Some(size)));
    assert_eq!(page.family("redis_config_value"), None);
}

#[tokio::test]
async fn ping_is_the_first_command_and_its_time_is_shown() {
    let stub = Stub::start(answers(&[(&["PING"], "+PONG\r\n")])).await;
    let features = Features { ping: true, ..Features::default() };
    let scraper = scraper(&stub.address, Options { append_role: true, ..with(features) });
    scrape(&scraper).await;
    stub.batches.lock().unwrap().clear();
    let page = scrape(&scraper).await;
    assert_eq!(failed(&page), Vec::<String>::new());
    assert_eq!(stub.batches.lock().unwrap()[0][0], ["PING"]);
    let sample = page.samples("redis_exporter_last_scrape_ping_time_seconds").next().unwrap();
    assert!(sample.value > 0.0 && sample.label("instance_role").is_none());
}

/// The recorded standalone server, which also answers these commands.
fn answers(more: &[(&[&str], &str)]) -> Script {
    let mut script = script("standalone");
    for (command, reply) in more {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        script.insert(command, reply.as_bytes().to_vec());
    }
    script
}

fn array(words: &[&str]) -> String {
    let texts: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{texts}", words.len())
}

#[tokio::test]
async fn search_indexes_are_shown_when_their_name_is_wanted() {
    let list = array(&["cars", "cars_old", "users"]);
    let cars =
        array(&["index_name", "cars", "num_docs", "12", "inverted_sz_mb", "0.5", "number_of_uses", "3"]);
    let old = array(&["index_name", "cars_old", "num_docs", "-nan"]);
    let script =
        answers(&[(&["FT._LIST"], &list), (&["FT.INFO", "cars"], &cars), (&["FT.INFO", "cars_old"], &old)]);
    let stub = Stub::start(script).await;
    let search_indexes = Some(regex::Regex::new("^cars").unwrap());
    let page =
        scrape(&scraper(&stub.address, with(Features { search_indexes, ..Features::default() }))).await;
    assert_eq!(failed(&page), Vec::<String>::new());
    assert_eq!(*stub.unknown.lock().unwrap(), Vec::<Vec<String>>::new());
    let value = |family: &str| page.value(&format!("redis_search_index_{family}"), &[("index_name", "cars")]);
    assert_eq!(value("num_docs"), Some(12.0));
    assert_eq!(value("inverted_size_bytes"), Some(524_288.0));
    assert_eq!(value("number_of_uses_total"), Some(3.0));
    assert_eq!(value("cleaning"), None);
}

#[tokio::test]
async fn modules_and_search_indexes_of_redis_stack_are_shown() {
    let version = Version::Redis74;
    let stack = version.installed().await.unwrap();
    let module = |name: &str| stack.binary(&format!("../lib/{name}.so")).display().to_string();
    let load = ["redisearch", "redisbloom", "rejson"].map(module);
    let load = load.iter().flat_map(|file| ["--loadmodule", file]);
    let server = Redis::builder().version(version).args(load).start().await.unwrap();
    server.command(&["FT.CREATE", "cars", "PREFIX", "1", "car:", "SCHEMA", "name", "TEXT"]).unwrap();
    server.command(&["FT.CREATE", "users", "SCHEMA", "name", "TEXT"]).unwrap();
    for key in ["car:1", "car:2"] {
        server.command(&["HSET", key, "name", "fast"]).unwrap();
    }
    server.command(&["BF.ADD", "seen", "one"]).unwrap();
    let search_indexes = Some(regex::Regex::new("^cars").unwrap());
    let features = Features {
        search_indexes,
        modules: true,
        keys: KeyArg::parse_list("seen").unwrap(),
        ..Features::default()
    };
    let page = scrape(&scraper(&server.url(), with(features))).await;
    assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
    let names: BTreeSet<_> =
        page.samples("redis_module_info").filter_map(|module| module.label("name")).collect();
    assert_eq!(names, BTreeSet::from(["ReJSON", "bf", "search"]));
    assert_eq!(page.value("redis_search_number_of_indexes", &[]), Some(2.0));
    let docs: Vec<_> = page.samples("redis_search_index_num_docs").collect();
    assert_eq!(docs.len(), 1);
    assert_eq!((docs[0].label("index_name"), docs[0].value), (Some("cars"), 2.0));
    assert!(page.value("redis_key_memory_usage_bytes", &[("key", "seen")]).is_some_and(|bytes| bytes > 0.0));
}

#[tokio::test]
async fn a_server_without_the_module_is_asked_once() {
    let server = Redis::start().await.unwrap();
    let features = Features {
        search_indexes: Some(regex::Regex::new("").unwrap()),
        tile38: true,
        ..Features::default()
    };
    let scraper = scraper(&server.url(), with(features));
    for _ in 0..3 {
        let page = scrape(&scraper).await;
        let expected = ["tile38: unsupported_version", "search_indexes: unsupported_version"];
        assert_eq!((up(&page), failed(&page)), (Some(1.0), expected.map(str::to_owned).to_vec()));
    }
    let page = scrape(&scraper).await;
    assert_eq!(page.value("redis_total_error_replies", &[]), Some(2.0));
}
