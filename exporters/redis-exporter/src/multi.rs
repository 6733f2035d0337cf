//! `/scrape`: other targets than that of `/metrics`, each with a scraper that is kept warm.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use exporter_kit::app::{Handler, Reply, Request, TelemetryStats, Web, metrics, text};
use exporter_kit::scrape::Scraper;
use http::StatusCode;
use tokio::sync::Semaphore;

use crate::allowed::{Allowed, Refusal};
use crate::cli::split;
use crate::connection::Target;
use crate::exporter::{Exporter, build_info};
use crate::options::{KeyArg, Options};

/// Targets whose connection is kept; above it the one that was not asked for the longest is closed.
const KEPT: usize = 64;

/// Targets that are scraped at once; more wait.
const AT_ONCE: usize = 32;

/// Query parameters that choose keys for one request, instead of the flags of the same name.
const KEY_PARAMETERS: &[&str] =
    &["check-keys", "check-single-keys", "check-streams", "check-single-streams", "count-keys"];

/// What `/scrape` needs.
pub struct Multi {
    /// Replaced by a reload.
    pub allowed: RwLock<Allowed>,
    options: Arc<Options>,
    client_name: bool,
    own_metrics: bool,
    web: Web,
    /// Requests that could not be understood.
    pub errors: Arc<AtomicU64>,
    kept: Mutex<Kept>,
    permits: Semaphore,
}

#[derive(Default)]
struct Kept {
    uses: u64,
    targets: HashMap<String, (u64, Handler)>,
}

/// A request that is not scraped.
struct Refused(StatusCode, String);

impl Multi {
    /// Nothing is connected to yet.
    pub fn new(
        allowed: Allowed,
        options: Arc<Options>,
        client_name: bool,
        own_metrics: bool,
        web: Web,
    ) -> Self {
        Self {
            allowed: RwLock::new(allowed),
            options,
            client_name,
            own_metrics,
            web,
            errors: Arc::default(),
            kept: Mutex::default(),
            permits: Semaphore::new(AT_ONCE),
        }
    }

    /// Other rules from now on; connections made under the old ones are closed.
    pub fn replace(&self, allowed: Allowed) {
        *self.allowed.write().unwrap_or_else(PoisonError::into_inner) = allowed;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).targets.clear();
    }

    /// Answers `/scrape?target=…`.
    pub fn handler(self: Arc<Self>) -> Handler {
        Arc::new(move |request| {
            let multi = Arc::clone(&self);
            Box::pin(async move { multi.answer(request).await })
        })
    }

    async fn answer(&self, request: Request) -> Reply {
        let handler = match self.find(request.uri.query().unwrap_or_default()) {
            Ok(handler) => handler,
            Err(Refused(status, message)) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                return text(status, format!("{message}\n"));
            }
        };
        let _permit = self.permits.acquire().await;
        handler(request).await
    }

    /// The handler of the target that the query names.
    fn find(&self, query: &str) -> Result<Handler, Refused> {
        let bad = |message: String| Refused(StatusCode::BAD_REQUEST, message);
        let parameters: HashMap<String, String> =
            form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let target = parameters
            .get("target")
            .filter(|target| !target.is_empty())
            .ok_or_else(|| bad("'target' parameter must be specified".to_owned()))?;
        let allowed = self.allowed.read().unwrap_or_else(PoisonError::into_inner);
        let address = allowed.address(target).map_err(|refusal| match refusal {
            Refusal::Address(_) => bad("'target' is not the address of a Redis server".to_owned()),
            Refusal::NotAllowed(_) => Refused(StatusCode::FORBIDDEN, refusal.to_string()),
            Refusal::Secret(_) => Refused(StatusCode::INTERNAL_SERVER_ERROR, refusal.to_string()),
        })?;
        drop(allowed);
        let chosen =
            KEY_PARAMETERS.iter().filter_map(|name| Some(format!("{name}={}", parameters.get(*name)?)));
        let key = std::iter::once(target.clone()).chain(chosen).collect::<Vec<_>>().join("\n");
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let now = kept.uses;
        if let Some((used, handler)) = kept.targets.get_mut(&key) {
            *used = now;
            return Ok(Arc::clone(handler));
        }
        let options = Arc::new(self.with_keys(&parameters).map_err(bad)?);
        let target = Arc::new(Target::new(address, Arc::clone(&options), self.client_name));
        let build = self.own_metrics.then(|| build_info(&options));
        let decorate = move |page: &mut exposition::Snapshot| {
            if let Some(build) = &build {
                page.append(build.clone());
            }
        };
        let exporter = Exporter::new(Some(target), options).map_err(|error| bad(error.to_string()))?;
        let handler =
            metrics(Scraper::new(exporter, decorate), &self.web, Arc::new(TelemetryStats::default()));
        while kept.targets.len() >= KEPT {
            let oldest = kept.targets.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            kept.targets.remove(&oldest);
        }
        kept.targets.insert(key, (now, Arc::clone(&handler)));
        Ok(handler)
    }

    /// The options with the keys that the query chooses; those of the flags are for the own target.
    fn with_keys(&self, parameters: &HashMap<String, String>) -> Result<Options, String> {
        let mut options = (*self.options).clone();
        let features = &mut options.features;
        // What a request chooses is read for the request.
        features.sampler = None;
        let read = |name: &str| -> Result<Vec<KeyArg>, String> {
            let text = parameters.get(name).map_or("", String::as_str);
            KeyArg::parse_list(text).map_err(|error| format!("{name}: {error}"))
        };
        features.count = read("count-keys")?;
        (features.patterns, features.keys) = split(read("check-keys")?);
        features.keys.extend(read("check-single-keys")?);
        (features.stream_patterns, features.streams) = split(read("check-streams")?);
        features.streams.extend(read("check-single-streams")?);
        Ok(options)
    }
}
