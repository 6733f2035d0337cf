//! `pg-exporter`: PostgreSQL metrics for Prometheus.

use std::process::ExitCode;

use exporter_kit::app::{App, Failure, OrFailure, block_on, exit};
use exporter_kit::scrape::Scraper;
use exporter_kit::telemetry::log;
use pg_client::Environment;
use pg_exporter::cli::Cli;
use pg_exporter::self_metrics;
use pg_exporter::source::PgSource;

fn main() -> ExitCode {
    let cli = Cli::parse_args();
    exit("pg-exporter", run(&cli))
}

fn run(cli: &Cli) -> Result<(), Failure> {
    log::init(cli.web.log_level, cli.web.log_format).or_failed()?;
    let connector = cli.connector(&Environment::of_process()).or_misconfigured()?;
    tracing::info!(server = %connector.dsn().redacted(), "scraping");
    block_on(async {
        let app = App::new("pg-exporter", "PostgreSQL exporter", cli.web.web(9187));
        let stats = app.telemetry_stats();
        let source = PgSource::new(connector, cli.options(), cli.enabled());
        let scraper = Scraper::with_max_series(
            source,
            move |page| self_metrics::append(page, &stats),
            cli.web.max_series,
        );
        app.metrics(&scraper).run().await
    })
}
