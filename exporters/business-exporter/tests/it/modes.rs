//! Counting without triggers: by checkpoint, which may write in its own schema only, and by snapshot, which only reads.

use exposition::Page;
use nix::sys::signal::Signal;
use rstest::rstest;
use testkit::page::value;
use testkit::postgres::{MAJORS, Postgres};

use crate::support::{Definition, assert_page, eventually, failure, server};

const TABLES: &str = "
CREATE TYPE kind AS ENUM ('a', 'b');
CREATE TABLE items (id bigserial PRIMARY KEY, kind kind NOT NULL DEFAULT 'a', price numeric DEFAULT 1);
CREATE TABLE other (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE TABLE loose (id uuid PRIMARY KEY DEFAULT gen_random_uuid());
GRANT SELECT ON ALL TABLES IN SCHEMA public TO exporter;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO exporter";

const SHOP: &str = "
version: 1
counters: {mode: checkpoint, fold_interval: 0s, reconcile_interval: 0s, regress_grace: 2s, snapshot_interval: 0s}
families:
- {name: made_total, type: counter, help: A., labels: {kind: {enum: public.kind}}}
- {name: price, type: histogram, help: A., buckets: [1, 10]}
- {name: moved_total, type: counter, help: A.}
- {name: other_total, type: counter, help: A., append_only: true}
- {name: loose_total, type: counter, help: A., append_only: true}
events:
- {name: made, table: public.items, on: insert, emit: [{family: made_total, labels: {kind: n.kind}}, {family: price, value: n.price}]}
- {name: moved, table: public.items, on: update, emit: [{family: moved_total}]}
- {name: other, table: public.other, on: insert, emit: [{family: other_total}]}
- {name: loose, table: public.loose, on: insert, emit: [{family: loose_total}]}
";

/// A server with the tables, and the definition in a mode.
async fn shop(major: u32, mode: &str) -> anyhow::Result<Option<(Postgres, Definition)>> {
    let Some(server) = server(major).await? else { return Ok(None) };
    server.sql(TABLES).await?;
    Ok(Some((server, in_mode(mode)?)))
}

fn in_mode(mode: &str) -> anyhow::Result<Definition> {
    Definition::new(&SHOP.replace("mode: checkpoint", &format!("mode: {mode}")))
}

async fn checkpoint(major: u32) -> anyhow::Result<Option<(Postgres, Definition)>> {
    let Some((server, definition)) = shop(major, "checkpoint").await? else { return Ok(None) };
    definition.install(&server).await?;
    Ok(Some((server, definition)))
}

fn made(page: &Page) -> Option<f64> {
    page.value("made_total", &[("kind", "a")])
}

async fn settled(server: &Postgres) -> anyhow::Result<i64> {
    let sql = "SELECT settled FROM business_exporter.watermark WHERE source = 'public.items'";
    Ok(server.psql(sql).await?.unwrap_or_default().parse()?)
}

const INSERT: &str = "INSERT INTO items DEFAULT VALUES";

#[rstest]
#[tokio::test]
async fn a_row_is_counted_once_however_late_it_commits(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some((server, definition)) = checkpoint(major).await? else { return Ok(()) };
    // From before, and not counted.
    server.sql(INSERT).await?;
    let exporter = definition.exporter(&server.dsn()).await?;
    let page = exporter.scrape(10.0).await?;
    assert_page(
        &page,
        &[
            ("made_total", &[("kind", "a")], 0.0),
            ("made_total", &[("kind", "b")], 0.0),
            ("price_count", &[], 0.0),
            ("business_exporter_counter_mode", &[("family", "made_total"), ("mode", "checkpoint")], 1.0),
            ("business_exporter_counter_mode", &[("family", "moved_total"), ("mode", "none")], 1.0),
            ("business_exporter_exact", &[("family", "made_total")], 1.0),
            ("business_exporter_exact", &[("family", "moved_total")], 0.0),
            ("business_exporter_exact", &[("family", "loose_total")], 0.0),
            ("business_exporter_table_success", &[("table", "public.loose")], 0.0),
            ("business_exporter_late_rows_total", &[("table", "public.items")], 0.0),
        ],
    )?;
    assert!(page.family("moved_total").is_none() && page.family("loose_total").is_none());
    assert!(exporter.process.log().contains("its key has no sequence"), "{}", exporter.process.log());

    // One that stays open holds the watermark, and nothing else; and what it brings in the end is counted.
    let late = server.client().await?;
    late.batch_execute("BEGIN; INSERT INTO items (kind) VALUES ('b')").await?;
    let before = settled(&server).await?;
    for round in 1..=10_u32 {
        server.sql("INSERT INTO items SELECT FROM generate_series(1, 1000)").await?;
        assert_eq!(made(&exporter.scrape(10.0).await?), Some(1000.0 * f64::from(round)));
    }
    assert_eq!(settled(&server).await?, before);
    late.batch_execute("COMMIT").await?;
    for _ in 0..2 {
        assert_page(
            &exporter.scrape(10.0).await?,
            &[
                ("made_total", &[("kind", "a")], 10_000.0),
                ("made_total", &[("kind", "b")], 1.0),
                ("price_count", &[], 10_001.0),
            ],
        )?;
    }
    assert_eq!(settled(&server).await?, before + 10_001);
    assert_eq!(server.psql("SELECT count(*) FROM business_exporter.seen").await?.as_deref(), Some("0"));

    // A deletion changes nothing, nor does a change.
    server.sql("DELETE FROM items WHERE id % 7 = 0; UPDATE items SET kind = 'b'").await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!(
        (made(&page), value(&page, "business_exporter_held", &[("family", "made_total")])?),
        (Some(10_000.0), 0.0)
    );
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_writer_on_another_table_holds_nothing_up(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some((server, definition)) = checkpoint(major).await? else { return Ok(()) };
    let exporter = definition.exporter(&server.dsn()).await?;
    exporter.scrape(10.0).await?;
    let elsewhere = server.client().await?;
    elsewhere.batch_execute("BEGIN; INSERT INTO other DEFAULT VALUES").await?;
    for round in 1..=3_u32 {
        server.sql(INSERT).await?;
        assert_eq!(made(&exporter.scrape(10.0).await?), Some(f64::from(round)));
        let last = server.psql("SELECT last_value FROM items_id_seq").await?;
        assert_eq!(last, Some(settled(&server).await?.to_string()));
    }
    elsewhere.batch_execute("ROLLBACK").await?;
    Ok(())
}

/// By ledger and by checkpoint: what a page says is a function of the database.
#[rstest]
#[tokio::test]
async fn replicas_say_the_same_and_either_may_be_killed(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some((server, _)) = checkpoint(major).await? else { return Ok(()) };
    let ledger = Definition::new(&SHOP.replace("mode: checkpoint", "mode: ledger, schema: ledger"))?;
    ledger.install(&server).await?;
    for definition in [ledger, Definition::new(SHOP)?] {
        let mut replicas =
            [definition.exporter(&server.dsn()).await?, definition.exporter(&server.dsn()).await?];
        let start = made(&replicas[0].scrape(10.0).await?).unwrap_or_default();
        for round in 1..=4_u32 {
            server.sql(INSERT).await?;
            for replica in &replicas {
                assert_eq!(made(&replica.scrape(10.0).await?), Some(start + f64::from(round)), "{round}");
            }
            let killed = usize::from(round % 2 == 0);
            replicas[killed].process.stop_by(Signal::SIGKILL)?;
            replicas[killed] = definition.exporter(&server.dsn()).await?;
        }
    }
    Ok(())
}

/// To `count(*)` it is a million new ones.
#[rstest]
#[tokio::test]
async fn a_row_that_is_deleted_from_a_million_is_no_event(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some((server, marks)) = checkpoint(major).await? else { return Ok(()) };
    server.sql("INSERT INTO other SELECT FROM generate_series(1, 1000000)").await?;
    let ledger = Definition::new(&SHOP.replace("mode: checkpoint", "mode: ledger, schema: ledger"))?;
    ledger.install(&server).await?;
    let ways = [(ledger, 0.0, 0.0), (marks, 0.0, 0.0), (in_mode("snapshot")?, 1_000_000.0, 1.0)];
    let mut running = Vec::new();
    for (definition, there, below) in ways {
        let exporter = definition.exporter(&server.dsn()).await?;
        assert_page(&exporter.scrape(10.0).await?, &[("other_total", &[], there)])?;
        running.push((exporter, there, below));
    }
    server.sql("INSERT INTO other SELECT FROM generate_series(1, 5)").await?;
    for (exporter, there, _) in &running {
        assert_page(&exporter.scrape(10.0).await?, &[("other_total", &[], there + 5.0)])?;
    }
    server.sql("DELETE FROM other WHERE id = 1").await?;
    for (exporter, there, below) in &running {
        assert_page(
            &exporter.scrape(10.0).await?,
            &[
                ("other_total", &[], there + 5.0),
                ("business_exporter_held", &[("family", "other_total")], *below),
            ],
        )?;
    }
    Ok(())
}

#[rstest]
#[tokio::test]
async fn what_a_checkpoint_cannot_count_is_said(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some((server, definition)) = checkpoint(major).await? else { return Ok(()) };
    let exporter = definition.exporter(&server.dsn()).await?;
    server.sql("INSERT INTO items SELECT FROM generate_series(1, 10)").await?;
    exporter.scrape(10.0).await?;
    let taken = server.psql("SELECT nextval('items_id_seq')").await?.unwrap_or_default();
    server.sql("INSERT INTO items SELECT FROM generate_series(1, 10)").await?;
    exporter.scrape(10.0).await?;
    let late = |page: &Page| page.value("business_exporter_late_rows_total", &[("table", "public.items")]);
    eventually(&exporter, "audited", |page| late(page) == Some(0.0)).await?;
    // An id that was taken long before; and a deletion beside it must not hide it for long.
    server.sql(&format!("INSERT INTO items (id) VALUES ({taken})")).await?;
    let page = eventually(&exporter, "late", |page| late(page) == Some(1.0)).await?;
    assert_eq!(
        (made(&page), value(&page, "business_exporter_exact", &[("family", "made_total")])?),
        (Some(10.0), 0.0)
    );
    assert_eq!(value(&page, "business_exporter_exact", &[("family", "other_total")])?, 1.0);

    // A locked table costs its own families only, and they keep what they had.
    let locker = server.client().await?;
    locker.batch_execute("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE").await?;
    server.sql("INSERT INTO other DEFAULT VALUES").await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!((made(&page), page.value("other_total", &[])), (Some(10.0), Some(1.0)));
    let success = |page: &Page| page.value("business_exporter_table_success", &[("table", "public.items")]);
    assert_eq!(success(&page), Some(0.0));
    locker.batch_execute("ROLLBACK").await?;
    assert_eq!(success(&exporter.scrape(10.0).await?), Some(1.0));

    for (change, problem) in [
        ("ALTER SEQUENCE items_id_seq CACHE 10", "its sequence has CACHE 10"),
        ("ALTER SEQUENCE items_id_seq CACHE 1 CYCLE", "its sequence starts again"),
        (
            "ALTER SEQUENCE items_id_seq NO CYCLE RESTART WITH 5; SELECT nextval('items_id_seq')",
            "its sequence is at 5, before 21",
        ),
        ("REVOKE SELECT ON SEQUENCE items_id_seq FROM exporter", "the role may not read the sequence"),
        ("DROP TABLE items", "there is no such table"),
    ] {
        server.sql(change).await?;
        let (code, message) = failure(&definition.run(&["once"], Some(&server.dsn()))?);
        assert!(
            code == Some(1) && message.contains(&format!("events of public.items: {problem}")),
            "{change}: {message}"
        );
    }
    assert_eq!(success(&exporter.scrape(10.0).await?), Some(0.0));
    Ok(())
}

/// Rows of partitions count, whichever way they come in.
#[rstest]
#[tokio::test]
async fn partitions_are_counted_with_their_table(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    server
        .sql(
            "CREATE TABLE items (id bigserial, day int, PRIMARY KEY (id, day)) PARTITION BY LIST (day);
             CREATE TABLE items_1 PARTITION OF items FOR VALUES IN (1);
             CREATE TABLE items_2 PARTITION OF items FOR VALUES IN (2);
             GRANT SELECT ON ALL TABLES IN SCHEMA public TO exporter;
             GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO exporter",
        )
        .await?;
    let text = "
version: 1
counters: {mode: checkpoint}
families: [{name: made_total, type: counter, help: A.}]
events: [{name: made, table: public.items, on: insert, emit: [{family: made_total}]}]
";
    let definition = Definition::new(text)?;
    definition.install(&server).await?;
    let exporter = definition.exporter(&server.dsn()).await?;
    let made = |page: &Page| page.value("made_total", &[]);
    assert_eq!(made(&exporter.scrape(10.0).await?), Some(0.0));
    // Its lock is on the partition alone.
    let late = server.client().await?;
    late.batch_execute("BEGIN; INSERT INTO items_2 (day) VALUES (2)").await?;
    server.sql("INSERT INTO items (day) VALUES (1), (2)").await?;
    for _ in 0..3 {
        assert_eq!(made(&exporter.scrape(10.0).await?), Some(2.0));
    }
    late.batch_execute("COMMIT").await?;
    assert_eq!(made(&exporter.scrape(10.0).await?), Some(3.0));
    Ok(())
}

/// The role may only read: counts of tables that only grow, and nothing of those that change.
#[rstest]
#[tokio::test]
async fn a_snapshot_never_steps_down_and_is_never_called_exact(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some((server, definition)) = shop(major, "snapshot").await? else { return Ok(()) };
    server.sql("INSERT INTO other SELECT FROM generate_series(1, 1000)").await?;
    let exporter = definition.exporter(&server.dsn()).await?;
    let count = |page: &Page| page.value("other_total", &[]);
    let page = exporter.scrape(10.0).await?;
    assert_eq!((count(&page), page.value("loose_total", &[])), (Some(1000.0), Some(0.0)));
    assert!(page.family("made_total").is_none() && page.family("moved_total").is_none());
    assert!(page.samples("business_exporter_exact").all(|sample| sample.value == 0.0));
    for (family, mode) in [("other_total", "snapshot"), ("made_total", "none")] {
        value(&page, "business_exporter_counter_mode", &[("family", family), ("mode", mode)])?;
    }

    server.sql("DELETE FROM other WHERE id = 1").await?;
    let page = exporter.scrape(10.0).await?;
    let held = |page: &Page| value(page, "business_exporter_held", &[("family", "other_total")]);
    assert_eq!((count(&page), held(&page)?), (Some(1000.0), 1.0));
    server.sql("INSERT INTO other SELECT FROM generate_series(1, 2)").await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!((count(&page), held(&page)?), (Some(1001.0), 0.0));
    // For longer than the grace: again from exactly 0.
    server.sql("DELETE FROM other WHERE id <= 100").await?;
    let page = eventually(&exporter, "reset", |page| count(page) != Some(1001.0)).await?;
    assert_eq!((count(&page), held(&page)?), (Some(0.0), 0.0));
    server.sql("INSERT INTO other DEFAULT VALUES").await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!(count(&page), Some(1.0));
    assert_eq!(value(&page, "business_exporter_ledger_restarts_total", &[("reason", "regression")])?, 1.0);

    // A locked table costs its own families only.
    let locker = server.client().await?;
    locker.batch_execute("BEGIN; LOCK TABLE loose IN ACCESS EXCLUSIVE MODE").await?;
    server.sql("INSERT INTO other DEFAULT VALUES").await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!((count(&page), page.value("loose_total", &[])), (Some(2.0), Some(0.0)));
    assert_eq!(value(&page, "business_exporter_table_success", &[("table", "public.loose")])?, 0.0);
    Ok(())
}

/// What is installed later is used without a restart, and no series steps down by a little.
#[rstest]
#[tokio::test]
async fn the_strongest_mode_that_the_role_can_use_is_taken(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some((server, definition)) = shop(major, "auto").await? else { return Ok(()) };
    server.sql("INSERT INTO other SELECT FROM generate_series(1, 10)").await?;
    let exporter = definition.exporter(&server.dsn()).await?;
    let mode = |page: &Page, family: &str| {
        let samples = page.samples("business_exporter_counter_mode");
        let mut of_family = samples.filter(|sample| sample.label("family") == Some(family));
        of_family.next().and_then(|sample| sample.label("mode")).unwrap_or_default().to_owned()
    };
    let other = |page: &Page| page.value("other_total", &[]);
    let page = exporter.scrape(10.0).await?;
    assert_eq!((mode(&page, "other_total"), other(&page)), ("snapshot".to_owned(), Some(10.0)));

    let marks = Definition::new(SHOP)?;
    marks.install(&server).await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!((mode(&page, "made_total"), other(&page)), ("checkpoint".to_owned(), Some(0.0)));
    server.sql(&format!("{INSERT}; INSERT INTO other DEFAULT VALUES")).await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!((made(&page), other(&page)), (Some(1.0), Some(1.0)));

    definition.install(&server).await?;
    let page = exporter.scrape(10.0).await?;
    assert_eq!(mode(&page, "moved_total"), "ledger");
    server.sql("INSERT INTO items (kind) VALUES ('b'); UPDATE items SET kind = 'b'; INSERT INTO loose DEFAULT VALUES").await?;
    let page = exporter.scrape(10.0).await?;
    assert_page(
        &page,
        &[
            ("made_total", &[("kind", "a")], 1.0),
            ("made_total", &[("kind", "b")], 1.0),
            ("moved_total", &[], 2.0),
            ("other_total", &[], 1.0),
            ("loose_total", &[], 1.0),
            ("business_exporter_exact", &[("family", "moved_total")], 1.0),
        ],
    )?;
    // And when it is gone, what is left.
    server.sql(&String::from_utf8(definition.run(&["ddl", "--uninstall"], None)?.stdout)?).await?;
    eventually(&exporter, "without", |page| mode(page, "other_total") == "snapshot").await?;
    Ok(())
}

#[tokio::test]
async fn an_audit_that_takes_too_long_is_not_made_again_at_once() -> anyhow::Result<()> {
    let Some((server, definition)) = checkpoint(MAJORS[MAJORS.len() - 1]).await? else { return Ok(()) };
    server.sql("INSERT INTO items SELECT FROM generate_series(1, 1000000)").await?;
    let hasty = SHOP.replace("reconcile_interval: 0s", "reconcile_interval: 1h");
    let hasty = Definition::new(&format!("{hasty}defaults: {{timeout: 20ms}}\n"))?;
    let cancelled = || server.log().matches("audits = w.audits + 1").count();
    let exporter = hasty.exporter(&server.dsn()).await?;
    let first = eventually(&exporter, "audited", |_| cancelled() > 0).await?;
    for _ in 0..5 {
        exporter.scrape(10.0).await?;
    }
    assert_eq!(cancelled(), 1, "{first:?}\n{}", server.log());
    // With time enough it is made.
    let audits = "SELECT audits FROM business_exporter.watermark WHERE source = 'public.items'";
    assert_eq!(server.psql(audits).await?.as_deref(), Some("0"));
    let patient = definition.exporter(&server.dsn()).await?;
    patient.scrape(10.0).await?;
    assert_ne!(server.psql(audits).await?.as_deref(), Some("0"));
    Ok(())
}

/// Blocks of the table that were read by sessions that are over: a session says what it read when it ends.
async fn blocks_read(server: &Postgres) -> anyhow::Result<u64> {
    let client = server.client().await?;
    let others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    while client.query_one(others, &[]).await?.get::<_, i64>(0) > 0 {}
    let read = "SELECT sum(heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::int8
                FROM pg_statio_user_tables WHERE relname = 'items'";
    Ok(client.query_one(read, &[]).await?.get::<_, i64>(0).try_into()?)
}

/// A refresh reads what is new, however much is there: `cargo xtask bench business` has the times.
#[tokio::test]
async fn a_refresh_costs_the_same_in_a_large_table() -> anyhow::Result<()> {
    let mut blocks = Vec::new();
    for rows in [1_000, 200_000] {
        let Some((server, definition)) = checkpoint(MAJORS[MAJORS.len() - 1]).await? else { return Ok(()) };
        server.sql(&format!("INSERT INTO items SELECT FROM generate_series(1, {rows})")).await?;
        // The last vacuum: what one reads counts, too.
        server.sql("ALTER TABLE items SET (autovacuum_enabled = off)").await?;
        server.sql("VACUUM ANALYZE items").await?;
        // Late rows are looked for once, as by default.
        let text = SHOP.replace("reconcile_interval: 0s", "reconcile_interval: 1h");
        let definition = Definition::new(&text).inspect(|_| drop(definition))?;
        for _ in 0..3 {
            definition.run(&["once"], Some(&server.dsn()))?;
        }
        let mut of_refreshes = 0;
        for _ in 0..5 {
            server.sql("INSERT INTO items SELECT FROM generate_series(1, 10)").await?;
            let before = blocks_read(&server).await?;
            let output = definition.run(&["once"], Some(&server.dsn()))?;
            assert!(String::from_utf8(output.stdout)?.contains("made_total{kind=\"a\"} "));
            of_refreshes += blocks_read(&server).await? - before;
        }
        blocks.push(of_refreshes);
    }
    assert!(blocks[0] > 0 && blocks[1] <= blocks[0] + 100, "{blocks:?} blocks");
    Ok(())
}
