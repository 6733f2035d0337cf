//! The form of the file, mistakes in it, and that no text makes reading it panic.

use proptest::prelude::*;

use super::*;
use crate::queries::versions::version;

#[test]
fn the_peers_form() {
    let text = r#"
pg_replication:
  query: "SELECT 1 AS lag, state, took FROM x;"
  master: true
  cache_seconds: 30
  runonserver: ">=10.0.0"
  metrics:
    - lag: {usage: "GAUGE", description: "Lag."}
    - state:
        usage: "MAPPEDMETRIC"
        metric_mapping: {up: 1, down: 0}
        pg_version: "<15"
    - took: {usage: DURATION}
    - odd: {usage: "gauge"}
app: {query: "SELECT 1", metrics: [], timeout: 5}
"#;
    let Queries { namespaces, warnings } = Queries::parse(text, "queries.yaml").unwrap();
    let [app, replication] = namespaces.as_slice() else { panic!("{namespaces:?}") };
    assert_eq!((app.name.as_str(), app.master, app.cache_seconds, &app.servers), ("app", false, 0, &None));
    assert_eq!(replication.sql, "SELECT 1 AS lag, state, took FROM x");
    assert!(replication.master && replication.cache_seconds == 30);
    assert!(!replication.servers.as_ref().unwrap().contains(version(90_624)));
    let usages: Vec<&Usage> = replication.columns.iter().map(|column| &column.usage).collect();
    let mapping = [("up".to_owned(), 1.0), ("down".to_owned(), 0.0)].into();
    assert_eq!(usages, [&Usage::Gauge, &Usage::Mapped(mapping), &Usage::Duration, &Usage::Discard]);
    assert!(replication.columns[1].servers.is_some());
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("timeout") && warnings[1].contains("gauge"), "{warnings:?}");
}

#[test]
fn mistakes_are_named() {
    for (text, parts) in [
        ("a: {}", &["query"] as &[_]),
        ("a: {query: 'SELECT 1; DROP TABLE x'}", &["a: query", "more than one statement"]),
        ("a: {query: SELECT 1, runonserver: new}", &["a: runonserver", "range of versions"]),
        ("'a b': {query: SELECT 1}", &["a b", "letters"]),
        ("a: {query: SELECT 1, metrics: [{x: {usage: MAPPEDMETRIC}}]}", &["x", "metric_mapping"]),
        ("a: {query: SELECT 1, metrics: [{'x y': {usage: LABEL}}]}", &["x y", "label"]),
        ("a: {query: SELECT 1, cache_seconds: long}", &["cache_seconds"]),
        ("a: [", &["queries.yaml"]),
    ] {
        let message = Queries::parse(text, "queries.yaml").unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{text}: {message}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = Queries::parse(&text, "queries.yaml");
    }

    #[test]
    fn no_yaml_makes_it_panic(text in "(a|query|metrics|usage|SELECT 1|[-:{}\\[\\]'\", \n]|GAUGE|  ){0,40}") {
        let _ = Queries::parse(&text, "queries.yaml");
    }

    #[test]
    fn what_is_written_is_read(
        names in prop::collection::btree_set("[a-z_]{1,10}", 1..4), cache in 0..1000_u64, master: bool, usage in "(GAUGE|COUNTER|LABEL)"
    ) {
        let text: String = names.iter().map(|name| format!(
            "{name}:\n  query: SELECT 1\n  master: {master}\n  cache_seconds: {cache}\n  metrics:\n  - c: {{usage: {usage}}}\n"
        )).collect();
        let queries = Queries::parse(&text, "queries.yaml").unwrap();
        prop_assert!(queries.namespaces.iter().map(|namespace| &namespace.name).eq(&names));
        prop_assert!(queries.namespaces.iter().all(|n| n.cache_seconds == cache && n.master == master && n.columns.len() == 1));
    }
}
