//! `cargo xtask exactness`: the long form of the truth test of the business exporter's counters.

use anyhow::{Context, Result, ensure};

use crate::cargo::{self, PROFILE};

/// Run the truth test of the business exporter's counters for long
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long the writers write
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    // Not by nextest, which ends tests that take long.
    let words = ["test", "--workspace", "--profile", PROFILE, "--test", "it", "the_counters_equal_the_truth"];
    let status = cargo::cargo(&words)?
        .args(["--", "--nocapture"])
        .env("EXACTNESS_MINUTES", args.minutes.to_string())
        .status()
        .context("running cargo test")?;
    ensure!(status.success(), "the counters and the truth differ: see above");
    Ok(())
}
