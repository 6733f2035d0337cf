//! AutoDealGenie's backend: accounts and car deals over HTTP, on PostgreSQL and Redis, with metrics of everything.

pub mod activity;
pub mod auth;
pub mod cache;
pub mod db;
pub mod deals;
pub mod evaluations;
pub mod external;
pub mod hex;
pub mod http;
mod labels;
pub mod llm;
pub mod loans;
pub mod lookaside;
pub mod mail;
pub mod market;
pub mod metrics;
pub mod negotiations;
pub mod ops;
pub mod outbound;
pub mod vehicles;
pub mod webhooks;
pub mod work;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use self::activity::Activity;
use self::auth::limit;
use self::auth::passwords::{PasswordError, Passwords};
use self::auth::sessions::Sessions;
use self::cache::{Cache, CacheError};
use self::db::{Db, DbError, Query};
use self::llm::{Llm, LlmError};
use self::lookaside::Lookaside;
use self::mail::Mail;
use self::market::Market;
use self::metrics::Metrics;
use self::outbound::Http;
use self::outbound::resolver::Reach;
use self::vehicles::history::History;

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
    /// How long the body of a request may take to arrive.
    pub arrival: Duration,
    /// How long a request may take that has arrived.
    pub time_limit: Duration,
    /// The language model.
    pub llm: llm::Settings,
    /// Password resets that may be asked for.
    pub resets: limit::Limits,
    /// The hook that delivers mail.
    pub mail_url: Option<String>,
    /// The API of listings.
    pub vehicle_data_url: Option<String>,
    /// Its key.
    pub vehicle_data_key: Option<String>,
    /// How alerts are delivered.
    pub webhooks: webhooks::Settings,
    /// Whether requests are measured; a bench compares with what they cost otherwise.
    pub measured: bool,
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
    /// The mail hook.
    #[error(transparent)]
    Mail(#[from] mail::NotAnAddress),
    /// The vehicle data API.
    #[error(transparent)]
    Market(#[from] market::NotAnAddress),
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
    /// Pages of searches, kept in Redis.
    pub searches: Lookaside,
    /// Single vehicles, kept in Redis.
    pub vehicles: Lookaside,
    /// Sessions in Redis.
    pub sessions: Sessions,
    /// Counts failed logins.
    pub logins: limit::Guard,
    /// Counts requests for password resets.
    pub resets: limit::Guard,
    /// Origins of web pages that may call the API.
    pub cors_origins: Vec<HeaderValue>,
    /// One for each request that may be handled now.
    pub turns: Arc<Semaphore>,
    /// How long the body of a request may take to arrive.
    pub arrival: Duration,
    /// How long a request may take that has arrived.
    pub time_limit: Duration,
    /// Password hashes.
    pub passwords: Passwords,
    /// The language model.
    pub llm: Llm,
    /// Mail.
    pub mail: Mail,
    /// Prices.
    pub market: Market,
    /// How alerts are delivered.
    pub webhooks: webhooks::Settings,
    /// Connections to the endpoints of users.
    pub webhook_http: Http,
    /// Whether requests are measured.
    pub measured: bool,
    /// Wakes the delivery when there are new alerts.
    pub alerts: Notify,
    /// What was searched.
    pub history: History,
    /// Who was here lately.
    pub activity: Activity,
    /// Handles to the metrics.
    pub metrics: Arc<Metrics>,
    /// All metrics, for the page.
    pub registry: Registry,
    /// Cancelled when the service is to stop.
    pub shutdown: CancellationToken,
}

/// The statements of all stores.
pub fn queries() -> Vec<&'static Query> {
    [
        auth::store::QUERIES,
        auth::accounts::QUERIES,
        auth::reset::QUERIES,
        deals::store::QUERIES,
        evaluations::store::QUERIES,
        llm::store::QUERIES,
        loans::store::QUERIES,
        market::QUERIES,
        negotiations::store::QUERIES,
        vehicles::store::QUERIES,
        vehicles::history::QUERIES,
        vehicles::favorites::QUERIES,
        vehicles::saved_searches::QUERIES,
        vehicles::listing::QUERIES,
        webhooks::store::QUERIES,
    ]
    .concat()
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
        let metrics = Arc::new(Metrics::new(&mut registry, &settings.environment));
        let measured = settings.measured.then(|| Arc::clone(&metrics));
        let cache = Cache::new(&settings.redis_url)?;
        let http = Http::new(Reach::Anywhere)?;
        let reach = if settings.webhooks.private { Reach::Anywhere } else { Reach::Public };
        Ok(App(Arc::new(Service {
            db: Db::new(&settings.database_url, settings.pool_size, measured.clone(), &queries())?,
            searches: Lookaside::new(cache.clone(), lookaside::SEARCHES, measured.as_deref()),
            vehicles: Lookaside::new(cache.clone(), lookaside::VEHICLES, measured.as_deref()),
            logins: limit::Guard::new(cache.clone(), "logins", settings.logins),
            resets: limit::Guard::new(cache.clone(), "resets", settings.resets),
            cors_origins: settings.cors_origins.clone(),
            turns: Arc::new(Semaphore::new(settings.max_in_flight)),
            arrival: settings.arrival,
            time_limit: settings.time_limit,
            sessions: Sessions::new(cache.clone(), settings.session_ttl),
            cache,
            llm: Llm::new(&settings.llm, &http, Arc::clone(&metrics))?,
            mail: Mail::new(settings.mail_url.as_deref(), &http, Arc::clone(&metrics))?,
            market: Market::new(
                settings.vehicle_data_url.as_deref(),
                settings.vehicle_data_key.as_deref(),
                &http,
                Arc::clone(&metrics),
            )?,
            webhooks: settings.webhooks,
            webhook_http: Http::new(reach)?,
            measured: settings.measured,
            alerts: Notify::new(),
            history: History::default(),
            activity: Activity::default(),
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
