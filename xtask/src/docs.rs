//! `cargo xtask docs`: writes the pages of docs/ that are made from the code; `--check` says which are out of date.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::cargo::{self, PROFILE};

/// Write the documentation that is made from the code
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail when a page is out of date
    #[arg(long)]
    check: bool,
}

/// A page: its path, and the package and command that print it.
const PAGES: &[(&str, &str, &str)] = &[
    ("docs/collectors.md", "pg-exporter", "collectors"),
    ("docs/redis-families.md", "redis-exporter", "families"),
];

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.check { check() } else { PAGES.iter().try_for_each(write) }
}

/// Fails when a page is out of date.
pub(crate) fn check() -> Result<()> {
    for page @ (path, ..) in PAGES {
        if fs::read_to_string(path).with_context(|| format!("reading {path}"))? != text(page)? {
            bail!("{path} is out of date: run `cargo xtask docs`");
        }
    }
    Ok(())
}

fn write(page @ (path, ..): &(&str, &str, &str)) -> Result<()> {
    fs::write(path, text(page)?).with_context(|| format!("writing {path}"))
}

fn text((path, package, command): &(&str, &str, &str)) -> Result<String> {
    let mut cargo =
        cargo::cargo(&["run", "--package", package, "--profile", PROFILE, "--quiet", "--", command])?;
    let output = cargo.stderr(std::process::Stdio::inherit()).output().context("running cargo")?;
    if !output.status.success() {
        bail!("`{package} {command}`, which prints {path}, ended with {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{path} is not UTF-8"))
}
