//! What every exporter's `main` does: web options, routes, signals, readiness, exit codes.

mod failure;
mod healthcheck;
mod routes;
mod signals;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio_util::sync::CancellationToken;

use crate::config::GoDuration;
use crate::http::{ListenAddress, ServerConfig, bind};
use crate::scrape::Pages;
use crate::telemetry::log;
use crate::web_config;

pub use failure::{Failure, OrFailure, exit};
pub use healthcheck::healthcheck;
pub use routes::{
    Deadline, Handler, Reply, Request, TelemetryStats, json, metrics, request_deadline, service_discovery,
    text,
};

/// Options that all exporters share, as flags.
#[derive(Clone, Debug, clap::Args)]
pub struct WebArgs {
    /// Address to listen on; repeatable
    #[arg(long = "web.listen-address", value_name = "[HOST]:PORT")]
    pub listen_address: Vec<ListenAddress>,
    /// Take the sockets that systemd passes instead of listening
    #[arg(long = "web.systemd-socket")]
    pub systemd_socket: bool,
    /// TLS, users and headers, as in exporter-toolkit
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Path of the metrics
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics")]
    pub telemetry_path: String,
    /// Answer in OpenMetrics when the client prefers it; counters without _total become unknown there
    #[arg(long = "web.enable-openmetrics")]
    pub enable_openmetrics: bool,
    /// Longest time a scrape may take; the header of Prometheus may shorten it
    #[arg(long = "scrape-timeout", value_name = "DURATION", default_value = "9500ms")]
    pub scrape_timeout: GoDuration,
    /// Drop what a collector found when it is more than this many series
    #[arg(long = "max-series", value_name = "N")]
    pub max_series: Option<usize>,
    /// debug, info, warn or error
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info", value_parser = log::level)]
    pub log_level: tracing::Level,
    /// logfmt or json
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt")]
    pub log_format: log::Format,
}

/// Where and how the pages are served.
#[derive(Clone, Debug)]
pub struct Web {
    /// Listening, TLS, limits.
    pub server: ServerConfig,
    /// Path of the metrics.
    pub telemetry_path: String,
    /// Whether OpenMetrics is offered.
    pub enable_openmetrics: bool,
    /// The exporter's own limit on a scrape.
    pub scrape_timeout: Duration,
}

impl WebArgs {
    /// The options with what was left out filled in.
    pub fn web(&self, default_port: u16) -> Web {
        let listen = match self.listen_address.as_slice() {
            [] => vec![ListenAddress::any(default_port)],
            given => given.to_vec(),
        };
        Web {
            server: ServerConfig {
                listen,
                systemd_socket: self.systemd_socket,
                web_config_file: self.config_file.clone(),
                ..ServerConfig::default()
            },
            telemetry_path: self.telemetry_path.clone(),
            enable_openmetrics: self.enable_openmetrics,
            scrape_timeout: self.scrape_timeout.get(),
        }
    }
}

/// Reads what is configured again; the text says what could not be read and that the old stays.
pub type Reload = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// An exporter about to run.
pub struct App {
    name: &'static str,
    title: &'static str,
    web: Web,
    telemetry: Arc<TelemetryStats>,
    routes: Vec<(String, Handler)>,
    reload: Option<Reload>,
    reload_by_get: bool,
}

impl App {
    /// `name` is the binary's, `title` is for people.
    pub fn new(name: &'static str, title: &'static str, web: Web) -> App {
        App {
            name,
            title,
            web,
            telemetry: Arc::default(),
            routes: Vec::new(),
            reload: None,
            reload_by_get: false,
        }
    }

    /// Counts of what the telemetry path answered; for the exporter's own metrics.
    pub fn telemetry_stats(&self) -> Arc<TelemetryStats> {
        Arc::clone(&self.telemetry)
    }

    /// Serves pages on the telemetry path.
    #[must_use]
    pub fn metrics<P: Pages>(self, pages: &Arc<P>) -> App {
        let handler = routes::metrics(Arc::clone(pages), &self.web, Arc::clone(&self.telemetry));
        let path = self.web.telemetry_path.clone();
        self.route(&path, handler)
    }

    /// Serves one more path.
    #[must_use]
    pub fn route(mut self, path: &str, handler: Handler) -> App {
        self.routes.push((path.to_owned(), handler));
        self
    }

    /// Answers `/-/reload` and SIGHUP.
    #[must_use]
    pub fn reload(mut self, reload: Reload) -> App {
        self.reload = Some(reload);
        self
    }

    /// Lets GET reload too, as redis_exporter does.
    #[must_use]
    pub fn reload_by_get(mut self) -> App {
        self.reload_by_get = true;
        self
    }

    /// Listens and serves until SIGTERM or SIGINT, then lets running scrapes finish.
    ///
    /// # Errors
    /// A web configuration that cannot work, or an address that cannot be taken.
    pub async fn run(self) -> Result<(), Failure> {
        if let Some(file) = &self.web.server.web_config_file {
            web_config::check(file).or_misconfigured()?;
        }
        raise_open_files();
        let bound = bind(&self.web.server).await.or_failed()?;
        let scheme = if bound.is_tls() { "https" } else { "http" };
        for address in bound.local_addrs() {
            tracing::info!(%address, scheme, path = self.web.telemetry_path, "listening");
        }
        let shutdown = CancellationToken::new();
        signals::watch(self.name, self.reload.clone(), shutdown.clone()).or_failed()?;
        let router = routes::Router::new(self, shutdown.clone());
        signals::notify_ready();
        bound.serve(router, shutdown).await.or_failed()?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Lets the process open as many files as it may: the limit that it starts with is for programs that use select(2), and
/// many targets need more.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}

/// Nearer than the deadline of nearly every scrape, and far enough to cost nothing.
const TICK: Duration = Duration::from_secs(2);

/// Runs an exporter on one thread: its work is waiting, and a second thread would cost memory for nothing.
///
/// # Errors
/// When the runtime cannot be made, or the exporter failed.
pub fn block_on<F: Future<Output = Result<(), Failure>>>(run: F) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .or_failed()?;
    runtime.spawn(tick());
    runtime.block_on(run)
}

/// Keeps a timer that is nearer than those of scrapes. Where the nearest is further away, tokio wakes its own thread by a
/// system call for each that is set, and looks for events once more: a scrape would take three calls in vain.
async fn tick() {
    loop {
        tokio::time::sleep(TICK).await;
    }
}
