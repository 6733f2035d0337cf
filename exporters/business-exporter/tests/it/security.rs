//! That a definition cannot write, whatever its SQL says.

use pg_client::statement;
use rstest::rstest;
use tokio_postgres::SimpleQueryMessage;

use crate::support::{Definition, failure, outcome, server};

/// Texts that close the parenthesis around a query where a careless reader of SQL sees a string or a comment.
const ESCAPES: [&str; 8] = [
    "SELECT 1 AS v; {}",
    "SELECT 1 AS v) AS q; {}; SELECT * FROM (SELECT 1 AS v",
    "SELECT name'\\' AS v) AS q; {}; SELECT * FROM (SELECT 1 AS v --'",
    "SELECT 1 AS v --\r) AS q; {}; SELECT * FROM (SELECT 1 AS v",
    "SELECT $\u{20ac}$ ' $\u{20ac}$ AS v) AS q; {}; SELECT * FROM (SELECT 1 AS v --'",
    "SELECT 1 AS\u{a0}$$, ' AS v) AS q; {}; SELECT * FROM (SELECT 1 AS v --', $$x",
    "SELECT E'a'\n'\\' AS x, ' AS v) AS q; {}; SELECT * FROM (SELECT 1 AS v --'",
    "SELECT '\\'') AS q; {}; SELECT * FROM (SELECT 1 AS v --'",
];

/// Each text either does nothing on the server, as a message of the kind the exporter sends, or is refused.
#[rstest]
#[tokio::test]
async fn what_could_escape_on_the_server_is_refused(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    server.sql("CREATE TABLE t (a int)").await?;
    let mut escaped = Vec::new();
    for conforming in ["on", "off"] {
        for text in ESCAPES {
            server.sql("TRUNCATE t; INSERT INTO t VALUES (1)").await?;
            let sql = text.replace("{}", "COMMIT; DELETE FROM t");
            let message =
                format!("SET LOCAL transaction_read_only = on; SELECT * FROM (\n{sql}\n) AS q LIMIT 2");
            let client = server.client().await?;
            client.batch_execute(&format!("SET standard_conforming_strings = {conforming}")).await?;
            let _: Result<Vec<SimpleQueryMessage>, _> = client.simple_query(&message).await;
            if server.psql("SELECT count(*) FROM t").await?.as_deref() == Some("0") {
                escaped.push(text);
                assert!(statement::single(&sql).is_err(), "{conforming}: {sql:?} deletes and is let through");
            }
        }
    }
    assert!(escaped.len() >= 5, "the texts no longer show the danger: {escaped:?}");
    Ok(())
}

/// A statement that writes: through a function, so that it is a SELECT like others.
#[rstest]
#[tokio::test]
async fn writing_fails_and_changes_nothing(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    server
        .sql(
            "CREATE TABLE t (a int); INSERT INTO t VALUES (1); CREATE SEQUENCE s;
             CREATE FUNCTION wipe() RETURNS bigint SECURITY DEFINER LANGUAGE sql AS
             'WITH d AS (DELETE FROM t RETURNING 1) SELECT count(*) FROM d';
             GRANT ALL ON t, s TO exporter",
        )
        .await?;
    let definition = Definition::of_queries(&[
        ("wipes", "SELECT wipe() AS v"),
        ("draws", "SELECT nextval('s') AS v"),
        ("deletes", "DELETE FROM t RETURNING 1 AS v"),
        ("deletes_inside", "WITH d AS (DELETE FROM t RETURNING 1) SELECT count(*) AS v FROM d"),
        // Switches the transaction back first, in an order that the planner keeps.
        (
            "unlocks",
            "WITH a AS MATERIALIZED (SELECT set_config('transaction_read_only', 'off', true) AS x)
                     SELECT wipe() AS v FROM a WHERE x = 'off'",
        ),
        ("reads", "SELECT count(*) AS v FROM t"),
    ])?;
    // Even a superuser's exporter does not write.
    for dsn in [server.dsn(), server.admin_dsn("postgres")] {
        let exporter = definition.exporter(&dsn).await?;
        let page = exporter.scrape(10.0).await?;
        for query in ["wipes", "draws", "deletes", "deletes_inside", "unlocks"] {
            assert_eq!(outcome(&page, query), Some("error"), "{query}");
            assert!(page.family(query).is_none(), "{query}");
        }
        assert_eq!(page.value("reads", &[]), Some(1.0));
        let log = exporter.process.log();
        assert!(log.contains("25006"), "{log}");
    }
    assert_eq!(server.psql("SELECT count(*) FROM t").await?.as_deref(), Some("1"));
    assert_eq!(server.psql("SELECT is_called FROM s").await?.as_deref(), Some("f"));
    Ok(())
}

#[test]
fn a_second_statement_is_refused_before_anything_is_connected() -> anyhow::Result<()> {
    for text in ESCAPES {
        let sql = text.replace("{}", "COMMIT; DELETE FROM deals");
        let output = Definition::of_queries(&[("v", &sql)])?.run(&["check"], None)?;
        let (code, message) = failure(&output);
        assert_eq!(code, Some(64), "{sql:?}: {message}");
        assert!(message.contains("metrics.yml:5:") && message.contains("query \"v\""), "{message}");
    }
    Ok(())
}
