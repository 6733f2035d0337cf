//! `cargo xtask status`: the parts of the stack, where they answer and how they are.

use anyhow::{Result, bail};

use crate::{
    progress::{print, table},
    stack::{
        Location,
        prometheus::{self, Target},
        state::{PartState, State},
    },
};

/// Show what `up` started and how it is
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    location: Location,
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let folder = args.location.folder()?;
    let Some(state) = State::read(&folder)? else {
        bail!("no stack in {}: start one with `cargo xtask up`", folder.display());
    };
    if !show(&state).await {
        bail!("not everything is up: the logs are in {}", folder.join("log").display());
    }
    Ok(())
}

/// Prints the table of parts; whether all of them are well.
pub(crate) async fn show(state: &State) -> bool {
    let prometheus = state.parts.iter().find(|part| part.name == "prometheus");
    let targets = match prometheus {
        // Without an answer the table says so of each target.
        Some(part) => prometheus::targets(&part.url).await.unwrap_or_default(),
        None => Vec::new(),
    };
    let mut rows = vec![["PART", "STATE", "URL", "PID"].map(str::to_owned).to_vec()];
    let mut well = true;
    for part in &state.parts {
        let (fine, word) = condition(part, &targets);
        well &= fine;
        rows.push(vec![part.name.clone(), word, part.url.clone(), part.process.pid.to_string()]);
    }
    for line in table(&rows) {
        print(&line);
    }
    well
}

/// Whether a part is well, and its state in words.
fn condition(part: &PartState, targets: &[Target]) -> (bool, String) {
    if !part.process.alive() {
        return (false, "ended".to_owned());
    }
    let Some(job) = &part.job else { return (true, "running".to_owned()) };
    match targets.iter().find(|target| target.job == *job) {
        Some(target) if target.health == "up" => (true, "up".to_owned()),
        Some(target) if target.last_error.is_empty() => (false, target.health.clone()),
        Some(target) => (false, format!("{}: {}", target.health, target.last_error)),
        None => (false, "running, not seen by Prometheus".to_owned()),
    }
}
