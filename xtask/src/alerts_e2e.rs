//! `cargo xtask alerts-e2e`: breaks a stack of its own and listens to what Alertmanager says. Every duration of monitoring is
//! divided by one factor; the rules are the committed ones.

mod page;
mod report;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::upstream::{Reply, Upstream};
use tokio::{task::JoinSet, time::Instant};

use self::{
    page::{Page, Requests},
    report::Line,
};
use crate::{
    progress::{print, say, step},
    promql,
    stack::{Location, drill::Drill, start::Stack, state::State},
    up,
};

/// Break a stack on purpose and see who is told of it
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many times faster than in production everything goes
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=10))]
    factor: u32,
    /// Break everything there is, and write what it took into MONITORING.md
    #[arg(long)]
    all: bool,
    /// Use the programs that were built beside this one
    #[arg(long)]
    no_build: bool,
    #[command(flatten)]
    location: Location,
}

/// Requests a second while things break.
const RATE: f64 = 10.0;
/// How long anything may take, in the time of production: the slowest is HighAPILatency, a quarter of an hour after the first
/// slow answer.
const LIMIT: Duration = Duration::from_secs(40 * 60);
/// How long what must be silent is listened to: longer than the slowest of them takes to fire.
const SILENCE: Duration = Duration::from_secs(16 * 60);
/// The job whose page a stand-in gives.
const BACKEND: &str = "autodealgenie-backend";
/// Role, password and database of the backend.
const BACKEND_ROLE: &str = "autodealgenie";

pub(crate) async fn run(args: &Args) -> Result<()> {
    let folder = args.location.folder()?.join("drill");
    let programs = up::programs(args.no_build)?;
    let sink = Upstream::start(Reply::new(200, "")).await?;
    let drill = Drill { factor: args.factor, sink: sink.url().to_owned() };
    let mut stack = Stack::new(folder.clone(), false).drill(drill);
    let started = stack.start(&programs, RATE, None).await;
    let mut exercise = Exercise { sink, factor: args.factor, stack: &mut stack, lines: Vec::new() };
    let result = match started {
        Ok(()) => exercise.run(args.all).await,
        Err(error) => Err(error),
    };
    let lines = exercise.lines;
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

struct Exercise<'a> {
    sink: Upstream,
    factor: u32,
    stack: &'a mut Stack,
    lines: Vec<Line>,
}

impl Exercise<'_> {
    /// What was told to whom, and how long after it broke.
    async fn run(&mut self, all: bool) -> Result<()> {
        let started = self.now();
        self.told("start", "Watchdog", "dead-man", &started).await?;
        self.redis_hangs().await?;
        self.postgres_hangs().await?;
        if all {
            self.redis_killed().await?;
            self.postgres_killed().await?;
            self.connections().await?;
            self.exporter_and_statements().await?;
            self.requests().await?;
        }
        self.prometheus_hangs().await
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
        self.over("RedisDown", &mended).await
    }

    async fn postgres_killed(&mut self) -> Result<()> {
        let pid = self.stack.database()?.pid().context("PostgreSQL has no process")?;
        let broken = self.now();
        signal(&[pid], Signal::SIGKILL)?;
        self.told("PostgreSQL is killed", "DatabaseDown", "page-data", &broken).await?;
        let mended = self.now();
        self.stack.database()?.restart().await?;
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
        while let Ok(session) =
            self.stack.database()?.client_as(BACKEND_ROLE, BACKEND_ROLE, BACKEND_ROLE).await
        {
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

    /// Slow statements, and an exporter that hangs meanwhile.
    async fn exporter_and_statements(&mut self) -> Result<()> {
        let broken = self.now();
        let slow = self.slow_statements().await?;
        let node = self.stack.processes("node-exporter")?;
        signal(&node, Signal::SIGSTOP)?;
        self.told("an exporter hangs", "TargetDown", "ticket-platform", &broken).await?;
        let mended = self.now();
        signal(&node, Signal::SIGCONT)?;
        self.over("TargetDown", &mended).await?;
        self.told("statements of 1.3 s", "SlowQueries", "ticket-data", &broken).await?;
        let mended = self.now();
        drop(slow);
        self.over("SlowQueries", &mended).await
    }

    /// Requests that fail and take long: just too few of them, and just enough.
    async fn requests(&mut self) -> Result<()> {
        // Nobody but the stand-in counts requests from here on.
        signal(&self.stack.processes("traffic")?, Signal::SIGSTOP)?;
        let page = Page::start(Requests { failed: 0.049, p95: 1.9 }).await?;
        self.stack.add_target(BACKEND, page.address())?;
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
            Ok(())
        })
        .await?;
        let broken = self.now();
        page.set(Requests { failed: 0.06, p95: 2.1 });
        self.told("6 % of requests fail", "HighErrorRate", "page-platform", &broken).await?;
        self.told("a p95 of 2.1 s", "HighAPILatency", "ticket-platform", &broken).await?;
        let mended = self.now();
        page.set(Requests { failed: 0.0, p95: 0.5 });
        self.over("HighErrorRate", &mended).await?;
        self.over("HighAPILatency", &mended).await
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
        signal(&self.stack.processes("prometheus")?, Signal::SIGSTOP)?;
        self.silence(Instant::now()).await
    }

    fn now(&self) -> Moment {
        Moment { at: Instant::now(), heard: self.sink.received().len() }
    }

    /// Whether somebody, or this receiver, was told that the alert is `firing` or `resolved` after so many messages.
    fn heard(&self, since: usize, status: &str, alert: &str, receiver: Option<&str>) -> bool {
        self.sink.received().iter().skip(since).any(|message| {
            let to = message.path.trim_start_matches('/');
            let alerts = message.json().map(|body| body["alerts"].clone()).unwrap_or_default();
            let told =
                |one: &serde_json::Value| one["status"] == status && one["labels"]["alertname"] == alert;
            receiver.is_none_or(|receiver| receiver == to)
                && alerts.as_array().is_some_and(|all| all.iter().any(told))
        })
    }

    /// Waits until a receiver is told of an alert.
    async fn told(&mut self, fault: &str, alert: &str, receiver: &str, broken: &Moment) -> Result<()> {
        let told = self.until(|| self.heard(broken.heard, "firing", alert, Some(receiver)));
        step(&format!("{fault}: {receiver} is told of {alert}"), told).await?;
        self.lines.push(Line {
            fault: fault.to_owned(),
            alert: alert.to_owned(),
            receiver: receiver.to_owned(),
            told: broken.at.elapsed() * self.factor,
            over: None,
        });
        Ok(())
    }

    fn untold(&self, alert: &str) -> Result<()> {
        if self.heard(0, "firing", alert, None) {
            bail!("{alert} was told in spite of its cause");
        }
        Ok(())
    }

    /// Waits until it is told that an alert is over.
    async fn over(&mut self, alert: &str, mended: &Moment) -> Result<()> {
        let over = self.until(|| self.heard(mended.heard, "resolved", alert, None));
        step(&format!("{alert} is over"), over).await?;
        let factor = self.factor;
        if let Some(line) = self.lines.iter_mut().rev().find(|line| line.alert == alert) {
            line.over = Some(mended.at.elapsed() * factor);
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
        let parts = &self.stack.state.parts;
        let prometheus = parts.iter().find(|part| part.name == "prometheus").context("no Prometheus")?;
        let state = if state.is_empty() { String::new() } else { format!(",alertstate=\"{state}\"") };
        promql::values(&prometheus.url, &format!("ALERTS{{alertname=\"{alert}\"{state}}}")).await
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
    async fn silence(&mut self, broken: Instant) -> Result<()> {
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
        self.lines.push(Line {
            fault: "Prometheus hangs".to_owned(),
            alert: "Watchdog is silent".to_owned(),
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
