//! `/scrape`: other targets than that of `/metrics`, each with a scraper that is kept warm; `/sd`: a list of them for
//! Prometheus.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use exporter_kit::app::{
    Deadline, Handler, Reply, Request, TelemetryStats, Web, metrics, request_deadline, service_discovery,
    text,
};
use exporter_kit::scrape::Scraper;
use exporter_kit::targets::Recent;
use http::StatusCode;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::allowed::{Allowed, Refusal};
use crate::cli::split;
use crate::connection::Target;
use crate::discovery::{self, Found};
use crate::error::ReplyError;
use crate::exporter::{Exporter, build_info};
use crate::options::{KeyArg, Options};

/// A target that nobody asked for this long loses its connection.
const IDLE: Duration = Duration::from_secs(600);

/// How old a list of `/sd` may be: many who ask cost the servers no more than one.
const LIST_KEPT: Duration = Duration::from_secs(5);

/// Query parameters that choose keys for one request, instead of the flags of the same name.
const KEY_PARAMETERS: &[&str] =
    &["check-keys", "check-single-keys", "check-streams", "check-single-streams", "count-keys"];

/// How targets are scraped.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is wanted of each, without what is about keys: that is for the own target, or chosen by the request.
    pub options: Arc<Options>,
    /// Whether connections are named.
    pub client_name: bool,
    /// Whether the page says what the exporter is.
    pub own_metrics: bool,
    /// Targets whose connection is kept.
    pub max_targets: usize,
    /// Targets that are scraped at once; more wait.
    pub concurrency: usize,
    /// Timeouts and formats.
    pub web: Web,
}

/// What `/scrape` and `/sd` need.
pub struct Multi {
    /// Replaced by a reload.
    allowed: RwLock<Allowed>,
    settings: Settings,
    /// Requests that could not be understood or are not allowed.
    pub errors: Arc<AtomicU64>,
    kept: Recent<Handler>,
    permits: Semaphore,
}

/// A request that is not scraped.
struct Refused(StatusCode, String);

impl Multi {
    /// Nothing is connected to yet.
    pub fn new(allowed: Allowed, settings: Settings) -> Self {
        Self {
            allowed: RwLock::new(allowed),
            errors: Arc::default(),
            kept: Recent::new(settings.max_targets, IDLE),
            permits: Semaphore::new(settings.concurrency.max(1)),
            settings,
        }
    }

    /// Other rules from now on; connections made under the old ones are closed when their scrapes are over.
    pub fn replace(&self, allowed: Allowed) {
        *self.allowed.write().unwrap_or_else(PoisonError::into_inner) = allowed;
        self.kept.clear();
    }

    /// Answers `/scrape?target=…`.
    pub fn handler(self: Arc<Self>) -> Handler {
        Arc::new(move |request| {
            let multi = Arc::clone(&self);
            Box::pin(async move { multi.answer(request).await })
        })
    }

    async fn answer(&self, mut request: Request) -> Reply {
        let handler = match self.find(request.uri.query().unwrap_or_default()) {
            Ok(handler) => handler,
            Err(Refused(status, message)) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                return text(status, format!("{message}\n"));
            }
        };
        // Waiting for a turn is part of the time that the client gives.
        let deadline = request_deadline(&request, self.settings.web.scrape_timeout);
        let Ok(_permit) = timeout_at(deadline, self.permits.acquire()).await else {
            let message = "too many targets are being scraped; raise --scrape.concurrency\n";
            return text(StatusCode::SERVICE_UNAVAILABLE, message);
        };
        request.extensions.insert(Deadline(deadline));
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
        let chosen =
            KEY_PARAMETERS.iter().filter_map(|name| Some(format!("{name}={}", parameters.get(*name)?)));
        let key = std::iter::once(target.clone()).chain(chosen).collect::<Vec<_>>().join("\n");
        self.kept.get_or_make(&key, || {
            let allowed = self.allowed.read().unwrap_or_else(PoisonError::into_inner);
            let address = allowed.address(target).map_err(|refusal| match refusal {
                Refusal::Address(_) => bad("'target' is not the address of a Redis server".to_owned()),
                Refusal::NotAllowed(_) => Refused(StatusCode::FORBIDDEN, refusal.to_string()),
                Refusal::Secret(_) => Refused(StatusCode::INTERNAL_SERVER_ERROR, refusal.to_string()),
            })?;
            let Settings { client_name, own_metrics, web, .. } = &self.settings;
            let options = Arc::new(self.with_keys(&parameters).map_err(bad)?);
            let target = Arc::new(Target::new(address, Arc::clone(&options), *client_name));
            let build = own_metrics.then(|| build_info(&options));
            let decorate = move |page: &mut exposition::Snapshot| {
                if let Some(build) = &build {
                    page.append(build.clone());
                }
            };
            let exporter = Exporter::new(Some(target), options).map_err(|error| bad(error.to_string()))?;
            Ok(metrics(Scraper::new(exporter, decorate), web, Arc::new(TelemetryStats::default())))
        })
    }

    /// The options with the keys that the query chooses; those of the flags are for the own target.
    fn with_keys(&self, parameters: &HashMap<String, String>) -> Result<Options, String> {
        let mut options = (*self.settings.options).clone();
        let features = &mut options.features;
        features.whole_cluster = false;
        // What a request chooses is read for the request.
        features.sampler = None;
        features.key_groups.clear();
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

    /// Answers `/sd` with the targets that are written out in the file, and with what the first of `asked` that answers
    /// knows: as far as `/scrape` may reach it.
    pub fn discovery(self: Arc<Self>, asked: Vec<Arc<Target>>, by_hostname: bool) -> Handler {
        let known = Arc::new(Known { asked, by_hostname, last: tokio::sync::Mutex::default() });
        Arc::new(move |request| {
            let (multi, known) = (Arc::clone(&self), Arc::clone(&known));
            Box::pin(async move {
                let deadline = Instant::now() + multi.settings.web.scrape_timeout;
                match known.read(deadline).await {
                    Ok(found) => service_discovery(&request, "/scrape", multi.groups(&found)),
                    // Prometheus then goes on with what it has.
                    Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
                }
            })
        })
    }

    fn groups(&self, found: &[Found]) -> Vec<BTreeMap<String, String>> {
        let allowed = self.allowed.read().unwrap_or_else(PoisonError::into_inner);
        let group = |url: &str, labels: &mut dyn Iterator<Item = (String, String)>| {
            let instance = url.split_once("://").map_or(url, |(_, place)| place);
            let fixed = [("__param_target", url), ("instance", instance)];
            fixed.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).chain(labels).collect()
        };
        let mut groups: Vec<BTreeMap<String, String>> = Vec::new();
        for Found { url, labels } in found.iter().filter(|found| allowed.address(&found.url).is_ok()) {
            let mut labels = labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
            groups.push(group(url, &mut labels));
        }
        for (target, labels) in allowed.listed() {
            groups.push(group(target, &mut labels.clone().into_iter()));
        }
        groups
    }
}

/// What servers know of others, asked for by one request at a time.
struct Known {
    asked: Vec<Arc<Target>>,
    by_hostname: bool,
    last: tokio::sync::Mutex<Option<Answer>>,
}

/// What was answered, and when.
type Answer = (Instant, Result<Arc<[Found]>, ReplyError>);

impl Known {
    /// An answer that is not too old, or was given since this was called; a failure is not kept.
    async fn read(&self, deadline: Instant) -> Result<Arc<[Found]>, ReplyError> {
        let called = Instant::now();
        let Ok(mut last) = timeout_at(deadline, self.last.lock()).await else {
            return Err(ReplyError::timeout("finding servers"));
        };
        if let Some((at, answer)) = &*last
            && (*at >= called || (answer.is_ok() && at.elapsed() < LIST_KEPT))
        {
            return answer.clone();
        }
        let answer = self.ask(deadline).await.map(Arc::from);
        *last = Some((Instant::now(), answer.clone()));
        answer
    }

    /// What the first one that answers knows.
    async fn ask(&self, deadline: Instant) -> Result<Vec<Found>, ReplyError> {
        let mut last = Ok(Vec::new());
        for target in &self.asked {
            last = discovery::find(target, self.by_hostname, deadline).await;
            if last.is_ok() {
                break;
            }
        }
        last
    }
}
