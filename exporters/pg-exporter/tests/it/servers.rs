//! Several servers in DATA_SOURCE_NAME, labels and prefix: what postgres_exporter calls its legacy half.

use testkit::exporter::Exporter;
use testkit::postgres::Postgres;

use crate::{exporter, failed};

async fn with_names(names: String, args: &[&str]) -> anyhow::Result<Exporter> {
    Exporter::start(env!("CARGO_BIN_EXE_pg-exporter"), args, |process| process.env("DATA_SOURCE_NAME", names))
        .await
}

#[tokio::test]
async fn several_servers_on_one_page() -> anyhow::Result<()> {
    let (first, mut second) = (Postgres::start().await?, Postgres::start().await?);
    let exporter = with_names(format!("{},{}", first.dsn(), second.dsn()), &[]).await?;
    let page = exporter.scrape(20.0).await?;
    assert_eq!(failed(&page), Vec::<String>::new());
    assert_eq!(page.value("pg_up", &[]), Some(1.0));
    let servers = [first.addr().to_string(), second.addr().to_string()];
    for server in &servers {
        assert_eq!(page.samples("pg_static").filter(|sample| sample.has(&[("server", server)])).count(), 1);
        assert_eq!(page.value("pg_exporter_server_up", &[("server", server)]), Some(1.0));
    }
    second.stop()?;
    let page = exporter.scrape(20.0).await?;
    assert_eq!(page.value("pg_up", &[]), Some(0.0));
    assert_eq!(page.value("pg_exporter_server_up", &[("server", &servers[0])]), Some(1.0));
    assert_eq!(page.value("pg_exporter_server_up", &[("server", &servers[1])]), Some(0.0));
    assert_eq!(page.samples("pg_static").count(), 1, "the first server is whole");
    assert!(page.family("pg_stat_database_numbackends").is_some());
    Ok(())
}

#[tokio::test]
async fn constant_labels_and_prefix() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let labels = ["--constantLabels=team=a,env=b", "--metric-prefix=app"];
    for (compat, labelled, plain) in [
        (
            "0.20",
            &["pg_static", "pg_up"] as &[_],
            &["pg_settings_max_connections", "pg_stat_archiver_archived_count"] as &[_],
        ),
        (
            "0.19",
            &["pg_static", "pg_settings_max_connections", "app_stat_archiver_archived_count"],
            &["pg_locks_count"],
        ),
    ] {
        let compat = format!("--compat={compat}");
        let exporter = exporter(&server.dsn(), &[&labels[..], &[&compat]].concat()).await?;
        let page = exporter.scrape(10.0).await?;
        for (families, expected) in [(labelled, true), (plain, false)] {
            for name in families {
                let sample = page.samples(name).next().unwrap_or_else(|| panic!("{compat}: no {name}"));
                assert_eq!(sample.has(&[("team", "a"), ("env", "b")]), expected, "{compat} {name}");
            }
        }
        assert!(page.family("pg_stat_database_conflicts_confl_lock").is_none());
        assert!(page.family("app_stat_database_conflicts_confl_lock").is_some());
    }
    let exporter = exporter(&server.dsn(), &["--disable-default-metrics", "--compat=0.19"]).await?;
    let page = exporter.scrape(10.0).await?;
    for (name, expected) in [
        ("pg_static", false),
        ("pg_stat_archiver_archived_count", false),
        ("pg_settings_max_connections", true),
        ("pg_locks_count", true),
    ] {
        assert_eq!(page.family(name).is_some(), expected, "{name}");
    }
    Ok(())
}
