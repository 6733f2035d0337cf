//! Every column of every statistics view, on every PostgreSQL, is on the page or left out with a reason.

use std::collections::BTreeSet;

use rstest::rstest;
use testkit::postgres::{Postgres, Version};
use tokio_postgres::SimpleQueryMessage;

use crate::{all_collectors, exporter, rows_of};

const TABLE: &str = include_str!("../data/catalog.tsv");

/// The columns of the statistics views.
const COLUMNS: &str = "
    SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relkind = 'v' AND c.relnamespace = 'pg_catalog'::regnamespace AND c.relname ~ '^pg_stat(io)?_' AND a.attnum > 0";

/// The line of the table for a column.
fn line(view: &str, column: &str) -> Option<[&'static str; 4]> {
    rows_of::<4>(TABLE).find(|[v, c, ..]| *v == view && (*c == column || *c == "*"))
}

/// The families that collectors may put on the page of a server.
fn families(major: u32) -> BTreeSet<String> {
    let queries = pg_exporter::collectors::ALL.iter().flat_map(|collector| collector.queries);
    queries.flat_map(|query| query.families(Some(major))).map(|desc| desc.name.to_string()).collect()
}

#[rstest]
#[case(13)]
#[case(14)]
#[case(15)]
#[case(16)]
#[case(17)]
#[case(18)]
#[tokio::test]
async fn every_column_is_exported_or_waived(#[case] major: u32) -> anyhow::Result<()> {
    let server = Postgres::builder().version(Version::Major(major)).start().await?;
    server.sql("CREATE TABLE deals (id int PRIMARY KEY)").await?;
    let all = all_collectors();
    let exporter = exporter(&server.dsn(), &all.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let page = exporter.scrape(20.0).await?;
    let families = families(major);
    let mut missing = Vec::new();
    for message in server.client().await?.simple_query(COLUMNS).await? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let (view, column) = (row.get(0).unwrap_or_default(), row.get(1).unwrap_or_default());
        let Some([.., shown, _]) = line(view, column) else {
            missing.push(format!("{view}.{column} is not in the table"));
            continue;
        };
        let (family, label) = shown.split_once('{').unwrap_or((shown, ""));
        if family != "-" && !families.contains(family) {
            missing.push(format!("{view}.{column}: no collector has {family} for {major}"));
        }
        let label = label.trim_end_matches('}');
        if !label.is_empty() && page.samples(family).any(|sample| sample.label(label).is_none()) {
            missing.push(format!("{view}.{column}: {family} has no label {label}"));
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    Ok(())
}

/// A line that no version has any use for would hide a typing error.
#[tokio::test]
async fn every_line_is_used() -> anyhow::Result<()> {
    let mut columns = BTreeSet::new();
    for major in testkit::postgres::MAJORS {
        let server = Postgres::builder().version(Version::Major(major)).start().await?;
        for message in server.client().await?.simple_query(COLUMNS).await? {
            let SimpleQueryMessage::Row(row) = message else { continue };
            let cell = |index| row.get(index).unwrap_or_default().to_owned();
            columns.insert((cell(0), cell(1)));
        }
    }
    for [view, column, shown, reason] in rows_of::<4>(TABLE) {
        let used = columns.iter().any(|(v, c)| v == view && (c == column || column == "*"));
        assert!(used, "{view}.{column} is in no version");
        assert_eq!(shown == "-", !reason.is_empty(), "{view}.{column}");
    }
    Ok(())
}
