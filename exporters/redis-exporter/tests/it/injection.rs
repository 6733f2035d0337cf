//! Each reply of a batch, replaced: no sample may differ from the error-free run, and only what comes from that reply
//! may be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use exporter_kit::scrape::Selection;
use redis_exporter::collectors;
use redis_exporter::info::Info;
use redis_exporter::options::Options;
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

#[tokio::test]
async fn a_cut_inside_info_is_mended_by_a_new_connection() {
    let stub = Stub::start(script("standalone")).await;
    let scraper = scraper(&stub.address, Options::default());
    let whole = of_server(&scrape(&scraper).await);
    stub.fail(&["INFO", "ALL"], Fault::CutOnce);
    assert_eq!(of_server(&scrape(&scraper).await), whole);
}
