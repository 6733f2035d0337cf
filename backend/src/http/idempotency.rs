//! `Idempotency-Key`: a create that is sent again under the same key gets the first answer and creates nothing.
//! Kept in Redis by user, path and key. Only success is kept: after a refusal or a failure the request may be sent again.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::problem::Problem;
use super::{BODY_LIMIT, TIME_LIMIT};
use crate::App;
use crate::auth::CurrentUser;
use crate::cache::CacheError;
use crate::hex;

/// The header.
pub const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is the one of an earlier request.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long a request holds its key without an answer; above the time it may take.
const CLAIM: Duration = Duration::from_secs(3 * TIME_LIMIT.as_secs());
/// Bytes of an answer that are kept; creates answer one object.
const ANSWER_LIMIT: usize = 4 * BODY_LIMIT;

/// What Redis holds under a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    /// Hash of the body: another body under the same key is a mistake of the client.
    fingerprint: String,
    /// Tells a claim from one by another request, and from nothing when Redis was asked twice.
    claim: String,
    answer: Option<Kept>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    status: u16,
    etag: Option<String>,
    body: String,
}

/// The middleware. Takes effect on POST with the header and a session.
pub async fn once(State(app): State<App>, request: Request, next: Next) -> Response {
    let key = request.headers().get(&HEADER).cloned();
    let path = request.extensions().get::<MatchedPath>().map(|_| request.uri().path().to_owned());
    match (key, path) {
        (Some(key), Some(path)) if request.method() == Method::POST => {
            keyed(app, &key, &path, request, next).await.unwrap_or_else(IntoResponse::into_response)
        }
        _ => next.run(request).await,
    }
}

async fn keyed(
    app: App,
    key: &HeaderValue,
    path: &str,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let plain = (1..=64).contains(&key.len()) && key.as_bytes().iter().all(u8::is_ascii_graphic);
    if !plain {
        return Err(Problem::field(HEADER.as_str(), "must have 1 to 64 printable ASCII characters"));
    }
    let (mut parts, body) = request.into_parts();
    let user = match CurrentUser::from_request_parts(&mut parts, &app).await {
        Ok(user) => user.id,
        // Without a user nothing is kept; the handler refuses, or the route creates nothing of anybody's.
        Err(Problem::Unauthorized) => return Ok(next.run(Request::from_parts(parts, body)).await),
        Err(problem) => return Err(problem),
    };
    let body = to_bytes(body, BODY_LIMIT).await.map_err(|_| Problem::TooLarge(BODY_LIMIT))?;
    let place = place(user, path, key.as_bytes());
    let entry = Entry {
        fingerprint: hex::encode(&Sha256::digest(&body)),
        claim: hex::encode(&rand::random::<[u8; 16]>()),
        answer: None,
    };
    let found = claim(&app, &place, &entry).await?;
    if found.fingerprint != entry.fingerprint {
        return Err(Problem::Conflict("this idempotency key was used with another body".to_owned()));
    }
    if let Some(kept) = found.answer {
        return Ok(kept.replay());
    }
    if found.claim != entry.claim {
        return Err(Problem::Conflict("the first request with this idempotency key still runs".to_owned()));
    }
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    if !response.status().is_success() {
        settle(&app, &place, None).await;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, ANSWER_LIMIT).await.map_err(|_| Problem::Internal)?;
    let kept = Kept {
        status: parts.status.as_u16(),
        etag: parts.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    settle(&app, &place, Some(&Entry { answer: Some(kept), ..entry })).await;
    Ok(Response::from_parts(parts, Body::from(body)))
}

impl Kept {
    fn replay(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        let mut response = (status, Bytes::from(self.body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        if let Some(tag) = self.etag.and_then(|tag| HeaderValue::try_from(tag).ok()) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

fn place(user: i64, path: &str, key: &[u8]) -> String {
    let hash = Sha256::new().chain_update(path).chain_update([0]).chain_update(key).finalize();
    format!("idempotency:{user}:{}", hex::encode(&hash))
}

/// Takes the key, or finds who has it.
async fn claim(app: &App, place: &str, entry: &Entry) -> Result<Entry, Problem> {
    let text = serde_json::to_string(entry).map_err(|_| Problem::Internal)?;
    let mut commands = redis::pipe();
    commands.atomic();
    commands.cmd("SET").arg(place).arg(text).arg("NX").arg("EX").arg(CLAIM.as_secs()).ignore();
    commands.cmd("GET").arg(place);
    let (found,): (String,) = app.cache.run("claiming an idempotency key", &commands).await?;
    serde_json::from_str(&found).map_err(|error| {
        tracing::error!(%error, "reading a kept answer");
        Problem::Internal
    })
}

/// Keeps the answer, or gives the key back.
async fn settle(app: &App, place: &str, entry: Option<&Entry>) {
    let mut commands = redis::pipe();
    match entry.map(serde_json::to_string) {
        Some(Ok(text)) => {
            commands.cmd("SET").arg(place).arg(text).arg("EX").arg(KEPT.as_secs()).ignore();
        }
        _ => {
            commands.cmd("DEL").arg(place).ignore();
        }
    }
    let settled: Result<(), CacheError> = app.cache.run("keeping an answer", &commands).await;
    if let Err(error) = settled {
        tracing::warn!(%error, "an idempotency key stays claimed until it expires");
    }
}
