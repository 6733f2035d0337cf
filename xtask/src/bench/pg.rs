//! The scenarios for pg-exporter. Sizes of databases and tables are refreshed in the background, as by default, and on
//! every scrape, as the peer does.

use anyhow::{Context, Result};
use futures_util::future::BoxFuture;
use testkit::{
    peer::POSTGRES_EXPORTER,
    postgres::{EXPORTER, EXPORTER_PASSWORD, Postgres},
};

use super::{Args, Scenario, Subject, Target, compare, programs};
use crate::progress::{say, step};

/// Fills a server and gives the database that exporters connect to.
type Fill = fn(&Postgres) -> BoxFuture<'_, Result<&'static str>>;

const SCENARIOS: &[Scenario<Fill>] = &[
    Scenario {
        name: "fresh",
        title: "fresh cluster, default collectors",
        flags: &[],
        fill: |_| Box::pin(async { Ok("postgres") }),
    },
    Scenario {
        name: "databases",
        title: "20 databases with 50 tables each and 6,000 statements, all collectors of the peer",
        flags: &[
            "--collector.database_wraparound",
            "--collector.long_running_transactions",
            "--collector.postmaster",
            "--collector.process_idle",
            "--collector.stat_activity_autovacuum",
            "--collector.stat_statements",
            "--collector.stat_wal_receiver",
            "--collector.statio_user_indexes",
        ],
        fill: |server| Box::pin(databases(server)),
    },
    Scenario {
        name: "tables",
        title: "one database with 10,000 tables, default collectors",
        flags: &[],
        fill: |server| Box::pin(tables(server)),
    },
    Scenario {
        name: "many",
        title: "100 databases, default collectors",
        flags: &[],
        fill: |server| Box::pin(many(server)),
    },
];

/// What every server gets: room, and nothing that works in the background.
const SETTINGS: &[(&str, &str)] = &[
    ("shared_buffers", "512MB"),
    ("max_locks_per_transaction", "512"),
    ("autovacuum_naptime", "1h"),
    ("synchronous_commit", "off"),
    ("pg_stat_statements.max", "10000"),
];

pub(super) async fn run(args: &Args) -> Result<()> {
    let chosen = args.chosen(SCENARIOS)?;
    let (peer, ours) = programs("pg-exporter", POSTGRES_EXPORTER).await?;
    for scenario in chosen {
        say(&format!("== {}", scenario.title));
        let server = step("start a server", start()).await?;
        let database = step("fill it", (scenario.fill)(&server)).await?;
        server.sql("CHECKPOINT").await?;
        let target = Target {
            address: server.addr(),
            pid: server.pid().context("the server has no pid")?,
            variable: "DATA_SOURCE_NAME",
            value: Box::new(move |address| {
                format!("postgresql://{EXPORTER}:{EXPORTER_PASSWORD}@{address}/{database}?sslmode=disable")
            }),
            up: "pg_up 1",
        };
        let flags = scenario.flags.to_vec();
        let mut subjects = Vec::new();
        if let Some(peer) = &peer {
            subjects.push(Subject { title: POSTGRES_EXPORTER.name, program: peer, args: flags.clone() });
        }
        subjects.push(Subject { title: "pg-exporter", program: &ours, args: flags.clone() });
        let args_of_sizes = [flags.as_slice(), &["--size-refresh=0"]].concat();
        subjects.push(Subject { title: "sizes on every scrape", program: &ours, args: args_of_sizes });
        compare(args, scenario.title, &target, &subjects).await?;
    }
    Ok(())
}

async fn start() -> Result<Postgres> {
    let builder = Postgres::builder().preload("pg_stat_statements");
    SETTINGS.iter().fold(builder, |builder, (name, value)| builder.setting(*name, *value)).start().await
}

/// Runs statements in a database.
async fn sql(server: &Postgres, database: &str, statements: &str) -> Result<()> {
    let client = server.client_as("postgres", "", database).await?;
    client.batch_execute(statements).await.with_context(|| format!("filling the database {database}"))
}

async fn databases(server: &Postgres) -> Result<&'static str> {
    sql(server, "postgres", "CREATE DATABASE app1").await?;
    sql(
        server,
        "app1",
        "CREATE EXTENSION pg_stat_statements;
         DO $$ BEGIN FOR i IN 1..50 LOOP
           EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, a text, b numeric, ts timestamptz DEFAULT now())', i);
           EXECUTE format('CREATE INDEX ON t%s (ts)', i);
           EXECUTE format('INSERT INTO t%s (id, a, b) SELECT g, md5(g::text), g FROM generate_series(1, 200) g', i);
         END LOOP; END $$;
         ANALYZE",
    )
    .await?;
    for database in 2..=20 {
        sql(server, "postgres", &format!("CREATE DATABASE app{database} TEMPLATE app1")).await?;
    }
    for database in 1..=20 {
        let statements: String = (1..=50)
            .map(|table| {
                format!(
                    "SELECT count(*) FROM t{table}; SELECT max(id) FROM t{table}; SELECT sum(b) FROM t{table};
                     SELECT a FROM t{table} WHERE id = 1; SELECT id, a FROM t{table} WHERE id < 3 ORDER BY ts;
                     UPDATE t{table} SET b = b + 1 WHERE id = 1;"
                )
            })
            .collect();
        sql(server, &format!("app{database}"), &statements).await?;
    }
    Ok("app1")
}

async fn tables(server: &Postgres) -> Result<&'static str> {
    sql(server, "postgres", "CREATE DATABASE big").await?;
    // In parts: each table takes a lock until its transaction ends.
    for part in 0..20 {
        let (first, last) = (part * 500 + 1, part * 500 + 500);
        let statements = format!(
            "DO $$ BEGIN FOR i IN {first}..{last} LOOP
               EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, a int)', i);
               EXECUTE format('INSERT INTO t%s VALUES (1, 1)', i);
             END LOOP; END $$"
        );
        sql(server, "big", &statements).await?;
    }
    sql(server, "big", "ANALYZE").await?;
    Ok("big")
}

async fn many(server: &Postgres) -> Result<&'static str> {
    sql(server, "postgres", "CREATE DATABASE d1").await?;
    sql(
        server,
        "d1",
        "CREATE TABLE t1 (id int PRIMARY KEY, a text);
         INSERT INTO t1 SELECT g, md5(g::text) FROM generate_series(1, 100) g",
    )
    .await?;
    for database in 2..=100 {
        sql(server, "postgres", &format!("CREATE DATABASE d{database} TEMPLATE d1")).await?;
    }
    Ok("postgres")
}
