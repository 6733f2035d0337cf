//! Bad input: one clear message that names the object and the fix, the right exit code, no secret.

use std::process::{Command, Output};

use testkit::postgres::{Postgres, Version};

use crate::exporter;

const SECRET: &str = "s3cr3t-w0rd";

/// Arguments, environment, exit code, and words of the message.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], i32, &'a [&'a str]);

fn run(args: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pg-exporter"));
    command.env_clear().args(args).envs(environment.iter().copied());
    let Ok(Output { status, stdout, stderr }) = command.output() else { panic!("the binary does not run") };
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(!text.contains(SECRET), "a secret is printed: {text}");
    (status.code(), text)
}

#[test]
fn mistakes_are_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let dsn = format!("postgresql://me:{SECRET}@localhost/app");
    let nonsense = format!("postgresql://me:{SECRET}@localhost/app?sslmode=maybe");
    let broken = format!("host=localhost password={SECRET} port=abc");
    let cases: &[Case] = &[
        (&["--dsn", &nonsense], &[], 64, &["sslmode", "maybe"]),
        (&["--dsn", &broken], &[], 64, &["port of host 1", "--dsn"]),
        (&[], &[("DATA_SOURCE_NAME", &nonsense)], 64, &["DATA_SOURCE_", "sslmode"]),
        (
            &[],
            &[("DATA_SOURCE_URI_FILE", "/nonexistent/uri")],
            64,
            &["/nonexistent/uri", "DATA_SOURCE_URI_FILE"],
        ),
        (&["--dsn", &dsn, "--web.listen-address", &taken], &[], 1, &[&taken, "in use"]),
        (&["--dsn", &dsn, "--web.listen-address", "nowhere"], &[], 2, &["nowhere"]),
        (&["--dsn", &dsn, "--web.config.file", "/nonexistent/web.yml"], &[], 64, &["/nonexistent/web.yml"]),
        (&["--dsn", &dsn, "--collector.nonsense"], &[], 2, &["--collector.nonsense"]),
        (&["--dsn", &dsn, "--compat", "0.12"], &[], 2, &["0.12", "0.19"]),
        (&["--dsn", &dsn, "--scrape-timeout", "10"], &[], 2, &["10", "unit"]),
    ];
    for (args, environment, code, words) in cases {
        let (status, text) = run(args, environment);
        assert_eq!(status, Some(*code), "{args:?}: {text}");
        for word in *words {
            assert!(text.contains(word), "{args:?} does not say {word:?}: {text}");
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_in_the_log_and_the_password_is_not() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let dsn = format!("postgresql://exporter:{SECRET}@127.0.0.1:{}/postgres?sslmode=disable", server.port());
    let exporter = exporter(&dsn, &["--log.level=debug"]).await?;
    let page = exporter.scrape(5.0).await?;
    assert_eq!(page.value("pg_up", &[]), Some(0.0));
    let log = exporter.process.log();
    assert!(log.contains("password") && log.contains("28P01") || log.contains("check user"), "{log}");
    assert!(!log.contains(SECRET), "{log}");
    Ok(())
}

#[tokio::test]
async fn endpoints() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let exporter = exporter(&server.dsn(), &["--web.telemetry-path=/stats"]).await?;
    for (path, status, text) in [
        ("/", 200, "href=\"/stats\""),
        ("/-/healthy", 200, "Healthy"),
        ("/-/ready", 200, "Ready"),
        ("/-/reload", 405, "405"),
        ("/metrics", 404, "404"),
        ("/stats?collect[]=nonsense", 400, "nonsense"),
        ("/stats?collect[]=wal&exclude[]=wal", 400, "combined"),
    ] {
        let response = exporter.get(path).await?;
        assert_eq!(response.status.as_u16(), status, "{path}");
        assert!(response.text.contains(text), "{path}: {}", response.text);
    }
    let only = exposition::parse::page(&exporter.get("/stats?collect[]=wal").await?.text)?;
    assert!(only.family("pg_wal_segments").is_some() && only.family("pg_roles_connection_limit").is_none());
    let without = exposition::parse::page(&exporter.get("/stats?exclude[]=wal").await?.text)?;
    assert!(
        without.family("pg_wal_segments").is_none() && without.family("pg_roles_connection_limit").is_some()
    );
    Ok(())
}

#[tokio::test]
async fn promtool_finds_only_the_peers_own_names() -> anyhow::Result<()> {
    let server = Postgres::builder().version(Version::Major(15)).start().await?;
    server.sql("SELECT pg_stat_reset()").await?;
    let exporter = exporter(&server.dsn(), &[]).await?;
    let text = exporter.get("/metrics").await?.text;
    let findings = testkit::page::promtool_findings(&text).await?;
    // What is wrong with a name of the peer stays: it is what makes us a drop-in. Names of our own are clean.
    let ours: Vec<_> = findings.iter().filter(|finding| finding.starts_with("pg_exporter_")).collect();
    assert_eq!(ours, Vec::<&String>::new());
    let known: Vec<&str> = include_str!("../data/lint.txt").lines().collect();
    assert_eq!(findings, known, "review, then correct tests/data/lint.txt");
    Ok(())
}

/// With clean names promtool finds nothing, nothing is lost, and times are in seconds.
#[tokio::test]
async fn promtool_finds_nothing_with_clean_names() -> anyhow::Result<()> {
    let server = Postgres::builder().version(Version::Major(15)).start().await?;
    server.sql("SELECT pg_stat_reset()").await?;
    let (peer, clean) =
        (exporter(&server.dsn(), &[]).await?, exporter(&server.dsn(), &["--names=clean"]).await?);
    let text = clean.get("/metrics").await?.text;
    assert_eq!(testkit::page::promtool_findings(&text).await?, Vec::<String>::new());
    let (peer, clean) = (peer.scrape(10.0).await?, exposition::parse::page(&text)?);
    assert_eq!(peer.families.len(), clean.families.len());
    let reset = "pg_stat_database_stats_reset";
    assert_eq!(peer.samples(reset).count(), clean.samples(&format!("{reset}_timestamp_seconds")).count());
    assert!(clean.family("pg_stat_database_blk_read_seconds_total").is_some());
    Ok(())
}
