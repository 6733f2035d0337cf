//! Runs cargo in the workspace's root with the profile that everything here shares.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use testkit::servers::workspace_root;

/// The profile of tests, of `up` and of CI: one build cache for all of them.
pub(crate) const PROFILE: &str = "ci";

/// What links a program as the Dockerfile does.
const STATIC: [&str; 2] = ["--config", ".cargo/static.toml"];

/// Beginnings of the variables that `cargo run` sets for the program it runs.
const OURS: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];

/// `cargo` with these words, in the workspace's root.
pub(crate) fn cargo(words: &[&str]) -> Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(words).current_dir(workspace_root()?);
    // `cargo run` tells us which package we are. Build scripts (ring's) take a change of these for a reason to
    // build again, so the cargo we call must see the same environment as one called by hand.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| OURS.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// Runs `cargo` with these words and shows what it says.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let status = cargo(words)?.status().context("running cargo")?;
    if !status.success() {
        bail!("`cargo {}` ended with {status}", words.join(" "));
    }
    Ok(())
}

/// Builds programs for development, each the package and the binary of that name, and gives their paths in that order.
pub(crate) fn build(programs: &[&str]) -> Result<Vec<PathBuf>> {
    // All of the workspace, so that features are the ones of the tests and nothing is compiled twice.
    build_from(&["--workspace", "--profile", PROFILE], programs)
}

/// The same of what the words select, linked as in the images.
pub(crate) fn build_static(selection: &[&str], programs: &[&str]) -> Result<Vec<PathBuf>> {
    build_from(&[&["--profile", PROFILE], &STATIC, selection].concat(), programs)
}

/// Builds a program as it is in its image and gives its path.
pub(crate) fn release(program: &str) -> Result<PathBuf> {
    let built = build_from(&[&["--release", "--package", program], &STATIC[..]].concat(), &[program])?;
    built.into_iter().next().with_context(|| format!("cargo built no program {program}"))
}

fn build_from(selection: &[&str], programs: &[&str]) -> Result<Vec<PathBuf>> {
    /// What cargo tells about an artifact; other messages lack these fields.
    #[derive(Deserialize)]
    struct Artifact {
        target: Target,
        executable: PathBuf,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }

    let words = ["build", "--bins", "--message-format", "json-render-diagnostics"];
    let mut command = cargo(&[&words, selection].concat())?;
    // Its progress is on stderr, for the user; its messages on stdout, for us.
    let output = command.stderr(Stdio::inherit()).output().context("running cargo build")?;
    if !output.status.success() {
        bail!("building {} failed", programs.join(", "));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let artifacts: Vec<Artifact> =
        messages.lines().filter_map(|message| serde_json::from_str(message).ok()).collect();
    programs
        .iter()
        .map(|program| {
            let artifact = artifacts.iter().find(|artifact| artifact.target.name == *program);
            let artifact = artifact.ok_or_else(|| anyhow!("cargo built no program {program}"))?;
            Ok(artifact.executable.clone())
        })
        .collect()
}
