//! `pg-exporter`: PostgreSQL metrics for Prometheus.

use std::process::ExitCode;

use exporter_kit::app::{App, Failure, OrFailure, block_on, exit};
use exporter_kit::telemetry::log;
use pg_client::Environment;
use pg_exporter::cli::Cli;
use pg_exporter::commands;
use pg_exporter::exporter::Exporter;

fn main() -> ExitCode {
    let environment = Environment::of_process();
    let cli = Cli::parse_args(&environment);
    exit("pg-exporter", run(cli, environment))
}

fn run(cli: Cli, environment: Environment) -> Result<(), Failure> {
    log::init(cli.web.log_level, cli.web.log_format).or_failed()?;
    if cli.dump_maps {
        return commands::dump_maps(&cli);
    }
    if let Some(command) = cli.command.clone() {
        return block_on(commands::run(&command, &cli, &environment));
    }
    for connector in cli.connectors(&environment).or_misconfigured()? {
        tracing::info!(server = %connector.dsn().redacted(), "scraping");
    }
    block_on(async {
        let app = App::new("pg-exporter", "PostgreSQL exporter", cli.web());
        let path = cli.web.telemetry_path.clone();
        let exporter = Exporter::new(cli, environment, app.telemetry_stats()).or_misconfigured()?;
        let probe = exporter.probe();
        app.route(&path, exporter.metrics())
            .route("/probe", probe.handler())
            .route("/sd", probe.discovery())
            .reload(exporter.reload())
            .run()
            .await
    })
}
