//! `autodealgenie-backend`: flags, start, migration, serving, orderly end.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use autodealgenie_backend::auth::limit::Limits;
use autodealgenie_backend::{App, Settings, db, llm, router, webhooks, work};
use axum::http::HeaderValue;
use clap::{Parser, Subcommand};
use exporter_kit::app::healthcheck;
use exporter_kit::config::Secret;
use exporter_kit::http::{self, ListenAddress, ServerConfig, bind};
use exporter_kit::telemetry::log;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The configuration cannot work; trying again will not help.
const BAD_CONFIGURATION: u8 = 64;

/// How long a delivery that is under way may take at the end.
const WORK_END: Duration = Duration::from_secs(15);

/// The car-deal service.
#[derive(Parser)]
#[command(name = "autodealgenie-backend", version)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Address to listen on; repeatable
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8000", env = "LISTEN")]
    listen: Vec<ListenAddress>,
    /// PostgreSQL connection string
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Redis URL
    #[arg(long, value_name = "URL", env = "REDIS_URL", hide_env_values = true)]
    redis_url: String,
    /// Connections to PostgreSQL at most
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one)]
    pool_size: usize,
    /// Hours after which a login ends
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=8760))]
    session_hours: u64,
    /// Password hashes computed at a time; each takes 19 MiB and a core
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = at_least_one)]
    hash_slots: usize,
    /// Label `environment` of autodealgenie_app_info
    #[arg(long, value_name = "NAME", default_value = "development", env = "ENVIRONMENT")]
    environment: String,
    /// Logins of one account that may fail in five minutes
    #[arg(long, value_name = "N", default_value_t = 10)]
    login_failures_per_account: u32,
    /// Logins from one address that may fail in five minutes
    #[arg(long, value_name = "N", default_value_t = 300)]
    login_failures_per_address: u32,
    /// Origin of web pages that may call the API, as https://example.com; repeatable
    #[arg(long = "cors-origin", value_name = "ORIGIN")]
    cors_origins: Vec<HeaderValue>,
    /// Requests handled at a time; more are answered 503
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_one)]
    max_in_flight: usize,
    /// OpenAI-compatible API that plays the dealer, as https://api.openai.com/v1; without it embedded rules do
    #[arg(long, value_name = "URL", env = "LLM_URL")]
    llm_url: Option<String>,
    /// Its key
    #[arg(long, value_name = "KEY", env = "LLM_KEY", hide_env_values = true)]
    llm_key: Option<String>,
    /// Name of the model
    #[arg(long, value_name = "NAME", default_value = "gpt-4o-mini", env = "LLM_MODEL")]
    llm_model: String,
    /// Dollars for a million tokens of prompts
    #[arg(long, value_name = "USD", default_value_t = 0.0, value_parser = dollars)]
    llm_prompt_price: f64,
    /// Dollars for a million tokens of completions
    #[arg(long, value_name = "USD", default_value_t = 0.0, value_parser = dollars)]
    llm_completion_price: f64,
    /// Seconds that a user waits for the model before the rules answer
    #[arg(long, value_name = "S", default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=15))]
    llm_timeout: u64,
    /// Hook that delivers mail: gets template, address and values as JSON by POST
    #[arg(long, value_name = "URL", env = "MAIL_URL", hide_env_values = true)]
    mail_url: Option<String>,
    /// API of listings with MarketCheck's /search/car/active; without it the catalogue tells prices
    #[arg(long, value_name = "URL", env = "VEHICLE_DATA_URL")]
    vehicle_data_url: Option<String>,
    /// Its key
    #[arg(long, value_name = "KEY", env = "VEHICLE_DATA_KEY", hide_env_values = true)]
    vehicle_data_key: Option<String>,
    /// Let users have webhooks in private networks too
    #[arg(long)]
    webhooks_private: bool,
    /// Do not migrate the database on start
    #[arg(long)]
    no_migrate: bool,
    /// TLS, users and headers, as in exporter-toolkit
    #[arg(long = "web.config.file", value_name = "FILE")]
    web_config_file: Option<PathBuf>,
    /// debug, info, warn or error
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info", value_parser = log::level)]
    log_level: tracing::Level,
    /// logfmt or json
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt")]
    log_format: log::Format,
}

/// What to do instead of serving.
#[derive(Clone, Copy, Debug, Subcommand)]
enum Command {
    /// Migrate the database and end
    Migrate,
    /// Ask the service that runs on this machine with the same options whether it is well
    Healthcheck,
}

/// Flags that may come from a file, which the variable of this name with `_FILE` names.
const SECRETS: [(&str, &str); 5] = [
    ("DATABASE_URL", "--database-url"),
    ("REDIS_URL", "--redis-url"),
    ("LLM_KEY", "--llm-key"),
    ("MAIL_URL", "--mail-url"),
    ("VEHICLE_DATA_KEY", "--vehicle-data-key"),
];

/// The process's arguments with the secrets of files. The kernel still shows only those that we were started with.
fn arguments() -> anyhow::Result<Vec<OsString>> {
    let mut arguments: Vec<OsString> = env::args_os().collect();
    for (variable, flag) in SECRETS {
        let given = arguments.iter().any(|argument| argument.to_string_lossy().starts_with(flag));
        if !given && env::var_os(format!("{variable}_FILE")).is_some() {
            arguments.insert(1, format!("{flag}={}", Secret::from_env(variable).reveal()?).into());
        }
    }
    Ok(arguments)
}

fn dollars(text: &str) -> Result<f64, String> {
    let fine = |price: &f64| (0.0..=10_000.0).contains(price);
    text.parse().ok().filter(fine).ok_or_else(|| "must be from 0 to 10000".to_owned())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=1000).contains(n)).ok_or_else(|| "must be from 1 to 1000".to_owned())
}

/// An error and the exit code that it means.
struct Failure(u8, anyhow::Error);

trait OrExit<T> {
    /// The configuration is at fault.
    fn or_misconfigured(self) -> Result<T, Failure>;
    /// The surroundings are at fault.
    fn or_failed(self) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_misconfigured(self) -> Result<T, Failure> {
        self.map_err(|error| Failure(BAD_CONFIGURATION, error.into()))
    }
    fn or_failed(self) -> Result<T, Failure> {
        self.map_err(|error| Failure(1, error.into()))
    }
}

fn main() -> ExitCode {
    let started = arguments().or_misconfigured().and_then(|arguments| {
        let args = Args::parse_from(arguments);
        log::init(args.log_level, args.log_format).or_failed()?;
        run(args)
    });
    match started {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, error)) => {
            // Without effect when the logger that was asked for is there already.
            let _ = log::init(tracing::Level::INFO, log::Format::default());
            tracing::error!("{error:#}");
            ExitCode::from(code)
        }
    }
}

#[tokio::main]
async fn run(args: Args) -> Result<(), Failure> {
    let server = ServerConfig {
        listen: args.listen,
        web_config_file: args.web_config_file,
        limits: http::Limits { max_connections: 4096, ..http::Limits::default() },
        ..ServerConfig::default()
    };
    match args.command {
        Some(Command::Healthcheck) => return healthcheck(&server, "/health").await.or_failed(),
        Some(Command::Migrate) => return migrate(&args.database_url).await,
        None => {}
    }
    let shutdown = CancellationToken::new();
    let settings = Settings {
        database_url: args.database_url,
        redis_url: args.redis_url,
        pool_size: args.pool_size,
        session_ttl: Duration::from_secs(args.session_hours * 3600),
        hash_slots: args.hash_slots,
        environment: args.environment,
        logins: Limits {
            account: args.login_failures_per_account,
            address: args.login_failures_per_address,
            ..Limits::default()
        },
        cors_origins: args.cors_origins,
        max_in_flight: args.max_in_flight,
        llm: llm::Settings {
            base_url: args.llm_url,
            key: args.llm_key,
            model: args.llm_model,
            prompt_price: args.llm_prompt_price,
            completion_price: args.llm_completion_price,
            patience: Duration::from_secs(args.llm_timeout),
            ..llm::Settings::default()
        },
        resets: Limits { account: 5, address: 50, window: Duration::from_secs(3600) },
        mail_url: args.mail_url,
        vehicle_data_url: args.vehicle_data_url,
        vehicle_data_key: args.vehicle_data_key,
        webhooks: webhooks::Settings { private: args.webhooks_private, ..webhooks::Settings::default() },
    };
    let app = App::new(&settings, shutdown.clone()).or_misconfigured()?;
    // Bound before the migration: a port in use is found before anything is changed.
    let bound = bind(&server).await.map_err(|error| {
        let code =
            if matches!(error, exporter_kit::http::ServeError::WebConfig(_)) { BAD_CONFIGURATION } else { 1 };
        Failure(code, error.into())
    })?;
    if !args.no_migrate {
        migrate(&settings.database_url).await?;
    }
    for address in bound.local_addrs() {
        tracing::info!(%address, tls = bound.is_tls(), "listening");
    }
    cancel_on_signal(shutdown.clone()).or_failed()?;
    let work = tokio::spawn(work::run(app.clone()));
    let served = bound.serve(router(app.clone()), shutdown.clone()).await;
    shutdown.cancel();
    if tokio::time::timeout(WORK_END, work).await.is_err() {
        tracing::warn!("stopped in the middle of a delivery; it is repeated");
    }
    app.db.close();
    served.or_failed()?;
    tracing::info!("stopped");
    Ok(())
}

async fn migrate(database_url: &str) -> Result<(), Failure> {
    let applied = db::migrate::run(database_url).await.or_failed()?;
    tracing::info!(applied, "database is up to date");
    Ok(())
}

/// SIGTERM and SIGINT end the service in order: no new connections, running requests finish.
fn cancel_on_signal(shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: finishing running requests");
        shutdown.cancel();
    });
    Ok(())
}
