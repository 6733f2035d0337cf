//! The HTTP side of the service: routing and what surrounds every handler.

pub mod extract;
pub mod observe;
pub mod page;
pub mod problem;
pub mod routes;
pub mod validate;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use self::observe::Observer;
use self::problem::Problem;
use crate::App;
use crate::ops;

/// Bytes of a request body.
pub const BODY_LIMIT: usize = 64 * 1024;
/// How long a request may take before it is answered with 503.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// The whole service. `/health`, `/ready` and `/metrics` are not measured: probes would drown the traffic.
pub fn router(app: App) -> Router {
    let observer = Arc::new(Observer::new(Arc::clone(&app.metrics), routes::ROUTES));
    routes::router()
        .fallback(async || Problem::NotFound("path"))
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(guard))
        .layer(from_fn_with_state(observer, observe::observe))
        .route("/health", get(ops::health))
        .route("/ready", get(ops::ready))
        .route("/metrics", get(ops::metrics))
        .layer(from_fn(secure))
        .with_state(app)
}

/// Answers in time. A change runs in a task of its own, so that a client that goes away cannot stop it between the
/// commit and what belongs to it (the counter, the session).
async fn guard(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let handled = async move {
        if reads {
            return next.run(request).await;
        }
        tokio::spawn(next.run(request).in_current_span()).await.unwrap_or_else(|error| {
            tracing::error!(%error, "handler stopped");
            Problem::Internal.into_response()
        })
    };
    tokio::time::timeout(REQUEST_TIMEOUT, handled)
        .await
        .unwrap_or_else(|_| Problem::Unavailable("the request took too long").into_response())
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    // The panic hook has logged message and place.
    Problem::Internal.into_response()
}

/// Headers of every answer: an API has nothing to embed, sniff or keep.
async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
