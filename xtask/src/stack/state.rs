//! `state.json`: what was started, so that `status` and `down` of another terminal find exactly that.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use testkit::process::Stat;

const FILE: &str = "state.json";
/// How long a part may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(15);

/// A process that is named for good: a pid alone may belong to somebody else by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// Clock ticks since boot.
    pub(crate) start_time: u64,
}

impl Identity {
    /// The process that has `pid` now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Stat::of(pid).map(|stat| Self { pid, start_time: stat.start_time })
    }

    /// Whether it still runs.
    pub(crate) fn alive(self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.start_time == self.start_time && stat.state != 'Z')
    }

    /// Asks it to end by `signal` and waits; kills it when it does not. Nothing happens when it is gone.
    pub(crate) async fn end(self, signal: Signal) -> Result<()> {
        let Ok(pid) = i32::try_from(self.pid).map(Pid::from_raw) else { return Ok(()) };
        let deadline = Instant::now() + GRACE;
        if self.alive() {
            kill(pid, signal).with_context(|| format!("sending {signal} to process {pid}"))?;
        }
        while self.alive() {
            if Instant::now() >= deadline {
                kill(pid, Signal::SIGKILL).with_context(|| format!("killing process {pid}"))?;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// One started part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PartState {
    /// Name in tables and of the log.
    pub(crate) name: String,
    /// The job under which Prometheus scrapes it.
    pub(crate) job: Option<String>,
    /// Where it answers.
    pub(crate) url: String,
    /// Its process.
    pub(crate) process: Identity,
    /// Its log.
    pub(crate) log: PathBuf,
    /// Whether SIGINT and not SIGTERM ends it without waiting for its clients: PostgreSQL's fast shutdown.
    pub(crate) interrupt: bool,
}

impl PartState {
    /// The signal that ends it.
    pub(crate) fn stop_signal(&self) -> Signal {
        if self.interrupt { Signal::SIGINT } else { Signal::SIGTERM }
    }
}

/// Everything that was started.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// The `up` that stays and ends the parts when it ends; none after `up --detach`.
    pub(crate) runner: Option<Identity>,
    /// In the order in which they were started.
    pub(crate) parts: Vec<PartState>,
}

impl State {
    /// Reads it; `None` when nothing was started.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let state = serde_json::from_str(&text);
                state.map(Some).with_context(|| format!("{} is damaged: remove it", path.display()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Where the part `name` of the stack in `folder` answers.
    pub(crate) fn url(folder: &Path, name: &str) -> Result<String> {
        let state = Self::read(folder)?.unwrap_or_default();
        let part = state.parts.into_iter().find(|part| part.name == name);
        part.map(|part| part.url).with_context(|| {
            format!("no {name} in {}: start the stack with `cargo xtask up`", folder.display())
        })
    }

    /// Writes it, whole or not at all.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let partial = folder.join(format!("{FILE}.partial"));
        let text = serde_json::to_string_pretty(self).context("writing the state as JSON")?;
        fs::write(&partial, text).with_context(|| format!("writing {}", partial.display()))?;
        fs::rename(&partial, &path).with_context(|| format!("writing {}", path.display()))
    }

    /// Forgets it.
    pub(crate) fn remove(folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Whether any of it still runs.
    pub(crate) fn alive(&self) -> bool {
        self.runner.is_some_and(Identity::alive) || self.parts.iter().any(|part| part.process.alive())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_of_somebody_else_is_not_ours() {
        let me = Identity::of(std::process::id()).unwrap();
        assert!(me.alive());
        assert!(!Identity { start_time: me.start_time + 1, ..me }.alive());
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(State::read(folder.path()).unwrap().is_none());
        let state = State { runner: Identity::of(std::process::id()), parts: Vec::new() };
        state.write(folder.path()).unwrap();
        assert_eq!(State::read(folder.path()).unwrap().unwrap().runner, state.runner);
        State::remove(folder.path()).unwrap();
        State::remove(folder.path()).unwrap();
        assert!(State::read(folder.path()).unwrap().is_none());
    }
}
