//! `cargo xtask fmt`: formats the code, or checks that it is.

use anyhow::Result;

use crate::cargo;

/// Format the code
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Change nothing, fail when something is not formatted
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.check { check() } else { cargo::run(&["fmt", "--all"]) }
}

/// Fails when something is not formatted.
pub(crate) fn check() -> Result<()> {
    cargo::run(&["fmt", "--all", "--check"])
}
