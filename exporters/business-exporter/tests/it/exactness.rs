//! The truth test: writers that do everything a transaction can do, exporters that are killed, a server that crashes.
//! Writers note in the same transactions what they did; at the end the ledger says the same in every cell, and
//! meanwhile no series of any replica stepped down.
//!
//! The long form is `cargo xtask exactness --minutes N`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use exposition::Page;
use futures_util::future::try_join_all;
use testkit::exporter::Exporter;
use testkit::postgres::Postgres;
use tokio::sync::watch;
use tokio_postgres::{Client, NoTls};

use crate::{Definition, failure};

const WRITERS: usize = 8;
const REPLICAS: usize = 2;
/// Of a run in CI.
const SHORT: Duration = Duration::from_secs(20);
/// Minutes of a run, set by `cargo xtask exactness`.
const MINUTES: &str = "EXACTNESS_MINUTES";

const STATUSES: [&str; 4] = ["pending", "in_progress", "completed", "cancelled"];

const TABLES: &str = "
CREATE TYPE status AS ENUM ('pending', 'in_progress', 'completed', 'cancelled');
CREATE TABLE work (id bigserial PRIMARY KEY, status status NOT NULL, amount numeric NOT NULL);
CREATE TABLE truth (cell text NOT NULL, n bigint NOT NULL, s numeric NOT NULL DEFAULT 0)";

const DEFINITION: &str = "
version: 1
counters: {fold_interval: 100ms}
families:
- {name: created_total, type: counter, help: A., labels: {status: {enum: public.status}}}
- {name: moved_total, type: counter, help: A., labels: {from: {enum: public.status}, to: {enum: public.status}}}
- {name: deleted_total, type: counter, help: A., labels: {status: {enum: public.status}}}
- {name: amount, type: histogram, help: A., labels: {status: {enum: public.status}}, buckets: [1, 10, 100]}
events:
- name: created
  table: public.work
  on: insert
  emit:
  - {family: created_total, labels: {status: n.status}}
  - {family: amount, labels: {status: n.status}, value: n.amount}
- {name: moved, table: public.work, on: update, when: o.status <> n.status, emit: [{family: moved_total, labels: {from: o.status, to: n.status}}]}
- {name: deleted, table: public.work, on: delete, emit: [{family: deleted_total, labels: {status: o.status}}]}
stocks: [{table: public.work, by: status, created: created_total, moved: moved_total, deleted: deleted_total}]
";

#[tokio::test]
async fn the_ledger_equals_the_truth() -> anyhow::Result<()> {
    let minutes = std::env::var(MINUTES).ok().map(|minutes| minutes.parse::<f64>()).transpose()?;
    let duration = minutes.map_or(SHORT, |minutes| Duration::from_secs_f64(minutes * 60.0));
    let mut server = Postgres::builder().setting("max_connections", "50").start().await?;
    server.sql(TABLES).await?;
    let definition = Definition::new(DEFINITION)?;
    definition.install(&server).await?;

    let (port, dsn) = (server.port(), server.dsn());
    let (stop, stopped) = watch::channel(false);
    let writers = try_join_all((0..WRITERS).map(|writer| write(port, writer, stopped.clone())));
    let replicas = try_join_all((0..REPLICAS).map(|_| watch_replica(&definition, &dsn, stopped.clone())));
    let schedule = async {
        tokio::time::sleep(duration / 2).await;
        server.crash().await?;
        tokio::time::sleep(duration / 2).await;
        stop.send(true).context("nobody listens")
    };
    let (commits, pages, ()) = futures_util::try_join!(writers, replicas, schedule)?;
    let (commits, pages) = (commits.iter().sum::<u32>(), pages.iter().sum::<u32>());
    assert!(commits > 100 && pages > 10, "{commits} transactions and {pages} pages prove nothing");

    let page = definition.exporter(&server.dsn()).await?.scrape(30.0).await?;
    let truth = truth(&server.client().await?).await?;
    let counted = cells(&page);
    for (cell, expected) in &truth {
        assert_eq!(counted.get(cell), Some(expected), "{cell} after {commits} transactions");
    }
    for (cell, value) in &counted {
        assert_eq!(truth.get(cell).unwrap_or(&0.0), value, "{cell} was never written");
    }
    let output = definition.run(&["reconcile"], Some(&server.dsn()))?;
    assert!(output.status.success(), "{:?}", failure(&output));
    assert!(page.samples("business_exporter_event_errors_total").all(|sample| sample.value == 0.0));
    Ok(())
}

/// What the writers noted, by cell: `created_total pending`, `moved_total pending completed`.
async fn truth(client: &Client) -> anyhow::Result<BTreeMap<String, f64>> {
    let sql = "SELECT cell, sum(n)::text FROM truth GROUP BY cell
               UNION ALL SELECT replace(cell, 'created_total', 'amount_sum'), sum(s)::text FROM truth
               WHERE cell LIKE 'created%' GROUP BY cell
               UNION ALL SELECT replace(cell, 'created_total', 'amount_count'), sum(n)::text FROM truth
               WHERE cell LIKE 'created%' GROUP BY cell";
    let rows = client.query(sql, &[]).await?;
    rows.iter().map(|row| Ok((row.get(0), row.get::<_, &str>(1).parse()?))).collect()
}

/// The counters of a page by cell.
fn cells(page: &Page) -> BTreeMap<String, f64> {
    let names = ["created_total", "moved_total", "deleted_total", "amount_sum", "amount_count"];
    let samples = names.iter().flat_map(|name| page.samples(name));
    samples
        .map(|sample| {
            let mut cell = sample.name.clone();
            for label in ["status", "from", "to"].iter().filter_map(|label| sample.label(label)) {
                cell.push(' ');
                cell.push_str(label);
            }
            (cell, sample.value)
        })
        .collect()
}

/// One replica, killed about every half second, and a check of all its pages. Gives their number.
async fn watch_replica(
    definition: &Definition,
    dsn: &str,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<u32> {
    let mut last: BTreeMap<String, f64> = BTreeMap::new();
    let mut pages = 0;
    while !*stopped.borrow() {
        let mut exporter: Exporter = definition.exporter(dsn).await?;
        let life = Duration::from_millis(rand::random_range(200..800));
        let end = Instant::now() + life;
        while Instant::now() < end {
            let now = cells(&exporter.scrape(10.0).await?);
            pages += 1;
            for (cell, value) in now {
                let before = last.insert(cell.clone(), value).unwrap_or(0.0);
                ensure!(value >= before, "{cell} stepped down from {before} to {value}");
            }
        }
        exporter.process.stop_by(nix::sys::signal::Signal::SIGKILL)?;
    }
    Ok(pages)
}

/// Writes until the end, whatever becomes of the server. Gives the number of transactions that were committed.
async fn write(port: u16, writer: usize, stopped: watch::Receiver<bool>) -> anyhow::Result<u32> {
    let mut commits = 0;
    let mut ids = Vec::new();
    while !*stopped.borrow() {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(port).user("postgres").dbname("postgres");
        let Ok((client, connection)) = config.connect(NoTls).await else {
            // The server is starting again.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let connection = tokio::spawn(connection);
        while !*stopped.borrow() && !client.is_closed() {
            // A deadlock or the crash ends a transaction, and with it what it noted.
            match transaction(&client, writer, &mut ids).await {
                Ok(committed) => commits += u32::from(committed),
                Err(_) => drop(client.batch_execute("ROLLBACK").await),
            }
        }
        connection.abort();
    }
    Ok(commits)
}

/// One transaction of one to four steps, some of them in a savepoint, with a hold. A quarter is rolled back.
async fn transaction(
    client: &Client,
    writer: usize,
    ids: &mut Vec<i64>,
) -> Result<bool, tokio_postgres::Error> {
    client.batch_execute("BEGIN").await?;
    for _ in 0..rand::random_range(1..=4) {
        match rand::random_range(0..6) {
            0 => {
                client.batch_execute("SAVEPOINT s").await?;
                step(client, writer, ids).await?;
                client.batch_execute("ROLLBACK TO s").await?;
            }
            1 => {
                client.batch_execute("SAVEPOINT s").await?;
                step(client, writer, ids).await?;
                client.batch_execute("RELEASE s").await?;
            }
            _ => step(client, writer, ids).await?,
        }
    }
    if rand::random_range(0..10) == 0 {
        let hold = rand::random_range(10..1000);
        client.batch_execute(&format!("SELECT pg_sleep({hold} / 1000.0)")).await?;
    }
    let committed = rand::random_range(0..4) > 0;
    client.batch_execute(if committed { "COMMIT" } else { "ROLLBACK" }).await?;
    Ok(committed)
}

async fn step(client: &Client, writer: usize, ids: &mut Vec<i64>) -> Result<(), tokio_postgres::Error> {
    let status = STATUSES[rand::random_range(0..STATUSES.len())];
    let amount = "(random() * 200)::numeric(12, 6)";
    let created = |insert: &str| {
        format!(
            "WITH made AS ({insert} RETURNING status, amount)
             INSERT INTO truth SELECT 'created_total ' || status, count(*), sum(amount) FROM made GROUP BY status"
        )
    };
    let sql = match rand::random_range(0..10) {
        0..=3 => created(&format!(
            "INSERT INTO work (status, amount) SELECT '{status}', {amount} FROM generate_series(1, {})",
            rand::random_range(1..=30)
        )),
        // An id that was taken long before.
        4 => {
            let used = ids.pop();
            ids.insert(0, client.query_one("SELECT nextval('work_id_seq')", &[]).await?.get(0));
            let Some(id) = used else { return Ok(()) };
            created(&format!(
                "INSERT INTO work (id, status, amount) SELECT {id}, '{status}', {amount} ON CONFLICT DO NOTHING"
            ))
        }
        // An upsert of a row that only this writer makes; others may have changed or deleted it.
        5 => {
            let id = -i64::try_from(writer * 100 + rand::random_range(1..20)).unwrap_or_default();
            let before = "SELECT status::text FROM work WHERE id = $1 FOR UPDATE";
            let before: Option<String> = client.query_opt(before, &[&id]).await?.map(|row| row.get(0));
            let upsert = format!(
                "INSERT INTO work (id, status, amount) VALUES ({id}, '{status}', {amount})
                 ON CONFLICT (id) DO UPDATE SET status = excluded.status"
            );
            match before {
                None => created(&upsert),
                Some(before) if before == status => upsert,
                Some(before) => format!(
                    "WITH moved AS ({upsert} RETURNING 1)
                     INSERT INTO truth SELECT 'moved_total {before} {status}', count(*) FROM moved"
                ),
            }
        }
        6..=8 => format!(
            "WITH old AS (SELECT id, status FROM work ORDER BY random() LIMIT 5 FOR UPDATE),
                  moved AS (UPDATE work AS w SET status = '{status}' FROM old WHERE w.id = old.id
                            RETURNING old.status AS before)
             INSERT INTO truth SELECT 'moved_total ' || before || ' {status}', count(*) FROM moved
             WHERE before <> '{status}' GROUP BY before"
        ),
        _ => "WITH gone AS (DELETE FROM work WHERE id IN (SELECT id FROM work ORDER BY random() LIMIT 3) RETURNING status)
              INSERT INTO truth SELECT 'deleted_total ' || status, count(*) FROM gone GROUP BY status"
            .to_owned(),
    };
    client.batch_execute(&sql).await
}
