//! `cargo xtask alerts-e2e`: breaks a stack of its own and listens to what Alertmanager says. Every duration of monitoring is
//! divided by one factor; the rules are the committed ones.

mod load;
mod report;
mod situations;

use std::{cell::RefCell, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::{
    proxy::Mode,
    upstream::{Reply, Upstream},
};
use tokio::{task::JoinSet, time::Instant};

use self::{load::Load, report::Line, situations::Others};
use crate::{
    progress::{print, say, step},
    promql,
    stack::{
        Location,
        drill::Drill,
        start::{OWNER, Programs, Stack},
        state::State,
    },
    up,
};

/// Break a stack on purpose and see who is told of it
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many times faster than in production everything goes
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10))]
    factor: u32,
    /// Break everything there is, and write what it took into MONITORING.md
    #[arg(long)]
    all: bool,
    /// Break this alone; repeatable
    #[arg(long, value_enum, conflicts_with = "all")]
    only: Vec<Fault>,
    /// Use the programs that were built beside this one
    #[arg(long)]
    no_build: bool,
    #[command(flatten)]
    location: Location,
}

/// What can be broken, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Fault {
    RedisHangs,
    PostgresHangs,
    RedisKilled,
    PostgresKilled,
    Connections,
    Exporters,
    Backend,
    Requests,
    Situations,
    PrometheusEnds,
    PrometheusHangs,
}

/// What is broken without being asked for: minutes.
const SHORT: [Fault; 3] = [Fault::RedisHangs, Fault::PostgresHangs, Fault::PrometheusHangs];

/// Requests a second while things break.
const RATE: f64 = 10.0;
/// How long anything may take, in the time of production: the slowest is HighAPILatency, a quarter of an hour after the first
/// slow answer.
const LIMIT: Duration = Duration::from_secs(40 * 60);
/// How long what must be silent is listened to: longer than the slowest of them takes to fire.
const SILENCE: Duration = Duration::from_secs(16 * 60);
/// How long answers of PostgreSQL are under way: just short enough, and just too long.
const QUICK_ENOUGH: Duration = Duration::from_millis(1900);
const TOO_SLOW: Duration = Duration::from_millis(2100);
/// What Prometheus finds then: the bounds of the histogram around it are 1 s and 2 s.
const JUST_BELOW: &str = "job:http_errors_per_request:ratio_rate5m > 0.047
    and histogram_quantile(0.95, job_le:http_request_duration_seconds_bucket:rate5m) > 1";
/// Of a thousand requests, those that fail: just too few, and enough.
const FEW: u32 = 49;
const MANY: u32 = 60;

pub(crate) async fn run(args: &Args) -> Result<()> {
    let faults: Vec<Fault> = match (args.all, args.only.as_slice()) {
        (true, _) => Fault::value_variants().to_vec(),
        (false, []) => SHORT.to_vec(),
        (false, only) => only.to_vec(),
    };
    let folder = args.location.folder()?.join("drill");
    let programs = up::programs(args.no_build)?;
    let sink = Upstream::start(Reply::new(200, "")).await?;
    let others = if faults.contains(&Fault::Situations) { Some(Others::start().await?) } else { None };
    let extras = others.as_ref().map(Others::extras);
    let drill = Drill { factor: args.factor, sink: sink.url().to_owned(), extras };
    let mut stack = Stack::new(folder.clone(), false).drill(drill);
    // Few requests go as far as an API of others.
    let rate = if others.is_some() { 3.0 * RATE } else { RATE };
    let started = stack.start(&programs, rate, None).await;
    let (programs, lines) = (&programs, RefCell::default());
    let mut exercise = Exercise { sink, factor: args.factor, stack: &mut stack, programs, lines };
    let result = match started {
        Ok(()) => exercise.run(&faults, others).await,
        Err(error) => Err(error),
    };
    let lines = exercise.lines.into_inner();
    drop(stack);
    State::remove(&folder)?;
    for line in report::table(&lines) {
        print(&line);
    }
    result?;
    if args.all { report::write(&lines, args.factor) } else { Ok(()) }
}

/// When something was broken or mended, and how many messages had come by then.
struct Moment {
    at: Instant,
    heard: usize,
}

/// An alert, of one job or of any.
#[derive(Clone, Copy)]
struct Alert<'a> {
    name: &'a str,
    job: Option<&'a str>,
}

impl<'a> From<&'a str> for Alert<'a> {
    fn from(name: &'a str) -> Self {
        Self { name, job: None }
    }
}

struct Exercise<'a> {
    sink: Upstream,
    factor: u32,
    stack: &'a mut Stack,
    programs: &'a Programs,
    lines: RefCell<Vec<Line>>,
}

impl Exercise<'_> {
    /// What was told to whom, and how long after it broke.
    async fn run(&mut self, faults: &[Fault], mut others: Option<Others>) -> Result<()> {
        let started = self.now();
        self.told("start", "Watchdog", "dead-man", &started).await?;
        for fault in faults {
            match (fault, &mut others) {
                (Fault::RedisHangs, _) => self.redis_hangs().await?,
                (Fault::PostgresHangs, _) => self.postgres_hangs().await?,
                (Fault::RedisKilled, _) => self.redis_killed().await?,
                (Fault::PostgresKilled, _) => self.postgres_killed().await?,
                (Fault::Connections, _) => self.connections().await?,
                (Fault::Exporters, _) => self.exporters().await?,
                (Fault::Backend, _) => self.backend().await?,
                (Fault::Requests, _) => self.requests().await?,
                (Fault::Situations, Some(others)) => situations::run(self, others).await?,
                (Fault::Situations, None) => bail!("nobody started what this needs"),
                (Fault::PrometheusEnds, _) => self.prometheus_ends().await?,
                (Fault::PrometheusHangs, _) => self.prometheus_hangs().await?,
            }
        }
        Ok(())
    }

    async fn redis_killed(&mut self) -> Result<()> {
        let pid = self.stack.cache()?.pid().context("Redis has no process")?;
        let broken = self.now();
        signal(&[pid], Signal::SIGKILL)?;
        self.told("Redis is killed", "RedisDown", "page-data", &broken).await?;
        let mended = self.now();
        self.stack.cache()?.restart().await?;
        self.over("RedisDown", &mended).await
    }

    async fn redis_hangs(&mut self) -> Result<()> {
        let broken = self.now();
        self.stack.cache()?.pause()?;
        self.told("Redis hangs", "RedisDown", "page-data", &broken).await?;
        self.fires("CacheBypassed").await?;
        self.told("Redis hangs, so requests fail", "HighErrorRate", "page-platform", &broken).await?;
        // It has fired for a while by now: whoever is told of the cause is not told of this.
        self.untold("CacheBypassed")?;
        let mended = self.now();
        self.stack.cache()?.resume()?;
        self.over("RedisDown", &mended).await?;
        self.over("HighErrorRate", &mended).await
    }

    async fn postgres_killed(&mut self) -> Result<()> {
        let pid = self.stack.database()?.pid().context("PostgreSQL has no process")?;
        let broken = self.now();
        signal(&[pid], Signal::SIGKILL)?;
        self.told("PostgreSQL is killed", "DatabaseDown", "page-data", &broken).await?;
        let mended = self.now();
        self.stack.database()?.restart().await?;
        // The restart is an info, and nothing worse of its component is beside it.
        self.fires("InfoInhibitor").await?;
        self.over("DatabaseDown", &mended).await
    }

    async fn postgres_hangs(&mut self) -> Result<()> {
        let broken = self.now();
        self.stack.database()?.pause().await?;
        self.told("PostgreSQL hangs", "DatabaseDown", "page-data", &broken).await?;
        let mended = self.now();
        self.stack.database()?.resume()?;
        self.over("DatabaseDown", &mended).await
    }

    /// Somebody takes every connection that is left.
    async fn connections(&mut self) -> Result<()> {
        let broken = self.now();
        let mut sessions = Vec::new();
        while let Ok(session) = self.stack.database()?.client_as(OWNER, OWNER, OWNER).await {
            sessions.push(session);
        }
        say(&format!("{} connections are taken", sessions.len()));
        self.told("connections run out", "DatabaseConnectionsExhausted", "page-data", &broken).await?;
        self.fires("DatabaseConnectionPoolHigh").await?;
        self.untold("DatabaseConnectionPoolHigh")?;
        let mended = self.now();
        drop(sessions);
        self.over("DatabaseConnectionsExhausted", &mended).await
    }

    /// Slow statements; meanwhile one exporter hangs, one ends, and one is killed.
    async fn exporters(&mut self) -> Result<()> {
        let broken = self.now();
        let slow = self.slow_statements().await?;
        let node = self.stack.processes("node-exporter")?;
        signal(&node, Signal::SIGSTOP)?;
        self.stack.stop("business-exporter", Signal::SIGTERM).await?;
        let of = |job| Alert { name: "TargetDown", job: Some(job) };
        let told = tokio::join!(
            self.told("an exporter hangs", of("node"), "ticket-platform", &broken),
            self.told("an exporter is stopped", of("business"), "ticket-platform", &broken),
            self.told("statements of 1.3 s", "SlowQueries", "ticket-data", &broken),
        );
        told.0.and(told.1).and(told.2)?;
        let mended = self.now();
        signal(&node, Signal::SIGCONT)?;
        self.stack.restart("business-exporter").await?;
        drop(slow);
        let over = tokio::join!(
            self.over(of("node"), &mended),
            self.over(of("business"), &mended),
            self.over("SlowQueries", &mended),
        );
        over.0.and(over.1).and(over.2)?;
        let broken = self.now();
        self.stack.stop("node-exporter", Signal::SIGKILL).await?;
        self.told("an exporter is killed", of("node"), "ticket-platform", &broken).await?;
        let mended = self.now();
        self.stack.restart("node-exporter").await?;
        self.over(of("node"), &mended).await
    }

    async fn backend(&mut self) -> Result<()> {
        for (fault, signal) in
            [("the backend is stopped", Signal::SIGTERM), ("the backend is killed", Signal::SIGKILL)]
        {
            let broken = self.now();
            self.stack.stop("autodealgenie-backend", signal).await?;
            self.told(fault, "ServiceDown", "page-platform", &broken).await?;
            let mended = self.now();
            self.stack.restart("autodealgenie-backend").await?;
            self.over("ServiceDown", &mended).await?;
        }
        Ok(())
    }

    /// Requests that fail and take long: just too few of them, and just enough.
    async fn requests(&mut self) -> Result<()> {
        // Nobody else asks the backend.
        let traffic = self.stack.processes("traffic")?;
        signal(&traffic, Signal::SIGSTOP)?;
        let owner = self.stack.owner().await?;
        let url = self.url("autodealgenie-backend")?;
        self.answers_take(Duration::from_millis(100))?;
        Load::warm(&url).await?;
        self.answers_take(QUICK_ENOUGH)?;
        let load = Load::start(&url, &owner, OWNER).await?;
        let prometheus = self.prometheus()?;
        let calm = "job:http_errors_per_request:ratio_rate5m < 0.001";
        let calm = self.wait(async || Ok(!promql::values(&prometheus, calm).await?.is_empty()));
        step("earlier failures are forgotten", calm).await?;
        load.failing(FEW);
        for alert in ["HighErrorRate", "HighAPILatency"] {
            step(&format!("{alert} is not even pending"), self.gone(alert)).await?;
        }
        step("4.9 % of errors and a p95 of 1.9 s are silent", async {
            let end = Instant::now() + SILENCE / self.factor;
            while Instant::now() < end {
                for alert in ["HighErrorRate", "HighAPILatency"] {
                    if !self.alerts(alert, "").await?.is_empty() {
                        bail!("{alert} is pending or fires");
                    }
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            // Silent though it is so.
            let so = !promql::values(&prometheus, JUST_BELOW).await?.is_empty();
            ensure!(so, "not so: {JUST_BELOW}");
            Ok(())
        })
        .await?;
        let broken = self.now();
        load.failing(MANY);
        self.answers_take(TOO_SLOW)?;
        let told = tokio::join!(
            self.told("6 % of requests fail", "HighErrorRate", "page-platform", &broken),
            self.told("requests take 2.1 s", "HighAPILatency", "ticket-platform", &broken),
        );
        told.0.and(told.1)?;
        let mended = self.now();
        load.failing(0);
        self.answers_take(Duration::ZERO)?;
        let over = tokio::join!(self.over("HighErrorRate", &mended), self.over("HighAPILatency", &mended),);
        over.0.and(over.1)?;
        let failed = load.end(&owner).await?;
        say(&format!("{failed} requests failed, and the backend counted as many"));
        signal(&traffic, Signal::SIGCONT)
    }

    /// How long an answer of PostgreSQL is under way to the backend.
    fn answers_take(&self, time: Duration) -> Result<()> {
        let way = self.stack.way.as_ref().context("PostgreSQL is asked without a proxy")?;
        way.set(if time.is_zero() { Mode::Pass } else { Mode::Delay(time) });
        Ok(())
    }

    /// Statements that take more than a second each, until it is dropped.
    async fn slow_statements(&mut self) -> Result<JoinSet<()>> {
        // In a database of its own: quick statements of others would hide them in the average.
        let client = self.stack.database()?.client_as("postgres", "", "postgres").await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { while client.batch_execute("SELECT pg_sleep(1.3)").await.is_ok() {} });
        Ok(tasks)
    }

    async fn prometheus_hangs(&mut self) -> Result<()> {
        let broken = Instant::now();
        let prometheus = self.stack.processes("prometheus")?;
        signal(&prometheus, Signal::SIGSTOP)?;
        self.silence("Prometheus hangs", broken).await?;
        signal(&prometheus, Signal::SIGCONT)?;
        self.pinged(&self.now()).await
    }

    async fn prometheus_ends(&mut self) -> Result<()> {
        for (fault, signal) in
            [("Prometheus is stopped", Signal::SIGTERM), ("Prometheus is killed", Signal::SIGKILL)]
        {
            let broken = Instant::now();
            self.stack.stop("prometheus", signal).await?;
            self.silence(fault, broken).await?;
            let mended = self.now();
            self.stack.restart("prometheus").await?;
            self.pinged(&mended).await?;
        }
        Ok(())
    }

    /// Waits until the dead-man's switch hears again.
    async fn pinged(&self, mended: &Moment) -> Result<()> {
        let heard = self.until(|| self.heard(mended.heard, "firing", "Watchdog".into()).is_some());
        step("the dead-man's switch hears again", heard).await?;
        if let Some(line) = self.lines.borrow_mut().last_mut() {
            line.over = Some(mended.at.elapsed() * self.factor);
        }
        Ok(())
    }

    fn url(&self, name: &str) -> Result<String> {
        let part = self.stack.state.parts.iter().find(|part| part.name == name);
        Ok(part.with_context(|| format!("the stack has no {name}"))?.url.clone())
    }

    fn prometheus(&self) -> Result<String> {
        self.url("prometheus")
    }

    fn now(&self) -> Moment {
        Moment { at: Instant::now(), heard: self.sink.received().len() }
    }

    /// The receiver that was first told that the alert is `firing` or `resolved`, after so many messages.
    fn heard(&self, since: usize, status: &str, alert: Alert<'_>) -> Option<String> {
        let told = |one: &serde_json::Value| {
            let labels = &one["labels"];
            one["status"] == status
                && labels["alertname"] == alert.name
                && alert.job.is_none_or(|job| labels["job"] == job)
        };
        self.sink.received().iter().skip(since).find_map(|message| {
            let body = message.json().ok()?;
            let hit = body["alerts"].as_array()?.iter().any(told);
            hit.then(|| message.path.trim_start_matches('/').to_owned())
        })
    }

    /// Waits until the right receiver is told of an alert.
    async fn told<'b>(
        &self,
        fault: &str,
        alert: impl Into<Alert<'b>>,
        receiver: &str,
        broken: &Moment,
    ) -> Result<()> {
        let alert = alert.into();
        let told = self.until(|| self.heard(broken.heard, "firing", alert).is_some());
        step(&format!("{fault}: {receiver} is told of {}", alert.name), told).await?;
        let heard = self.heard(broken.heard, "firing", alert).unwrap_or_default();
        ensure!(heard == receiver, "{heard} was told of {}", alert.name);
        self.lines.borrow_mut().push(Line {
            fault: fault.to_owned(),
            alert: alert.name.to_owned(),
            job: alert.job.map(str::to_owned),
            receiver: heard,
            told: broken.at.elapsed() * self.factor,
            over: None,
        });
        Ok(())
    }

    fn untold(&self, alert: &str) -> Result<()> {
        if self.heard(0, "firing", alert.into()).is_some() {
            bail!("{alert} was told in spite of its cause");
        }
        Ok(())
    }

    /// Waits until it is told that an alert is over.
    async fn over<'b>(&self, alert: impl Into<Alert<'b>>, mended: &Moment) -> Result<()> {
        let alert = alert.into();
        let over = self.until(|| self.heard(mended.heard, "resolved", alert).is_some());
        step(&format!("{} is over", alert.name), over).await?;
        let over = mended.at.elapsed() * self.factor;
        let mut lines = self.lines.borrow_mut();
        let line =
            lines.iter_mut().rev().find(|line| line.alert == alert.name && line.job.as_deref() == alert.job);
        if let Some(line) = line {
            line.over = Some(over);
        }
        Ok(())
    }

    async fn until(&self, condition: impl Fn() -> bool) -> Result<()> {
        self.wait(async || Ok(condition())).await
    }

    async fn wait(&self, condition: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let limit = LIMIT / self.factor;
        let deadline = Instant::now() + limit;
        while !condition().await? {
            if Instant::now() >= deadline {
                bail!("not within {limit:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// The values of an alert's series, in one state or in any.
    async fn alerts(&self, alert: &str, state: &str) -> Result<Vec<f64>> {
        let prometheus = self.prometheus()?;
        let state = if state.is_empty() { String::new() } else { format!(",alertstate=\"{state}\"") };
        promql::values(&prometheus, &format!("ALERTS{{alertname=\"{alert}\"{state}}}")).await
    }

    /// Waits until Prometheus says that an alert fires.
    async fn fires(&self, alert: &str) -> Result<()> {
        let fires = async || anyhow::Ok(!self.alerts(alert, "firing").await?.is_empty());
        step(&format!("{alert} fires"), self.wait(fires)).await
    }

    /// Waits until an alert is not even pending.
    async fn gone(&self, alert: &str) -> Result<()> {
        self.wait(async || anyhow::Ok(self.alerts(alert, "").await?.is_empty())).await
    }

    /// Waits until the dead-man's switch hears nothing any more, longer than between two pings.
    async fn silence(&self, fault: &str, broken: Instant) -> Result<()> {
        let pings = || self.sink.received().iter().filter(|message| message.path == "/dead-man").count();
        let quiet = Duration::from_secs(150) / self.factor;
        let deadline = broken + LIMIT / self.factor;
        let mut last = (pings(), Instant::now());
        step("the dead-man's switch hears nothing", async {
            while last.1.elapsed() < quiet {
                let heard = pings();
                if heard != last.0 {
                    last = (heard, Instant::now());
                }
                if Instant::now() >= deadline {
                    bail!("pings go on though Prometheus is stopped");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        })
        .await?;
        self.lines.borrow_mut().push(Line {
            fault: fault.to_owned(),
            alert: "Watchdog is silent".to_owned(),
            job: None,
            receiver: "dead-man".to_owned(),
            told: last.1.duration_since(broken) * self.factor,
            over: None,
        });
        Ok(())
    }
}

fn signal(pids: &[u32], signal: Signal) -> Result<()> {
    for pid in pids {
        let pid = Pid::from_raw(i32::try_from(*pid).context("a pid is too large")?);
        kill(pid, signal).with_context(|| format!("sending {signal} to process {pid}"))?;
    }
    Ok(())
}
