//! `--extend.query-path`: every key and usage of postgres_exporter's file does what it says.

use std::path::Path;

use testkit::http::Request;
use testkit::postgres::{Postgres, Version};

use crate::exporter;

const FILE: &str = r#"
app:
  query: |
    SELECT 'a'::name AS who, inet '10.0.0.1' AS peer, 5::numeric AS count, true AS flag, 7.5 AS unlisted,
           'up'::text AS state, interval '1 minute' AS took, '250ms'::text AS waited,
           timestamptz '2024-01-01 00:00:00.5+00' AS since, 'ignored' AS odd, NULL::bigint AS nothing;
  metrics:
    - who: {usage: LABEL, description: Who.}
    - peer: {usage: LABEL}
    - count: {usage: COUNTER, description: How many.}
    - flag: {usage: GAUGE}
    - state: {usage: MAPPEDMETRIC, metric_mapping: {down: 0, up: 1}}
    - took: {usage: DURATION}
    - waited: {usage: DURATION}
    - since: {usage: GAUGE}
    - odd: {usage: DISCARD}
    - nothing: {usage: GAUGE}
latency:
  query: |
    SELECT ARRAY[0.1, 1]::float8[] AS seconds, ARRAY[2, 3]::int[] AS seconds_bucket,
           1.5::float8 AS seconds_sum, 4::int AS seconds_count
  metrics:
    - seconds: {usage: HISTOGRAM, description: Latency.}
kept:
  query: SELECT nextval('counted') AS value
  cache_seconds: 3600
  metrics: [{value: {usage: GAUGE}}]
old:
  query: SELECT no_such_column
  runonserver: "<13"
new:
  query: SELECT 1 AS value
  runonserver: ">=13"
  metrics: [{value: {usage: GAUGE}}]
broken:
  query: SELECT no_such_column
everywhere:
  query: SELECT current_database() AS datname, 1 AS value
  metrics: [{datname: {usage: LABEL}}, {value: {usage: GAUGE}}]
here:
  query: SELECT current_database() AS datname, 1 AS value
  master: true
  metrics: [{datname: {usage: LABEL}}, {value: {usage: GAUGE}}]
pg_stat_database_conflicts:
  query: SELECT 42 AS mine
  metrics: [{mine: {usage: GAUGE}}]
"#;

fn write(folder: &Path, text: &str) -> anyhow::Result<String> {
    let path = folder.join("queries.yaml");
    std::fs::write(&path, text)?;
    Ok(format!("--extend.query-path={}", path.display()))
}

#[tokio::test]
async fn every_usage_and_key_works() -> anyhow::Result<()> {
    let server = Postgres::builder().version(Version::Major(15)).start().await?;
    server.sql("CREATE SEQUENCE counted; GRANT USAGE ON SEQUENCE counted TO PUBLIC").await?;
    let folder = tempfile::tempdir()?;
    // A sequence cannot advance in a READ ONLY transaction: what is cached must not need it.
    let text = FILE.replace("nextval('counted')", "extract(epoch FROM clock_timestamp())");
    let flag = write(folder.path(), &text)?;
    let exporter = exporter(&server.dsn(), &[&flag]).await?;
    let page = exporter.scrape(20.0).await?;
    let labels = [("who", "a"), ("peer", "10.0.0.1"), ("server", &*server.addr().to_string())];
    for (name, value) in [
        ("app_count", 5.0),
        ("app_flag", 1.0),
        ("app_unlisted", 7.5),
        ("app_state", 1.0),
        ("app_took_milliseconds", 60_000.0),
        ("app_waited_milliseconds", 250.0),
        ("app_since", 1_704_067_200.5),
    ] {
        assert_eq!(page.value(name, &labels), Some(value), "{name}");
    }
    assert!(page.value("app_nothing", &labels).is_some_and(f64::is_nan));
    assert!(page.family("app_odd").is_none());
    let kind = |name| page.family(name).and_then(|family| family.kind);
    assert_eq!(kind("app_count"), Some(exposition::Kind::Counter));
    assert_eq!(kind("latency_seconds"), Some(exposition::Kind::Histogram));
    for (bound, count) in [("0.1", 2.0), ("1", 3.0), ("+Inf", 4.0)] {
        assert_eq!(page.value("latency_seconds_bucket", &[("le", bound)]), Some(count), "{bound}");
    }
    assert_eq!(page.value("latency_seconds_sum", &[]), Some(1.5));
    assert_eq!(page.value("new_value", &[]), Some(1.0));
    for (query, outcome) in
        [("query.old", "unsupported_version"), ("query.broken", "error"), ("query.app", "ok")]
    {
        let labels = [("collector", query), ("outcome", outcome)];
        assert_eq!(page.value("pg_exporter_collector_outcome", &labels), Some(1.0), "{query}");
    }
    // A namespace takes the place of a default metric of its name.
    assert_eq!(page.value("pg_stat_database_conflicts_mine", &[]), Some(42.0));
    assert!(page.family("pg_stat_database_conflicts_confl_lock").is_none());
    let again = exporter.scrape(20.0).await?;
    assert_eq!(again.value("kept_value", &[]), page.value("kept_value", &[]), "cache_seconds");
    assert_eq!(again.value("app_count", &labels), Some(5.0));
    assert_eq!(page.value("pg_exporter_user_queries_load_error", &[]), Some(0.0));
    Ok(())
}

#[tokio::test]
async fn a_query_cannot_write_and_costs_only_itself() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    server.sql("CREATE SEQUENCE counted; GRANT ALL ON SEQUENCE counted TO PUBLIC").await?;
    let folder = tempfile::tempdir()?;
    let text = "writes: {query: \"SELECT nextval('counted')\"}\n\
                slow: {query: SELECT pg_sleep(3600)}\n";
    let flag = write(folder.path(), text)?;
    let exporter = exporter(&server.dsn(), &[&flag]).await?;
    let page = exporter.scrape(5.0).await?;
    let ended = |name: &str, outcome| {
        page.value("pg_exporter_collector_outcome", &[("collector", name), ("outcome", outcome)]) == Some(1.0)
    };
    assert!(ended("query.writes", "error") && ended("query.slow", "timeout"));
    assert!(ended("stat_database", "ok") && page.value("pg_up", &[]) == Some(1.0));
    assert_eq!(server.psql("SELECT is_called FROM counted").await?.as_deref(), Some("f"));
    Ok(())
}

#[tokio::test]
async fn discovered_databases_have_the_queries_that_are_not_the_masters() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    for name in ["one", "two", "skipped"] {
        server.sql(&format!("CREATE DATABASE {name}")).await?;
    }
    let folder = tempfile::tempdir()?;
    let flag = write(folder.path(), FILE)?;
    let flags = [&*flag, "--auto-discover-databases", "--exclude-databases=skipped"];
    let exporter = exporter(&server.dsn(), &flags).await?;
    let page = exporter.scrape(20.0).await?;
    let databases = |name| {
        let mut found: Vec<_> = page.samples(name).filter_map(|sample| sample.label("datname")).collect();
        found.sort_unstable();
        found
    };
    assert_eq!(databases("everywhere_value"), ["one", "postgres", "two"]);
    assert_eq!(databases("here_value"), ["postgres"]);
    let error = |namespace| {
        page.value("pg_exporter_user_query_error", &[("datname", "one"), ("namespace", namespace)])
    };
    assert_eq!((error("broken"), error("everywhere"), error("old")), (Some(1.0), Some(0.0), Some(0.0)));
    // Nothing is kept there.
    server.sql("DROP DATABASE one").await?;
    Ok(())
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_on_the_page_and_the_old_stays() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let folder = tempfile::tempdir()?;
    let flag = write(folder.path(), "a: {query: SELECT 1; SELECT 2}")?;
    let exporter = exporter(&server.dsn(), &[&flag]).await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!(page.value("pg_exporter_user_queries_load_error", &[]), Some(1.0));
    assert_eq!(page.value("pg_up", &[]), Some(1.0));
    let reload = || exporter.send(Request::new(http::Method::POST, exporter.url("/-/reload")));
    write(folder.path(), "a: {query: SELECT 1 AS x}")?;
    assert_eq!(reload().await?.status, 200);
    write(folder.path(), "a: [")?;
    assert_eq!(reload().await?.status, 500);
    let page = exporter.scrape(10.0).await?;
    assert_eq!(page.value("a_x", &[]), Some(1.0));
    assert_eq!(page.value("pg_exporter_user_queries_load_error", &[]), Some(1.0));
    Ok(())
}
