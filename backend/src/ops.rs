//! What operators and Prometheus ask: alive, ready, metrics.

use std::time::Instant;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use exporter_kit::telemetry::process::{self, Network};
use exposition::{Encoding, Format, bridge, negotiate, openmetrics, text};
use serde::Serialize;

use crate::App;
use crate::http::problem::Problem;

/// State of the process.
#[derive(Serialize)]
pub struct Health {
    status: &'static str,
}

/// The process answers; says nothing about its dependencies, so that a restart is not the answer to a dead database.
pub async fn health() -> Answer<Health> {
    Answer(Health { status: "ok" })
}

/// State of the dependencies: `ok` or `unavailable`.
#[derive(Serialize)]
pub struct Readiness {
    status: &'static str,
    postgres: &'static str,
    redis: &'static str,
}

/// Whether requests can be served: 503 while a dependency is away or the service is shutting down.
pub async fn ready(State(app): State<App>) -> (StatusCode, Answer<Readiness>) {
    let (postgres, redis) = futures_util::future::join(app.db.ping(), app.cache.ping()).await;
    let word = |fine: bool| if fine { "ok" } else { "unavailable" };
    let draining = app.shutdown.is_cancelled();
    let fine = postgres.is_ok() && redis.is_ok() && !draining;
    let readiness = Readiness {
        status: if draining { "draining" } else { word(fine) },
        postgres: word(postgres.is_ok()),
        redis: word(redis.is_ok()),
    };
    (if fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Answer(readiness))
}

/// The metrics page, as text 0.0.4 or OpenMetrics, compressed if the client takes it.
pub async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let asked = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let format = Format::negotiate(asked(header::ACCEPT), true);
    let encoding = Encoding::negotiate(asked(header::ACCEPT_ENCODING));
    app.db.report();
    let users = app.activity.count(Instant::now());
    app.metrics.active_users.set(i64::try_from(users).unwrap_or(i64::MAX));
    let mut page = String::with_capacity(256 * 1024);
    if let Err(error) = bridge::encode_registry(&app.registry, format, &mut page) {
        tracing::error!(%error, "encoding metrics failed");
        return Problem::Internal.into_response();
    }
    let process = process::collect(Network::Namespace);
    match format {
        Format::Text => text::encode(&process, &mut page),
        Format::OpenMetrics => {
            openmetrics::encode(&process, &mut page);
            page.push_str(openmetrics::EOF);
        }
    }
    let headers = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "Accept, Accept-Encoding")];
    match encoding {
        Encoding::Identity => (headers, page).into_response(),
        Encoding::Gzip => {
            (headers, [(header::CONTENT_ENCODING, "gzip")], negotiate::gzip(page.as_bytes())).into_response()
        }
    }
}
