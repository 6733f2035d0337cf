//! Commands and flags.

use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use exporter_kit::app::WebArgs;

/// SQL queries and events of tables become Prometheus metrics.
#[derive(Parser)]
#[command(name = "business-exporter", version)]
pub struct Cli {
    /// Definition file
    #[arg(long, global = true, value_name = "FILE", default_value = "business-exporter.yml")]
    pub config: PathBuf,
    /// Web and scrape options.
    #[command(flatten)]
    pub web: WebArgs,
    /// What to do; default: run
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Cli {
    /// Parses the process's arguments; ends the process on `--help` and on usage errors (exit code 2).
    pub fn parse_args() -> Cli {
        let matches = command().get_matches();
        Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// The command; flags may stand before and after what to do.
fn command() -> clap::Command {
    Cli::command().mut_args(|arg| arg.global(true))
}

/// What to do.
#[derive(Clone, Subcommand)]
pub enum Command {
    /// Serve the metrics
    Run,
    /// Check the definition file, without a database unless --connect is given
    Check(CheckArgs),
    /// Run every query once and print the page
    Once,
    /// Compare the stocks of the definition with their counters; exits with 1 when they differ
    Reconcile,
    /// Ask the exporter that runs on this machine with the same web options whether it is well
    Healthcheck,
    /// Print the SQL that the owner of the tables runs to have events counted; nothing is connected or run
    Ddl(DdlArgs),
}

/// How much to check.
#[derive(Clone, clap::Args)]
pub struct CheckArgs {
    /// Also what the role may do, what the planner expects of each query, and the page that results
    #[arg(long)]
    pub connect: bool,
}

/// Which SQL to print; in this order if several.
#[derive(Clone, clap::Args)]
#[group(required = true, multiple = true)]
pub struct DdlArgs {
    /// What removes the ledger with all that it counted
    #[arg(long)]
    pub uninstall: bool,
    /// What makes the ledger, or brings an older one to this definition; running it again changes nothing
    #[arg(long)]
    pub install: bool,
    /// What lets this role of the exporter read and fold the ledger
    #[arg(long, value_name = "ROLE")]
    pub grants: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_stand_before_and_after_the_command() {
        command().debug_assert();
        for arguments in [["--max-series=7", "run"], ["run", "--max-series=7"]] {
            let matches =
                command().try_get_matches_from([&["business-exporter"], &arguments[..]].concat()).unwrap();
            assert_eq!(Cli::from_arg_matches(&matches).unwrap().web.max_series, Some(7));
        }
    }
}
