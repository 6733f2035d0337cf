//! Services of others that are no language model, each counted under its name.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, Method, Request, Uri, header};
use bytes::Bytes;
use serde_json::Value;

use crate::metrics::{ApiErrorLabels, ApiLabels, ApiStatusLabels, Metrics};
use crate::outbound::{Answer, CallError, Http, Patience, Service, breaker};

/// A service of others.
#[derive(Debug)]
pub struct Api {
    name: &'static str,
    service: Service,
    metrics: Arc<Metrics>,
}

impl Api {
    /// Calls the API `name` through `http`, and creates its series at 0.
    pub fn new(name: &'static str, http: &Http, patience: Patience, metrics: Arc<Metrics>) -> Api {
        metrics.external_api_duration.get_or_create_owned(&ApiLabels { api_name: name });
        for status in ["ok", "error"] {
            metrics.external_api_requests.get_or_create_owned(&ApiStatusLabels { api_name: name, status });
        }
        for error_type in CallError::KINDS {
            metrics.external_api_errors.get_or_create_owned(&ApiErrorLabels { api_name: name, error_type });
        }
        Api { name, service: Service::new(http.clone(), patience), metrics }
    }

    /// Sends `request` and reads the answer with `read`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<T>(
        &self,
        request: &Request<Bytes>,
        read: impl FnOnce(Answer) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let started = Instant::now();
        let result = self.service.call(request).await.and_then(read);
        let api_name = self.name;
        self.metrics
            .external_api_duration
            .get_or_create_owned(&ApiLabels { api_name })
            .observe(started.elapsed().as_secs_f64());
        let status = if result.is_ok() { "ok" } else { "error" };
        self.metrics.external_api_requests.get_or_create_owned(&ApiStatusLabels { api_name, status }).inc();
        result.inspect_err(|error| {
            tracing::warn!(%error, api = api_name, "call failed");
            let labels = ApiErrorLabels { api_name, error_type: error.kind() };
            self.metrics.external_api_errors.get_or_create_owned(&labels).inc();
        })
    }
}

/// A `POST` of JSON.
pub fn post(uri: &Uri, body: &Value) -> Request<Bytes> {
    let mut request = Request::new(Bytes::from(body.to_string()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.clone();
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request
}

/// The address in `text`, if one can be called there.
pub fn address(text: &str) -> Option<Uri> {
    let callable = |uri: &Uri| uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https"));
    text.parse().ok().filter(callable)
}

/// What most services deserve.
pub const PATIENCE: Patience = Patience {
    tries: 3,
    each: Duration::from_secs(3),
    all: Duration::from_secs(8),
    pause: Duration::from_millis(200),
    breaker: breaker::Limits { failures: 5, pause: Duration::from_secs(15) },
};
