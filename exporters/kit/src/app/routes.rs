//! Paths and what they answer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use exposition::{Encoding, Format};
use http::header::{ACCEPT, ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HOST, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{App, Reload, Web};
use crate::scrape::{Pages, Selection, deadline};

/// A request without its body: nothing here reads one.
pub type Request = http::request::Parts;

/// An answer.
pub type Reply = http::Response<Full<Bytes>>;

/// Answers the requests for a path.
pub type Handler = Arc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync>;

const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// What the telemetry path answered so far.
#[derive(Debug, Default)]
pub struct TelemetryStats {
    in_flight: AtomicU64,
    by_code: Mutex<BTreeMap<u16, u64>>,
}

impl TelemetryStats {
    /// Requests being answered now.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests answered, by status code.
    pub fn by_code(&self) -> BTreeMap<u16, u64> {
        self.by_code.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn start(self: Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }
}

/// Counts a request down again, also when its client goes away.
struct InFlight(Arc<TelemetryStats>);

impl InFlight {
    fn answered(&self, code: StatusCode) {
        *self.0.by_code.lock().unwrap_or_else(PoisonError::into_inner).entry(code.as_u16()).or_default() += 1;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A plain text answer.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    reply(status, "text/plain; charset=utf-8", body.into())
}

fn reply(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Reply::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// An answer in JSON, for people to read.
pub fn json(value: &Value) -> Reply {
    reply(StatusCode::OK, "application/json", format!("{value:#}\n").into())
}

/// A handler that answers with pages: the telemetry path's, or those of a target named in the request.
pub fn metrics<P: Pages>(pages: Arc<P>, web: &Web, stats: Arc<TelemetryStats>) -> Handler {
    let (timeout, openmetrics) = (web.scrape_timeout, web.enable_openmetrics);
    Arc::new(move |request| {
        let pages = Arc::clone(&pages);
        let in_flight = Arc::clone(&stats).start();
        Box::pin(async move {
            let deadline = request_deadline(&request, timeout);
            let (collect, exclude) = filters(request.uri.query().unwrap_or_default());
            let reply = match Selection::from_filters(&collect, &exclude, &pages.enabled()) {
                Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
                Ok(selection) => {
                    let page = pages.page(selection, deadline).await;
                    let format = Format::negotiate(header(&request.headers, &ACCEPT), openmetrics);
                    let encoding = Encoding::negotiate(header(&request.headers, &ACCEPT_ENCODING));
                    let mut reply =
                        reply(StatusCode::OK, format.content_type(), page.body(format, encoding).await);
                    if encoding == Encoding::Gzip {
                        reply.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                    }
                    reply.headers_mut().insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
                    reply
                }
            };
            in_flight.answered(reply.status());
            reply
        })
    })
}

/// Put into a request's extensions: when its page must be there, whatever its header says.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub Instant);

/// When the page of a request must be there; `own` is the exporter's own timeout.
pub fn request_deadline(request: &Request, own: Duration) -> Instant {
    let given = request.extensions.get::<Deadline>().map(|deadline| deadline.0);
    given.unwrap_or_else(|| deadline(own, header(&request.headers, &TIMEOUT_HEADER)))
}

/// Answers with targets in Prometheus' HTTP service discovery form, one for each set of labels. Each is scraped through
/// this exporter, at the address the request came to, without relabelling: `__param_…` labels are the query.
pub fn service_discovery(
    request: &Request,
    path: &str,
    groups: impl IntoIterator<Item = BTreeMap<String, String>>,
) -> Reply {
    let host =
        header(&request.headers, &HOST).or_else(|| request.uri.authority().map(http::uri::Authority::as_str));
    let Some(address) = host else {
        return text(StatusCode::BAD_REQUEST, "the request names no host\n");
    };
    let group = |mut labels: BTreeMap<String, String>| {
        labels.insert("__metrics_path__".to_owned(), path.to_owned());
        json!({ "targets": [address], "labels": labels })
    };
    let groups: Vec<Value> = groups.into_iter().map(group).collect();
    reply(StatusCode::OK, "application/json", Value::from(groups).to_string().into())
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The values of `collect[]` and of `exclude[]`.
fn filters(query: &str) -> (Vec<String>, Vec<String>) {
    let (mut collect, mut exclude) = (Vec::new(), Vec::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "collect[]" => collect.push(value.into_owned()),
            "exclude[]" => exclude.push(value.into_owned()),
            _ => {}
        }
    }
    (collect, exclude)
}

/// All paths of an exporter, as a service for the server.
#[derive(Clone)]
pub(super) struct Router(Arc<Paths>);

struct Paths {
    landing: Bytes,
    routes: Vec<(String, Handler)>,
    reload: Option<Reload>,
    reload_by_get: bool,
    shutdown: CancellationToken,
}

impl Router {
    pub(super) fn new(app: App, shutdown: CancellationToken) -> Router {
        let landing = landing(app.title, app.routes.iter().map(|(path, _)| path.as_str())).into();
        let App { routes, reload, reload_by_get, .. } = app;
        Router(Arc::new(Paths { landing, routes, reload, reload_by_get, shutdown }))
    }
}

impl Paths {
    async fn answer(&self, request: Request) -> Reply {
        let path = request.uri.path();
        if path == "/-/reload" {
            return self.reload(&request.method).await;
        }
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return not_allowed("GET, HEAD");
        }
        if let Some((_, handler)) = self.routes.iter().find(|(route, _)| route == path) {
            return handler(request).await;
        }
        match path {
            "/" => reply(StatusCode::OK, "text/html; charset=utf-8", self.landing.clone()),
            "/-/healthy" => text(StatusCode::OK, "Healthy.\n"),
            "/-/ready" if self.shutdown.is_cancelled() => {
                text(StatusCode::SERVICE_UNAVAILABLE, "Stopping.\n")
            }
            "/-/ready" => text(StatusCode::OK, "Ready.\n"),
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    async fn reload(&self, method: &Method) -> Reply {
        let by_get = self.reload_by_get && *method == Method::GET;
        if !by_get && !matches!(*method, Method::POST | Method::PUT) {
            return not_allowed("POST, PUT");
        }
        match &self.reload {
            None => text(StatusCode::OK, "Nothing to reload.\n"),
            Some(reload) => match reload().await {
                Ok(()) => text(StatusCode::OK, "Reloaded.\n"),
                Err(error) => text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!("cannot reload, the old stays: {error}\n"),
                ),
            },
        }
    }
}

fn not_allowed(allowed: &'static str) -> Reply {
    let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed\n");
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    reply
}

fn landing<'a>(title: &str, paths: impl Iterator<Item = &'a str>) -> String {
    let links: String = paths
        .chain(["/-/healthy", "/-/ready"])
        .map(|path| format!("<li><a href=\"{path}\">{path}</a></li>"))
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <style>body{{font:16px/1.5 system-ui;margin:3rem auto;max-width:40rem;padding:0 1rem}}</style>\
         <h1>{title}</h1><p>Version {}</p><ul>{links}</ul></html>\n",
        env!("CARGO_PKG_VERSION"),
    )
}

impl tower::Service<http::Request<Incoming>> for Router {
    type Response = Reply;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Incoming>) -> Self::Future {
        let paths = Arc::clone(&self.0);
        let (request, _) = request.into_parts();
        Box::pin(async move { Ok(paths.answer(request).await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_from_the_query() {
        let (collect, exclude) = filters("collect[]=a&collect%5B%5D=b%20c&exclude[]=d&other=1&collect[]");
        assert_eq!((collect, exclude), (vec!["a".into(), "b c".into(), String::new()], vec!["d".into()]));
    }
}
