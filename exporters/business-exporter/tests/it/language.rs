//! What a definition can say: several databases and files, queries for some servers only, every type of family; and
//! that it can be said anew while the exporter runs.

use std::time::{Duration, Instant};

use exposition::Page;
use http::Method;
use nix::sys::signal::Signal;
use rstest::rstest;
use testkit::http::Request;
use testkit::page::{promtool_findings, value};
use testkit::postgres::{EXPORTER, EXPORTER_PASSWORD};

use crate::support::{Definition, eventually, failure, outcome, server};

#[rstest]
#[tokio::test]
async fn several_databases_are_one_page_and_fail_apart(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let (Some(shop), Some(mut stock)) = (server(major).await?, server(major).await?) else { return Ok(()) };
    shop.sql("CREATE TABLE orders (id serial PRIMARY KEY); GRANT SELECT ON orders TO exporter").await?;
    let text = format!(
        "
version: 1
databases:
- {{name: shop, dsn: {{env: DATABASE_URL}}}}
- {{name: stock, dsn: {{command: [printf, '{}']}}}}
families:
- {{name: tables, type: gauge, help: A., labels: [of]}}
- {{name: slow, type: gauge, help: A.}}
- {{name: orders_total, type: counter, help: A.}}
- {{name: parts_total, type: counter, help: A.}}
events:
- {{name: ordered, database: shop, table: public.orders, on: insert, emit: [{{family: orders_total}}]}}
- {{name: stored, database: stock, table: public.parts, on: insert, emit: [{{family: parts_total}}]}}
queries:
- {{name: a, database: shop, sql: SELECT 1 AS v, emit: [{{family: tables, value: v, static_labels: {{of: shop}}}}]}}
- {{name: b, database: stock, sql: SELECT 2 AS v, emit: [{{family: tables, value: v, static_labels: {{of: stock}}}}]}}
- {{name: c, database: stock, refresh: 1h, sql: SELECT 3 AS v, emit: [{{family: slow, value: v}}]}}
",
        stock.dsn()
    );
    let definition = Definition::new(&text)?;
    let (code, message) = failure(&definition.run(&["ddl", "--install"], None)?);
    assert_eq!((code, message.contains("--database")), (Some(1), true), "{message}");
    stock.sql("CREATE TABLE parts (id serial PRIMARY KEY); GRANT SELECT ON parts TO exporter").await?;
    for (name, server) in [("shop", &shop), ("stock", &stock)] {
        let output = definition.run(&["ddl", "--install", "--grants", EXPORTER, "--database", name], None)?;
        server.sql(&String::from_utf8(output.stdout)?).await?;
    }
    let exporter = definition.exporter(&shop.dsn()).await?.with_secret(EXPORTER_PASSWORD);
    exporter.scrape(10.0).await?;
    shop.sql("INSERT INTO orders DEFAULT VALUES").await?;
    stock.sql("INSERT INTO parts SELECT FROM generate_series(1, 3)").await?;
    let page = eventually(&exporter, "refreshed", |page| page.value("slow", &[]) == Some(3.0)).await?;
    for (name, labels, expected) in [
        ("tables", &[("of", "shop")][..], 1.0),
        ("tables", &[("of", "stock")], 2.0),
        ("orders_total", &[], 1.0),
        ("parts_total", &[], 3.0),
        ("business_exporter_up", &[("database", "shop")], 1.0),
        ("business_exporter_up", &[("database", "stock")], 1.0),
        ("business_exporter_query_success", &[("database", "shop"), ("query", "events")], 1.0),
        ("business_exporter_query_success", &[("database", "stock"), ("query", "events")], 1.0),
        ("business_exporter_event_errors_total", &[("database", "stock"), ("event", "stored")], 0.0),
        ("business_exporter_duplicate_samples_dropped_total", &[], 0.0),
    ] {
        assert_eq!(value(&page, name, labels)?, expected, "{name} {labels:?}");
    }
    let filtered = exporter.get("/metrics?collect[]=b").await?.text;
    assert!(filtered.contains("tables{of=\"stock\"} 2\n") && !filtered.contains("of=\"shop\""), "{filtered}");
    stock.stop()?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!(page.value("tables", &[("of", "shop")]), Some(1.0));
    assert_eq!((page.value("tables", &[("of", "stock")]), page.value("parts_total", &[])), (None, Some(3.0)));
    let up = |name| value(&page, "business_exporter_up", &[("database", name)]);
    assert_eq!((up("shop")?, up("stock")?), (1.0, 0.0));
    Ok(())
}

const COUNTED: &str = "
version: 1
counters: {fold_interval: 0s}
families:
- {name: made_total, type: counter, help: A.}
- {name: one, type: gauge, help: A.}
events: [{name: made, table: public.items, on: insert, emit: [{family: made_total}]}]
queries: [{name: one, refresh: 1h, sql: SELECT 1 AS v, emit: [{family: one, value: v}]}]
";

#[rstest]
#[tokio::test]
async fn a_definition_is_read_again_and_a_bad_one_changes_nothing(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    server.sql("CREATE TABLE items (id serial PRIMARY KEY)").await?;
    let definition = Definition::new(COUNTED)?;
    definition.install(&server).await?;
    let mut exporter = definition.exporter(&server.dsn()).await?;
    server.sql("INSERT INTO items SELECT FROM generate_series(1, 9)").await?;
    let page = eventually(&exporter, "refreshed", |page| page.value("one", &[]) == Some(1.0)).await?;
    assert_eq!(page.value("made_total", &[]), Some(9.0));
    let hash = |page: &Page| {
        let mut samples = page.samples("business_exporter_config_info");
        samples.next().and_then(|sample| sample.label("hash").map(str::to_owned))
    };
    let first = hash(&page);
    // The last commits are lost: held, and so it stays over a reload.
    server.sql("UPDATE business_exporter.total SET n = n - 4, s = s - 4").await?;
    let reload = |method: Method| {
        let url = exporter.url("/-/reload");
        async move { Request::new(method, url).send().await }
    };
    definition.write("metrics.yml", &COUNTED.replace("value: v", "valve: v"))?;
    let reply = reload(Method::POST).await?;
    assert_eq!(reply.status, 500);
    assert!(reply.text.contains("metrics.yml:8:") && reply.text.contains("valve"), "{}", reply.text);
    let page = exporter.scrape(10.0).await?;
    assert_eq!((page.value("made_total", &[]), page.value("one", &[])), (Some(9.0), Some(1.0)));
    assert_eq!(value(&page, "business_exporter_config_last_reload_successful", &[])?, 0.0);
    assert_eq!(hash(&page), first);

    let two = COUNTED.replace("SELECT 1 AS v", "SELECT 2 AS v");
    definition.write("metrics.yml", &two)?;
    assert_eq!(reload(Method::POST).await?.status, 200);
    let page = eventually(&exporter, "reloaded", |page| page.value("one", &[]) == Some(2.0)).await?;
    assert_eq!(page.value("made_total", &[]), Some(9.0));
    assert_eq!(value(&page, "business_exporter_held", &[("family", "made_total")])?, 4.0);
    assert_eq!(value(&page, "business_exporter_config_last_reload_successful", &[])?, 1.0);
    assert_ne!(hash(&page), first);
    assert_eq!(reload(Method::GET).await?.status, 405);

    definition.write("metrics.yml", &COUNTED.replace("SELECT 1 AS v", "SELECT 3 AS v"))?;
    exporter.process.signal(Signal::SIGHUP)?;
    let page = eventually(&exporter, "reloaded", |page| page.value("one", &[]) == Some(3.0)).await?;
    assert_eq!(page.value("made_total", &[]), Some(9.0));
    // What ran in the background before does no more: one connection for scrapes, one beside them.
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'business-exporter'";
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.psql(connections).await?.as_deref() != Some("2") {
        anyhow::ensure!(Instant::now() < deadline, "connections are left over");
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[rstest]
#[tokio::test]
async fn files_include_others(#[values(13, 14, 15, 16, 17, 18)] major: u32) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    let definition = Definition::new("version: 1\ninclude: [conf.d/*.yml, more/last.yml]\n")?;
    let part = |name: &str| {
        format!(
            "families: [{{name: {name}, type: gauge, help: A.}}]\n\
             queries: [{{name: {name}, sql_file: {name}.sql, emit: [{{family: {name}, value: v}}]}}]\n"
        )
    };
    for (folder, name) in [("conf.d", "a"), ("conf.d", "b"), ("more", "last")] {
        definition.write(&format!("{folder}/{name}.yml"), &part(name))?;
        definition.write(&format!("{folder}/{name}.sql"), "SELECT 1 AS v")?;
    }
    definition.write("conf.d/notes.txt", "no YAML: [")?;
    let page = String::from_utf8(definition.run(&["once"], Some(&server.dsn()))?.stdout)?;
    for name in ["a", "b", "last"] {
        assert!(page.contains(&format!("\n{name} 1\n")), "{page}");
    }
    for (file, text, words) in [
        (
            "conf.d/b.yml",
            part("a"),
            &["conf.d/b.yml:2:", "query \"a\" stands twice, also in", "conf.d/a.yml"][..],
        ),
        (
            "conf.d/b.yml",
            part("a").replace("queries: [{name: a", "queries: [{name: b"),
            &["conf.d/b.yml:1:", "family a stands twice"],
        ),
        ("conf.d/b.yml", "version: 1".to_owned(), &["conf.d/b.yml:1:1", "version", "families"]),
        ("more/last.yml", part("last").replace("value: v", "valeu: v"), &["more/last.yml:2:", "valeu"]),
    ] {
        let before = std::fs::read_to_string(definition.0.path().join(file))?;
        definition.write(file, &text)?;
        let (code, message) = failure(&definition.run(&["check"], None)?);
        assert_eq!(code, Some(64), "{message}");
        for word in words {
            assert!(message.contains(word), "{word} is not in {message}");
        }
        definition.write(file, &before)?;
    }
    Ok(())
}

#[rstest]
#[tokio::test]
async fn queries_run_where_they_make_sense(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(primary) = server(major).await? else { return Ok(()) };
    let standby = primary.standby().await?;
    let cases = [
        ("old", "{max_version: 13}"),
        ("new", "{min_version: 18}"),
        ("between", "{min_version: 13, max_version: 18}"),
        ("primary", "{role: primary}"),
        ("standby", "{role: standby}"),
        ("installed", "{extension: plpgsql}"),
        ("missing", "{extension: nonesuch}"),
        ("there", "{relation: pg_catalog.pg_class}"),
        ("absent", "{relation: public.nonesuch}"),
        ("all", "{min_version: 13, role: primary, extension: plpgsql, relation: pg_catalog.pg_class}"),
    ];
    let mut text = "version: 1\nfamilies:\n".to_owned();
    for (name, _) in cases {
        text += &format!("- {{name: {name}, type: gauge, help: A.}}\n");
    }
    text += "queries:\n";
    for (name, requires) in cases {
        text += &format!(
            "- {{name: {name}, requires: {requires}, sql: SELECT 1 AS v, emit: [{{family: {name}, value: v}}]}}\n"
        );
    }
    let definition = Definition::new(&text)?;
    for (server, is_primary) in [(&primary, true), (&standby, false)] {
        let page = definition.exporter(&server.dsn()).await?.scrape(10.0).await?;
        for (name, runs, says) in [
            ("old", major == 13, if major == 13 { "ok" } else { "unsupported_version" }),
            ("new", major == 18, if major == 18 { "ok" } else { "unsupported_version" }),
            ("between", true, "ok"),
            ("primary", is_primary, "ok"),
            ("standby", !is_primary, "ok"),
            ("installed", true, "ok"),
            ("missing", false, "missing_extension"),
            ("there", true, "ok"),
            ("absent", false, "ok"),
            ("all", is_primary, "ok"),
        ] {
            assert_eq!(page.value(name, &[]), runs.then_some(1.0), "{name} on a primary: {is_primary}");
            assert_eq!(outcome(&page, name), Some(says), "{name}");
            assert_eq!(value(&page, "business_exporter_query_success", &[("query", name)])?, 1.0, "{name}");
        }
    }
    Ok(())
}

const TYPES: &str = "
version: 1
families:
- {name: wait_seconds, type: histogram, help: A., unit: seconds, buckets: [0.5, 1, 10], labels: {queue: {values: [a, b, c]}}, init: zero}
- {name: bare, type: histogram, help: A., buckets: [1]}
- {name: open_price_usd, type: gaugehistogram, help: A., buckets: [10]}
- {name: release_info, type: info, help: A., labels: [version, codename]}
- {name: mood, type: stateset, help: A., states: [good, bad], labels: [who]}
- {name: wrong, type: histogram, help: A., buckets: [1]}
queries:
- name: waits
  sql: SELECT * FROM (VALUES ('a', 0.5, 2, 0.7), ('a', 10, 1, 4.0), ('a', NULL, 1, 20), ('b', 1, 5, 4.5)) AS t (queue, le, n, total)
  emit: [{family: wait_seconds, le: le, count: n, sum: total, labels: [queue]}]
- {name: bare, sql: 'SELECT 1 AS le, 3 AS n', emit: [{family: bare, le: le, count: n}]}
- {name: prices, sql: 'SELECT 10 AS le, 2 AS n, -5 AS total UNION ALL SELECT NULL, 1, 30', emit: [{family: open_price_usd, le: le, count: n, sum: total}]}
- {name: release, sql: \"SELECT '1.2' AS version, 'ada' AS codename\", emit: [{family: release_info, labels: [version, codename]}]}
- name: moods
  sql: SELECT * FROM (VALUES ('ada', 'good'), ('bob', 'bad'), ('cyd', 'odd')) AS t (who, mood)
  emit: [{family: mood, state: mood, labels: [who]}]
- {name: wrong, sql: 'SELECT 7 AS le, 3 AS n', emit: [{family: wrong, le: le, count: n}]}
";

#[rstest]
#[tokio::test]
async fn every_type_of_family_can_be_filled(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    let exporter = Definition::new(TYPES)?.exporter(&server.dsn()).await?;
    let page = exporter.scrape(10.0).await?;
    for (name, labels, expected) in [
        ("wait_seconds_bucket", &[("queue", "a"), ("le", "0.5")][..], 2.0),
        ("wait_seconds_bucket", &[("queue", "a"), ("le", "1")], 2.0),
        ("wait_seconds_bucket", &[("queue", "a"), ("le", "10")], 3.0),
        ("wait_seconds_bucket", &[("queue", "a"), ("le", "+Inf")], 4.0),
        ("wait_seconds_count", &[("queue", "a")], 4.0),
        ("wait_seconds_sum", &[("queue", "a")], 24.7),
        ("wait_seconds_bucket", &[("queue", "b"), ("le", "0.5")], 0.0),
        ("wait_seconds_sum", &[("queue", "b")], 4.5),
        ("wait_seconds_count", &[("queue", "c")], 0.0),
        ("bare_count", &[], 3.0),
        ("open_price_usd_bucket", &[("le", "10")], 2.0),
        ("open_price_usd_bucket", &[("le", "+Inf")], 3.0),
        ("open_price_usd_gcount", &[], 3.0),
        ("open_price_usd_gsum", &[], 25.0),
        ("release_info", &[("version", "1.2"), ("codename", "ada")], 1.0),
        ("mood", &[("who", "ada"), ("mood", "good")], 1.0),
        ("mood", &[("who", "ada"), ("mood", "bad")], 0.0),
        ("mood", &[("who", "bob"), ("mood", "bad")], 1.0),
        ("business_exporter_label_rejected_total", &[("family", "mood")], 1.0),
    ] {
        assert_eq!(value(&page, name, labels)?, expected, "{name} {labels:?}");
    }
    assert_eq!(page.samples("mood").count(), 4);
    assert!(page.family("bare_sum").is_none() && page.samples("bare_sum").count() == 0);
    assert_eq!(outcome(&page, "wrong"), Some("error"));
    assert!(
        exporter.process.log().contains("7 is not among its buckets [1.0]"),
        "{}",
        exporter.process.log()
    );
    assert_eq!(promtool_findings(&exporter.get("/metrics").await?.text).await?, Vec::<String>::new());
    let request = Request::new(Method::GET, exporter.url("/metrics"))
        .header("accept", "application/openmetrics-text; version=1.0.0");
    let text = exporter.send(request).await?.text;
    exposition::parse::openmetrics(&text)?;
    for line in [
        "# TYPE release info\n",
        "# TYPE mood stateset\n",
        "mood{who=\"ada\",mood=\"good\"} 1\n",
        "# TYPE open_price_usd gaugehistogram\n",
        "open_price_usd_gsum 25\n",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    Ok(())
}

/// The whole connection string is in a file that is rotated, and that is seen when the server refuses the old one.
#[rstest]
#[tokio::test]
async fn a_rotated_connection_string_needs_no_restart(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    let text = "
version: 1
database: {dsn: {file: FOLDER/dsn}}
families: [{name: one, type: gauge, help: A.}, {name: two, type: gauge, help: A.}]
queries:
- {name: one, sql: SELECT 1 AS v, emit: [{family: one, value: v}]}
- {name: two, refresh: 50ms, sql: SELECT 2 AS v, emit: [{family: two, value: v}]}
";
    let definition = Definition::new("")?;
    let folder = definition.0.path().display().to_string();
    definition.write("metrics.yml", &text.replace("FOLDER", &folder))?;
    definition.write("dsn", &server.dsn())?;
    let exporter = definition.exporter("").await?.with_secret("r0tated-w0rd");
    eventually(&exporter, "refreshed", |page| page.value("two", &[]) == Some(2.0)).await?;
    server
        .sql(&format!(
            "ALTER ROLE {EXPORTER} PASSWORD 'r0tated-w0rd';
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{EXPORTER}'"
        ))
        .await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!(value(&page, "business_exporter_up", &[])?, 0.0);
    definition.write("dsn", &server.dsn().replace(EXPORTER_PASSWORD, "r0tated-w0rd"))?;
    assert_eq!(exporter.scrape(10.0).await?.value("one", &[]), Some(1.0));
    eventually(&exporter, "refreshed again", |page| outcome(page, "two") == Some("ok")).await?;
    Ok(())
}
