//! Versions of objects as ETags (RFC 9110): an update may say which version it saw, and is refused if it is not the
//! present one.

use axum::Json as Answer;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::problem::Problem;

/// An object that counts its changes.
pub trait HasVersion {
    /// From 1.
    fn version(&self) -> i32;
}

/// An answer with its version as `ETag`.
#[derive(Clone, Copy, Debug)]
pub struct Versioned<T>(pub T);

impl<T: HasVersion + Serialize> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        let tag = HeaderValue::try_from(format!("\"{}\"", self.0.version()));
        let mut response = Answer(self.0).into_response();
        if let Ok(tag) = tag {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// The version that a change is meant for: the header `If-Match`, if it was sent and is not `*`.
#[derive(Clone, Copy, Debug)]
pub struct IfMatch(pub Option<i32>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<IfMatch, Problem> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else { return Ok(IfMatch(None)) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(IfMatch(None));
        }
        // What is none of our tags matches no version.
        let version = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        version.and_then(|version| version.parse().ok()).map(Some).map(IfMatch).ok_or(Problem::Outdated)
    }
}
