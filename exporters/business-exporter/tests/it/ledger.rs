//! Counters of events: what is counted, what never harms the application, and what is said when something is wrong.

use std::time::{Duration, Instant};

use exposition::Page;
use rstest::rstest;
use testkit::page::value;
use testkit::postgres::{EXPORTER, EXPORTER_PASSWORD, Postgres, Version, has_sqlstate, in_full};
use tokio_postgres::error::SqlState;

use crate::{Definition, database, eventually, exporter, failure, install, outcome, run, server, shipped};

/// Two tables and every kind of emission.
const SHOP: &str = "
version: 1
counters: {fold_interval: 0s, regress_grace: 2s, hold_max: 1s}
families:
- {name: made_total, type: counter, help: A., labels: {kind: {enum: public.kind}}}
- {name: moved_total, type: counter, help: A., labels: {from: {enum: public.kind}, to: {enum: public.kind}}}
- {name: gone_total, type: counter, help: A., labels: {kind: {values: [a], other: rest}}}
- {name: paid_total, type: counter, help: A.}
- {name: by_name_total, type: counter, help: A., labels: {name: {max: 2}}}
- {name: strict_total, type: counter, help: A., labels: {name: {values: [ada]}}}
- {name: price, type: histogram, help: A., buckets: [1, 2.5, 10]}
- {name: inverse, type: histogram, help: A., buckets: [1]}
events:
- name: made
  table: public.items
  on: insert
  emit:
  - {family: made_total, labels: {kind: n.kind}}
  - {family: price, value: n.price}
  - {family: paid_total, add: n.price, when: n.price IS NOT NULL}
  - {family: by_name_total, labels: {name: n.name}}
  - {family: strict_total, labels: {name: n.name}}
- {name: moved, table: public.items, on: update, when: o.kind <> n.kind, emit: [{family: moved_total, labels: {from: o.kind, to: n.kind}}]}
- {name: gone, table: public.items, on: delete, emit: [{family: gone_total, labels: {kind: o.kind}}]}
- {name: inverted, table: public.items, on: insert, emit: [{family: inverse, value: 1 / (n.price - 7)}]}
";

const TABLES: &str = "
CREATE TYPE kind AS ENUM ('a', 'b');
CREATE TABLE items (id int PRIMARY KEY, kind kind NOT NULL, price numeric, name text);
CREATE ROLE app LOGIN PASSWORD 'app';
GRANT ALL ON items TO app";

/// A server with the tables and the ledger of [`SHOP`].
async fn shop(major: u32) -> anyhow::Result<(Postgres, Definition)> {
    let server = server(major).await?;
    server.sql(TABLES).await?;
    let definition = Definition::new(SHOP)?;
    definition.install(&server).await?;
    Ok((server, definition))
}

/// A sample: name, labels, value.
type Expected<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

/// Each of these samples has its value.
fn assert_page(page: &Page, expected: &[Expected<'_>]) -> anyhow::Result<()> {
    for (name, labels, expected) in expected {
        assert_eq!(value(page, name, labels)?, *expected, "{name} {labels:?}");
    }
    Ok(())
}

#[rstest]
#[tokio::test]
async fn every_way_to_write_is_counted_once(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    if !in_full(major) {
        return Ok(());
    }
    let (server, definition) = shop(major).await?;
    let exporter = definition.exporter(&server.dsn()).await?;
    let page = exporter.scrape(10.0).await?;
    assert_page(
        &page,
        &[
            ("made_total", &[("kind", "a")], 0.0),
            ("moved_total", &[("from", "a"), ("to", "b")], 0.0),
            ("gone_total", &[("kind", "rest")], 0.0),
            ("paid_total", &[], 0.0),
            ("price_bucket", &[("le", "+Inf")], 0.0),
            ("price_sum", &[], 0.0),
            ("business_exporter_counter_mode", &[("family", "made_total"), ("mode", "ledger")], 1.0),
            ("business_exporter_exact", &[("family", "made_total")], 1.0),
            ("business_exporter_ledger_intact", &[("event", "moved")], 1.0),
            ("business_exporter_ledger_fold_success", &[], 1.0),
            ("business_exporter_event_errors_total", &[("event", "made")], 0.0),
            ("business_exporter_values_refused_total", &[("family", "price")], 0.0),
            ("business_exporter_table_truncated_total", &[("table", "public.items")], 0.0),
            ("business_exporter_held", &[("family", "price")], 0.0),
            ("business_exporter_ledger_restarts_total", &[("reason", "lineage")], 0.0),
        ],
    )?;
    // The application has no right on the ledger, and needs none.
    let app = server.client_as("app", "app", "postgres").await?;
    for sql in [
        // One is new, one was there and moves.
        "INSERT INTO items VALUES (1, 'a', 1, 'ada')",
        "INSERT INTO items VALUES (1, 'b', 5, 'x'), (2, 'a', 2.5, 'ada')
         ON CONFLICT (id) DO UPDATE SET kind = excluded.kind",
        "INSERT INTO items VALUES (1, 'b', 5, 'x') ON CONFLICT DO NOTHING",
        "BEGIN; INSERT INTO items VALUES (3, 'a', 9, 'ada'); ROLLBACK",
        "BEGIN; INSERT INTO items VALUES (3, 'a', 11, 'bob'); SAVEPOINT s; INSERT INTO items VALUES (4, 'a', 9, 'ada');
         ROLLBACK TO s; INSERT INTO items VALUES (4, 'b', NULL, 'bob'); COMMIT",
        // Its whole life is in one transaction.
        "BEGIN; INSERT INTO items VALUES (5, 'a', 0.5, 'cyd'); UPDATE items SET kind = 'b' WHERE id = 5;
         DELETE FROM items WHERE id = 5; COMMIT",
        "DELETE FROM items WHERE id = 2",
    ] {
        app.batch_execute(sql).await?;
    }
    // As replication applies it.
    server.sql("SET session_replication_role = replica; INSERT INTO items VALUES (6, 'b', 2, 'ada')").await?;
    let counted = |page: &Page| {
        assert_page(
            page,
            &[
                ("made_total", &[("kind", "a")], 4.0),
                ("made_total", &[("kind", "b")], 2.0),
                ("moved_total", &[("from", "a"), ("to", "b")], 2.0),
                ("moved_total", &[("from", "b"), ("to", "a")], 0.0),
                ("gone_total", &[("kind", "a")], 1.0),
                ("gone_total", &[("kind", "rest")], 1.0),
                ("paid_total", &[], 17.0),
                ("price_bucket", &[("le", "1")], 2.0),
                ("price_bucket", &[("le", "2.5")], 4.0),
                ("price_bucket", &[("le", "10")], 4.0),
                ("price_count", &[], 5.0),
                ("price_sum", &[], 17.0),
                ("by_name_total", &[("name", "ada")], 3.0),
                ("by_name_total", &[("name", "bob")], 2.0),
                ("by_name_total", &[("name", "other")], 1.0),
                ("strict_total", &[("name", "ada")], 3.0),
                ("business_exporter_label_rejected_total", &[("family", "strict_total")], 3.0),
                ("business_exporter_label_rejected_total", &[("family", "made_total")], 0.0),
            ],
        )
    };
    // Names that come later are 0 once.
    let page = exporter.scrape(10.0).await?;
    assert_page(&page, &[("made_total", &[("kind", "a")], 4.0), ("by_name_total", &[("name", "ada")], 0.0)])?;
    counted(&exporter.scrape(10.0).await?)?;
    // Another replica says the same at once, and so does a restarted one.
    let other = definition.exporter(&server.dsn()).await?;
    counted(&other.scrape(10.0).await?)?;
    assert_eq!(server.psql("SELECT count(*) FROM business_exporter.delta").await?.as_deref(), Some("0"));
    // A value that is new to the type is there without a restart.
    server.sql("ALTER TYPE kind ADD VALUE 'c'").await?;
    let page = exporter.scrape(10.0).await?;
    assert_page(&page, &[("made_total", &[("kind", "c")], 0.0)])?;
    Ok(())
}

#[rstest]
#[tokio::test]
async fn what_is_wrong_with_an_event_never_harms_the_application(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    if !in_full(major) {
        return Ok(());
    }
    let (server, definition) = shop(major).await?;
    let exporter = definition.exporter(&server.dsn()).await?;
    let app = server.client_as("app", "app", "postgres").await?;
    // The inverse of 0; a negative value; and one that is no number.
    app.batch_execute("INSERT INTO items VALUES (1, 'a', 7, 'ada')").await?;
    app.batch_execute(
        "INSERT INTO items VALUES (2, 'a', -1, 'ada'), (3, 'a', 'NaN', 'ada'), (4, 'a', 3, 'ada')",
    )
    .await?;
    exporter.scrape(10.0).await?;
    let page = exporter.scrape(10.0).await?;
    assert_page(
        &page,
        &[
            ("made_total", &[("kind", "a")], 4.0),
            ("price_count", &[], 2.0),
            ("price_sum", &[], 10.0),
            ("paid_total", &[], 10.0),
            ("inverse_count", &[], 0.0),
            ("business_exporter_event_errors_total", &[("event", "inverted")], 1.0),
            ("business_exporter_event_errors_total", &[("event", "made")], 0.0),
            ("business_exporter_values_refused_total", &[("family", "price")], 2.0),
            ("business_exporter_values_refused_total", &[("family", "inverse")], 3.0),
        ],
    )?;
    assert!(server.log().contains("event inverted was not counted: division by zero"), "{}", server.log());

    // Not counted, and said so.
    app.batch_execute("TRUNCATE items").await?;
    server.sql("ALTER TABLE items DISABLE TRIGGER business_exporter_insert_made").await?;
    server.sql("CREATE OR REPLACE FUNCTION business_exporter.event_gone() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN NULL; END'").await?;
    let page = exporter.scrape(10.0).await?;
    assert_page(
        &page,
        &[
            ("business_exporter_table_truncated_total", &[("table", "public.items")], 1.0),
            ("business_exporter_ledger_intact", &[("event", "made")], 0.0),
            ("business_exporter_ledger_intact", &[("event", "moved")], 1.0),
            ("business_exporter_ledger_intact", &[("event", "gone")], 0.0),
            ("business_exporter_exact", &[("family", "made_total")], 0.0),
            ("business_exporter_exact", &[("family", "moved_total")], 1.0),
        ],
    )?;
    // Installing again repairs it, and keeps the counts.
    definition.install(&server).await?;
    let page = exporter.scrape(10.0).await?;
    assert_page(
        &page,
        &[
            ("business_exporter_exact", &[("family", "made_total")], 1.0),
            ("business_exporter_exact", &[("family", "gone_total")], 1.0),
            ("made_total", &[("kind", "a")], 4.0),
        ],
    )?;

    // Even without the tables of the ledger.
    server.sql("DROP TABLE business_exporter.delta").await?;
    app.batch_execute("INSERT INTO items VALUES (9, 'a', 7, 'ada')").await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!(outcome(&page, "events"), Some("error"));
    assert!(exporter.process.log().contains("installs the ledger"), "{}", exporter.process.log());
    Ok(())
}

#[rstest]
#[tokio::test]
async fn no_series_falls_whatever_becomes_of_the_database(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    if !in_full(major) {
        return Ok(());
    }
    let (mut server, definition) = shop(major).await?;
    let exporter = definition.exporter(&server.dsn()).await?;
    server.sql("INSERT INTO items SELECT i, 'a', 1, 'ada' FROM generate_series(1, 50) AS i").await?;
    exporter.scrape(10.0).await?;
    let made = |page: &Page| page.value("made_total", &[("kind", "a")]);
    assert_eq!(made(&exporter.scrape(10.0).await?), Some(50.0));

    // The last commits are lost, as when a standby takes over: held, then started again at exactly 0.
    server
        .sql("UPDATE business_exporter.total SET n = n - 20, s = s - 20 WHERE family = 'made_total'")
        .await?;
    let page = exporter.scrape(10.0).await?;
    assert_page(
        &page,
        &[
            ("made_total", &[("kind", "a")], 50.0),
            ("business_exporter_held", &[("family", "made_total")], 20.0),
            ("business_exporter_held", &[("family", "price")], 0.0),
        ],
    )?;
    let page = eventually(&exporter, "reset", |page| made(page) != Some(50.0)).await?;
    assert_page(
        &page,
        &[
            ("made_total", &[("kind", "a")], 0.0),
            ("business_exporter_ledger_restarts_total", &[("reason", "regression")], 1.0),
            ("business_exporter_held", &[("family", "made_total")], 0.0),
        ],
    )?;
    // Every replica counts on from there.
    server.sql("INSERT INTO items VALUES (51, 'a', 1, 'ada')").await?;
    assert_eq!(made(&exporter.scrape(10.0).await?), Some(1.0));
    let other = definition.exporter(&server.dsn()).await?;
    assert_eq!(made(&other.scrape(10.0).await?), Some(1.0));

    // Restored into another server.
    server.sql("UPDATE business_exporter.ledger SET system_identifier = 1").await?;
    let page = eventually(&exporter, "restarted", |page| {
        page.value("business_exporter_ledger_restarts_total", &[("reason", "lineage")]) == Some(1.0)
    })
    .await?;
    assert_eq!(made(&page), Some(0.0));

    // Without the database the last values stay for a while, and then there are none.
    server.sql("INSERT INTO items VALUES (52, 'a', 1, 'ada')").await?;
    assert_eq!(made(&exporter.scrape(10.0).await?), Some(1.0));
    server.crash().await?;
    assert_eq!(made(&exporter.scrape(10.0).await?), Some(1.0));
    server.stop()?;
    let page = exporter.scrape(10.0).await?;
    assert_page(&page, &[("made_total", &[("kind", "a")], 1.0), ("business_exporter_up", &[], 0.0)])?;
    eventually(&exporter, "withdrawn", |page| made(page).is_none()).await?;
    server.restart().await?;
    assert_eq!(made(&exporter.scrape(10.0).await?), Some(1.0));
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_locked_ledger_costs_its_own_families_only(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    if !in_full(major) {
        return Ok(());
    }
    let (server, _) = shop(major).await?;
    let text =
        format!("{SHOP}\nqueries: [{{name: one, sql: SELECT 1 AS v, emit: [{{family: one, value: v}}]}}]\n")
            .replacen("families:", "families:\n- {name: one, type: gauge, help: A.}", 1);
    let exporter = Definition::new(&text)?.exporter(&server.dsn()).await?;
    let locker = server.client().await?;
    locker.batch_execute("BEGIN; LOCK TABLE business_exporter.total IN ACCESS EXCLUSIVE MODE").await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!((outcome(&page, "events"), outcome(&page, "one")), (Some("lock_timeout"), Some("ok")));
    assert_page(
        &page,
        &[
            ("one", &[], 1.0),
            ("business_exporter_counter_mode", &[("family", "price"), ("mode", "none")], 1.0),
        ],
    )?;
    locker.batch_execute("COMMIT").await?;
    assert_eq!(outcome(&exporter.scrape(10.0).await?, "events"), Some("ok"));
    Ok(())
}

/// A fold moves what is counted from one table to the other; who reads meanwhile sees the same sum.
#[rstest]
#[tokio::test]
async fn folding_changes_no_sum(#[values(13, 14, 15, 16, 17, 18)] major: u32) -> anyhow::Result<()> {
    if !in_full(major) {
        return Ok(());
    }
    let (server, _) = shop(major).await?;
    let writer = server.client().await?;
    let folder = server.client_as(EXPORTER, EXPORTER_PASSWORD, "postgres").await?;
    let reader = server.client_as(EXPORTER, EXPORTER_PASSWORD, "postgres").await?;
    let fold = async {
        for _ in 0..if testkit::full() { 10_000 } else { 500 } {
            folder.batch_execute("SELECT business_exporter.fold()").await?;
        }
        anyhow::Ok(())
    };
    let sum = "SELECT (sum(n) FILTER (WHERE family = 'made_total'))::int8, (sum(s) FILTER (WHERE family = 'price'))::text
               FROM (SELECT family, n, s FROM business_exporter.total
                     UNION ALL SELECT family, n, s FROM business_exporter.delta) AS t";
    let read = async {
        let mut last = 0;
        // Random prices of 12 digits: a sum of floats would depend on their order.
        for batch in 0..100 {
            writer
                .batch_execute(&format!(
                    "INSERT INTO items SELECT {batch} * 20 + i, 'a', round((random() * 1e6)::numeric, 6), 'ada'
                     FROM generate_series(1, 20) AS i"
                ))
                .await?;
            let row = reader.query_one(sum, &[]).await?;
            let (count, price): (i64, String) = (row.get(0), row.get(1));
            let truth = writer.query_one("SELECT count(*), sum(price)::text FROM items", &[]).await?;
            assert_eq!((count, price), (truth.get(0), truth.get(1)));
            assert!(count > last);
            last = count;
        }
        anyhow::Ok(())
    };
    futures_util::try_join!(fold, read)?;
    Ok(())
}

#[rstest]
#[tokio::test]
async fn the_exporters_role_can_fold_and_read_and_no_more(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    if !in_full(major) {
        return Ok(());
    }
    let (server, _) = shop(major).await?;
    let role = server.client_as(EXPORTER, EXPORTER_PASSWORD, "postgres").await?;
    role.batch_execute("SELECT business_exporter.fold(); TABLE business_exporter.total").await?;
    for sql in [
        "INSERT INTO business_exporter.delta VALUES ('made_total', '{a}', 1, 1, 1)",
        "UPDATE business_exporter.total SET n = 0",
        "DELETE FROM business_exporter.ledger",
        "SELECT business_exporter.move()",
        "TABLE items",
    ] {
        let error = anyhow::Error::from(role.batch_execute(sql).await.unwrap_err());
        assert!(has_sqlstate(&error, &SqlState::INSUFFICIENT_PRIVILEGE), "{sql}: {error:#}");
    }
    Ok(())
}

#[rstest]
#[tokio::test]
async fn the_ledger_follows_its_definition_and_can_be_removed(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    if !in_full(major) {
        return Ok(());
    }
    let (server, definition) = shop(major).await?;
    let triggers =
        "SELECT string_agg(tgname, ' ' ORDER BY tgname) FROM pg_trigger WHERE tgname LIKE 'business%'";
    let all = "business_exporter_delete_gone business_exporter_insert_inverted business_exporter_insert_made \
               business_exporter_truncate business_exporter_update_moved";
    assert_eq!(server.psql(triggers).await?.as_deref(), Some(all));
    // Again, beside a transaction that writes: nothing is to be locked.
    let writer = server.client().await?;
    writer.batch_execute("BEGIN; INSERT INTO items VALUES (1, 'a', 1, 'ada')").await?;
    definition.install(&server).await?;
    writer.batch_execute("COMMIT").await?;

    // An event is gone.
    let fewer = SHOP.lines().filter(|line| !line.contains("name: gone,")).collect::<Vec<_>>().join("\n");
    Definition::new(&fewer)?.install(&server).await?;
    assert_eq!(server.psql(triggers).await?.as_deref(), all.split_once(' ').map(|(_, rest)| rest));
    assert_eq!(server.psql("SELECT to_regproc('business_exporter.event_gone')").await?, None);
    // A mistake in an expression is found before anything changes.
    let wrong = Definition::new(&SHOP.replace("n.price - 7", "n.prize - 7"))?;
    let error = wrong.install(&server).await.unwrap_err();
    assert!(format!("{error:#}").contains("prize"), "{error:#}");

    let output = definition.run(&["ddl", "--uninstall"], None)?;
    server.sql(&String::from_utf8(output.stdout)?).await?;
    assert_eq!(server.psql(triggers).await?, None);
    assert_eq!(server.psql("SELECT to_regnamespace('business_exporter')").await?, None);
    server.sql("INSERT INTO items VALUES (2, 'a', 1, 'ada')").await?;

    let (code, message) = failure(&definition.run(&["ddl"], None)?);
    assert_eq!(code, Some(2), "{message}");
    let (code, message) =
        failure(&Definition::of_queries(&[("v", "SELECT 1 AS v")])?.run(&["ddl", "--install"], None)?);
    assert_eq!((code, message.contains("no events")), (Some(1), true), "{message}");
    Ok(())
}

#[rstest]
#[tokio::test]
async fn stocks_are_compared_with_their_counters(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    if !in_full(major) {
        return Ok(());
    }
    let server = server(major).await?;
    server.sql(TABLES).await?;
    // Rows from before.
    server.sql("INSERT INTO items SELECT i, 'a', 1, 'ada' FROM generate_series(1, 10) AS i").await?;
    let stock = "stocks: [{table: public.items, by: kind, created: made_total, moved: moved_total, deleted: gone_total}]";
    let text = SHOP.replace("fold_interval: 0s", "fold_interval: 0s, reconcile_interval: 0s");
    let text = format!("{text}{stock}\n")
        .replace("{kind: {values: [a], other: rest}}", "{kind: {enum: public.kind}}");
    let definition = Definition::new(&text)?;
    definition.install(&server).await?;
    let exporter = definition.exporter(&server.dsn()).await?;
    let drift = |page: &Page, value: &str| {
        page.value("business_exporter_ledger_drift_rows", &[("stock", "public.items.kind"), ("value", value)])
    };
    let compare = || definition.run(&["reconcile"], Some(&server.dsn()));
    server
        .sql(
            "INSERT INTO items SELECT i, 'b', 1, 'ada' FROM generate_series(11, 15) AS i;
             UPDATE items SET kind = 'b' WHERE id <= 3; DELETE FROM items WHERE id IN (1, 15)",
        )
        .await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!((drift(&page, "a"), drift(&page, "b")), (Some(0.0), Some(0.0)));
    let output = compare()?;
    let said = String::from_utf8(output.stdout.clone())?;
    assert!(output.status.success(), "{said} {:?}", failure(&output));
    assert!(said.contains("public.items.kind=b rows=6 counted=6 drift=0"), "{said}");

    server
        .sql(
            "ALTER TABLE items DISABLE TRIGGER business_exporter_insert_made;
             INSERT INTO items VALUES (20, 'b', 1, 'ada'), (21, 'b', 1, 'ada')",
        )
        .await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!((drift(&page, "a"), drift(&page, "b")), (Some(0.0), Some(2.0)));
    let (code, message) = failure(&compare()?);
    assert_eq!((code, message.contains("1 stocks differ")), (Some(1), true), "{message}");

    // What was missed is taken as having been there.
    definition.install(&server).await?;
    assert_eq!(drift(&exporter.scrape(10.0).await?, "b"), Some(0.0));
    server.sql("INSERT INTO items VALUES (22, 'b', 1, 'ada')").await?;
    assert!(compare()?.status.success());
    Ok(())
}

/// A standby takes over without the last commits, and with it goes what they counted.
#[rstest]
#[tokio::test]
async fn a_standby_that_takes_over_makes_no_series_fall(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    if !in_full(major) {
        return Ok(());
    }
    let (mut primary, definition) = shop(major).await?;
    let mut standby = primary.standby().await?;
    primary.sql("INSERT INTO items SELECT i, 'a', 1, 'ada' FROM generate_series(1, 100) AS i").await?;
    let deadline = Instant::now() + Duration::from_secs(30);
    // The table itself may not be there yet.
    while standby.psql("SELECT count(*) FROM items").await.ok().flatten().as_deref() != Some("100") {
        anyhow::ensure!(Instant::now() < deadline, "never replayed:\n{}", standby.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    standby.stop()?;
    primary.sql("INSERT INTO items SELECT i, 'a', 1, 'ada' FROM generate_series(101, 150) AS i").await?;
    let dsn = format!(
        "postgresql://{EXPORTER}:{EXPORTER_PASSWORD}@127.0.0.1:{},127.0.0.1:{}/postgres?sslmode=disable&target_session_attrs=read-write",
        primary.port(),
        standby.port()
    );
    let exporter = definition.exporter(&dsn).await?;
    let made = |page: &Page| page.value("made_total", &[("kind", "a")]);
    assert_eq!(made(&exporter.scrape(10.0).await?), Some(150.0));
    primary.stop()?;
    standby.restart().await?;
    standby.sql("SELECT pg_promote()").await?;
    let held = |page: &Page| page.value("business_exporter_held", &[("family", "made_total")]);
    let page = eventually(&exporter, "held", |page| held(page) == Some(50.0)).await?;
    assert_eq!(made(&page), Some(150.0));
    // It catches up before the grace is over, or starts again at 0: nothing else.
    let page = eventually(&exporter, "reset", |page| made(page) != Some(150.0)).await?;
    assert_eq!(made(&page), Some(0.0));
    standby.sql("INSERT INTO items VALUES (1000, 'a', 1, 'ada')").await?;
    assert_eq!(made(&exporter.scrape(10.0).await?), Some(1.0));
    assert_eq!(
        exporter
            .scrape(10.0)
            .await?
            .value("business_exporter_ledger_restarts_total", &[("reason", "regression")]),
        Some(1.0)
    );
    Ok(())
}

/// Sums of prices with many digits, in whatever parts they are folded, neither fall nor lose anything.
#[rstest]
#[tokio::test]
async fn sums_are_exact_in_whatever_order(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    if !in_full(major) {
        return Ok(());
    }
    let (server, definition) = shop(major).await?;
    let exporter = definition.exporter(&server.dsn()).await?;
    let (rows, mut last) = (if testkit::full() { 1_000_000 } else { 100_000 }, 0.0);
    let mut next = 100;
    while next < rows {
        let end = next + rand::random_range(1..rows / 20);
        let price = "(random() * 10 ^ (random() * 12 - 6))::float8::numeric";
        server
            .sql(&format!(
                "INSERT INTO items SELECT i, 'a', {price}, 'ada' FROM generate_series({next}, {end}) AS i"
            ))
            .await?;
        next = end + 1;
        let sum = value(&exporter.scrape(30.0).await?, "price_sum", &[])?;
        assert!(sum >= last, "{sum} after {last}");
        last = sum;
    }
    let truth: f64 = server.psql("SELECT sum(price) FROM items").await?.unwrap_or_default().parse()?;
    assert_eq!(last, truth);
    Ok(())
}

/// A dump of the database goes on in another server: again from exactly 0, once.
#[tokio::test]
async fn a_restored_dump_starts_again() -> anyhow::Result<()> {
    let mut old = Postgres::builder().version(Version::Debian).start().await?;
    // Servers of one version are copies of one, and have its identifier.
    let new = Postgres::builder().version(Version::Major(15)).start().await?;
    for server in [&old, &new] {
        server.sql("CREATE ROLE app").await?;
    }
    old.sql(&TABLES.replace("CREATE ROLE app LOGIN PASSWORD 'app';", "")).await?;
    let definition = Definition::new(SHOP)?;
    definition.install(&old).await?;
    old.sql("INSERT INTO items SELECT i, 'a', 1, 'ada' FROM generate_series(1, 50) AS i").await?;
    let dsn = format!(
        "postgresql://{EXPORTER}:{EXPORTER_PASSWORD}@127.0.0.1:{},127.0.0.1:{}/postgres?sslmode=disable",
        old.port(),
        new.port()
    );
    let exporter = definition.exporter(&dsn).await?;
    let made = |page: &Page| page.value("made_total", &[("kind", "a")]);
    assert_eq!(made(&exporter.scrape(10.0).await?), Some(50.0));

    let programs = old.installed().clone();
    let client = |server: &Postgres, program: &str| {
        let mut command = tokio::process::Command::new(programs.binary(program));
        command.envs(programs.env());
        command.args(["--host=127.0.0.1", "--username=postgres", "--dbname=postgres"]);
        command.arg(format!("--port={}", server.port()));
        command
    };
    let dump = client(&old, "pg_dump").output().await?;
    anyhow::ensure!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("dump.sql");
    std::fs::write(&file, dump.stdout)?;
    let restore =
        client(&new, "psql").args(["--quiet", "--set=ON_ERROR_STOP=1", "--file"]).arg(&file).output().await?;
    anyhow::ensure!(restore.status.success(), "{}", String::from_utf8_lossy(&restore.stderr));
    old.stop()?;

    let page = eventually(&exporter, "restarted", |page| made(page) == Some(0.0)).await?;
    assert_page(
        &page,
        &[
            ("business_exporter_ledger_restarts_total", &[("reason", "lineage")], 1.0),
            ("business_exporter_ledger_restarts_total", &[("reason", "regression")], 0.0),
            ("business_exporter_exact", &[("family", "made_total")], 1.0),
        ],
    )?;
    new.sql("INSERT INTO items VALUES (51, 'a', 1, 'ada')").await?;
    let page = exporter.scrape(10.0).await?;
    assert_page(
        &page,
        &[
            ("made_total", &[("kind", "a")], 1.0),
            ("business_exporter_ledger_restarts_total", &[("reason", "lineage")], 1.0),
        ],
    )?;
    Ok(())
}

/// What happens to AutoDealGenie's tables, and what the shipped definition makes of it.
const LIFE: &str = "
INSERT INTO users (email, username, hashed_password) VALUES ('a@example.org', 'a', 'x'), ('b@example.org', 'b', 'x');
INSERT INTO deals (user_id, vehicle_vin, vehicle_make, vehicle_model, vehicle_year, asking_price, offer_price)
SELECT 1 + i % 2, 'VIN' || i, 'Make', 'Model', 2020, 10000 * i, 9000 * i FROM generate_series(1, 5) AS i;
UPDATE deals SET status = 'in_progress' WHERE id <= 3;
UPDATE deals SET status = 'completed' WHERE id <= 2;
INSERT INTO negotiation_sessions (user_id, deal_id) SELECT 1, id FROM deals;
INSERT INTO negotiation_messages (session_id, role, content, round_number) VALUES (1, 'user', 'x', 1), (1, 'agent', 'y', 1);
UPDATE negotiation_sessions SET status = 'completed', finished_at = created_at + interval '45 s', current_round = 3 WHERE id = 1;
INSERT INTO loan_applications (user_id, status, loan_amount, loan_term_months, credit_score_range, apr, monthly_payment,
                               total_interest, total_amount, decided_at)
VALUES (1, 'approved', 12000, 12, 'good', 1, 1, 1, 1, now());
INSERT INTO search_history (user_id, search_type, search_criteria, result_count) VALUES (1, 'quick', '{}', 0), (1, 'saved', '{}', 3);
INSERT INTO vehicles (vin, make, model, year, body_type, condition, fuel_type, transmission, mileage, price)
VALUES ('V', 'M', 'M', 2020, 'suv', 'used', 'gas', 'auto', 1, 1);
INSERT INTO favorites (user_id, vehicle_id) SELECT 2, id FROM vehicles;
INSERT INTO ai_responses (feature, prompt_type, model_used, llm_used, prompt_tokens, completion_tokens, cost, response_content)
VALUES ('negotiation', 'reply', 'large', true, 100, 20, 0.0125, '{}'), ('negotiation', 'reply', 'rules', false, 0, 0, 0, '{}');
DELETE FROM users WHERE id = 2";

#[rstest]
#[tokio::test]
async fn the_shipped_definition_counts_what_happens(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    if !in_full(major) {
        return Ok(());
    }
    let server = database(major).await?;
    install(&shipped(), &server).await?;
    let exporter = exporter(&shipped(), &server.dsn()).await?;
    exporter.scrape(10.0).await?;
    server.sql(LIFE).await?;
    // Values of labels that have a maximum are folded first, and 0 once.
    exporter.scrape(10.0).await?;
    exporter.scrape(10.0).await?;
    let page = exporter.scrape(10.0).await?;
    let counted: &[Expected<'_>] = &[
        ("deals_created_total", &[("status", "pending")], 5.0),
        ("deals_created_total", &[("status", "completed")], 0.0),
        ("deal_status_transitions_total", &[("from", "pending"), ("to", "in_progress")], 3.0),
        ("deal_status_transitions_total", &[("from", "in_progress"), ("to", "completed")], 2.0),
        // Deleted with their owner.
        ("deals_deleted_total", &[("status", "completed")], 1.0),
        ("deals_deleted_total", &[("status", "in_progress")], 1.0),
        ("deals_deleted_total", &[("status", "pending")], 1.0),
        ("deal_asking_price_usd_bucket", &[("le", "10000")], 1.0),
        ("deal_asking_price_usd_sum", &[], 150_000.0),
        ("deal_closed_price_usd_sum", &[], 27_000.0),
        ("deal_discount_ratio_bucket", &[("le", "0.1")], 2.0),
        ("deal_discount_ratio_bucket", &[("le", "0.08")], 0.0),
        ("deal_time_to_close_seconds_bucket", &[("le", "300")], 2.0),
        ("user_signups_total", &[], 2.0),
        ("loan_applications_total", &[("status", "approved")], 1.0),
        ("loan_amount_usd_bucket", &[("le", "15000")], 1.0),
        ("vehicle_searches_total", &[("search_type", "quick")], 1.0),
        ("vehicle_searches_total", &[("search_type", "advanced")], 0.0),
        ("vehicle_searches_empty_total", &[], 1.0),
        ("favorites_added_total", &[], 1.0),
        ("negotiation_sessions_total", &[], 5.0),
        ("negotiation_messages_total", &[("role", "agent")], 1.0),
        ("negotiation_duration_seconds_bucket", &[("outcome", "completed"), ("le", "60")], 1.0),
        ("negotiation_duration_seconds_sum", &[("outcome", "completed")], 45.0),
        ("negotiation_rounds_sum", &[("outcome", "completed")], 3.0),
        ("negotiation_rounds_count", &[("outcome", "cancelled")], 0.0),
        ("llm_requests_total", &[("model", "large"), ("prompt_type", "reply")], 1.0),
        ("llm_tokens_used_total", &[("model", "large"), ("token_type", "prompt")], 100.0),
        ("llm_tokens_used_total", &[("model", "large"), ("token_type", "completion")], 20.0),
        ("llm_cost_usd_total", &[("model", "large")], 0.0125),
        ("llm_fallback_total", &[("feature", "negotiation")], 1.0),
        ("deals", &[("status", "pending")], 1.0),
    ];
    let path = shipped().display().to_string();
    let output = run(&["--config", &path, "reconcile"], Some(&server.dsn()))?;
    assert!(output.status.success(), "{:?}", failure(&output));
    for (name, labels, expected) in counted {
        assert_eq!(value(&page, &format!("autodealgenie_{name}"), labels)?, *expected, "{name} {labels:?}");
    }
    let failing = |name| page.samples(name).filter(|sample| sample.value == 0.0).count();
    assert_eq!((failing("business_exporter_exact"), failing("business_exporter_ledger_intact")), (0, 0));
    assert!(page.samples("business_exporter_event_errors_total").all(|sample| sample.value == 0.0));
    Ok(())
}
