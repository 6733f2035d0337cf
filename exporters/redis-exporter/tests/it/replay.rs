//! Recorded servers, scraped: the page must be what redis_exporter 1.86 made of the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use crate::recording::{CAPTURES, Stub, capture, compatible, script};
use crate::support::{scrape, scraper};
use exposition::{Kind, parse};
use redis_exporter::fields::{FIELDS, Field};
use redis_exporter::info::value;
use redis_exporter::options::Options;
use rstest::rstest;
use testkit::page::samples;

/// Samples that may differ, by capture: what they start with.
fn waivers(name: &str) -> Vec<&'static str> {
    let rows =
        include_str!("../data/waivers.tsv").lines().skip(1).map(|row| row.split('\t').collect::<Vec<_>>());
    rows.filter(|row| row[0] == "*" || row[0] == name).map(|row| row[1]).collect()
}

fn waived(waivers: &[&str], sample: &str) -> bool {
    waivers.iter().any(|waiver| sample.starts_with(waiver))
}

#[rstest]
#[tokio::test]
async fn the_compatible_page_is_the_peers(
    #[values("cluster", "redis62", "redis8", "replica", "sentinel", "standalone", "valkey")] name: &str,
) {
    let stub = Stub::start(script(name)).await;
    let ours = scrape(&scraper(&stub.address, compatible())).await;
    assert_eq!(*stub.unknown.lock().unwrap(), Vec::<Vec<String>>::new());
    let theirs = parse::page(&String::from_utf8(capture(name, "prom")).unwrap()).unwrap();

    let waivers = waivers(name);
    let keep = |samples: BTreeMap<String, f64>| -> BTreeMap<String, String> {
        let kept = samples.into_iter().filter(|(sample, _)| !waived(&waivers, sample));
        kept.map(|(sample, value)| (sample, value.to_string())).collect()
    };
    let (ours_kept, theirs_kept) = (keep(samples(&ours)), keep(samples(&theirs)));
    let mut differences = Vec::new();
    for sample in ours_kept.keys().chain(theirs_kept.keys()).collect::<BTreeSet<_>>() {
        let (our, their) = (ours_kept.get(sample), theirs_kept.get(sample));
        if our != their {
            differences.push(format!("{sample}: ours {our:?}, theirs {their:?}"));
        }
    }
    assert!(differences.is_empty(), "{name}:\n{}", differences.join("\n"));

    for family in &ours.families {
        let kind = theirs.family(&family.name).map(|family| family.kind);
        assert!(
            kind.is_none() || kind == Some(family.kind),
            "{}: {:?}, theirs {kind:?}",
            family.name,
            family.kind
        );
    }
}

#[test]
fn every_waiver_is_used() {
    let theirs: BTreeMap<&str, BTreeMap<String, f64>> = CAPTURES
        .iter()
        .map(|name| {
            let page = String::from_utf8(capture(name, "prom")).unwrap();
            (*name, samples(&parse::page(&page).unwrap()))
        })
        .collect();
    for name in CAPTURES {
        for waiver in waivers(name) {
            assert!(theirs[name].keys().any(|sample| sample.starts_with(waiver)), "{name}: {waiver}");
        }
    }
}

#[rstest]
#[tokio::test]
async fn info_fields_have_the_values_of_the_text(
    #[values("cluster", "redis62", "redis8", "replica", "sentinel", "standalone", "valkey")] name: &str,
) {
    let stub = Stub::start(script(name)).await;
    let page = scrape(&scraper(&stub.address, Options { include_system: true, ..Options::default() })).await;
    let text = String::from_utf8(capture(name, "info")).unwrap();
    let mut compared = 0;
    for line in text.lines() {
        let Some((key, sent)) = line.trim().split_once(':') else { continue };
        let Some(row) = FIELDS.iter().find(|row| row.field == key) else { continue };
        let expected = value(sent).map(|value| value / row.divisor);
        assert_eq!(page.value(&format!("redis_{}", row.family), &[]), expected, "{key}:{sent}");
        compared += 1;
    }
    assert!(compared > 40, "{compared} fields");
}

/// One row of the table of the peer's families.
struct Row {
    kind: Kind,
    cumulative: bool,
    /// Label names, and those that only some servers cause.
    labels: BTreeSet<String>,
    optional: BTreeSet<String>,
}

fn table() -> BTreeMap<&'static str, Row> {
    let rows = include_str!("../data/metrics-1.86.tsv")
        .lines()
        .skip(1)
        .map(|row| row.split('\t').collect::<Vec<_>>());
    rows.filter(|row| row[1] != "mixed")
        .map(|row| {
            let kind = match row[1] {
                "counter" => Kind::Counter,
                "gauge" => Kind::Gauge,
                "histogram" => Kind::Histogram,
                "summary" => Kind::Summary,
                other => panic!("{}: type {other}", row[0]),
            };
            let (always, maybe) = row[2].split_once('[').unwrap_or((row[2], ""));
            let names = |text: &str| -> BTreeSet<String> {
                let clean = text.replace(['[', ']'], "");
                clean.split(',').filter(|name| !name.is_empty() && *name != "-").map(str::to_owned).collect()
            };
            let cumulative = row[5].contains("cumulative but");
            (row[0], Row { kind, cumulative, labels: names(always), optional: names(maybe) })
        })
        .collect()
}

/// Families that are ours alone, beside those of fields that 1.86 does not map.
const OURS: &[&str] = &[
    "redis_exporter_collector_duration_seconds",
    "redis_exporter_collector_outcome",
    "redis_exporter_connections_opened_total",
    "redis_commandlog_entries_lost_total",
    "redis_db_key_sizes",
    "redis_slowlog_entries_lost_total",
];

#[rstest]
#[tokio::test]
async fn the_default_page_has_the_peers_families_types_and_labels(
    #[values("cluster", "redis62", "redis8", "replica", "sentinel", "standalone", "valkey")] name: &str,
) {
    let stub = Stub::start(script(name)).await;
    let page = scrape(&scraper(&stub.address, Options::default())).await;
    let table = table();
    let ours = |name: &str| {
        let of_field = |row: &&Field| name.strip_prefix("redis_") == Some(row.family);
        OURS.contains(&name) || FIELDS.iter().find(of_field).is_some_and(|row| row.after_1_86)
    };
    for family in page.families.iter().filter(|family| !ours(&family.name)) {
        let row =
            table.get(family.name.as_str()).unwrap_or_else(|| panic!("{} is not the peer's", family.name));
        let kind = if row.cumulative { Kind::Counter } else { row.kind };
        assert_eq!(family.kind, Some(kind), "{}", family.name);
        for sample in &family.samples {
            let labels: BTreeSet<String> = sample.labels.iter().map(|(name, _)| name.clone()).collect();
            let labels: BTreeSet<String> = labels
                .into_iter()
                .filter(|label| label != "le" && label != "quantile" && !row.optional.contains(label))
                .collect();
            assert_eq!(labels, row.labels, "{}", sample.name);
        }
    }
    // What 1.86 has and the corrected shape replaces.
    let replaced = ["redis_db_keys_cached", "redis_db_keys", "redis_db_keys_expiring"];
    let theirs = parse::page(&String::from_utf8(capture(name, "prom")).unwrap()).unwrap();
    for family in &theirs.families {
        let of_process = family.name.starts_with("process_") || family.name == "redis_exporter_build_info";
        let gone = replaced.contains(&family.name.as_str())
            && (name == "sentinel" || family.name.ends_with("_cached"));
        assert!(of_process || gone || page.family(&family.name).is_some(), "{} is missing", family.name);
    }
}

#[rstest]
#[tokio::test]
async fn the_second_scrape_is_one_batch_and_says_the_same(
    #[values("cluster", "redis62", "redis8", "replica", "sentinel", "standalone", "valkey")] name: &str,
) {
    let stub = Stub::start(script(name)).await;
    let scraper = scraper(&stub.address, compatible());
    let first = scrape(&scraper).await;
    stub.batches.lock().unwrap().clear();
    let second = scrape(&scraper).await;
    let batches = stub.batches.lock().unwrap().clone();
    assert_eq!(batches.len(), 1, "{batches:?}");
    let commands = stub.commands();
    let distinct: BTreeSet<_> = commands.iter().collect();
    assert_eq!(distinct.len(), commands.len(), "a command was sent twice: {commands:?}");
    let of_server = |page| {
        let mut samples = samples(page);
        samples.retain(|sample, _| !sample.starts_with("redis_exporter_"));
        samples
    };
    assert_eq!(of_server(&first), of_server(&second));
}
