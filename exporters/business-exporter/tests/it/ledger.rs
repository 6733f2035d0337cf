//! Counters of events by the ledger: what is counted, and what never harms the application.

use exposition::Page;
use rstest::rstest;
use testkit::postgres::{EXPORTER, EXPORTER_PASSWORD, has_sqlstate};
use tokio_postgres::error::SqlState;

use crate::shop::{SHOP, shop};
use crate::support::{Definition, assert_page, failure, outcome};

#[rstest]
#[tokio::test]
async fn every_way_to_write_is_counted_once(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some((server, definition)) = shop(major).await? else { return Ok(()) };
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
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_value_that_is_new_to_an_enum_is_there_without_a_restart(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some((server, definition)) = shop(major).await? else { return Ok(()) };
    let exporter = definition.exporter(&server.dsn()).await?;
    let new = |page: &Page| page.value("made_total", &[("kind", "c")]);
    assert_eq!(new(&exporter.scrape(10.0).await?), None);
    server.sql("ALTER TYPE kind ADD VALUE 'c'").await?;
    assert_eq!(new(&exporter.scrape(10.0).await?), Some(0.0));
    Ok(())
}

#[rstest]
#[tokio::test]
async fn an_expression_that_fails_never_harms_the_application(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some((server, definition)) = shop(major).await? else { return Ok(()) };
    let exporter = definition.exporter(&server.dsn()).await?;
    let app = server.client_as("app", "app", "postgres").await?;
    // The inverse of 0.
    app.batch_execute("INSERT INTO items VALUES (1, 'a', 7, 'ada')").await?;
    assert_page(
        &exporter.scrape(10.0).await?,
        &[
            ("made_total", &[("kind", "a")], 1.0),
            ("inverse_count", &[], 0.0),
            ("business_exporter_event_errors_total", &[("event", "inverted")], 1.0),
            ("business_exporter_event_errors_total", &[("event", "made")], 0.0),
        ],
    )?;
    assert!(server.log().contains("event inverted was not counted: division by zero"), "{}", server.log());

    // Nor does a ledger without its tables.
    server.sql("DROP TABLE business_exporter.delta").await?;
    app.batch_execute("INSERT INTO items VALUES (9, 'a', 7, 'ada')").await?;
    assert_eq!(outcome(&exporter.scrape(10.0).await?, "events"), Some("error"));
    assert!(exporter.process.log().contains("installs the ledger"), "{}", exporter.process.log());
    Ok(())
}

/// They would make a sum fall, or spoil it for ever.
#[rstest]
#[tokio::test]
async fn negative_and_endless_values_are_refused(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some((server, definition)) = shop(major).await? else { return Ok(()) };
    let exporter = definition.exporter(&server.dsn()).await?;
    server
        .sql(
            "INSERT INTO items VALUES (1, 'a', 7.5, 'ada'), (2, 'a', -1, 'ada'), (3, 'a', 'NaN', 'ada'), (4, 'a', 3, 'ada')",
        )
        .await?;
    assert_page(
        &exporter.scrape(10.0).await?,
        &[
            ("made_total", &[("kind", "a")], 4.0),
            ("price_count", &[], 2.0),
            ("price_sum", &[], 10.5),
            ("paid_total", &[], 10.5),
            ("inverse_count", &[], 1.0),
            ("business_exporter_values_refused_total", &[("family", "price")], 2.0),
            ("business_exporter_values_refused_total", &[("family", "inverse")], 3.0),
        ],
    )?;
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_ledger_that_is_tampered_with_says_so_and_can_be_repaired(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some((server, definition)) = shop(major).await? else { return Ok(()) };
    let exporter = definition.exporter(&server.dsn()).await?;
    server.sql("INSERT INTO items VALUES (1, 'a', 1, 'ada'); TRUNCATE items").await?;
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
            ("made_total", &[("kind", "a")], 1.0),
        ],
    )?;
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_locked_ledger_costs_its_own_families_only(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some((server, _)) = shop(major).await? else { return Ok(()) };
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
    let Some((server, _)) = shop(major).await? else { return Ok(()) };
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
    let Some((server, _)) = shop(major).await? else { return Ok(()) };
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
    let Some((server, definition)) = shop(major).await? else { return Ok(()) };
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
