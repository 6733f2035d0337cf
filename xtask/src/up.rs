//! `cargo xtask up`: the whole stack without Docker. Nothing is installed and no server that runs is touched.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cargo,
    progress::say,
    stack::{
        Location,
        start::{Programs, Stack},
        state::State,
    },
    status, traffic,
};

/// Build and start everything without Docker, wait until Prometheus sees it, show where it is
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave it running and return; `cargo xtask down` ends it
    #[arg(long)]
    detach: bool,
    /// Requests a second of the traffic generator; 0 for none
    #[arg(long, value_name = "N", default_value_t = 5.0)]
    rate: f64,
    /// Begin with a past of so many days in the tables and in Prometheus, so that dashboards have something to show; for a
    /// new stack only
    #[arg(long, value_name = "DAYS", value_parser = traffic::days)]
    history: Option<u32>,
    /// Use the programs that were built beside this one
    #[arg(long)]
    no_build: bool,
    #[command(flatten)]
    location: Location,
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let folder = args.location.folder()?;
    if State::read(&folder)?.is_some_and(|state| state.alive()) {
        bail!(
            "the stack of {} runs already: `cargo xtask status` shows it, `cargo xtask down` ends it",
            folder.display()
        );
    }
    State::remove(&folder)?;
    let programs = programs(args.no_build)?;
    let mut stack = Stack::new(folder.clone(), args.detach);
    tokio::select! {
        started = stack.start(&programs, args.rate, args.history) => {
            if let Err(error) = started {
                drop(stack);
                State::remove(&folder)?;
                return Err(error);
            }
        }
        interrupted = stop_signal() => {
            interrupted?;
            return end(stack, &folder);
        }
    }
    status::show(&stack.state).await;
    if args.detach {
        stack.leave();
        say("\nIt runs on: `cargo xtask status` shows it, `cargo xtask down` ends it.");
        return Ok(());
    }
    say("\nCtrl-C ends everything.");
    let failure = tokio::select! {
        interrupted = stop_signal() => {
            interrupted?;
            None
        }
        error = first_ended(&stack) => Some(error),
    };
    end(stack, &folder)?;
    failure.map_or(Ok(()), Err)
}

fn end(stack: Stack, folder: &Path) -> Result<()> {
    say("\nending everything");
    drop(stack);
    State::remove(folder)
}

/// The programs of a stack: those beside this one, or built now.
pub(crate) fn programs(no_build: bool) -> Result<Programs> {
    if no_build { built() } else { build() }
}

fn build() -> Result<Programs> {
    say("building the backend and the exporters");
    let programs = ["autodealgenie-backend", "pg-exporter", "redis-exporter", "business-exporter", "xtask"];
    let [backend, pg_exporter, redis_exporter, business_exporter, xtask] =
        <[_; 5]>::try_from(cargo::build(&programs)?)
            .map_err(|built| anyhow::anyhow!("asked for 5 programs, built {}", built.len()))?;
    Ok(Programs { backend, pg_exporter, redis_exporter, business_exporter, xtask })
}

/// The programs beside this one.
fn built() -> Result<Programs> {
    let this = std::env::current_exe().context("finding this program")?;
    let beside = |name: &str| {
        let path = this.with_file_name(name);
        if path.exists() { Ok(path) } else { bail!("{} is not built: leave out --no-build", path.display()) }
    };
    Ok(Programs {
        backend: beside("autodealgenie-backend")?,
        pg_exporter: beside("pg-exporter")?,
        redis_exporter: beside("redis-exporter")?,
        business_exporter: beside("business-exporter")?,
        xtask: this.clone(),
    })
}

/// Waits for Ctrl-C, SIGTERM or the end of the terminal.
async fn stop_signal() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut hangup = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

/// Waits until a part ends by itself, and names it.
async fn first_ended(stack: &Stack) -> anyhow::Error {
    loop {
        if let Some(error) = stack.ended() {
            return error;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
