//! `once`, `check`, `grants`, `compare`, `--dumpmaps`, as users run them.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rstest::rstest;
use testkit::postgres::{EXPORTER_PASSWORD, Postgres, Version};

use crate::{all_collectors, exporter, failed};

/// Exit code and output of the binary.
async fn run(args: &[&str]) -> anyhow::Result<(Option<i32>, String)> {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pg-exporter"));
    let output = command.args(args).stdin(Stdio::null()).output().await?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains(EXPORTER_PASSWORD), "a password is printed: {text}");
    Ok((output.status.code(), text))
}

#[tokio::test]
async fn once_prints_the_page() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let (code, text) = run(&["once", "--log.level=error", "--dsn", &server.dsn()]).await?;
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(exposition::parse::page(&text)?.value("pg_up", &[]), Some(1.0));
    let (code, text) = run(&["once", "--dsn", "postgresql://me@127.0.0.1:1/x"]).await?;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("pg_up 0") && text.contains("listening there"), "{text}");
    Ok(())
}

#[rstest]
#[case(13)]
#[case(14)]
#[case(15)]
#[case(16)]
#[case(17)]
#[case(18)]
#[tokio::test]
async fn what_grants_prints_is_enough(#[case] major: u32) -> anyhow::Result<()> {
    let builder = Postgres::builder().version(Version::Major(major)).preload("pg_stat_statements");
    let server = builder.start().await?;
    server.sql("CREATE DATABASE shop").await?;
    server.client_as("postgres", "", "shop").await?.batch_execute("CREATE TABLE deals (id serial)").await?;
    let admin = server.admin_dsn("postgres");
    let all = all_collectors();
    let mut flags: Vec<&str> = all.iter().map(String::as_str).collect();
    flags.push("--databases=all");
    let (code, script) = run(&[&["grants", "--role=watcher", "--dsn", &admin], &flags[..]].concat()).await?;
    assert_eq!(code, Some(0), "{script}");
    assert!(
        script.starts_with(&format!("-- PostgreSQL {major}.")) && !script.contains("pg_monitor"),
        "{script}"
    );

    // Before: what is hidden, and what fails, is told with what to do.
    server.sql("CREATE ROLE watcher LOGIN PASSWORD 'x'").await?;
    let dsn = format!("postgresql://watcher:x@{}/postgres?sslmode=disable", server.addr());
    let (code, report) = run(&[&["check", "--dsn", &dsn], &flags[..]].concat()).await?;
    assert_eq!(code, Some(1), "{report}");
    for part in ["not a member of pg_read_all_stats", "permission", "pg-exporter grants", "missing_extension"]
    {
        assert!(report.contains(part), "no {part:?} in {report}");
    }
    server.sql("DROP ROLE watcher").await?;
    server.sql(&script).await?;
    server.sql("ALTER ROLE watcher PASSWORD 'x'").await?;
    let (code, report) = run(&[&["check", "--dsn", &dsn], &flags[..]].concat()).await?;
    assert_eq!(code, Some(0), "{report}");

    // A superuser sees no more, say of this session.
    let _idle = server.client().await?;
    let (watcher, superuser) = (exporter(&dsn, &flags).await?, exporter(&admin, &flags).await?);
    let (page, whole) = (watcher.scrape(20.0).await?, superuser.scrape(20.0).await?);
    assert_eq!(failures(&page, major), Vec::<String>::new());
    assert!(
        page.samples("pg_exporter_database_collector_outcome").all(|sample| sample.has(&[("outcome", "ok")]))
    );
    let missing: Vec<&str> = whole
        .families
        .iter()
        .map(|family| family.name.as_str())
        .filter(|name| page.family(name).is_none())
        // The values of sequences belong to who may use them.
        .filter(|name| !name.starts_with("pg_sequence_"))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
    let hidden_setting = [("name", "shared_preload_libraries")];
    assert_eq!(page.value("pg_setting_info", &hidden_setting), Some(1.0));

    // Nor on a standby.
    let standby = server.standby().await?;
    let dsn = format!("postgresql://watcher:x@{}/postgres?sslmode=disable", standby.addr());
    let watcher = exporter(&dsn, &flags).await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let page = watcher.scrape(20.0).await?;
        if page.value("pg_recovery_receiver_streaming", &[]) == Some(1.0) {
            assert_eq!(failures(&page, major), Vec::<String>::new());
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "the receiver is not seen");
    }
}

/// What failed. Before 16 there is no summary to create the extension for.
fn failures(page: &exposition::Page, major: u32) -> Vec<String> {
    let mut failed = failed(page);
    failed.retain(|labels| major >= 16 || !labels.contains("buffercache_summary"));
    failed
}

#[tokio::test]
async fn compare_tells_what_changes() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let old = exporter(&server.dsn(), &["--compat=0.19"]).await?;
    let url = old.url("/metrics");
    old.scrape(10.0).await?;
    let (code, text) = run(&["compare", "--old", &url, "--dsn", &server.dsn(), "--log.level=error"]).await?;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("{server} -> {}") && !text.contains("  process_"), "{text}");
    Ok(())
}

#[tokio::test]
async fn maps_are_dumped() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("queries.yaml");
    std::fs::write(
        &path,
        "mine: {query: SELECT 1 AS x, metrics: [{x: {usage: GAUGE, description: It is.}}]}",
    )?;
    let flag = format!("--extend.query-path={}", path.display());
    let (code, text) = run(&["--dumpmaps", &flag, "--compat=0.19"]).await?;
    assert_eq!(code, Some(0), "{text}");
    for part in ["pg_stat_archiver_archived_count counter", "mine SELECT 1 AS x", "x Gauge It is."] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    Ok(())
}

#[tokio::test]
async fn healthcheck_tells_whether_the_exporter_runs() -> anyhow::Result<()> {
    // The server is no matter of the exporter's own health.
    let exporter = exporter("postgresql://me@127.0.0.1:1/x", &[]).await?;
    let address = format!("--web.listen-address={}", exporter.address());
    assert_eq!(run(&["healthcheck", &address]).await?, (Some(0), String::new()));
    drop(exporter);
    let (code, text) = run(&["healthcheck", &address]).await?;
    assert!(code == Some(1) && text.contains("cannot connect"), "{code:?}: {text}");
    Ok(())
}
