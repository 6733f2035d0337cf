//! `--databases=all`: what is seen from inside a database only, of every database, with few sessions that are in
//! nobody's way.

use std::time::{Duration, Instant};

use exposition::Page;
use rstest::rstest;
use testkit::exporter::Exporter;
use testkit::postgres::{Postgres, Version};
use testkit::proxy::{FaultProxy, Mode};

use crate::{exporter, failed};

/// A family of each collector of a database.
const FAMILIES: &[(&str, &str)] = &[
    ("sequences", "pg_sequence_last_value"),
    ("stat_user_functions", "pg_stat_user_functions_calls_total"),
    ("stat_user_indexes", "pg_stat_user_indexes_scans_total"),
    ("stat_user_tables", "pg_stat_user_tables_seq_scan"),
    ("stat_user_tables", "pg_stat_user_tables_table_size_bytes"),
    ("stat_user_tables_detail", "pg_stat_user_tables_n_ins_since_vacuum"),
    ("statio_user_indexes", "pg_statio_user_indexes_idx_blks_hit_total"),
    ("statio_user_tables", "pg_statio_user_tables_heap_blocks_hit"),
    ("table_age", "pg_table_xid_age_transactions"),
];

const SCHEMA: &str = "CREATE TABLE deals (id serial PRIMARY KEY);
     GRANT SELECT ON SEQUENCE deals_id_seq TO exporter;
     INSERT INTO deals DEFAULT VALUES;
     CREATE FUNCTION answer() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 42; END';
     SET track_functions = 'all';
     SELECT answer()";

async fn databases(server: &Postgres, names: &[&str]) -> anyhow::Result<()> {
    for name in names {
        server.sql(&format!("CREATE DATABASE {name}")).await?;
    }
    Ok(())
}

/// The databases that a family has samples of.
fn seen(page: &Page, family: &str) -> Vec<String> {
    let mut names: Vec<String> =
        page.samples(family).filter_map(|sample| sample.label("datname").map(str::to_owned)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn ended(page: &Page, database: &str, collector: &str) -> Option<String> {
    page.samples("pg_exporter_database_collector_outcome")
        .find(|sample| sample.has(&[("datname", database), ("collector", collector)]))
        .and_then(|sample| sample.label("outcome").map(str::to_owned))
}

/// Scrapes until a page fits.
async fn scrape_until(exporter: &Exporter, fits: impl Fn(&Page) -> bool) -> anyhow::Result<Page> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let page = exporter.scrape(10.0).await?;
        if fits(&page) {
            return Ok(page);
        }
        anyhow::ensure!(Instant::now() < deadline, "no such page:\n{page:?}");
    }
}

#[rstest]
#[case(13)]
#[case(18)]
#[tokio::test]
async fn every_collector_of_a_database_covers_all(#[case] major: u32) -> anyhow::Result<()> {
    let server = Postgres::builder().version(Version::Major(major)).start().await?;
    databases(&server, &["shop", "stock", "tmp_a", "tmp_b"]).await?;
    for name in ["postgres", "shop", "stock", "tmp_a"] {
        server.client_as("postgres", "", name).await?.batch_execute(SCHEMA).await?;
    }
    let flags: Vec<String> = FAMILIES.iter().map(|(name, _)| format!("--collector.{name}")).collect();
    let mut args: Vec<&str> = flags.iter().map(String::as_str).collect();
    args.extend(["--databases=all", "--databases.refresh=0", "--exclude-databases=tmp_*,nothing"]);
    let all = exporter(&server.dsn(), &args).await?;
    for (collector, family) in FAMILIES {
        // Function statistics reach the server's memory some time after the call.
        let page = scrape_until(&all, |page| seen(page, family) == ["postgres", "shop", "stock"]).await?;
        assert_eq!(failed(&page), Vec::<String>::new());
        assert_eq!(ended(&page, "shop", collector).as_deref(), Some("ok"), "{collector}");
        assert_eq!(ended(&page, "tmp_a", collector), None);
        let unlabelled = page.samples(family).filter(|sample| sample.label("datname").is_none()).count();
        assert_eq!(unlabelled, 0, "{family}");
    }
    let page = all.scrape(10.0).await?;
    assert!(page.value("pg_exporter_database_data_age_seconds", &[("datname", "stock")]).is_some());
    assert_eq!(ended(&page, "stock", "relation_sizes").as_deref(), Some("ok"));
    assert!(page.value("pg_database_size_bytes", &[("datname", "tmp_a")]).is_none());

    args.push("--include-databases=s*");
    let some = exporter(&server.dsn(), &[&args[..], &["--exclude-databases=stock"]].concat()).await?;
    let page = scrape_until(&some, |page| seen(page, "pg_table_xid_age_transactions").len() == 2).await?;
    assert_eq!(seen(&page, "pg_table_xid_age_transactions"), ["postgres", "shop"]);

    // Without the flag all is as postgres_exporter has it.
    let one = exporter(&server.dsn(), &["--collector.statio_user_indexes"]).await?;
    let page = one.scrape(10.0).await?;
    assert_eq!(seen(&page, "pg_stat_user_tables_seq_scan"), ["postgres"]);
    let index = page.samples("pg_statio_user_indexes_idx_blks_hit_total").next();
    assert!(index.is_some_and(|index| index.label("datname").is_none()));
    assert!(page.family("pg_exporter_database_data_age_seconds").is_none());
    Ok(())
}

#[tokio::test]
async fn databases_take_turns_and_few_sessions() -> anyhow::Result<()> {
    const DATABASES: usize = 12;
    let server = Postgres::start().await?;
    let names: Vec<String> = (0..DATABASES).map(|index| format!("shop_{index:02}")).collect();
    databases(&server, &names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let proxy = FaultProxy::start(server.addr())?;
    // Slow enough that a round takes longer than a scrape.
    proxy.set(Mode::Delay(Duration::from_millis(30)));
    let args = ["--databases=all", "--databases.sessions=1", "--databases.refresh=2s"];
    let exporter = exporter(&server.dsn_at(proxy.addr()), &args).await?;
    let first = exporter.scrape(2.0).await?;
    assert_eq!(failed(&first), Vec::<String>::new());
    let count = |page: &Page| page.samples("pg_exporter_database_data_age_seconds").count();
    assert!(count(&first) < DATABASES, "the scrape waits for all of them");
    let page = scrape_until(&exporter, |page| count(page) == DATABASES).await?;
    for name in &names {
        assert_eq!(ended(&page, name, "stat_user_tables").as_deref(), Some("ok"), "{name}");
    }
    // Each is read again, the one that was read first is the first: its turn comes before a second one of any other.
    let age = |page: &Page, name: &str| {
        page.value("pg_exporter_database_data_age_seconds", &[("datname", name)]).unwrap_or_default()
    };
    let mut before = page;
    let mut most_open = 0;
    let mut turns = vec![0_u32; DATABASES];
    let deadline = Instant::now() + Duration::from_secs(60);
    while turns.contains(&0) {
        anyhow::ensure!(Instant::now() < deadline, "{turns:?}");
        let page = exporter.scrape(10.0).await?;
        most_open = most_open.max(proxy.connections_open());
        for (turn, name) in turns.iter_mut().zip(&names) {
            *turn += u32::from(age(&page, name) < age(&before, name));
        }
        before = page;
    }
    assert!(turns.iter().all(|turns| *turns <= 2), "{turns:?}");
    // Statistics, sizes, one other database, and those of before that are still being closed.
    assert!((3..=5).contains(&most_open), "{most_open}");
    Ok(())
}

#[tokio::test]
async fn a_database_can_be_dropped_at_any_time() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let names = ["a", "b", "c", "d", "e", "f"];
    databases(&server, &names).await?;
    let exporter = exporter(&server.dsn(), &["--databases=all", "--databases.refresh=0"]).await?;
    exporter.scrape(10.0).await?;
    let dropping = async {
        for name in names {
            // Fails when somebody stays connected for longer than the five seconds that it waits.
            server.sql(&format!("DROP DATABASE {name}")).await?;
        }
        anyhow::Ok(())
    };
    tokio::pin!(dropping);
    loop {
        tokio::select! {
            dropped = &mut dropping => break dropped?,
            page = exporter.scrape(10.0) => assert_eq!(failed(&page?), Vec::<String>::new()),
        }
    }
    // What is gone is forgotten, by the first scrape that began after it went.
    let gone = |page: &Page| page.samples("pg_exporter_database_data_age_seconds").next().is_none();
    scrape_until(&exporter, gone).await?;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_read_in_a_database_costs_that_only() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    databases(&server, &["closed", "locked", "open"]).await?;
    server.sql("REVOKE CONNECT ON DATABASE closed FROM PUBLIC").await?;
    for name in ["locked", "open"] {
        server.client_as("postgres", "", name).await?.batch_execute(SCHEMA).await?;
    }
    let holder = server.client_as("postgres", "", "locked").await?;
    holder.batch_execute("BEGIN; LOCK TABLE deals IN ACCESS EXCLUSIVE MODE").await?;
    holder.batch_execute("ALTER SEQUENCE deals_id_seq RESTART").await?;
    let args = ["--databases=all", "--collector.sequences"];
    let exporter = exporter(&server.dsn(), &args).await?;
    let page = scrape_until(&exporter, |page| ended(page, "open", "sequences").is_some()).await?;
    assert_eq!(failed(&page), Vec::<String>::new(), "the collectors of the connected database are fine");
    for (database, collector, outcome) in [
        ("closed", "stat_user_tables", "permission"),
        ("closed", "sequences", "permission"),
        ("locked", "sequences", "lock_timeout"),
        ("locked", "stat_user_tables", "ok"),
        ("open", "sequences", "ok"),
    ] {
        assert_eq!(ended(&page, database, collector).as_deref(), Some(outcome), "{database} {collector}");
    }
    assert_eq!(seen(&page, "pg_stat_user_tables_seq_scan"), ["locked", "open"]);
    assert_eq!(seen(&page, "pg_stat_user_tables_table_size_bytes"), ["open"]);
    assert_eq!(seen(&page, "pg_sequence_last_value"), ["open"]);
    holder.batch_execute("ROLLBACK").await?;
    Ok(())
}
