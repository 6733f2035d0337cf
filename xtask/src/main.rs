//! `cargo xtask …`: everything a developer or an operator does here, one file a command. CI calls the same commands.

mod alerts_e2e;
mod baseline;
mod bench;
mod cargo;
mod compose_test;
mod dashboards;
mod dead_joins;
mod docs;
mod down;
mod exactness;
mod fmt;
mod lint;
mod mutate_rules;
mod peers;
mod progress;
mod promql;
mod rules;
mod runbooks;
mod secrets;
mod stack;
mod static_link;
mod status;
mod test;
mod traffic;
mod up;
mod variants;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Commands of the AutoDealGenie monitoring suite.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build and start everything without Docker, wait until Prometheus sees it, show where it is
    Up(up::Args),
    /// End what `up` started
    Down(down::Args),
    /// Show what `up` started and how it is
    Status(status::Args),
    /// Use the backend as its users would
    Traffic(traffic::Args),
    /// Break a stack on purpose and see who is told of it
    AlertsE2e(alerts_e2e::Args),
    /// Run the diagnosis of every runbook against the running stack
    Runbooks(runbooks::Args),
    /// Ask a running stack whether every rule and every panel can give a value
    DeadJoins(dead_joins::Args),
    /// Change the rules on purpose and see whether their unit tests notice
    MutateRules(mutate_rules::Args),
    /// Make the files of secrets that docker-compose.yml mounts
    Secrets(secrets::Args),
    /// Run docker-compose.yml on a Docker engine of its own and check that it holds what it promises
    ComposeTest(compose_test::Args),
    /// Propose thresholds of alerts from the last days
    Baseline(baseline::Args),
    /// Prepare what the tests need and run every check
    Test(test::Args),
    /// Measure our exporters beside the ones they take the place of, and the backend with and without its metrics
    Bench(bench::Args),
    /// Fetch the exporters that ours take the place of, for comparing
    Peers,
    /// Format the code
    Fmt(fmt::Args),
    /// Check the code with clippy
    Lint,
    /// Write the documentation that is made from the code
    Docs(docs::Args),
    /// Make the schema that dashboards are checked with again, from the types that Grafana publishes
    DashboardSchema,
    /// Run the truth test of the business exporter's counters for long
    Exactness(exactness::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Up(args) => up::run(&args).await,
        Command::Down(args) => down::run(&args).await,
        Command::Status(args) => status::run(&args).await,
        Command::Traffic(args) => traffic::run(&args).await,
        Command::AlertsE2e(args) => alerts_e2e::run(&args).await,
        Command::Runbooks(args) => runbooks::run(&args).await,
        Command::DeadJoins(args) => dead_joins::run(&args).await,
        Command::MutateRules(args) => mutate_rules::run(&args).await,
        Command::Secrets(args) => secrets::run(&args),
        Command::ComposeTest(args) => compose_test::run(&args).await,
        Command::Baseline(args) => baseline::run(&args).await,
        Command::Test(args) => test::run(&args).await,
        Command::Bench(args) => bench::run(&args).await,
        Command::Peers => peers::run().await,
        Command::Fmt(args) => fmt::run(&args),
        Command::Lint => lint::run(),
        Command::Docs(args) => docs::run(&args).await,
        Command::DashboardSchema => dashboards::schema::run(),
        Command::Exactness(args) => exactness::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
