//! Answers that are text already: written once, kept, and sent from there as they are.

use std::marker::PhantomData;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use super::problem::Problem;

/// The JSON of a `T`.
#[derive(Clone, Debug)]
pub struct Written<T> {
    json: Bytes,
    shape: PhantomData<fn() -> T>,
}

impl<T: Serialize> Written<T> {
    /// Writes `value`.
    ///
    /// # Errors
    /// [`Problem::Internal`] if it cannot be JSON.
    pub fn new(value: &T) -> Result<Written<T>, Problem> {
        let json = serde_json::to_vec(value).map_err(|error| {
            tracing::error!(%error, "writing an answer");
            Problem::Internal
        })?;
        Ok(Written::from_kept(json.into()))
    }
}

impl<T> Written<T> {
    /// What [`Written::json`] gave.
    pub fn from_kept(json: Bytes) -> Written<T> {
        Written { json, shape: PhantomData }
    }

    /// The text.
    pub fn json(&self) -> &[u8] {
        &self.json
    }
}

impl<T> IntoResponse for Written<T> {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], self.json).into_response()
    }
}
