//! Queries that run beside the scrapes, and secrets that change meanwhile.

use exposition::Page;
use rstest::rstest;
use testkit::page::value;
use testkit::postgres::{EXPORTER, EXPORTER_PASSWORD};

use crate::support::{Definition, eventually, failure, outcome, server};

#[rstest]
#[tokio::test]
async fn a_scrape_shows_the_last_result_and_waits_for_none(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    server.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1); GRANT SELECT ON t TO exporter").await?;
    let text = "
version: 1
families: [{name: at, type: gauge, help: A.}, {name: slow, type: gauge, help: A.}, {name: rows, type: gauge, help: A.}]
queries:
- {name: at, refresh: 1h, sql: SELECT extract(epoch FROM clock_timestamp()) AS v, emit: [{family: at, value: v}]}
- {name: slow, refresh: 1h, timeout: 60s, sql: 'SELECT 1 AS v FROM pg_sleep(3600)', emit: [{family: slow, value: v}]}
- {name: rows, sql: SELECT count(*) AS v FROM t, emit: [{family: rows, value: v}]}
";
    let exporter = Definition::new(text)?.exporter(&server.dsn()).await?;
    let page = eventually(&exporter, "refreshed", |page| page.value("at", &[]).is_some()).await?;
    let first = value(&page, "at", &[])?;
    // The other one runs now, for a minute; the scrape does not wait for it.
    let page = exporter.scrape(10.0).await?;
    assert_eq!((page.value("at", &[]), page.value("rows", &[])), (Some(first), Some(1.0)));
    assert_eq!(outcome(&page, "slow"), Some("ok"), "it did not fail yet");
    assert!(page.family("slow").is_none());
    assert!(page.value("business_exporter_query_data_age_seconds", &[("query", "at")]).is_some());
    assert_eq!(page.value("business_exporter_query_data_age_seconds", &[("query", "rows")]), None);
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'business-exporter'";
    assert_eq!(server.psql(connections).await?.as_deref(), Some("2"));
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_failing_query_keeps_its_result_for_a_while(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    server.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1); GRANT SELECT ON t TO exporter").await?;
    let text = "
version: 1
defaults: {hold_max: HOLD}
families: [{name: rows, type: gauge, help: A.}]
queries:
- {name: rows, refresh: 50ms, sql: SELECT count(*) AS v FROM t, emit: [{family: rows, value: v}]}
";
    let mut exporters = Vec::new();
    for (hold, shown) in [("1h", Some(1.0)), ("0s", None)] {
        let definition = Definition::new(&text.replace("HOLD", hold))?;
        exporters.push((definition.exporter(&server.dsn()).await?, shown));
    }
    for (change, ending) in [
        ("SELECT 1", "ok"),
        ("ALTER TABLE t RENAME TO gone", "error"),
        ("ALTER TABLE gone RENAME TO t", "ok"),
    ] {
        server.sql(change).await?;
        for (exporter, shown) in &exporters {
            let shown = if ending == "ok" { Some(1.0) } else { *shown };
            let is_so = |page: &Page| {
                outcome(page, "rows") == Some(ending)
                    && page.value("rows", &[]) == shown
                    && page.value("business_exporter_up", &[]) == Some(1.0)
            };
            eventually(exporter, &format!("{shown:?} and {ending} after {change:?}"), is_so).await?;
        }
    }
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_password_that_is_changed_needs_no_restart(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("password");
    std::fs::write(&file, "wr0ng-w0rd")?;
    let text = format!(
        "version: 1\ndatabase: {{password: {{file: {}}}}}\nfamilies: [{{name: one, type: gauge, help: A.}}]\n\
         queries: [{{name: one, sql: SELECT 1 AS v, emit: [{{family: one, value: v}}]}}]\n",
        file.display()
    );
    let dsn = format!("postgresql://{EXPORTER}@{}/postgres?sslmode=disable", server.addr());
    let definition = Definition::new(&text)?;
    let exporter = definition.exporter(&dsn).await?;
    assert_eq!(value(&exporter.scrape(10.0).await?, "business_exporter_up", &[])?, 0.0);
    std::fs::write(&file, format!("{EXPORTER_PASSWORD}\n"))?;
    assert_eq!(value(&exporter.scrape(10.0).await?, "business_exporter_up", &[])?, 1.0);
    let log = exporter.process.log();
    assert!(log.contains("password authentication failed") && !log.contains("wr0ng-w0rd"), "{log}");
    std::fs::remove_file(&file)?;
    let (code, message) = failure(&definition.run(&["once"], Some(&dsn))?);
    assert_eq!((code, message.contains("cannot read the secret")), (Some(64), true), "{message}");
    Ok(())
}
