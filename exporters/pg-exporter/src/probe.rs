//! `/probe`: targets that a request names, each with a scraper that is kept warm; `/sd`: a list of them for Prometheus.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use exporter_kit::app::{Handler, Reply, Request, TelemetryStats, Web, metrics, service_discovery, text};
use exporter_kit::scrape::Scraper;
use exporter_kit::targets::Recent;
use http::StatusCode;
use pg_client::{Connector, Environment};

use crate::config::{Config, Refusal};
use crate::source::PgSource;

/// A target that nobody asked for this long loses its connections.
const IDLE: Duration = Duration::from_secs(600);

/// Makes the source of a target.
pub type MakeSource = Box<dyn Fn(Connector) -> PgSource + Send + Sync>;

/// What `/probe` and `/sd` need.
pub struct Probe {
    rules: RwLock<Rules>,
    environment: Environment,
    web: Web,
    max_series: Option<usize>,
    kept: Recent<Handler>,
}

/// What a reload replaces.
pub struct Rules {
    /// What may be reached.
    pub config: Config,
    /// Makes the source of a target.
    pub source: MakeSource,
}

impl Probe {
    /// Nothing is connected to yet. `max_targets` is how many are kept warm.
    pub fn new(
        rules: Rules,
        environment: Environment,
        web: Web,
        max_series: Option<usize>,
        max_targets: usize,
    ) -> Probe {
        let kept = Recent::new(max_targets, IDLE);
        Probe { rules: RwLock::new(rules), environment, web, max_series, kept }
    }

    /// Other rules from now on; connections made under the old ones are closed when their scrapes are over.
    pub fn replace(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        self.kept.clear();
    }

    /// Answers `/probe?target=…&auth_module=…`.
    pub fn handler(self: &Arc<Self>) -> Handler {
        let probe = Arc::clone(self);
        Arc::new(move |request| {
            let handler = probe.find(request.uri.query().unwrap_or_default());
            Box::pin(async move {
                match handler {
                    Ok(handler) => handler(request).await,
                    Err(Refusal::Bad(message)) => text(StatusCode::BAD_REQUEST, message + "\n"),
                    Err(Refusal::NotAllowed(message)) => text(StatusCode::FORBIDDEN, message + "\n"),
                }
            })
        })
    }

    /// The handler of the target that a query names.
    fn find(&self, query: &str) -> Result<Handler, Refusal> {
        let parameters: HashMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let given = |name: &str| parameters.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let target = given("target").ok_or_else(|| Refusal::Bad("target is required".to_owned()))?;
        let module = given("auth_module");
        let key = format!("{}\n{target}", module.unwrap_or_default());
        self.kept.get_or_make(&key, || {
            let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
            let connector = rules.config.connector(target, module, &self.environment)?;
            let source = (rules.source)(connector);
            let scraper = Scraper::with_max_series(source, |_| {}, self.max_series);
            Ok(metrics(scraper, &self.web, Arc::new(TelemetryStats::default())))
        })
    }

    /// Answers `/sd`: targets in Prometheus' HTTP service discovery form. Each is scraped through this exporter, at the
    /// address the request came to, without relabelling.
    pub fn discovery(self: &Arc<Self>) -> Handler {
        let probe = Arc::clone(self);
        Arc::new(move |request| {
            let reply = probe.list(&request);
            Box::pin(async move { reply })
        })
    }

    fn list(&self, request: &Request) -> Reply {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let groups = rules.config.listed().map(|(target, entry)| {
            let module = entry.auth_modules.first().map(|module| ("__param_auth_module", module.as_str()));
            let fixed = [("__param_target", target), ("instance", target)].into_iter().chain(module);
            let own = entry.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            fixed.chain(own).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        });
        service_discovery(request, "/probe", groups)
    }
}
