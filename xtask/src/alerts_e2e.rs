//! `cargo xtask alerts-e2e`: breaks a stack of its own and listens to what Alertmanager says. Every duration of monitoring is
//! divided by one factor; the rules are the committed ones.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::{
    process::children,
    upstream::{Reply, Upstream},
};
use tokio::time::Instant;

use crate::{
    progress::{print, say, step, table},
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
    /// Use the programs that were built beside this one
    #[arg(long)]
    no_build: bool,
    #[command(flatten)]
    location: Location,
}

/// Requests a second while things break.
const RATE: f64 = 10.0;
/// How long anything may take, in the time of production: the slowest is HighErrorRate, ten minutes after the first error.
const LIMIT: Duration = Duration::from_secs(30 * 60);

pub(crate) async fn run(args: &Args) -> Result<()> {
    let folder = args.location.folder()?.join("drill");
    let programs = up::programs(args.no_build)?;
    let sink = Upstream::start(Reply::new(200, "")).await?;
    let drill = Drill { factor: args.factor, sink: sink.url().to_owned() };
    let mut stack = Stack::new(folder.clone(), false).drill(drill);
    let started = stack.start(&programs, RATE, None).await;
    let exercise = Exercise { sink, factor: args.factor, state: &stack.state, times: Vec::new() };
    let result = match started {
        Ok(()) => exercise.run().await,
        Err(error) => Err(error),
    };
    drop(stack);
    State::remove(&folder)?;
    let mut rows = vec![["ALERT", "RECEIVER", "SECONDS IN PRODUCTION"].map(str::to_owned).to_vec()];
    rows.extend(result?);
    for line in table(&rows) {
        print(&line);
    }
    Ok(())
}

struct Exercise<'a> {
    sink: Upstream,
    factor: u32,
    state: &'a State,
    times: Vec<Vec<String>>,
}

impl Exercise<'_> {
    /// What was told to whom, and how long after it broke.
    async fn run(mut self) -> Result<Vec<Vec<String>>> {
        self.told("Watchdog", "dead-man", Instant::now()).await?;

        let (redis, broken) = self.stop("redis")?;
        self.told("RedisDown", "page-data", broken).await?;
        self.fires("CacheBypassed").await?;
        self.told("HighErrorRate", "page-platform", broken).await?;
        // It has fired for a while by now: whoever is told of the cause is not told of this.
        if self.heard("firing", "CacheBypassed", None) {
            bail!("CacheBypassed was told in spite of RedisDown");
        }
        signal(&redis, Signal::SIGCONT)?;
        self.over("RedisDown").await?;

        let (postgres, broken) = self.stop("postgresql")?;
        self.told("DatabaseDown", "page-data", broken).await?;
        signal(&postgres, Signal::SIGCONT)?;
        self.over("DatabaseDown").await?;

        let (_prometheus, broken) = self.stop("prometheus")?;
        self.silence(broken).await?;
        Ok(self.times)
    }

    /// Stops a part and all its processes, as a disk that hangs would.
    fn stop(&self, part: &str) -> Result<(Vec<u32>, Instant)> {
        let part = self.state.parts.iter().find(|one| one.name == part);
        let pid = part.context("the stack lacks a part")?.process.pid;
        let pids: Vec<u32> = children(pid).into_iter().chain([pid]).collect();
        signal(&pids, Signal::SIGSTOP)?;
        Ok((pids, Instant::now()))
    }

    /// Whether somebody, or this receiver, was told that the alert is `firing` or `resolved`.
    fn heard(&self, status: &str, alert: &str, receiver: Option<&str>) -> bool {
        self.sink.received().iter().any(|message| {
            let to = message.path.trim_start_matches('/');
            let alerts = message.json().map(|body| body["alerts"].clone()).unwrap_or_default();
            let told =
                |one: &serde_json::Value| one["status"] == status && one["labels"]["alertname"] == alert;
            receiver.is_none_or(|receiver| receiver == to)
                && alerts.as_array().is_some_and(|all| all.iter().any(told))
        })
    }

    async fn told(&mut self, alert: &str, receiver: &str, broken: Instant) -> Result<()> {
        step(
            &format!("{receiver} is told of {alert}"),
            self.until(|| self.heard("firing", alert, Some(receiver))),
        )
        .await?;
        let seconds = broken.elapsed().as_secs_f64() * f64::from(self.factor);
        self.times.push(vec![alert.to_owned(), receiver.to_owned(), format!("{seconds:.0}")]);
        Ok(())
    }

    async fn over(&self, alert: &str) -> Result<()> {
        step(&format!("{alert} is over"), self.until(|| self.heard("resolved", alert, None))).await
    }

    async fn until(&self, condition: impl Fn() -> bool) -> Result<()> {
        let limit = LIMIT / self.factor;
        let deadline = Instant::now() + limit;
        while !condition() {
            if Instant::now() >= deadline {
                bail!("not within {limit:?}; told so far: {:?}", self.times);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Waits until Prometheus says that an alert fires.
    async fn fires(&self, alert: &str) -> Result<()> {
        let part = self.state.parts.iter().find(|part| part.name == "prometheus").context("no Prometheus")?;
        let query = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}");
        let deadline = Instant::now() + LIMIT / self.factor;
        step(&format!("{alert} fires"), async {
            while promql::values(&part.url, &query).await?.is_empty() {
                if Instant::now() >= deadline {
                    bail!("{alert} does not fire");
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok(())
        })
        .await
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
        let seconds = last.1.duration_since(broken).as_secs_f64() * f64::from(self.factor);
        say("Prometheus is stopped and the Watchdog with it");
        self.times.push(vec![
            "Watchdog is silent".to_owned(),
            "dead-man".to_owned(),
            format!("{seconds:.0}"),
        ]);
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
