//! Each reply of a batch, replaced: no sample may differ from the error-free run, and only what comes from that reply
//! may be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use exporter_kit::scrape::Selection;
use redis_exporter::collectors;
use redis_exporter::info::Info;
use redis_exporter::options::{Features, KeyArg, Options};
use redis_exporter::request::Server;
use rstest::rstest;
use testkit::page::samples;
use tokio::time::Instant;

use crate::recording::{Fault, Stub, capture, script};
use crate::support::{read, scrape, scraper};

/// Samples of the server: those about the scrape itself tell of the fault.
fn of_server(page: &exposition::Page) -> BTreeMap<String, String> {
    let about_scrape = ["redis_exporter_", "redis_up"];
    let kept = samples(page)
        .into_iter()
        .filter(|(sample, _)| about_scrape.iter().all(|prefix| !sample.starts_with(prefix)));
    kept.map(|(sample, value)| (sample, value.to_string())).collect()
}

/// Names of families by collector, and the words of the commands each sends.
async fn parts(name: &str) -> Vec<(BTreeSet<String>, Vec<Vec<String>>)> {
    let options = Options::default();
    let info = Info::parse(String::from_utf8(capture(name, "info")).unwrap());
    let server = Server::new(&info);
    let stub = Stub::start(script(name)).await;
    let scraper = scraper(&stub.address, options.clone());
    let mut parts = Vec::new();
    for section in collectors::all(&options) {
        let only =
            Selection::from_filters(&[section.spec().name.to_owned()], &[], &scraper.enabled()).unwrap();
        let page = scraper.scrape(only, Instant::now() + Duration::from_secs(20)).await;
        let names = of_server(&read(&page)).into_keys().collect();
        let requests = section.requests(&server);
        let commands = requests.iter().map(|request| {
            let command = request.command(&options);
            let words = command.args_iter().map(|word| match word {
                redis::Arg::Simple(word) => String::from_utf8_lossy(word).into_owned(),
                redis::Arg::Cursor => "0".to_owned(),
                _ => String::new(),
            });
            words.collect::<Vec<_>>()
        });
        parts.push((names, commands.collect()));
    }
    parts
}

#[rstest]
#[tokio::test]
async fn a_wrong_reply_costs_its_own_samples_only(
    #[values("cluster", "redis62", "redis8", "replica", "sentinel", "standalone", "valkey")] name: &str,
) {
    let parts = parts(name).await;
    let stub = Stub::start(script(name)).await;
    let whole = {
        let scraper = scraper(&stub.address, Options::default());
        scrape(&scraper).await;
        stub.batches.lock().unwrap().clear();
        of_server(&scrape(&scraper).await)
    };
    let commands = stub.commands();
    assert!(commands.len() > 3, "{commands:?}");
    for command in &commands {
        for (kind, fault) in [
            ("error", Fault::Reply(b"-ERR injected\r\n".to_vec())),
            ("refusal", Fault::Reply(b"-NOPERM injected\r\n".to_vec())),
            ("nil", Fault::Reply(b"$-1\r\n".to_vec())),
            ("an empty array", Fault::Reply(b"*0\r\n".to_vec())),
            ("an array", Fault::Reply(b"*1\r\n$1\r\nx\r\n".to_vec())),
            ("nested arrays", Fault::Reply(b"*2\r\n*1\r\n*0\r\n*0\r\n".to_vec())),
            ("a text", Fault::Reply(b"$1\r\nx\r\n".to_vec())),
            ("a cut", Fault::Cut),
        ] {
            // An empty log is an answer.
            if kind == "an empty array" && command[0] != "INFO" && command[0] != "CLUSTER" {
                continue;
            }
            let scraper = scraper(&stub.address, Options::default());
            scrape(&scraper).await;
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            stub.fail(&words, fault.clone());
            let hurt = of_server(&scrape(&scraper).await);
            stub.heal();
            let different: Vec<_> =
                hurt.iter().filter(|(sample, value)| whole.get(*sample) != Some(value)).collect();
            assert!(different.is_empty(), "{name}: {kind} for {command:?}: {different:?}");
            if fault == Fault::Cut || command[0] == "INFO" {
                continue;
            }
            let may_miss: BTreeSet<&String> = parts
                .iter()
                .filter(|(_, commands)| commands.contains(command))
                .flat_map(|(names, _)| names)
                .collect();
            let lost: Vec<_> = whole
                .keys()
                .filter(|sample| !hurt.contains_key(*sample) && !may_miss.contains(sample))
                .collect();
            assert!(lost.is_empty(), "{name}: {kind} for {command:?} also lost {lost:?}");
            let scraper_mended = of_server(&scrape(&scraper).await);
            if kind != "refusal" {
                assert_eq!(scraper_mended, whole, "{name}: after {kind} for {command:?}");
            }
        }
    }
}

/// What replaces a reply.
fn faults() -> Vec<Fault> {
    let replies =
        ["-ERR injected", "-NOPERM injected", "-MOVED 1 127.0.0.1:1", "-LOADING injected", "$-1", "*0"];
    let shapes = ["*1\r\n$1\r\nx", "*2\r\n*1\r\n*0\r\n*0", "$1\r\nx", ":-7", "+stream", "+OK"];
    let reply = |text: &&str| Fault::Reply(format!("{text}\r\n").into_bytes());
    replies.iter().chain(&shapes).map(reply).chain([Fault::Cut]).collect()
}

#[tokio::test]
async fn a_wrong_reply_about_a_key_costs_that_key_only() {
    let mut script = script("standalone");
    for (command, reply) in [
        ("TYPE a", "+string"),
        ("MEMORY USAGE a", ":56"),
        ("STRLEN a", ":2"),
        ("GETRANGE a 0 1024", "$2\r\n42"),
        ("TYPE b", "+list"),
        ("MEMORY USAGE b", ":100"),
        ("LLEN b", ":7"),
        ("TYPE c", "+string"),
        ("MEMORY USAGE c", ":200"),
        ("STRLEN c", ":5"),
        ("GETRANGE c 0 1024", "$5\r\nhello"),
        ("SCAN 0 MATCH d* COUNT 1000", "*2\r\n$1\r\n0\r\n*2\r\n$2\r\nd1\r\n$2\r\nd2"),
    ] {
        let command = command.split(' ').map(str::to_owned).collect();
        script.insert(command, format!("{reply}\r\n").into_bytes());
    }
    let stub = Stub::start(script).await;
    let keys = |list| KeyArg::parse_list(list).unwrap();
    let features = Features { keys: keys("a,b,c"), count: keys("d*"), ..Features::default() };
    let options = Options { features, ..Options::default() };
    let about_keys = |page: &exposition::Page| {
        let mut samples = of_server(page);
        samples.retain(|sample, _| ["redis_key_", "redis_keys_"].iter().any(|name| sample.starts_with(name)));
        samples
    };
    let whole = about_keys(&scrape(&scraper(&stub.address, options.clone())).await);
    assert_eq!(whole.len(), 9, "{whole:?}");
    let commands: BTreeSet<Vec<String>> = stub.commands().into_iter().collect();
    let of_keys = |command: &&Vec<String>| {
        ["TYPE", "MEMORY", "STRLEN", "GETRANGE", "LLEN", "SCAN"].contains(&command[0].as_str())
    };
    for command in commands.iter().filter(of_keys) {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let key = command.iter().find(|word| ["a", "b", "c", "d*"].contains(&word.as_str())).unwrap();
        for fault in faults() {
            // These are possible answers of the server.
            let valid = match (words[0], &fault) {
                ("TYPE", Fault::Reply(reply)) => matches!(reply[0], b'+' | b'$' | b':'),
                ("GETRANGE", Fault::Reply(reply)) => reply.starts_with(b"$1"),
                ("MEMORY" | "STRLEN" | "LLEN", Fault::Reply(reply)) => reply[0] == b':',
                _ => false,
            };
            if valid {
                continue;
            }
            stub.fail(&words, fault.clone());
            let hurt = about_keys(&scrape(&scraper(&stub.address, options.clone())).await);
            stub.heal();
            let different: Vec<_> =
                hurt.iter().filter(|(sample, value)| whole.get(*sample) != Some(value)).collect();
            assert!(different.is_empty(), "{fault:?} for {command:?}: {different:?}");
            if fault == Fault::Cut {
                continue;
            }
            let label = format!("key=\"{key}\"");
            let lost: Vec<_> = whole
                .keys()
                .filter(|sample| !hurt.contains_key(*sample) && !sample.contains(&label))
                .collect();
            assert!(lost.is_empty(), "{fault:?} for {command:?} also lost {lost:?}");
        }
    }
}

#[tokio::test]
async fn a_cut_inside_info_is_mended_by_a_new_connection() {
    let stub = Stub::start(script("standalone")).await;
    let scraper = scraper(&stub.address, Options::default());
    let whole = of_server(&scrape(&scraper).await);
    stub.fail(&["INFO", "ALL"], Fault::CutOnce);
    assert_eq!(of_server(&scrape(&scraper).await), whole);
}
