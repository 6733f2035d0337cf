//! What the exporter does instead of serving: show, check and compare.

mod check;
mod collectors;
mod compare;
mod grants;
mod maps;
mod once;

use exporter_kit::app::{Failure, OrFailure, healthcheck};
use pg_client::Environment;

use crate::cli::Cli;

pub use maps::dump_maps;

/// What to do instead of serving metrics.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Print the page of one scrape
    Once,
    /// Run each collector once; say what fails, why, and what to do
    Check,
    /// Print the SQL that makes the role for the collectors that are on
    Grants(grants::Args),
    /// Show which series change when this exporter takes the place of another
    Compare(compare::Args),
    /// Ask the exporter that runs on this machine with the same web options whether it is well
    Healthcheck,
    /// Print the table of collectors and their families, as Markdown
    Collectors,
}

/// Runs a command.
///
/// # Errors
/// What went wrong, or was found.
pub async fn run(command: &Command, cli: &Cli, environment: &Environment) -> Result<(), Failure> {
    match command {
        Command::Once => once::run(cli, environment).await,
        Command::Check => check::run(cli, environment).await,
        Command::Grants(args) => grants::run(args, cli, environment).await,
        Command::Compare(args) => compare::run(args, cli, environment).await,
        Command::Healthcheck => healthcheck(&cli.web().server, "/-/healthy").await.or_failed(),
        Command::Collectors => {
            print(&collectors::markdown());
            Ok(())
        }
    }
}

/// Writes to stdout; a reader that went away is no error.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}
