//! `cargo xtask down`: ends exactly what `up` started.

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::{
    progress::say,
    stack::{Location, state::State},
};

/// End what `up` started
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    location: Location,
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let folder = args.location.folder()?;
    let Some(state) = State::read(&folder)? else {
        say(&format!("nothing to end: {} has no stack", folder.display()));
        return Ok(());
    };
    if let Some(runner) = state.runner {
        // It ends its parts in order.
        runner.end(Signal::SIGTERM).await?;
    }
    for part in state.parts.iter().rev() {
        let ran = part.process.alive();
        part.process.end(part.stop_signal()).await?;
        if ran {
            say(&format!("  ended {}", part.name));
        }
    }
    State::remove(&folder)
}
