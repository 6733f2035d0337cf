//! `redis-exporter`: Redis and Valkey metrics for Prometheus.

use std::process::ExitCode;
use std::sync::Arc;

use exporter_kit::app::{App, Failure, OrFailure, Reload, block_on, exit};
use exporter_kit::scrape::Scraper;
use exporter_kit::telemetry::log;
use exporter_kit::telemetry::process::{self, Network};
use redis_exporter::actions;
use redis_exporter::address::{Address, Credentials};
use redis_exporter::allowed::Allowed;
use redis_exporter::cli::Cli;
use redis_exporter::cluster::{self, Cluster};
use redis_exporter::connection::Target;
use redis_exporter::exporter::{Exporter, build_info};
use redis_exporter::multi::Multi;
use redis_exporter::routes;

fn main() -> ExitCode {
    let cli = Cli::parse_args();
    exit("redis-exporter", run(&cli))
}

fn run(cli: &Cli) -> Result<(), Failure> {
    log::init(cli.web.log_level, cli.web.log_format).or_failed()?;
    let options = Arc::new(cli.options().or_misconfigured()?);
    let target = cli.target(&options).or_misconfigured()?.map(Arc::new);
    if cli.action().is_some() || cli.report_unmapped() {
        return block_on(actions::run(cli, target, options));
    }
    match &target {
        Some(target) => tracing::info!(server = %target.address(), "scraping"),
        None => tracing::info!("there is no target: only the exporter's own metrics are served"),
    }
    let web = cli.web().or_misconfigured()?;
    let own = cli.own_metrics().then(|| build_info(&options));
    let allowed = allowed(cli, &cli.credentials().or_misconfigured()?).or_misconfigured()?;
    let multi = Arc::new(Multi::new(allowed, cli.multi(&options, &web)));
    let cluster = cli.cluster(&options).or_misconfigured()?;
    let asked = asked(target.as_ref(), cluster.as_ref());
    block_on(async {
        let decorate = move |page: &mut exposition::Snapshot| {
            if let Some(build) = &own {
                process::append(page, Network::Own);
                page.append(build.clone());
            }
        };
        let discover = routes::discover(target.clone(), cli.discovery(), web.scrape_timeout);
        let (max_series, request_errors) = (cli.web.max_series, Arc::clone(&multi.errors));
        let mut app = App::new("redis-exporter", "Redis exporter", web);
        app = if let Some(settings) = cluster {
            let settings = cluster::Settings { request_errors, ..settings };
            app.metrics(&Cluster::new(settings, decorate).or_misconfigured()?)
        } else {
            let exporter = Exporter::new(target, options).or_misconfigured()?;
            let exporter = exporter.with_request_errors(request_errors);
            if let Some(sampler) = exporter.sampler() {
                tokio::spawn(sampler.run());
            }
            app.metrics(&Scraper::with_max_series(exporter, decorate, max_series))
        };
        app =
            app.route("/health", routes::health()).route("/discover-cluster-nodes", discover).reload_by_get();
        if cli.scrape_endpoint() {
            app = app
                .route("/scrape", Arc::clone(&multi).handler())
                .route("/sd", Arc::clone(&multi).discovery(asked, cli.by_hostname()));
        }
        if cli.targets_file().is_some() || cli.password_file().is_some() {
            app = app.reload(reload(cli.clone(), multi));
        }
        app.run().await
    })
}

/// The servers that tell `/sd` of others.
fn asked(target: Option<&Arc<Target>>, cluster: Option<&cluster::Settings>) -> Vec<Arc<Target>> {
    match cluster {
        Some(cluster::Settings { seeds, options, client_name, .. }) => {
            let seed =
                |seed: &Address| Arc::new(Target::new(seed.clone(), Arc::clone(options), *client_name));
            seeds.iter().map(seed).collect()
        }
        None => target.into_iter().cloned().collect(),
    }
}

/// The targets that `/scrape` may reach.
fn allowed(cli: &Cli, credentials: &Credentials) -> anyhow::Result<Allowed> {
    Ok(Allowed::new(cli.targets_file(), cli.url(), credentials, &cli.tls()?)?)
}

/// Reads the file of targets and the password file again, also where a password kept the latter from being read.
fn reload(cli: Cli, multi: Arc<Multi>) -> Reload {
    Arc::new(move || {
        let read = || -> anyhow::Result<Allowed> {
            let mut credentials = cli.credentials()?;
            if let Some(file) = cli.password_file() {
                credentials.read_file(&file)?;
            }
            allowed(&cli, &credentials)
        };
        let result = read().map(|allowed| multi.replace(allowed)).map_err(|error| format!("{error:#}"));
        Box::pin(async move { result })
    })
}
