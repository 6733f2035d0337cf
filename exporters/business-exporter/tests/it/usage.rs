//! Bad input: one clear message that names the object and the fix, the right exit code, no secret.

use crate::support::{Definition, failure, run};

const SECRET: &str = "s3cr3t-w0rd";

const GOOD: &str = "
version: 1
database: {name: shop, dsn: DSN}
families:
- {name: deals, type: gauge, help: Deals.}
queries:
- {name: deals, sql: SELECT 1 AS v, emit: [{family: deals, value: v}]}
";

#[test]
fn mistakes_in_the_definition_are_named_with_their_place() -> anyhow::Result<()> {
    let dsn = format!("postgresql://me:{SECRET}@localhost/app?sslmode=disable");
    for (old, new, words) in [
        (
            "queries:",
            "- {name: deals, type: gauge, help: Again.}\nqueries:",
            &["metrics.yml:6:10", "family deals stands twice"][..],
        ),
        ("type: gauge", "kind: gauge", &["metrics.yml:5:", "kind", "type"]),
        ("database: {name: shop", "database: {nmae: shop", &["metrics.yml:3:", "nmae"]),
        ("family: deals", "family: deels", &["metrics.yml:7:", "deels", "not declared"]),
        ("sql: SELECT 1 AS v", "sql_file: gone.sql", &["gone.sql", "check the path"]),
        ("sql: SELECT 1 AS v", "sql: SELECT 1 AS v; DELETE FROM deals", &["metrics.yml:7:", "more than one"]),
        ("name: deals, type", "name: process_deals, type", &["metrics.yml:5:", "process_"]),
        ("type: gauge", "type: counter", &["metrics.yml:5:", "_total"]),
    ] {
        assert!(GOOD.contains(old), "{old}");
        let text = GOOD.replacen(old, new, 1).replace("DSN", &dsn);
        let (code, message) = failure(&Definition::new(&text)?.run(&["check"], None)?);
        assert_eq!(code, Some(64), "{new}: {message}");
        for word in words {
            assert!(message.contains(word), "{new} does not say {word:?}: {message}");
        }
        assert!(!message.contains(SECRET), "{new}: a secret is printed: {message}");
    }
    Ok(())
}

#[test]
fn what_surrounds_the_definition_is_named() -> anyhow::Result<()> {
    let good = Definition::new(&GOOD.replace("DSN", "{env: DATABASE_URL}"))?;
    assert!(good.run(&["check"], None)?.status.success(), "check needs no database");
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let taken = taken.local_addr()?.to_string();
    let dsn = format!("postgresql://me:{SECRET}@localhost/app?sslmode=disable");
    let nonsense = dsn.replace("disable", "maybe");
    for (arguments, dsn, code, words) in [
        (&["run"][..], None, 64, &["DATABASE_URL", "not set"][..]),
        (&["run"], Some(nonsense.as_str()), 64, &["connection string", "sslmode", "maybe"]),
        (&["run", "--web.listen-address", &taken], Some(dsn.as_str()), 1, &[&taken, "in use"]),
        (&["--web.listen-address", "nowhere"], Some(dsn.as_str()), 2, &["nowhere"]),
        (&["scrape"], Some(dsn.as_str()), 2, &["scrape"]),
    ] {
        let (status, message) = failure(&good.run(arguments, dsn)?);
        assert_eq!(status, Some(code), "{arguments:?}: {message}");
        for word in words {
            assert!(message.contains(word), "{arguments:?} does not say {word:?}: {message}");
        }
        assert!(!message.contains(SECRET), "{arguments:?}: a secret is printed: {message}");
    }
    let (status, message) = failure(&run(&["--config", "/nonexistent/metrics.yml"], None)?);
    assert_eq!(status, Some(64), "{message}");
    assert!(message.contains("/nonexistent/metrics.yml"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_in_the_log_and_the_password_is_not() -> anyhow::Result<()> {
    let server = testkit::postgres::Postgres::start().await?;
    let dsn = format!("postgresql://exporter:{SECRET}@127.0.0.1:{}/postgres?sslmode=disable", server.port());
    let exporter = Definition::of_queries(&[("one", "SELECT 1 AS v")])?.exporter(&dsn).await?;
    let page = exporter.get("/metrics").await?.text;
    assert!(page.contains("business_exporter_up{database=\"main\"} 0"), "{page}");
    let log = exporter.process.log();
    assert!(log.contains("password") && !log.contains(SECRET) && !page.contains(SECRET), "{log}");
    Ok(())
}

#[tokio::test]
async fn the_connection_string_comes_from_a_file_and_a_running_exporter_is_well() -> anyhow::Result<()> {
    let server = testkit::postgres::Postgres::start().await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("dsn");
    std::fs::write(&file, server.dsn() + "\n")?;
    let definition = Definition::of_queries(&[("one", "SELECT 1 AS v")])?;
    let exporter = testkit::exporter::Exporter::start(
        env!("CARGO_BIN_EXE_business-exporter"),
        &["--config", &definition.path()],
        |process| process.env("DATABASE_URL_FILE", &file),
    )
    .await?;
    assert_eq!(exporter.scrape(10.0).await?.value("one", &[]), Some(1.0));
    let address = format!("--web.listen-address={}", exporter.address());
    assert!(run(&["healthcheck", &address], None)?.status.success());
    drop(exporter);
    let (code, message) = failure(&run(&["healthcheck", &address], None)?);
    assert!(code == Some(1) && message.contains("cannot connect"), "{code:?}: {message}");
    Ok(())
}
