//! The HTTP side of the service: routing and what surrounds every handler.

pub mod describe;
pub mod etag;
pub mod extract;
pub mod idempotency;
pub mod observe;
pub mod openapi;
pub mod page;
pub mod problem;
pub mod routes;
pub mod validate;
pub mod written;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;
use tracing::Instrument;

use self::observe::Observer;
use self::problem::Problem;
use crate::App;
use crate::ops;

/// Bytes of a request body.
pub const BODY_LIMIT: usize = 64 * 1024;
/// How long a request may take before it is answered with 503, unless a test says otherwise.
pub const TIME_LIMIT: Duration = Duration::from_secs(20);

/// The whole service. `/health`, `/ready` and `/metrics` are not measured: probes would drown the traffic.
pub fn router(app: App) -> Router {
    let measured = app.measured.then(|| Arc::clone(&app.metrics));
    let observer = Arc::new(Observer::new(measured, routes::ROUTES));
    routes::router()
        .fallback(async || Problem::NotFound("path"))
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(app.clone(), idempotency::once))
        .layer(from_fn_with_state(app.clone(), guard))
        .layer(from_fn_with_state(observer, observe::observe))
        .route("/health", get(ops::health))
        .route("/ready", get(ops::ready))
        .route("/metrics", get(ops::metrics))
        .route("/openapi.json", get(openapi::serve))
        .layer(cors(&app))
        .layer(from_fn(secure))
        .with_state(app)
}

/// The request with its body arrived, which is within the limit.
async fn whole(request: Request, limit: Duration) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(Request::from_parts(parts, body));
    }
    let arrived = tokio::time::timeout(limit, Limited::new(body, BODY_LIMIT).collect()).await;
    let body = arrived.map_err(|_| Problem::TooSlow)?.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Problem::TooLarge(BODY_LIMIT)
        } else {
            Problem::Malformed("the body could not be read to its end".to_owned())
        }
    })?;
    Ok(Request::from_parts(parts, Body::from(body.to_bytes())))
}

/// Answers in time. Who sends slowly has no turn yet. A change runs in a task of its own, so that a client that goes away cannot stop it between the
/// commit and what belongs to it (the counter, the session).
async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let request = match whole(request, app.arrival).await {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    let Ok(turn) = Arc::clone(&app.turns).try_acquire_owned() else {
        return Problem::Unavailable("too many requests at once").into_response();
    };
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let handled = async move {
        if reads {
            return next.run(request).await;
        }
        let changed = async move {
            let response = next.run(request).await;
            drop(turn);
            response
        };
        tokio::spawn(changed.in_current_span()).await.unwrap_or_else(|error| {
            tracing::error!(%error, "handler stopped");
            Problem::Internal.into_response()
        })
    };
    tokio::time::timeout(app.time_limit, handled)
        .await
        .unwrap_or_else(|_| Problem::Unavailable("the request took too long").into_response())
}

/// Web pages of the allowed origins may call the API; a page needs no cookie here, only the token.
fn cors(app: &App) -> CorsLayer {
    let sent = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        idempotency::HEADER,
        observe::REQUEST_ID,
    ];
    let shown = [header::ETAG, header::RETRY_AFTER, idempotency::REPLAYED, observe::REQUEST_ID];
    CorsLayer::new()
        .allow_origin(app.cors_origins.clone())
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(sent)
        .expose_headers(shown)
        .max_age(Duration::from_secs(600))
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    // The panic hook has logged message and place.
    Problem::Internal.into_response()
}

/// The answer to a deletion: nothing to say, or that there is no such object.
pub fn removed(found: bool, what: &'static str) -> Result<StatusCode, Problem> {
    if found { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::NotFound(what)) }
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
