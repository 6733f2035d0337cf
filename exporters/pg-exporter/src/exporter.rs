//! The exporter as a whole: what flags and files make of it, and what is made anew when they are read again.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use exporter_kit::app::{Handler, Reload, TelemetryStats, Web, metrics};
use exporter_kit::page::Page;
use exporter_kit::scrape::{Scraper, Selection};
use exposition::{Desc, Snapshot};
use pg_client::{Connector, Environment};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::cli::Cli;
use crate::config::Config;
use crate::options::Compat;
use crate::probe::{Probe, Rules};
use crate::queries;
use crate::queries::file::{Namespace, Queries};
use crate::self_metrics;
use crate::servers::Servers;
use crate::source::PgSource;

const LOAD_ERROR: Desc = Desc::gauge(
    "pg_exporter_user_queries_load_error",
    "Whether the user queries file was loaded and parsed successfully (1 for error, 0 for success).",
);
const RELOAD: Desc = Desc::gauge(
    "postgres_exporter_config_last_reload_successful",
    "Whether the last reload of the configuration was successful.",
);
const RELOAD_TIME: Desc = Desc::gauge(
    "postgres_exporter_config_last_reload_success_timestamp_seconds",
    "Unix time of the last successful reload of the configuration.",
);

/// What is made of flags, environment and files.
pub struct Exporter {
    cli: Cli,
    environment: Environment,
    web: Web,
    stats: Arc<TelemetryStats>,
    status: Arc<Status>,
    queries: RwLock<Arc<UserQueries>>,
    metrics: RwLock<Handler>,
    probe: Arc<Probe>,
}

/// The user's queries, and the digest of the file they were read from.
#[derive(Clone, Default)]
pub struct UserQueries {
    namespaces: Vec<Arc<Namespace>>,
    digest: String,
}

/// How reading the files ended; on the page.
struct Status {
    /// File, its digest, and whether it could not be used.
    queries: RwLock<Option<(String, String, bool)>>,
    reload_failed: AtomicBool,
    /// When all files were last read.
    read: RwLock<SystemTime>,
}

/// The servers of `/metrics` as one scraper.
pub enum Target {
    /// One server.
    One(Arc<Scraper<PgSource>>),
    /// Several.
    Several(Arc<Scraper<Servers>>),
}

impl Target {
    /// A page.
    pub async fn scrape(&self, deadline: Instant) -> Arc<Page> {
        match self {
            Target::One(scraper) => scraper.scrape(Selection::ALL, deadline).await,
            Target::Several(scraper) => scraper.scrape(Selection::ALL, deadline).await,
        }
    }

    fn handler(self, web: &Web, stats: Arc<TelemetryStats>) -> Handler {
        match self {
            Target::One(scraper) => metrics(scraper, web, stats),
            Target::Several(scraper) => metrics(scraper, web, stats),
        }
    }
}

/// The source of one server. The first server and targets of `/probe` have all collectors; further servers those whose
/// families carry a `server` label.
pub fn source(cli: &Cli, connector: Connector, queries: &UserQueries, first: bool) -> PgSource {
    let mut options = cli.options();
    options.replaced = queries.namespaces.iter().map(|namespace| namespace.name.clone()).collect();
    let compat = options.compat;
    let shown = |name: &str| first || (name == "settings" && compat == Compat::V0_19);
    let enabled: Vec<_> = cli
        .enabled()
        .iter()
        .copied()
        .filter(|collector| shown(collector.spec.name) || collector.is_default_metric(compat))
        .collect();
    let user = queries::collectors(&queries.namespaces, &connector, cli.discovery());
    PgSource::new(connector, options, &enabled).with_queries(user)
}

/// The servers of `/metrics`. `decorate` adds what is not theirs.
///
/// # Errors
/// Connection strings that cannot be used.
pub fn target(
    cli: &Cli,
    environment: &Environment,
    queries: &UserQueries,
    decorate: impl Fn(&mut Snapshot) + Send + Sync + 'static,
) -> anyhow::Result<Target> {
    let connectors = cli.connectors(environment)?;
    let mut sources: Vec<PgSource> = connectors
        .into_iter()
        .enumerate()
        .map(|(index, one)| source(cli, one, queries, index == 0))
        .collect();
    let max_series = cli.web.max_series;
    Ok(match (sources.pop(), sources.is_empty()) {
        (Some(only), true) => Target::One(Scraper::with_max_series(only, decorate, max_series)),
        (last, _) => {
            sources.extend(last);
            Target::Several(Scraper::with_max_series(Servers::new(sources), decorate, max_series))
        }
    })
}

/// Reads the file of queries; none without the flag.
///
/// # Errors
/// What is wrong with the file.
pub fn user_queries(cli: &Cli) -> anyhow::Result<UserQueries> {
    let Some(path) = cli.query_path() else { return Ok(UserQueries::default()) };
    let Queries { namespaces, warnings } = Queries::load(path)?;
    for warning in warnings {
        tracing::warn!(file = %path.display(), warning, "in the file of --extend.query-path");
    }
    Ok(UserQueries { namespaces: namespaces.into_iter().map(Arc::new).collect(), digest: digest(path) })
}

impl UserQueries {
    /// The namespaces.
    pub fn namespaces(&self) -> &[Arc<Namespace>] {
        &self.namespaces
    }
}

fn digest(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn config(cli: &Cli) -> anyhow::Result<Config> {
    match cli.config_file() {
        // postgres_exporter goes on without its file; what it names cannot be probed then.
        Some(path) if !path.exists() => {
            tracing::warn!(file = %path.display(), "there is no such file of --config.file; /probe allows nothing");
            Ok(Config::default())
        }
        Some(path) => Ok(Config::load(&path)?),
        None => Ok(Config::default()),
    }
}

impl Exporter {
    /// Reads the files. A file of queries that cannot be used is an error on the page, not the end.
    ///
    /// # Errors
    /// Another file, or a connection string, that cannot be used.
    pub fn new(
        cli: Cli,
        environment: Environment,
        stats: Arc<TelemetryStats>,
    ) -> anyhow::Result<Arc<Exporter>> {
        let web = cli.web();
        let status = Arc::new(Status {
            queries: RwLock::default(),
            reload_failed: AtomicBool::new(false),
            read: RwLock::new(SystemTime::now()),
        });
        let queries = status.user_queries(&cli).unwrap_or_else(|error| {
            tracing::error!(error = format!("{error:#}"), "cannot use the file of --extend.query-path");
            UserQueries::default()
        });
        let queries = Arc::new(queries);
        let rules = rules(&cli, config(&cli)?, &queries);
        let (max_series, max_targets) = (cli.web.max_series, cli.probe_max_targets);
        let probe = Probe::new(rules, environment.clone(), web.clone(), max_series, max_targets);
        let decorate = decorate(&cli, &stats, &status);
        let handler = target(&cli, &environment, &queries, decorate)?.handler(&web, Arc::clone(&stats));
        Ok(Arc::new(Exporter {
            cli,
            environment,
            web,
            stats,
            status,
            queries: RwLock::new(queries),
            metrics: RwLock::new(handler),
            probe: Arc::new(probe),
        }))
    }

    /// `/probe` and `/sd`.
    pub fn probe(&self) -> &Arc<Probe> {
        &self.probe
    }

    /// The telemetry path.
    pub fn metrics(self: &Arc<Self>) -> Handler {
        let exporter = Arc::clone(self);
        Arc::new(move |request| {
            let handler = Arc::clone(&exporter.metrics.read().unwrap_or_else(PoisonError::into_inner));
            handler(request)
        })
    }

    /// Reads the files again. What cannot be used leaves everything as it is.
    pub fn reload(self: &Arc<Self>) -> Reload {
        let exporter = Arc::clone(self);
        Arc::new(move || {
            let result = exporter.read_again().map_err(|error| format!("{error:#}"));
            exporter.status.reload_failed.store(result.is_err(), Ordering::Relaxed);
            Box::pin(async move { result })
        })
    }

    fn read_again(&self) -> anyhow::Result<()> {
        let config = config(&self.cli)?;
        let queries = Arc::new(self.status.user_queries(&self.cli)?);
        let mut current = self.queries.write().unwrap_or_else(PoisonError::into_inner);
        if current.digest != queries.digest {
            let decorate = decorate(&self.cli, &self.stats, &self.status);
            let target = target(&self.cli, &self.environment, &queries, decorate)?;
            let handler = target.handler(&self.web, Arc::clone(&self.stats));
            *self.metrics.write().unwrap_or_else(PoisonError::into_inner) = handler;
            *current = Arc::clone(&queries);
        }
        self.probe.replace(rules(&self.cli, config, &queries));
        *self.status.read.write().unwrap_or_else(PoisonError::into_inner) = SystemTime::now();
        Ok(())
    }
}

fn rules(cli: &Cli, config: Config, queries: &Arc<UserQueries>) -> Rules {
    let (cli, queries) = (cli.clone(), Arc::clone(queries));
    Rules { config, source: Box::new(move |connector| source(&cli, connector, &queries, true)) }
}

impl Status {
    /// Reads the file of queries, and remembers how that ended.
    fn user_queries(&self, cli: &Cli) -> anyhow::Result<UserQueries> {
        let result = user_queries(cli);
        let state = cli.query_path().map(|path| (path.display().to_string(), digest(path), result.is_err()));
        *self.queries.write().unwrap_or_else(PoisonError::into_inner) = state;
        result
    }
}

/// Adds what is the exporter's own.
fn decorate(
    cli: &Cli,
    stats: &Arc<TelemetryStats>,
    status: &Arc<Status>,
) -> impl Fn(&mut Snapshot) + Send + Sync + use<> {
    let (stats, status, constant) = (Arc::clone(stats), Arc::clone(status), cli.options().constant_labels);
    move |page| {
        self_metrics::append(page, &stats);
        page.sample(&RELOAD, f64::from(u8::from(!status.reload_failed.load(Ordering::Relaxed))));
        let read = *status.read.read().unwrap_or_else(PoisonError::into_inner);
        page.sample(&RELOAD_TIME, read.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        if let Some((file, digest, failed)) = &*status.queries.read().unwrap_or_else(PoisonError::into_inner)
        {
            let mut own = Snapshot::new();
            let table = own.table(&["filename", "hashsum"]);
            let column = table.column(&LOAD_ERROR);
            table.row(&[file, digest]).set(column, f64::from(u8::from(*failed)));
            let labels = constant.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            own.add_labels(&labels.collect::<Vec<_>>());
            page.append(own);
        }
    }
}
