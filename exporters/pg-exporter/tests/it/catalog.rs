//! Every column of every statistics view, on every PostgreSQL, is on the page or left out with a reason.

use std::collections::BTreeSet;

use pg_exporter::progress::Label;
use pg_exporter::sql::Query;
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

/// A view's definition in a form that is the same on every version.
async fn definition(server: &Postgres, view: &str) -> anyhow::Result<String> {
    let definition = server.psql(&format!("SELECT pg_get_viewdef('{view}')")).await?.unwrap_or_default();
    let definition = definition.replace(['(', ')'], "").replace("s.param", "param");
    Ok(definition.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What is read from the function behind the views means what they say, on every version.
#[tokio::test]
async fn parameters_of_progress_are_those_of_the_views() -> anyhow::Result<()> {
    for major in testkit::postgres::MAJORS {
        let server = Postgres::builder().version(Version::Major(major)).start().await?;
        for query in pg_exporter::collectors::ALL.iter().flat_map(|collector| collector.queries) {
            let (Query::Report(report), families) = (query, query.families(Some(major))) else { continue };
            if families.is_empty() {
                continue;
            }
            let view = format!("pg_stat_progress_{}", report.command.to_lowercase().replace(' ', "_"));
            let definition = definition(&server, &view).await?;
            let shown = |family: &str| families.iter().any(|desc| desc.name == family);
            for parameter in report.parameters.iter().filter(|parameter| shown(parameter.family())) {
                let (number, family) = (parameter.number(), parameter.family());
                // What is computed from it is a time, or a value of which one means that it is unknown.
                let forms = ["", "::double precision / 1000000::double precision", " END"];
                let is = |column| {
                    let selected = |form| definition.contains(&format!(" param{number}{form} AS {column}"));
                    forms.into_iter().any(selected)
                };
                let found =
                    rows_of::<4>(TABLE).any(|[v, column, f, _]| v == view && f == family && is(column));
                assert!(found, "{major}: {family} is not parameter {number} of {definition}");
            }
            for label in report.labels {
                let Label::Code(name, number, texts) = label else { continue };
                let cases = definition.split(&format!("CASE param{number} ")).nth(1).unwrap_or_default();
                let cases = cases.split(&format!(" END AS {name}")).next().unwrap_or_default();
                let texts = texts.iter().enumerate().filter(|(_, text)| !text.is_empty());
                let expected: Vec<String> =
                    texts.map(|(code, text)| format!("{code} THEN '{text}'::text")).collect();
                let found: Vec<&str> = cases.split("WHEN ").skip(1).collect();
                assert_eq!(found.len(), expected.len(), "{major} {view}: {cases}");
                for (found, expected) in found.iter().zip(&expected) {
                    assert!(found.starts_with(expected), "{major} {view}: {found}, not {expected}");
                }
            }
        }
    }
    Ok(())
}
