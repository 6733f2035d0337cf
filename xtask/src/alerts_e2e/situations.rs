//! What a stack on one machine has not: replicas, a replication slot, damaged pages, a language model, an API of others, a store that
//! takes what Prometheus writes. Rules about them give values, and fire when it breaks.

use std::{fs, iter::repeat_n, os::unix::fs::FileExt, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;
use testkit::{
    exporter::Exporter,
    postgres::Postgres,
    process::Process,
    proxy::{FaultProxy, Mode},
    redis::Redis,
    upstream::{Reply, Upstream},
};
use tokio::task::JoinSet;

use super::Exercise;
use crate::{
    dead_joins,
    progress::step,
    promql,
    stack::{drill::Extras, start::Programs},
};

/// Longer than LLMLatencyHigh allows, shorter than the backend waits.
const SLOW: Duration = Duration::from_secs(11);
/// Shorter than the backend waits for one try, and longer than half of what ExternalAPILatencyHigh allows.
const HESITANT: Duration = Duration::from_millis(2800);
/// Tokens of an answer: few, and so many that ten answers burn the budget of a day.
const FEW: u32 = 400;
const MANY: u32 = 400_000;
/// How long a model answers, and how long it refuses, in turn.
const LIMITED: Duration = Duration::from_secs(2);
/// Between two checkpoints.
const CHECKPOINT: Duration = Duration::from_secs(3);

/// Services that the backend and Prometheus use.
pub(super) struct Others {
    model: Arc<Upstream>,
    /// The way to the model.
    line: FaultProxy,
    listings: Upstream,
    /// The way to the listings.
    road: FaultProxy,
    store: Process,
    store_url: String,
    _folder: TempDir,
}

impl Others {
    pub(super) async fn start() -> Result<Self> {
        let model = Upstream::start(completion(FEW)).await?;
        let listings = Upstream::start(page()).await?;
        let folder = tempfile::tempdir().context("making a folder for a store")?;
        let (store, store_url) = promql::prometheus(folder.path()).await?;
        Ok(Self {
            line: way(&model)?,
            model: Arc::new(model),
            road: way(&listings)?,
            listings,
            store,
            store_url,
            _folder: folder,
        })
    }

    pub(super) fn extras(&self) -> Extras {
        Extras {
            model: format!("http://{}/v1", self.line.addr()),
            listings: format!("http://{}", self.road.addr()),
            remote: self.store_url.clone(),
        }
    }
}

/// A proxy before a service.
fn way(service: &Upstream) -> Result<FaultProxy> {
    FaultProxy::start(
        service.url().trim_start_matches("http://").parse().context("the address of a service")?,
    )
}

/// What an API of listings says to every question.
fn page() -> Reply {
    Reply::new(200, json!({"num_found": 1, "listings": [{"price": 20_000}]}).to_string())
}

/// What a model says to every prompt.
fn completion(tokens: u32) -> Reply {
    let content =
        json!({"message": "Ask for less.", "summary": "A fair price.", "advice": "Wait.", "offer": 20_000});
    let answer = json!({
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content.to_string()}}],
        "usage": {"prompt_tokens": tokens / 2, "completion_tokens": tokens / 2},
    });
    Reply::new(200, answer.to_string())
}

/// Servers beside those of the stack, and who watches them.
struct Servers {
    primary: Postgres,
    standby: Postgres,
    damaged: Postgres,
    master: Redis,
    _replica: Redis,
    exporters: Vec<Exporter>,
    postgres: Vec<String>,
    redis: Vec<String>,
}

impl Servers {
    async fn start(programs: &Programs) -> Result<Self> {
        let primary = Postgres::start().await?;
        let standby = primary.standby().await?;
        let damaged = damaged().await?;
        let master = Redis::start().await?;
        let replica = Redis::builder().replica_of(&master).start().await?;
        let mut exporters = Vec::new();
        for server in [&standby, &damaged] {
            let arguments = ["--collector.postmaster", "--dsn", &server.dsn()];
            exporters.push(Exporter::start(&programs.pg_exporter, &arguments, |builder| builder).await?);
        }
        let postgres = exporters.iter().map(|exporter| exporter.address().to_string()).collect();
        let arguments = ["--url", &replica.url()];
        let exporter = Exporter::start(&programs.redis_exporter, &arguments, |builder| builder).await?;
        let redis = vec![exporter.address().to_string()];
        exporters.push(exporter);
        Ok(Self { primary, standby, damaged, master, _replica: replica, exporters, postgres, redis })
    }
}

/// A server with data checksums, and a table one page of which was changed behind its back.
async fn damaged() -> Result<Postgres> {
    let mut server = Postgres::start().await?;
    server.stop()?;
    let scratch = tempfile::tempdir().context("making a folder for a log")?;
    let log = scratch.path().join("pg_checksums.log");
    let mut checksums = server
        .installed()
        .process("pg_checksums", "pg_checksums", log)
        .args(["--enable", "--pgdata"])
        .arg(server.data_dir())
        .spawn()?;
    let status = checksums.wait_for_exit(Duration::from_secs(120)).await?;
    ensure!(status.success(), "{}", checksums.failure("switching checksums on"));
    server.restart().await?;
    server.sql("CREATE TABLE torn AS SELECT generate_series(1, 1000) AS n").await?;
    let file = server.psql("SELECT pg_relation_filepath('torn')").await?.context("a table without a file")?;
    server.stop()?;
    flip(&server.data_dir().join(file))?;
    server.restart().await?;
    Ok(server)
}

/// Changes a byte in the middle of the first page.
fn flip(path: &Path) -> Result<()> {
    let open = fs::OpenOptions::new().read(true).write(true).open(path);
    let file = open.with_context(|| format!("opening {}", path.display()))?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, 6000).with_context(|| format!("reading {}", path.display()))?;
    file.write_all_at(&[!byte[0]], 6000).with_context(|| format!("writing {}", path.display()))
}

pub(super) async fn run(exercise: &mut Exercise<'_>, others: &mut Others) -> Result<()> {
    let mut servers =
        step("start replicas, and a database with a damaged page", Servers::start(exercise.programs)).await?;
    exercise.stack.add_targets("postgres", &servers.postgres)?;
    exercise.stack.add_targets("redis", &servers.redis)?;
    let begun = exercise.now();
    let database = exercise.stack.database()?;
    database.sql("SELECT pg_create_physical_replication_slot('drill', true)").await?;
    let client = database.client().await?;
    let mut checkpoints = JoinSet::new();
    checkpoints.spawn(async move {
        while client.batch_execute("CHECKPOINT").await.is_ok() {
            tokio::time::sleep(CHECKPOINT).await;
        }
    });
    let told = tokio::join!(
        exercise.told("nobody reads a slot", "ReplicationSlotInactive", "ticket-data", &begun),
        exercise.told("a checkpoint every 3 s", "CheckpointsTooFrequent", "ticket-data", &begun),
        break_them(exercise, &mut servers, others),
    );
    told.0.and(told.1).and(told.2)?;

    // Nobody can be told of it.
    exercise.sink.always(Reply::new(500, ""));
    exercise.fires("AlertmanagerNotificationsFailing").await?;
    exercise.sink.always(Reply::new(200, ""));

    let mended = exercise.now();
    servers.master.restart().await?;
    servers.standby.sql("SELECT pg_wal_replay_resume()").await?;
    exercise.stack.database()?.sql("SELECT pg_drop_replication_slot('drill')").await?;
    drop(checkpoints);
    let over =
        ["RedisReplicationBroken", "ReplicationLagHigh", "ReplicationSlotInactive", "CheckpointsTooFrequent"];
    let over = join_all(over.map(|alert| exercise.over(alert, &mended))).await;
    over.into_iter().collect::<Result<()>>()?;
    exercise.stack.add_targets("postgres", &[])?;
    exercise.stack.add_targets("redis", &[])?;
    drop(servers.exporters);
    Ok(())
}

/// Once rules about them give values.
async fn break_them(exercise: &Exercise<'_>, servers: &mut Servers, others: &mut Others) -> Result<()> {
    let url = exercise.prometheus()?;
    let alive = exercise.wait(async || Ok(dead_joins::in_situations(&url).await?.is_empty()));
    if let Err(error) = step("rules about them give values", alive).await {
        return Err(error.context(dead_joins::in_situations(&url).await?.join("\n")));
    }
    let broken = exercise.now();
    servers.master.stop()?;
    servers.standby.sql("SELECT pg_wal_replay_pause()").await?;
    servers.primary.sql("CREATE TABLE news AS SELECT 1 AS n").await?;
    if servers.damaged.sql("SELECT sum(n) FROM torn").await.is_ok() {
        bail!("PostgreSQL reads a page whose checksum is wrong");
    }
    others.store.stop_by(Signal::SIGTERM)?;
    let faults = [
        ("a replica loses its master", "RedisReplicationBroken", "page-data"),
        ("a standby stops to replay", "ReplicationLagHigh", "ticket-data"),
        ("a page is damaged", "ChecksumFailures", "page-data"),
        ("a remote store is away", "PrometheusRemoteWriteBehind", "ticket-platform"),
        ("a model takes 400,000 tokens a time", "LLMTokenBudgetBurn", "ticket-platform"),
    ];
    let told = faults.map(|(fault, alert, receiver)| exercise.told(fault, alert, receiver, &broken));
    let (told, listings, model) =
        tokio::join!(join_all(told), listings(exercise, others), model(exercise, others));
    told.into_iter().chain([listings, model]).collect()
}

/// An API that hangs, and one that is slow and fails every other time.
async fn listings(exercise: &Exercise<'_>, others: &Others) -> Result<()> {
    let broken = exercise.now();
    others.listings.always(Reply::Hang);
    let (fault, receiver) = ("an API of others hangs", "ticket-platform");
    exercise.told(fault, "ExternalAPIErrorRateHigh", receiver, &broken).await?;
    let broken = exercise.now();
    // The backend tries again: a call takes two answers.
    others.listings.always(page());
    others.listings.next(repeat_n([Reply::new(500, ""), page()], 2000).flatten());
    others.road.set(Mode::Delay(HESITANT));
    let fault = "an API of others answers at the second try, after 2.8 s each";
    exercise.told(fault, "ExternalAPILatencyHigh", receiver, &broken).await
}

/// A model that limits requests, one that is slow, and one that is down.
async fn model(exercise: &Exercise<'_>, others: &Others) -> Result<()> {
    let (model, mut limits) = (Arc::clone(&others.model), JoinSet::new());
    limits.spawn(async move {
        for reply in [completion(MANY), Reply::new(429, "")].iter().cycle() {
            model.always(reply.clone());
            tokio::time::sleep(LIMITED).await;
        }
    });
    exercise.fires("LLMErrorRateHigh").await?;
    exercise.fires("LLMRateLimited").await?;
    let broken = exercise.now();
    limits.shutdown().await;
    others.model.always(Reply::new(500, ""));
    exercise.told("a model is down", "LLMDown", "page-platform", &broken).await?;
    let broken = exercise.now();
    others.model.always(completion(MANY));
    others.line.set(Mode::Delay(SLOW));
    exercise.told("a model takes 11 s", "LLMLatencyHigh", "ticket-platform", &broken).await
}
