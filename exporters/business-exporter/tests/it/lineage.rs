//! No series falls, whatever becomes of the database: failovers, restored dumps, lost commits.

use std::time::{Duration, Instant};

use exposition::Page;
use rstest::rstest;
use testkit::postgres::{EXPORTER, EXPORTER_PASSWORD, Postgres, Version};

use crate::shop::{SHOP, TABLES, shop};
use crate::support::{Definition, assert_page, eventually};

#[rstest]
#[tokio::test]
async fn no_series_falls_whatever_becomes_of_the_database(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some((mut server, definition)) = shop(major).await? else { return Ok(()) };
    let exporter = definition.exporter(&server.dsn()).await?;
    server.sql("INSERT INTO items SELECT i, 'a', 1, 'ada' FROM generate_series(1, 50) AS i").await?;
    exporter.scrape(10.0).await?;
    let made = |page: &Page| page.value("made_total", &[("kind", "a")]);
    assert_eq!(made(&exporter.scrape(10.0).await?), Some(50.0));

    // The last commits are lost, as when a standby takes over: held, then started again at exactly 0.
    server
        .sql("UPDATE business_exporter.total SET n = n - 20, s = s - 20 WHERE family = 'made_total'")
        .await?;
    let page = exporter.scrape(10.0).await?;
    assert_page(
        &page,
        &[
            ("made_total", &[("kind", "a")], 50.0),
            ("business_exporter_held", &[("family", "made_total")], 20.0),
            ("business_exporter_held", &[("family", "price")], 0.0),
        ],
    )?;
    let page = eventually(&exporter, "reset", |page| made(page) != Some(50.0)).await?;
    assert_page(
        &page,
        &[
            ("made_total", &[("kind", "a")], 0.0),
            ("business_exporter_ledger_restarts_total", &[("reason", "regression")], 1.0),
            ("business_exporter_held", &[("family", "made_total")], 0.0),
        ],
    )?;
    // Every replica counts on from there.
    server.sql("INSERT INTO items VALUES (51, 'a', 1, 'ada')").await?;
    assert_eq!(made(&exporter.scrape(10.0).await?), Some(1.0));
    let other = definition.exporter(&server.dsn()).await?;
    assert_eq!(made(&other.scrape(10.0).await?), Some(1.0));

    // Restored into another server.
    server.sql("UPDATE business_exporter.ledger SET system_identifier = 1").await?;
    let page = eventually(&exporter, "restarted", |page| {
        page.value("business_exporter_ledger_restarts_total", &[("reason", "lineage")]) == Some(1.0)
    })
    .await?;
    assert_eq!(made(&page), Some(0.0));

    // A crash loses nothing.
    server.sql("INSERT INTO items VALUES (52, 'a', 1, 'ada')").await?;
    assert_eq!(made(&exporter.scrape(10.0).await?), Some(1.0));
    server.crash().await?;
    assert_eq!(made(&exporter.scrape(10.0).await?), Some(1.0));
    Ok(())
}

#[rstest]
#[tokio::test]
async fn without_the_database_the_last_values_stay_for_hold_max(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some((mut server, patient)) = shop(major).await? else { return Ok(()) };
    let hasty = Definition::new(&SHOP.replace("regress_grace: 2s", "regress_grace: 2s, hold_max: 0s"))?;
    let exporters = [patient.exporter(&server.dsn()).await?, hasty.exporter(&server.dsn()).await?];
    server.sql("INSERT INTO items VALUES (1, 'a', 1, 'ada')").await?;
    for (is_there, shown) in
        [(true, [Some(1.0), Some(1.0)]), (false, [Some(1.0), None]), (true, [Some(1.0), Some(1.0)])]
    {
        if is_there {
            server.restart().await?;
        } else {
            server.stop()?;
        }
        for (exporter, shown) in exporters.iter().zip(shown) {
            let page = exporter.scrape(10.0).await?;
            assert_page(&page, &[("business_exporter_up", &[], f64::from(u8::from(is_there)))])?;
            assert_eq!(page.value("made_total", &[("kind", "a")]), shown, "{is_there}");
        }
    }
    Ok(())
}

/// A standby takes over without the last commits, and with it goes what they counted.
#[rstest]
#[tokio::test]
async fn a_standby_that_takes_over_makes_no_series_fall(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some((mut primary, definition)) = shop(major).await? else { return Ok(()) };
    let mut standby = primary.standby().await?;
    primary.sql("INSERT INTO items SELECT i, 'a', 1, 'ada' FROM generate_series(1, 100) AS i").await?;
    let deadline = Instant::now() + Duration::from_secs(30);
    // The table itself may not be there yet.
    while standby.psql("SELECT count(*) FROM items").await.ok().flatten().as_deref() != Some("100") {
        anyhow::ensure!(Instant::now() < deadline, "never replayed:\n{}", standby.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    standby.stop()?;
    primary.sql("INSERT INTO items SELECT i, 'a', 1, 'ada' FROM generate_series(101, 150) AS i").await?;
    let dsn = format!(
        "postgresql://{EXPORTER}:{EXPORTER_PASSWORD}@127.0.0.1:{},127.0.0.1:{}/postgres?sslmode=disable&target_session_attrs=read-write",
        primary.port(),
        standby.port()
    );
    let exporter = definition.exporter(&dsn).await?;
    let made = |page: &Page| page.value("made_total", &[("kind", "a")]);
    assert_eq!(made(&exporter.scrape(10.0).await?), Some(150.0));
    primary.stop()?;
    standby.restart().await?;
    standby.sql("SELECT pg_promote()").await?;
    let held = |page: &Page| page.value("business_exporter_held", &[("family", "made_total")]);
    let page = eventually(&exporter, "held", |page| held(page) == Some(50.0)).await?;
    assert_eq!(made(&page), Some(150.0));
    // It catches up before the grace is over, or starts again at 0: nothing else.
    let page = eventually(&exporter, "reset", |page| made(page) != Some(150.0)).await?;
    assert_eq!(made(&page), Some(0.0));
    standby.sql("INSERT INTO items VALUES (1000, 'a', 1, 'ada')").await?;
    assert_eq!(made(&exporter.scrape(10.0).await?), Some(1.0));
    assert_eq!(
        exporter
            .scrape(10.0)
            .await?
            .value("business_exporter_ledger_restarts_total", &[("reason", "regression")]),
        Some(1.0)
    );
    Ok(())
}

/// A dump of the database goes on in another server: again from exactly 0, once.
#[tokio::test]
async fn a_restored_dump_starts_again() -> anyhow::Result<()> {
    let mut old = Postgres::builder().version(Version::Debian).start().await?;
    // Servers of one version are copies of one, and have its identifier.
    let new = Postgres::builder().version(Version::Major(15)).start().await?;
    for server in [&old, &new] {
        server.sql("CREATE ROLE app").await?;
    }
    old.sql(&TABLES.replace("CREATE ROLE app LOGIN PASSWORD 'app';", "")).await?;
    let definition = Definition::new(SHOP)?;
    definition.install(&old).await?;
    old.sql("INSERT INTO items SELECT i, 'a', 1, 'ada' FROM generate_series(1, 50) AS i").await?;
    let dsn = format!(
        "postgresql://{EXPORTER}:{EXPORTER_PASSWORD}@127.0.0.1:{},127.0.0.1:{}/postgres?sslmode=disable",
        old.port(),
        new.port()
    );
    let exporter = definition.exporter(&dsn).await?;
    let made = |page: &Page| page.value("made_total", &[("kind", "a")]);
    assert_eq!(made(&exporter.scrape(10.0).await?), Some(50.0));

    let programs = old.installed().clone();
    let client = |server: &Postgres, program: &str| {
        let mut command = tokio::process::Command::new(programs.binary(program));
        command.envs(programs.env());
        command.args(["--host=127.0.0.1", "--username=postgres", "--dbname=postgres"]);
        command.arg(format!("--port={}", server.port()));
        command
    };
    let dump = client(&old, "pg_dump").output().await?;
    anyhow::ensure!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("dump.sql");
    std::fs::write(&file, dump.stdout)?;
    let restore =
        client(&new, "psql").args(["--quiet", "--set=ON_ERROR_STOP=1", "--file"]).arg(&file).output().await?;
    anyhow::ensure!(restore.status.success(), "{}", String::from_utf8_lossy(&restore.stderr));
    old.stop()?;

    let page = eventually(&exporter, "restarted", |page| made(page) == Some(0.0)).await?;
    assert_page(
        &page,
        &[
            ("business_exporter_ledger_restarts_total", &[("reason", "lineage")], 1.0),
            ("business_exporter_ledger_restarts_total", &[("reason", "regression")], 0.0),
            ("business_exporter_exact", &[("family", "made_total")], 1.0),
        ],
    )?;
    new.sql("INSERT INTO items VALUES (51, 'a', 1, 'ada')").await?;
    let page = exporter.scrape(10.0).await?;
    assert_page(
        &page,
        &[
            ("made_total", &[("kind", "a")], 1.0),
            ("business_exporter_ledger_restarts_total", &[("reason", "lineage")], 1.0),
        ],
    )?;
    Ok(())
}
