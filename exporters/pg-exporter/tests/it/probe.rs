//! `/probe` and `/sd`: only what is allowed, with the credentials meant for it, many targets in one process.

use std::path::Path;

use exposition::Page;
use futures_util::future::join_all;
use testkit::exporter::Exporter;
use testkit::http::{Request, Response};
use testkit::postgres::Postgres;

use crate::exporter;

const SECRET: &str = "pr0be-s3cr3t";

fn config(folder: &Path, ports: &str) -> anyhow::Result<String> {
    let text = format!(
        "auth_modules:
  main:
    type: userpass
    userpass: {{username: prober, password: {SECRET}}}
    options: {{sslmode: disable}}
targets:
  - match: ['127.0.0.1:{ports}']
    auth_modules: [main]
    labels: {{team: a}}
"
    );
    let path = folder.join("config.yml");
    std::fs::write(&path, text)?;
    Ok(format!("--config.file={}", path.display()))
}

async fn probe(exporter: &Exporter, query: &str) -> anyhow::Result<Response> {
    exporter.get(&format!("/probe?{query}")).await
}

#[tokio::test]
async fn only_what_is_allowed_is_reached() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    server.sql(&format!("CREATE ROLE prober LOGIN PASSWORD '{SECRET}' IN ROLE pg_monitor")).await?;
    let folder = tempfile::tempdir()?;
    let port = server.port();
    let config = config(folder.path(), &port.to_string())?;
    let exporter = exporter(&server.dsn(), &[&config, "--log.level=debug"]).await?.with_secret(SECRET);

    let target = format!("target=127.0.0.1:{port}/postgres&auth_module=main");
    for _ in 0..2 {
        let response = probe(&exporter, &target).await?;
        assert_eq!(response.status, 200, "{}", response.text);
        let page = exposition::parse::page(&response.text)?;
        assert_eq!(page.value("pg_up", &[]), Some(1.0));
        assert!(page.family("process_cpu_seconds_total").is_none(), "it is the target's page");
    }
    let page = exposition::parse::page(&probe(&exporter, &target).await?.text)?;
    assert_eq!(page.value("pg_exporter_scrapes_total", &[]), Some(3.0), "the target is kept warm");

    for (query, status, part) in [
        ("", 400, "target is required"),
        (&format!("target=127.0.0.1:{port}&auth_module=nobody"), 400, "nobody"),
        ("target=127.0.0.1:1&auth_module=main", 403, "not allowed"),
        (&format!("target=evil.example:{port}&auth_module=main"), 403, "not allowed"),
        (
            &format!("target=host=127.0.0.1%20port={port}%20hostaddr=127.0.0.2&auth_module=main"),
            400,
            "hostaddr",
        ),
    ] {
        let response = probe(&exporter, query).await?;
        assert_eq!(response.status.as_u16(), status, "{query}: {}", response.text);
        assert!(response.text.contains(part), "{query}: {}", response.text);
    }

    let discovered = exporter.get("/sd").await?.json()?;
    let address = exporter.address().to_string();
    assert_eq!(discovered[0]["targets"][0], serde_json::json!(address));
    let labels = &discovered[0]["labels"];
    assert_eq!(labels["__param_target"], format!("127.0.0.1:{port}"));
    assert_eq!((&labels["__param_auth_module"], &labels["team"]), (&"main".into(), &"a".into()));
    Ok(())
}

#[tokio::test]
async fn a_reload_takes_what_works_and_keeps_what_worked() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    server.sql(&format!("CREATE ROLE prober LOGIN PASSWORD '{SECRET}' IN ROLE pg_monitor")).await?;
    let folder = tempfile::tempdir()?;
    let flag = config(folder.path(), "1")?;
    let exporter = exporter(&server.dsn(), &[&flag]).await?.with_secret(SECRET);
    let query = format!("target=127.0.0.1:{}&auth_module=main", server.port());
    assert_eq!(probe(&exporter, &query).await?.status, 403);

    let reload = || exporter.send(Request::new(http::Method::POST, exporter.url("/-/reload")));
    config(folder.path(), "*")?;
    assert_eq!(reload().await?.status, 200);
    assert_eq!(probe(&exporter, &query).await?.status, 200);

    std::fs::write(folder.path().join("config.yml"), format!("auth_modules: [{SECRET}"))?;
    let refused = reload().await?;
    assert_eq!(refused.status, 500);
    assert!(refused.text.contains("config.yml"), "{}", refused.text);
    assert_eq!(probe(&exporter, &query).await?.status, 200);
    let page = exporter.scrape(10.0).await?;
    assert_eq!(page.value("postgres_exporter_config_last_reload_successful", &[]), Some(0.0));
    Ok(())
}

#[tokio::test]
async fn a_thousand_targets_in_one_process() -> anyhow::Result<()> {
    const TARGETS: u16 = 1000;
    let server = Postgres::start().await?;
    let folder = tempfile::tempdir()?;
    // Nothing listens on the ports beside the server's: a target that is down must not cost one that is up.
    let config = config(folder.path(), "*")?;
    let exporter = exporter(&server.dsn(), &[&config]).await?.with_secret(SECRET);
    let up = format!("/probe?target=127.0.0.1:{}/postgres&auth_module=main", server.port());
    server.sql(&format!("CREATE ROLE prober LOGIN PASSWORD '{SECRET}' IN ROLE pg_monitor")).await?;
    let ask = async |path: String| -> anyhow::Result<Page> {
        let response =
            Request::new(http::Method::GET, exporter.url(&path)).timeout(std::time::Duration::from_secs(60));
        let response = exporter.send(response).await?;
        anyhow::ensure!(response.status == 200, "{path}: {}", response.text);
        Ok(exposition::parse::page(&response.text)?)
    };
    let down = (1..TARGETS).map(|port| format!("/probe?target=127.0.0.1:{port}&auth_module=main"));
    let down: Vec<String> = down.collect();
    for chunk in down.chunks(100) {
        let (whole, pages) = tokio::join!(ask(up.clone()), join_all(chunk.iter().cloned().map(&ask)));
        assert_eq!(whole?.value("pg_up", &[]), Some(1.0));
        for page in pages {
            assert_eq!(page?.value("pg_up", &[]), Some(0.0));
        }
    }
    let page = ask(up).await?;
    assert_eq!(page.value("pg_exporter_scrapes_total", &[]), Some(11.0), "it was kept all the time");
    let own = exporter.scrape(20.0).await?;
    let memory = own.value("process_resident_memory_bytes", &[]).unwrap_or(f64::MAX);
    let (limit, files) = (100e6, own.value("process_open_fds", &[]).unwrap_or(f64::MAX));
    assert!(memory < limit, "{memory} bytes for {TARGETS} targets");
    assert!(files < 300.0, "{files} open files: targets that are down keep none");
    Ok(())
}

/// Each of them is answered, keeps its sessions, and costs little memory. A thousand with `--full`.
#[tokio::test]
async fn a_thousand_targets_that_are_up() -> anyhow::Result<()> {
    let targets: u32 = if testkit::full() { 1000 } else { 100 };
    let server = Postgres::builder().setting("max_connections", "2100").start().await?;
    server.sql(&format!("CREATE ROLE prober LOGIN PASSWORD '{SECRET}' IN ROLE pg_monitor")).await?;
    let folder = tempfile::tempdir()?;
    let config = config(folder.path(), "*")?;
    let exporter = exporter(&server.dsn(), &[&config]).await?.with_secret(SECRET);
    let before = exporter.scrape(20.0).await?;
    // The same server under many names: a target is what the request says.
    let target = |number: u32| {
        format!(
            "target=postgresql://127.0.0.1:{}/postgres%3Fapplication_name%3Dprobe_{number}&auth_module=main",
            server.port()
        )
    };
    for round in 1..=3 {
        for chunk in (0..targets).collect::<Vec<_>>().chunks(20) {
            let queries: Vec<String> = chunk.iter().map(|number| target(*number)).collect();
            for response in join_all(queries.iter().map(|query| probe(&exporter, query))).await {
                let response = response?;
                anyhow::ensure!(response.status == 200, "{}", response.text);
                let page = exposition::parse::page(&response.text)?;
                assert_eq!(page.value("pg_up", &[]), Some(1.0));
                assert_eq!(page.value("pg_exporter_scrapes_total", &[]), Some(f64::from(round)));
            }
        }
    }
    // Statistics and sizes.
    let kept = "SELECT count(*) || ' targets, two sessions at most: ' || (max(sessions) <= 2)
                FROM (SELECT count(*) AS sessions FROM pg_stat_activity WHERE application_name LIKE 'probe%'
                      GROUP BY application_name) target";
    let expected = format!("{targets} targets, two sessions at most: true");
    assert_eq!(server.psql(kept).await?, Some(expected));
    let own = exporter.scrape(20.0).await?;
    let memory = |page: &Page| page.value("process_resident_memory_bytes", &[]).unwrap_or(f64::MAX);
    let each = (memory(&own) - memory(&before)) / f64::from(targets);
    assert!(each < 400e3, "{each} bytes for each of {targets} targets");
    Ok(())
}

#[tokio::test]
async fn the_targets_asked_for_last_keep_their_sessions() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    server.sql(&format!("CREATE ROLE prober LOGIN PASSWORD '{SECRET}' IN ROLE pg_monitor")).await?;
    let folder = tempfile::tempdir()?;
    let config = config(folder.path(), &server.port().to_string())?;
    let exporter = exporter(&server.dsn(), &[&config, "--probe.max-targets=3"]).await?.with_secret(SECRET);
    // The same server under many names: a target is what the request says.
    let target = |number: usize| {
        format!(
            "target=postgresql://127.0.0.1:{}/postgres%3Fapplication_name%3Dprobe_{number}&auth_module=main",
            server.port()
        )
    };
    for number in 0..20 {
        let response = probe(&exporter, &target(number)).await?;
        assert_eq!(response.status, 200, "{}", response.text);
        assert_eq!(exposition::parse::page(&response.text)?.value("pg_up", &[]), Some(1.0));
    }
    let kept = "SELECT string_agg(DISTINCT application_name, ' ' ORDER BY application_name)
                FROM pg_stat_activity WHERE application_name LIKE 'probe%'";
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    // Sessions of targets that are not kept end when their last refresh of sizes is over.
    while server.psql(kept).await?.as_deref() != Some("probe_17 probe_18 probe_19") {
        anyhow::ensure!(std::time::Instant::now() < deadline, "{:?}", server.psql(kept).await?);
    }
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'probe%'";
    let sessions = server.psql(sessions).await?.and_then(|text| text.parse::<u32>().ok());
    assert!(sessions.is_some_and(|sessions| sessions <= 6), "{sessions:?}: statistics and sizes of each");
    Ok(())
}
