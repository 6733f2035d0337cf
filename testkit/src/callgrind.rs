//! Instructions that a program executes, counted by valgrind's callgrind: unlike times they are the same whatever else the
//! machine does.

use std::{ffi::OsStr, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::process::{Process, ProcessBuilder};

/// `program`, some fifty times slower, with one worker of tokio: how many workers wake for a request is chance.
pub fn builder(name: &str, program: impl AsRef<OsStr>, log: impl Into<PathBuf>) -> ProcessBuilder {
    Process::builder(name, "valgrind", log)
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .env("TOKIO_WORKER_THREADS", "1")
}

/// Ends a program that [`builder`] started; how many instructions it executed.
///
/// # Errors
/// When it does not end within `limit`, or did not run under callgrind: shows its log.
pub async fn stop(mut process: Process, limit: Duration) -> Result<f64> {
    process.signal(Signal::SIGTERM)?;
    process.wait_for_exit(limit).await?;
    let log = process.log();
    let count = log.lines().find_map(|line| line.split_once("Collected :"));
    let count = count.and_then(|(_, count)| count.trim().parse().ok());
    count.with_context(|| format!("valgrind says nothing of instructions: {log}"))
}
