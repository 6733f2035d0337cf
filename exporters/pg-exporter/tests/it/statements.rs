//! `--collector.stat_statements.sticky`: few series come and go, and nothing that is not shown is lost.

use std::collections::BTreeSet;

use exposition::Page;
use rstest::rstest;
use testkit::postgres::{Postgres, Version};

use crate::{exporter, failed};

const LIMIT: usize = 6;
const STATEMENTS: usize = 30;

/// The values of a family by user, database and queryid.
fn values<'a>(page: &'a Page, family: &'a str) -> impl Iterator<Item = ([&'a str; 3], f64)> {
    page.samples(family).map(|sample| {
        (["user", "datname", "queryid"].map(|name| sample.label(name).unwrap_or_default()), sample.value)
    })
}

/// What increase() says of a family in a database from one page to the next.
fn increase(before: &Page, after: &Page, family: &str, database: &str) -> f64 {
    let of_series = |(labels, now): ([&str; 3], f64)| {
        let (_, before) = values(before, family).find(|(other, _)| *other == labels)?;
        Some(if now < before { now } else { now - before })
    };
    values(after, family).filter(|(labels, _)| labels[1] == database).filter_map(of_series).sum()
}

fn shown(page: &Page) -> BTreeSet<String> {
    let labels = values(page, "pg_stat_statements_calls_total").map(|(labels, _)| labels[2].to_owned());
    labels.filter(|queryid| queryid != "other").collect()
}

#[rstest]
#[case(13)]
#[case(18)]
#[tokio::test]
async fn the_increases_of_all_series_are_those_of_the_server(#[case] major: u32) -> anyhow::Result<()> {
    let builder = Postgres::builder().version(Version::Major(major)).preload("pg_stat_statements");
    let server = builder.start().await?;
    server
        .sql(
            "CREATE SCHEMA apart; CREATE EXTENSION pg_stat_statements SCHEMA apart;
             GRANT USAGE ON SCHEMA apart TO exporter;
             CREATE ROLE auditor LOGIN SUPERUSER PASSWORD 'x'",
        )
        .await?;
    server.sql("CREATE DATABASE shop").await?;
    let auditor = server.client_as("auditor", "x", "postgres").await?;
    let total = async |database: &str| -> anyhow::Result<f64> {
        let sql = "SELECT coalesce(sum(s.calls), 0)::float8 FROM apart.pg_stat_statements s
                   JOIN pg_database d ON d.oid = s.dbid JOIN pg_roles r ON r.oid = s.userid
                   WHERE d.datname = $1::text::name AND r.rolname NOT IN ('exporter', 'auditor')";
        Ok(auditor.query_one(sql, &[&database]).await?.get(0))
    };
    let args = [
        "--collector.stat_statements",
        "--collector.stat_statements.sticky",
        "--collector.stat_statements.include_query",
        &format!("--collector.stat_statements.limit={LIMIT}"),
        "--collector.stat_statements.exclude_users=exporter,auditor",
    ];
    let exporter = exporter(&server.dsn(), &args).await?;
    let clients = [server.client().await?, server.client_as("postgres", "", "shop").await?];
    // Statements that differ in their number of columns, of which other ones are busy in each round.
    let load = async |round: usize| -> anyhow::Result<()> {
        for client in &clients {
            for columns in (1..=STATEMENTS).filter(|columns| (columns + round).is_multiple_of(3)) {
                let sql = format!("SELECT {}", vec!["1"; columns].join(", "));
                for _ in 0..=round {
                    client.batch_execute(&sql).await?;
                }
            }
        }
        Ok(())
    };
    load(0).await?;
    load(1).await?;
    load(2).await?;
    let mut before = exporter.scrape(10.0).await?;
    let mut totals = (total("postgres").await?, total("shop").await?);
    for round in 0..6 {
        load(round).await?;
        let page = exporter.scrape(10.0).await?;
        assert_eq!(failed(&page), Vec::<String>::new());
        let now = (total("postgres").await?, total("shop").await?);
        let calls = |database| increase(&before, &page, "pg_stat_statements_calls_total", database);
        assert_eq!((calls("postgres"), calls("shop")), (now.0 - totals.0, now.1 - totals.1), "round {round}");
        assert!((LIMIT..=LIMIT + LIMIT / 2).contains(&shown(&page).len()), "{:?}", shown(&page));
        let texts: BTreeSet<&str> = page
            .samples("pg_stat_statements_query_id")
            .filter_map(|sample| sample.label("queryid"))
            .collect();
        assert!(shown(&page).iter().all(|queryid| texts.contains(queryid.as_str())), "{texts:?}");
        (before, totals) = (page, now);
    }

    // Texts are not read for statements whose text is known.
    let reads = async || -> anyhow::Result<i64> {
        let sql =
            "SELECT sum(calls)::int8 FROM apart.pg_stat_statements WHERE query LIKE '%pg_catalog.left(query%'
                   AND userid = 'exporter'::regrole";
        Ok(auditor.query_one(sql, &[]).await?.get(0))
    };
    let settled = exporter.scrape(10.0).await?;
    let read = reads().await?;
    for _ in 0..3 {
        let page = exporter.scrape(10.0).await?;
        assert_eq!(shown(&page), shown(&settled));
        assert!(page.samples("pg_stat_statements_query_id").count() > 0);
    }
    assert_eq!(reads().await?, read);

    // Statistics that are reset are counters that begin again.
    auditor.batch_execute("SELECT apart.pg_stat_statements_reset()").await?;
    load(1).await?;
    let page = exporter.scrape(10.0).await?;
    let calls = increase(&settled, &page, "pg_stat_statements_calls_total", "shop");
    assert_eq!(calls, total("shop").await?);
    Ok(())
}
