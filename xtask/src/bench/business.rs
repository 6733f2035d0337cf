//! Counters of events on tables of deals of several sizes: what a refresh costs by ledger, by checkpoint and by counting
//! the whole table, as sql_exporter does beside it, and what the ledger costs those who write.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tempfile::TempDir;
use testkit::{exporter::Exporter, peer::SQL_EXPORTER, postgres::Postgres, servers::workspace_root};
use tokio_postgres::Client;

use super::{Args, Scenario, report::median, scraper::Scraper};
use crate::{
    cargo,
    progress::{print, say, step, table},
};

/// The tables of different numbers of deals. The last only by name: it takes minutes to fill, and 8 GB.
const SCENARIOS: &[Scenario<u32>] = &[
    Scenario { name: "100k", title: "100,000 deals", flags: &[], fill: 100_000 },
    Scenario { name: "1m", title: "1,000,000 deals", flags: &[], fill: 1_000_000 },
    Scenario { name: "10m", title: "10,000,000 deals", flags: &[], fill: 10_000_000 },
];
const BY_DEFAULT: usize = 2;

const SETTINGS: &[(&str, &str)] = &[
    ("shared_buffers", "2GB"),
    ("maintenance_work_mem", "512MB"),
    ("max_wal_size", "16GB"),
    ("checkpoint_timeout", "1h"),
    ("autovacuum", "off"),
    ("synchronous_commit", "off"),
    ("jit", "off"),
];

/// Refreshes that are timed at least, however long they take, and those whose blocks are counted.
const LEAST: usize = 20;
const COUNTED: u32 = 5;

/// Deals that come between two refreshes.
const FRESH: u32 = 10;

const EVENTS: &str = "
families:
- {name: created_total, type: counter, help: A., labels: {status: {enum: public.dealstatus}}}
- {name: price_usd, type: histogram, help: A., unit: usd, buckets: [5000, 10000, 20000, 40000]}
events:
- name: created
  table: public.deals
  on: insert
  emit: [{family: created_total, labels: {status: n.status}}, {family: price_usd, value: n.asking_price}]
";

/// The ways to count, each a definition.
const WAYS: [(&str, &str); 3] = [
    ("ledger", "counters: {mode: ledger}"),
    ("checkpoint", "counters: {mode: checkpoint, schema: marks, reconcile_interval: 24h}"),
    (
        "whole table",
        "families: [{name: deals, type: gauge, help: A., labels: [status]}]
queries:
- name: deals
  timeout: 9s
  sql: SELECT status, count(*) AS deals FROM public.deals GROUP BY status
  emit: [{family: deals, value: deals, labels: [status]}]",
    ),
];

pub(super) async fn run(args: &Args) -> Result<()> {
    let chosen = match args.only.as_slice() {
        [] => SCENARIOS[..BY_DEFAULT].iter().collect(),
        _ => args.chosen(SCENARIOS)?,
    };
    let binary = cargo::release("business-exporter")?;
    let mut rows = vec![
        ["", "refreshes", "p50", "p99", "blocks of the table a refresh"].map(str::to_owned).to_vec(),
        ["---"; 5].map(str::to_owned).to_vec(),
    ];
    let mut writes = Vec::new();
    for scenario in chosen {
        say(&format!("== {}", scenario.title));
        let server = step("start a server", start()).await?;
        step("fill it", fill(&server, scenario.fill)).await?;
        if writes.is_empty() {
            writes = step("write without and with the ledger", write(&server, &binary)).await?;
        }
        for (name, text) in WAYS {
            let what = format!("count by {name}");
            let figures = step(&what, refresh(&server, &binary, text, args.seconds)).await?;
            rows.push([vec![format!("{}, {name}", scenario.title)], figures].concat());
        }
        if SQL_EXPORTER.is_here().await {
            let what = format!("count by {}", SQL_EXPORTER.name);
            let figures = step(&what, peer(&server, args.seconds)).await?;
            rows.push(
                [
                    vec![format!("{}, {} {}", scenario.title, SQL_EXPORTER.name, SQL_EXPORTER.version)],
                    figures,
                ]
                .concat(),
            );
        }
    }
    print("### refresh, with 10 new deals each\n");
    rows_of(&rows);
    print("### statements that write, in one session\n");
    rows_of(&writes);
    Ok(())
}

fn rows_of(rows: &[Vec<String>]) {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| format!("| {cell}")).chain(["|".to_owned()]).collect())
        .collect();
    table(&rows).iter().for_each(|line| print(line));
    print("");
}

async fn start() -> Result<Postgres> {
    let settings = SETTINGS.iter();
    settings.fold(Postgres::builder(), |builder, (name, value)| builder.setting(*name, *value)).start().await
}

/// Rows of one statement that fills the table.
const BATCH: u32 = 1_000_000;

/// Fills the table without what a row would cost: its indexes are made afterwards, and foreign keys are not looked up.
async fn fill(server: &Postgres, deals: u32) -> Result<()> {
    let schema = workspace_root()?.join("backend/migrations/0001_schema.sql");
    server
        .sql(&fs::read_to_string(&schema).with_context(|| format!("reading {}", schema.display()))?)
        .await?;
    let indexes = "SELECT string_agg(pg_get_indexdef(i.indexrelid), ';'), string_agg(i.indexrelid::regclass::text, ', ')
                   FROM pg_index AS i WHERE i.indrelid = 'deals'::regclass AND NOT i.indisprimary";
    let client = server.client().await?;
    let row = client.query_one(indexes, &[]).await.context("asking for the indexes of deals")?;
    let (made, dropped): (String, String) = (row.get(0), row.get(1));
    server
        .sql(&format!(
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO exporter;
             GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO exporter;
             INSERT INTO users (email, username, hashed_password) VALUES ('a@example.org', 'a', 'x');
             DROP INDEX {dropped}"
        ))
        .await?;
    for first in (1..=deals).step_by(BATCH as usize) {
        let last = deals.min(first + BATCH - 1);
        let sql = format!(
            "SET session_replication_role = replica;
             INSERT INTO deals (user_id, vehicle_vin, vehicle_make, vehicle_model, vehicle_year, asking_price, status)
             SELECT 1, i::text, 'Make', 'Model', 2020, 1000 + i % 40000,
                    (enum_range(NULL::dealstatus))[1 + i % 4] FROM generate_series({first}, {last}) AS i"
        );
        server.sql(&sql).await?;
    }
    server.sql(&made).await?;
    server.sql("VACUUM ANALYZE deals").await?;
    server.sql("CHECKPOINT").await
}

/// A definition in a folder of its own.
fn definition(text: &str) -> Result<TempDir> {
    let folder = tempfile::tempdir().context("making a folder for a definition")?;
    let events = if text.starts_with("counters") { EVENTS } else { "" };
    fs::write(folder.path().join("metrics.yml"), format!("version: 1\n{text}\n{events}"))
        .context("writing a definition")?;
    Ok(folder)
}

/// What `ddl` prints for a definition, as far as it has events.
async fn install(server: &Postgres, binary: &Path, config: &str) -> Result<()> {
    let arguments = ["--config", config, "ddl", "--install", "--grants", "exporter"];
    let output = Command::new(binary).args(arguments).output().context("running ddl")?;
    match output.status.success() {
        true => server.sql(&String::from_utf8(output.stdout).context("the DDL is not UTF-8")?).await,
        // Nothing to install.
        false => Ok(()),
    }
}

/// Blocks of the table of deals and its indexes that were asked for.
async fn blocks(server: &Postgres) -> Result<f64> {
    let sql = "SELECT sum(heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::text
               FROM pg_statio_user_tables WHERE relname = 'deals'";
    server.psql(sql).await?.unwrap_or_default().parse().context("blocks are no number")
}

/// Scrapes for so long, with new deals before each. Gives the number, p50, p99 and blocks.
async fn refresh(server: &Postgres, binary: &Path, text: &str, seconds: u64) -> Result<Vec<String>> {
    let folder = definition(text)?;
    let config = folder.path().join("metrics.yml").display().to_string();
    install(server, binary, &config).await?;
    let exporter =
        Exporter::start(binary, &["--config", &config], |process| process.env("DATABASE_URL", server.dsn()))
            .await?;
    let mut scraper = Scraper::open(exporter.address())?;
    let writer = server.client().await?;
    scraper.get("/metrics")?;
    let mut times = Vec::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    while times.len() < LEAST || Instant::now() < end {
        insert(&writer, FRESH).await?;
        times.push(scraper.get("/metrics")?.0);
    }
    // Without writers beside it; sessions say what they read when they end.
    drop(writer);
    drop(exporter);
    settled(server).await?;
    let before = blocks(server).await?;
    let exporter =
        Exporter::start(binary, &["--config", &config], |process| process.env("DATABASE_URL", server.dsn()))
            .await?;
    for _ in 0..COUNTED {
        exporter.get("/metrics").await?;
    }
    drop(exporter);
    settled(server).await?;
    let read = (blocks(server).await? - before) / f64::from(COUNTED);
    server.sql("DROP SCHEMA IF EXISTS business_exporter, marks CASCADE").await?;
    Ok(figures(times, read))
}

/// Number, p50, p99, and blocks.
fn figures(mut times: Vec<Duration>, blocks: f64) -> Vec<String> {
    let number = times.len();
    times.sort_unstable();
    let p99 = times.get((number * 99 / 100).min(number.saturating_sub(1))).copied().unwrap_or_default();
    let shown = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
    vec![number.to_string(), shown(median(times)), shown(p99), format!("{blocks:.0}")]
}

/// How often the peer counts: it does so in the background, whether it is scraped or not.
const PEER_INTERVAL: &str = "100ms";
/// Counting ten million rows twenty times takes a minute or two.
const PEER_LIMIT: Duration = Duration::from_secs(600);

/// The same count by the peer, timed by the server: a scrape shows its last result.
async fn peer(server: &Postgres, seconds: u64) -> Result<Vec<String>> {
    let address = server.dsn().replacen("postgresql:", "postgres:", 1);
    let text = format!(
        "jobs:
- name: bench
  interval: {PEER_INTERVAL}
  connections: ['{address}']
  queries:
  - {{name: deals, help: A., labels: [status], values: [deals], query: '{PEER_SQL}'}}
"
    );
    let folder = tempfile::tempdir().context("making a folder for a definition")?;
    let config = folder.path().join("config.yml");
    fs::write(&config, text).context("writing a definition")?;
    server.sql("ALTER ROLE exporter SET log_min_duration_statement = 0").await?;
    settled(server).await?;
    let (before, logged) = (blocks(server).await?, server.log().len());
    let running = SQL_EXPORTER.start(&[&format!("--config.file={}", config.display())], &[]).await?;
    let (end, limit) = (Instant::now() + Duration::from_secs(seconds), Instant::now() + PEER_LIMIT);
    let times = loop {
        let times = durations(server.log().get(logged..).unwrap_or_default());
        if times.len() >= LEAST && Instant::now() >= end {
            break times;
        }
        anyhow::ensure!(Instant::now() < limit, "the peer does not count:\n{}", running.process.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    drop(running);
    settled(server).await?;
    server.sql("ALTER ROLE exporter RESET log_min_duration_statement").await?;
    let runs = durations(server.log().get(logged..).unwrap_or_default()).len();
    #[expect(clippy::cast_precision_loss, reason = "a count of statements")]
    let read = (blocks(server).await? - before) / runs as f64;
    Ok(figures(times, read))
}

const PEER_SQL: &str = "SELECT status::text AS status, count(*) AS deals FROM public.deals GROUP BY status";

/// How long the server took for each of the peer's counts, by its log: `duration: 1.234 ms  statement: SELECT …`.
fn durations(log: &str) -> Vec<Duration> {
    let lines = log.lines().filter(|line| line.contains(PEER_SQL));
    let millis =
        lines.filter_map(|line| line.split_once("duration: ")?.1.split_once(" ms")?.0.parse::<f64>().ok());
    millis.map(|millis| Duration::from_secs_f64(millis / 1e3)).collect()
}

/// Waits until no session of an exporter is left.
async fn settled(server: &Postgres) -> Result<()> {
    let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'exporter'";
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.psql(left).await?.as_deref() != Some("0") {
        anyhow::ensure!(Instant::now() < deadline, "sessions of the exporter do not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn insert(client: &Client, deals: u32) -> Result<()> {
    let sql = format!(
        "INSERT INTO deals (user_id, vehicle_vin, vehicle_make, vehicle_model, vehicle_year, asking_price, status)
         SELECT 1, 'new', 'Make', 'Model', 2020, 12000, 'completed' FROM generate_series(1, {deals})"
    );
    client.batch_execute(&sql).await.context("inserting deals")
}

/// Rounds of writes, and statements of one row in each.
const ROUNDS: usize = 9;
const STATEMENTS: u32 = 500;
/// Rows of a statement of many.
const BULK: u32 = 1000;

/// Inserts with and without the ledger take turns. Gives a table.
async fn write(server: &Postgres, binary: &Path) -> Result<Vec<Vec<String>>> {
    let folder = definition(WAYS[0].1)?;
    let config = folder.path().join("metrics.yml").display().to_string();
    install(server, binary, &config).await?;
    let client = server.client().await?;
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        for (index, triggers) in [
            "DISABLE TRIGGER business_exporter_insert_created",
            "ENABLE ALWAYS TRIGGER business_exporter_insert_created",
        ]
        .into_iter()
        .enumerate()
        {
            server.sql(&format!("ALTER TABLE deals {triggers}")).await?;
            let start = Instant::now();
            for _ in 0..STATEMENTS {
                insert(&client, 1).await?;
            }
            times[index].push(start.elapsed() / STATEMENTS);
            let start = Instant::now();
            insert(&client, BULK).await?;
            times[index + 2].push(start.elapsed() / BULK);
        }
    }
    server.sql("DROP SCHEMA business_exporter CASCADE").await?;
    let micros = |times: &[Duration]| {
        let least = times.iter().min().copied().unwrap_or_default();
        let shown = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e6);
        format!("{} / {} µs", shown(least), shown(median(times.to_vec())))
    };
    let row = |title: &str, without: usize| {
        vec![title.to_owned(), micros(&times[without]), micros(&times[without + 1])]
    };
    Ok(vec![
        ["shortest / median of 9 rounds", "no trigger", "ledger"].map(str::to_owned).to_vec(),
        ["---"; 3].map(str::to_owned).to_vec(),
        row("one row, its own transaction", 0),
        row("a row of a statement of 1,000", 2),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_the_count() {
        let log = format!(
            "2026-01-01 00:00:00 UTC [7] LOG:  duration: 12.500 ms  statement: {PEER_SQL}\n\
             2026-01-01 00:00:00 UTC [7] LOG:  duration: 99.000 ms  statement: SELECT 1\n"
        );
        assert_eq!(durations(&log), [Duration::from_micros(12_500)]);
    }
}
