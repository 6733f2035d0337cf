//! Measures every request of the API: counts, time, sizes, in flight; gives it an id, which leads from the time to the
//! line that it writes in the access log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::HttpBody;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tracing::Instrument;

use super::routes::Route;
use crate::hex;
use crate::metrics::{AnswerLabels, ExemplarLabels, Metrics, RequestId, RouteLabels};

/// The header that names a request.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Label of paths that no route knows; the raw path would let clients create series.
const UNMATCHED: &str = "unmatched";
/// What is counted when the client left before the answer.
const CLIENT_LEFT: u16 = 499;

/// The metrics of one method of one route, resolved once: a request looks no label up.
#[derive(Debug)]
struct Meters {
    requests: Family<AnswerLabels, Counter>,
    answers: Vec<(u16, Counter)>,
    duration: HistogramWithExemplars<ExemplarLabels>,
    request_size: Histogram,
    response_size: Histogram,
    in_progress: Gauge,
}

impl Meters {
    fn new(metrics: &Metrics, labels: &RouteLabels, statuses: &[u16]) -> Meters {
        let counter = |status| metrics.http_requests.get_or_create_owned(&labels.answer(status));
        Meters {
            requests: metrics.http_requests.clone(),
            answers: statuses.iter().map(|status| (*status, counter(*status))).collect(),
            duration: metrics.http_request_duration.get_or_create_owned(labels),
            request_size: metrics.http_request_size.get_or_create_owned(labels),
            response_size: metrics.http_response_size.get_or_create_owned(labels),
            in_progress: metrics.requests_in_progress.get_or_create_owned(labels),
        }
    }

    fn answered(&self, labels: &RouteLabels, status: u16, elapsed: Duration, id: &HeaderValue) {
        let exemplar = ExemplarLabels { request_id: RequestId(id.clone()) };
        self.duration.observe(elapsed.as_secs_f64(), Some(exemplar), None);
        match self.answers.iter().find(|(known, _)| *known == status) {
            Some((_, counter)) => counter.inc(),
            None => self.requests.get_or_create(&labels.answer(status)).inc(),
        };
    }
}

/// One method of one route.
#[derive(Debug)]
struct Watched {
    labels: RouteLabels,
    /// Nothing in a service that does not measure.
    meters: Option<Meters>,
}

/// Knows every route, and its metrics.
#[derive(Debug)]
pub struct Observer {
    metrics: Option<Arc<Metrics>>,
    routes: HashMap<&'static str, Vec<Arc<Watched>>>,
}

impl Observer {
    /// Creates the series of `routes` with their documented statuses, and of unmatched paths, at 0. Without metrics, what
    /// is observed is only logged.
    pub fn new(metrics: Option<Arc<Metrics>>, routes: &'static [Route]) -> Observer {
        let mut observer = Observer { metrics, routes: HashMap::new() };
        for route in routes {
            let labels = RouteLabels { method: route.verb.as_str(), handler: route.path };
            let watched = Arc::new(observer.watch(labels, &route.statuses()));
            observer.routes.entry(route.path).or_default().push(watched);
        }
        for method in ["GET", "POST"] {
            let watched = Arc::new(observer.watch(RouteLabels { method, handler: UNMATCHED }, &[404]));
            observer.routes.entry(UNMATCHED).or_default().push(watched);
        }
        observer
    }

    fn watch(&self, labels: RouteLabels, statuses: &[u16]) -> Watched {
        Watched {
            meters: self.metrics.as_ref().map(|metrics| Meters::new(metrics, &labels, statuses)),
            labels,
        }
    }

    fn find(&self, method: &Method, path: Option<&MatchedPath>) -> Arc<Watched> {
        let (handler, known) = path
            .and_then(|path| self.routes.get_key_value(path.as_str()))
            .map_or((UNMATCHED, self.routes.get(UNMATCHED)), |(handler, known)| (*handler, Some(known)));
        let method = method_label(method);
        known
            .into_iter()
            .flatten()
            .find(|watched| watched.labels.method == method)
            .map_or_else(|| Arc::new(self.watch(RouteLabels { method, handler }, &[])), Arc::clone)
    }
}

/// A request in flight; what is dropped unfinished was left by its client.
struct InFlight {
    watched: Arc<Watched>,
    id: HeaderValue,
    started: Instant,
    status: u16,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Watched { labels, meters } = &*self.watched;
        let elapsed = self.started.elapsed();
        if let Some(meters) = meters {
            meters.in_progress.dec();
            meters.answered(labels, self.status, elapsed, &self.id);
        }
        let RouteLabels { method, handler } = *labels;
        let microseconds = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        tracing::info!(method, handler, status = self.status, microseconds, "request");
    }
}

/// The middleware.
pub async fn observe(State(observer): State<Arc<Observer>>, mut request: Request, next: Next) -> Response {
    let watched = observer.find(request.method(), request.extensions().get::<MatchedPath>());
    let id = request_id(request.headers().get(&REQUEST_ID));
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    if let Some(meters) = &watched.meters {
        meters.request_size.observe(content_length(&request));
        meters.in_progress.inc();
    }
    async {
        let mut in_flight =
            InFlight { watched, id: id.clone(), started: Instant::now(), status: CLIENT_LEFT };
        let mut response = next.run(request).await;
        in_flight.status = response.status().as_u16();
        if let Some(meters) = &in_flight.watched.meters {
            meters.response_size.observe(size(response.body().size_hint().lower()));
        }
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }
    .instrument(span)
    .await
}

#[expect(clippy::cast_precision_loss, reason = "bodies are far below 2^52 bytes")]
fn size(bytes: u64) -> f64 {
    bytes as f64
}

fn content_length(request: &Request) -> f64 {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    size(announced.and_then(|value| value.parse().ok()).unwrap_or(0))
}

/// The id that the client gave, if it can be logged as it is, or a new one.
fn request_id(given: Option<&HeaderValue>) -> HeaderValue {
    let loggable = |id: &&HeaderValue| {
        (1..=64).contains(&id.len())
            && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    given.filter(loggable).cloned().unwrap_or_else(|| {
        HeaderValue::try_from(hex::encode(&rand::random::<[u8; 16]>()))
            .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    })
}

/// Methods are the client's text; only registered ones become label values.
fn method_label(method: &Method) -> &'static str {
    ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
        .into_iter()
        .find(|known| *known == method.as_str())
        .unwrap_or("other")
}
