//! Keys of a definition that change what a page has on it: conditions, costs, schedules, labels; and the definition that
//! the exporter says it works by.

use exposition::Page;
use rstest::rstest;
use serde_json::Value;
use testkit::page::value;

use crate::support::{Definition, assert_page, eventually, failure, outcome, server};

const WHEN: &str = "
version: 1
families:
- {name: open, type: gauge, help: A., labels: [kind]}
- {name: large, type: gauge, help: A., labels: [kind]}
- {name: sizes, type: gaugehistogram, help: A., buckets: [1]}
queries:
- name: goods
  sql: SELECT * FROM (VALUES ('nut', 1, true), ('bolt', 20, false), ('nail', 30, NULL)) AS t (kind, n, is_open)
  emit:
  - {family: open, when: is_open, value: n, labels: [kind]}
  - {family: large, when: \"n > 10 AND kind <> 'nail' -- a comment\", value: n, labels: [kind]}
- {name: sizes, sql: 'SELECT 1 AS le, 5 AS n UNION ALL SELECT 2, 7', emit: [{family: sizes, when: le < 2, le: le, count: n}]}
";

#[rstest]
#[tokio::test]
async fn a_family_takes_the_rows_for_which_its_condition_holds(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    let page = Definition::new(WHEN)?.exporter(&server.dsn()).await?.scrape(10.0).await?;
    assert_page(
        &page,
        &[
            ("open", &[("kind", "nut")], 1.0),
            ("large", &[("kind", "bolt")], 20.0),
            ("sizes_gcount", &[], 5.0),
            ("business_exporter_query_rows", &[("query", "goods")], 3.0),
        ],
    )?;
    assert_eq!((page.samples("open").count(), page.samples("large").count()), (1, 1));

    for (condition, words) in
        [("is_open) OR (true", "parenthes"), ("is_open; DELETE FROM t", "more than one")]
    {
        let wrong = Definition::new(&WHEN.replace("when: is_open", &format!("when: \"{condition}\"")))?;
        let (code, message) = failure(&wrong.run(&["check"], None)?);
        assert!(code == Some(64) && message.contains(words), "{condition}: {message}");
    }
    let wrong = Definition::new(&WHEN.replace("when: is_open", "when: is_closed"))?;
    let page = wrong.exporter(&server.dsn()).await?.scrape(10.0).await?;
    assert_eq!((outcome(&page, "goods"), outcome(&page, "sizes")), (Some("error"), Some("ok")));
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_query_that_would_cost_too_much_is_not_run(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    server
        .sql(
            "CREATE TABLE t AS SELECT i FROM generate_series(1, 100000) AS i; ANALYZE t; GRANT SELECT ON t TO exporter",
        )
        .await?;
    let text = "
version: 1
defaults: {max_cost: 100}
families: [{name: NAMES, type: gauge, help: A.}]
queries:
- {name: cheap, sql: SELECT 1 AS v, emit: [{family: cheap, value: v}]}
- {name: costly, sql: SELECT count(*) AS v FROM public.t, emit: [{family: costly, value: v}]}
- {name: allowed, max_cost: 1e9, sql: SELECT count(*) AS v FROM public.t, emit: [{family: allowed, value: v}]}
- {name: later, refresh: 1h, sql: SELECT count(*) AS v FROM public.t, emit: [{family: later, value: v}]}
";
    let families = ["cheap", "costly", "allowed", "later"]
        .map(|name| format!("{{name: {name}, type: gauge, help: A.}}"));
    let text = text.replace("{name: NAMES, type: gauge, help: A.}", &families.join(", "));
    let exporter = Definition::new(&text)?.exporter(&server.dsn()).await?;
    for _ in 0..2 {
        let page =
            eventually(&exporter, "refused", |page| outcome(page, "later") == Some("too_costly")).await?;
        assert_eq!((outcome(&page, "costly"), outcome(&page, "allowed")), (Some("too_costly"), Some("ok")));
        assert_page(
            &page,
            &[
                ("cheap", &[], 1.0),
                ("allowed", &[], 100_000.0),
                ("business_exporter_query_success", &[("query", "costly")], 0.0),
                ("business_exporter_up", &[], 1.0),
            ],
        )?;
        assert!(page.family("costly").is_none() && page.family("later").is_none());
    }
    let log = exporter.process.log();
    assert!(log.contains("more than max_cost = 100"), "{log}");
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_query_runs_by_its_schedule_and_when_the_exporter_starts(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    let text = "
version: 1
families: [{name: often, type: gauge, help: A.}, {name: seldom, type: gauge, help: A.}]
queries:
- {name: often, cron: '* * * * * *', sql: SELECT extract(epoch FROM clock_timestamp()) AS v, emit: [{family: often, value: v}]}
- {name: seldom, cron: '0 0 29 2 *', sql: SELECT extract(epoch FROM clock_timestamp()) AS v, emit: [{family: seldom, value: v}]}
";
    let exporter = Definition::new(text)?.exporter(&server.dsn()).await?;
    let at = |page: &Page, name: &str| page.value(name, &[]);
    let is_there = |page: &Page| at(page, "often").is_some() && at(page, "seldom").is_some();
    let first = eventually(&exporter, "run at the start", is_there).await?;
    let again = eventually(&exporter, "run again", |page| at(page, "often") > at(&first, "often")).await?;
    assert_eq!(at(&again, "seldom"), at(&first, "seldom"));
    // Each second, and not at once again.
    let count =
        |page: &Page| value(page, "business_exporter_query_duration_seconds_count", &[("query", "often")]);
    let seconds = at(&again, "often").unwrap_or_default() - at(&first, "often").unwrap_or_default();
    assert!(count(&again)? - count(&first)? <= seconds.ceil() + 1.0, "{again:?}");

    for (cron, words) in
        [("'61 * * * *'", "61"), ("'0 0 30 2 *'", "never"), ("'0 3 * * *', refresh: 1m", "either")]
    {
        let wrong = Definition::new(&text.replace("'0 0 29 2 *'", cron))?;
        let (code, message) = failure(&wrong.run(&["check"], None)?);
        assert!(
            code == Some(64) && message.contains(words) && message.contains("metrics.yml:6:"),
            "{message}"
        );
    }
    Ok(())
}

const LABELLED: &str = "
version: 1
const_labels: {service: shop, query: mine}
databases:
- {name: main, dsn: {env: DATABASE_URL}, password: {command: [printf, exporter-secret]}}
- {name: other, dsn: 'postgresql://exporter:s3cr3t-w0rd@127.0.0.1:1/none?sslmode=disable', role_check: strict}
families:
- {name: one, type: gauge, help: A., labels: {kind: {values: [a], other: rest}}}
- {name: made_total, type: counter, help: A.}
- {name: size_bytes, type: histogram, help: A., unit: bytes, buckets: [1]}
events:
- {name: made, database: main, table: public.t, on: insert, emit: [{family: made_total, add: n.a}]}
stocks: []
queries:
- {name: one, database: main, sql: SELECT 1 AS v, emit: [{family: one, when: v > 0, value: v, static_labels: {kind: a}}]}
- {name: sizes, database: other, cron: 30 3 * * *, requires: {role: primary}, sql: 'SELECT 1 AS le, 2 AS n', emit: [{family: size_bytes, le: le, count: n}]}
";

#[rstest]
#[tokio::test]
async fn every_sample_has_the_labels_of_all_and_the_definition_is_shown(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    let definition = Definition::new(LABELLED)?;
    let exporter = definition.exporter(&server.dsn()).await?.with_secret("s3cr3t-w0rd");
    let page = exporter.scrape(10.0).await?;
    assert_page(&page, &[("one", &[("service", "shop"), ("query", "mine"), ("kind", "a")], 1.0)])?;
    for sample in page.families.iter().flat_map(|family| &family.samples) {
        assert_eq!(sample.label("service"), Some("shop"), "{sample:?}");
    }
    // What a series says of itself wins.
    assert_eq!(outcome(&page, "one"), Some("ok"));

    let answer = exporter.get("/-/config").await?;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let config: Value = serde_json::from_str(&answer.text)?;
    let is =
        |path: &str, expected: Value| assert_eq!(config.pointer(path), Some(&expected), "{path}: {config:#}");
    is("/databases/0/dsn/env", "DATABASE_URL".into());
    is("/databases/0/password/command", vec!["printf", "***"].into());
    is("/databases/1/dsn", "***".into());
    is("/databases/1/role_check", "strict".into());
    is("/defaults/timeout", "3s".into());
    is("/counters/schema", "business_exporter".into());
    is("/queries/0/max_rows", 500.into());
    is("/queries/1/cron", "30 3 * * *".into());
    // It is a definition, and says the same of itself.
    let usable =
        answer.text.replace("\"dsn\": \"***\"", "\"dsn\": \"host=127.0.0.1 user=u sslmode=disable\"");
    let again = Definition::new(&usable)?;
    let other = again.exporter(&server.dsn()).await?;
    assert_eq!(serde_json::from_str::<Value>(&other.get("/-/config").await?.text)?, config);

    for (label, words) in [("kind", "is a label of one"), ("le", "reserved"), ("a-b", "not a label name")] {
        let wrong = Definition::new(&LABELLED.replace("service: shop", &format!("{label}: shop")))?;
        let (code, message) = failure(&wrong.run(&["check"], None)?);
        assert!(
            code == Some(64) && message.contains(words) && message.contains("metrics.yml:3:"),
            "{message}"
        );
    }
    Ok(())
}

/// Also across a reload, as with any counter.
#[rstest]
#[tokio::test]
async fn durations_of_queries_are_a_histogram(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    let text = "
version: 1
families: [{name: one, type: gauge, help: A.}, {name: slow, type: gauge, help: A.}]
queries:
- {name: one, sql: SELECT 1 AS v, emit: [{family: one, value: v}]}
- {name: slow, sql: 'SELECT 1 AS v FROM pg_sleep(0.3)', emit: [{family: slow, value: v}]}
";
    let definition = Definition::new(text)?;
    let exporter = definition.exporter(&server.dsn()).await?;
    exporter.scrape(10.0).await?;
    definition.write("metrics.yml", &text.replace("help: A.", "help: B."))?;
    let request = testkit::http::Request::new(http::Method::POST, exporter.url("/-/reload"));
    assert_eq!(exporter.send(request).await?.status, 200);
    let page = exporter.scrape(10.0).await?;
    let name = "business_exporter_query_duration_seconds";
    assert_page(
        &page,
        &[
            (&format!("{name}_count"), &[("query", "one")], 2.0),
            (&format!("{name}_bucket"), &[("query", "one"), ("le", "+Inf")], 2.0),
            (&format!("{name}_count"), &[("query", "slow")], 2.0),
            (&format!("{name}_bucket"), &[("query", "slow"), ("le", "0.25")], 0.0),
        ],
    )?;
    let sum = value(&page, &format!("{name}_sum"), &[("query", "slow")])?;
    assert!(sum >= 0.6, "{sum}");
    Ok(())
}
