//! AutoDealGenie's backend: accounts and car deals over HTTP, on PostgreSQL and Redis, with metrics of everything.

pub mod auth;
pub mod cache;
pub mod db;
pub mod deals;
pub mod hex;
pub mod http;
mod labels;
pub mod llm;
pub mod loans;
pub mod lookaside;
pub mod metrics;
pub mod negotiations;
pub mod ops;
pub mod outbound;
pub mod vehicles;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::auth::limit;
use self::auth::passwords::{PasswordError, Passwords};
use self::auth::sessions::Sessions;
use self::cache::{Cache, CacheError};
use self::db::{Db, DbError};
use self::llm::{Llm, LlmError};
use self::lookaside::Lookaside;
use self::metrics::Metrics;

pub use self::http::router;

/// What the service needs to know.
#[derive(Clone)]
pub struct Settings {
    /// PostgreSQL connection string.
    pub database_url: String,
    /// Redis URL.
    pub redis_url: String,
    /// Connections to PostgreSQL at most.
    pub pool_size: usize,
    /// How long a login lasts.
    pub session_ttl: Duration,
    /// Password hashes at a time.
    pub hash_slots: usize,
    /// Label `environment` of `autodealgenie_app_info`.
    pub environment: String,
    /// Logins that may fail.
    pub logins: limit::Limits,
    /// Origins of web pages that may call the API.
    pub cors_origins: Vec<HeaderValue>,
    /// Requests handled at a time; more are refused.
    pub max_in_flight: usize,
    /// The language model.
    pub llm: llm::Settings,
}

/// Why the service cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The database URL.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The Redis URL.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The password hasher.
    #[error(transparent)]
    Passwords(#[from] PasswordError),
    /// The language model.
    #[error(transparent)]
    Llm(#[from] LlmError),
    /// TLS to other services.
    #[error("setting up TLS to other services: {0}")]
    Tls(#[from] rustls::Error),
}

/// The running service, shared by all requests.
#[derive(Debug)]
pub struct Service {
    /// PostgreSQL.
    pub db: Db,
    /// Redis.
    pub cache: Cache,
    /// Kept answers in Redis.
    pub lookaside: Lookaside,
    /// Sessions in Redis.
    pub sessions: Sessions,
    /// Counts failed logins.
    pub logins: limit::Guard,
    /// Origins of web pages that may call the API.
    pub cors_origins: Vec<HeaderValue>,
    /// One for each request that may be handled now.
    pub turns: Arc<Semaphore>,
    /// Password hashes.
    pub passwords: Passwords,
    /// The language model.
    pub llm: Llm,
    /// Handles to the metrics.
    pub metrics: Arc<Metrics>,
    /// All metrics, for the page.
    pub registry: Registry,
    /// Cancelled when the service is to stop.
    pub shutdown: CancellationToken,
}

/// A cheap handle to the [`Service`].
#[derive(Clone, Debug)]
pub struct App(Arc<Service>);

impl App {
    /// Sets the service up. Connects to nothing yet: it starts, and says that it is not ready, while a store is away.
    ///
    /// # Errors
    /// If a URL is none.
    pub fn new(settings: &Settings, shutdown: CancellationToken) -> Result<App, SetupError> {
        let mut registry = Registry::default();
        let queries = [
            auth::store::QUERIES,
            deals::store::QUERIES,
            llm::store::QUERIES,
            loans::store::QUERIES,
            negotiations::store::QUERIES,
            vehicles::store::QUERIES,
            vehicles::favorites::QUERIES,
            vehicles::saved_searches::QUERIES,
        ]
        .concat();
        let metrics = Arc::new(Metrics::new(&mut registry, &settings.environment, &queries));
        let cache = Cache::new(&settings.redis_url)?;
        let http = outbound::http()?;
        Ok(App(Arc::new(Service {
            db: Db::new(&settings.database_url, settings.pool_size, Arc::clone(&metrics))?,
            lookaside: Lookaside::new(cache.clone(), Arc::clone(&metrics)),
            logins: limit::Guard::new(cache.clone(), settings.logins),
            cors_origins: settings.cors_origins.clone(),
            turns: Arc::new(Semaphore::new(settings.max_in_flight)),
            sessions: Sessions::new(cache.clone(), settings.session_ttl),
            cache,
            llm: Llm::new(&settings.llm, &http, Arc::clone(&metrics))?,
            passwords: Passwords::new(settings.hash_slots, Arc::clone(&metrics))?,
            metrics,
            registry,
            shutdown,
        })))
    }
}

impl Deref for App {
    type Target = Service;
    fn deref(&self) -> &Service {
        &self.0
    }
}
