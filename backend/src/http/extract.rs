//! Request parts as handlers want them: JSON bodies, queries and ids, refused as problem details.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header;
use axum::http::request::Parts;
use bytes::Bytes;
use exporter_kit::http::PeerAddr;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::problem::Problem;
use super::validate::Checks;

/// A JSON body. Not JSON is 400, JSON of another shape 422 with the path of the field.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Json<T>, Problem> {
        let is_json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json"));
        if !is_json {
            return Err(Problem::NotJson);
        }
        // It has arrived, or the guard would have refused it.
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|error| Problem::Malformed(error.body_text()))?;
        // serde would take an array for an object, field by field.
        if body.trim_ascii_start().starts_with(b"[") {
            return Err(Problem::field("body", "must be an object"));
        }
        let mut json = serde_json::Deserializer::from_slice(&body);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let field = error.path().to_string();
            let cause = error.into_inner();
            match cause.classify() {
                Category::Data => {
                    let message = without_position(&cause);
                    Problem::field(culprit(&field, &message), message)
                }
                Category::Io | Category::Syntax | Category::Eof => {
                    Problem::Malformed(format!("the body is not JSON: {cause}"))
                }
            }
        })?;
        json.end().map_err(|error| Problem::Malformed(format!("the body is not JSON: {error}")))?;
        Ok(Json(value))
    }
}

/// The path of the refused field. serde's path stops at the object that lacks a field or has one too many; the field
/// itself is named in the message only.
fn culprit(path: &str, message: &str) -> String {
    let named = ["missing field `", "unknown field `"]
        .iter()
        .find_map(|prefix| message.strip_prefix(prefix)?.split_once('`').map(|(field, _)| field));
    match (path, named) {
        (".", None) => "body".to_owned(),
        (".", Some(field)) => field.to_owned(),
        (path, None) => path.to_owned(),
        (path, Some(field)) if path == field || path.ends_with(&format!(".{field}")) => path.to_owned(),
        (path, Some(field)) => format!("{path}.{field}"),
    }
}

/// serde_json ends its text with a position, which the path of the field replaces.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(message, _)| message.to_owned())
}

/// The query string.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query<T>, Problem> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(value)| Query(value))
            .map_err(|error| {
                let text = error.body_text();
                let message = text.rsplit_once("string: ").map_or(text.as_str(), |(_, rest)| rest);
                // "field: message", or only a message when no single field is at fault.
                match message.split_once(": ") {
                    Some((field, rest)) if !field.contains(' ') => Problem::field(field, rest),
                    _ => Problem::field("query", message),
                }
            })
    }
}

/// The address that the connection comes from; unknown on a Unix socket.
#[derive(Clone, Copy, Debug)]
pub struct Client(pub Option<IpAddr>);

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Client, Infallible> {
        Ok(Client(parts.extensions.get::<PeerAddr>().map(|PeerAddr(peer)| peer.ip())))
    }
}

/// The `{id}` of the path; what is no id names no object.
#[derive(Clone, Copy, Debug)]
pub struct Id(pub i64);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Id, Problem> {
        let id = Path::<i64>::from_request_parts(parts, state).await;
        id.map(|Path(id)| Id(id)).map_err(|_| Problem::NotFound("object"))
    }
}

/// The `{vin}` of the path; what is no vehicle number names no vehicle.
#[derive(Clone, Debug)]
pub struct Vin(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Vin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Vin, Problem> {
        let absent = || Problem::NotFound("vehicle");
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| absent())?;
        let mut checks = Checks::default();
        let vin = checks.vin("vin", &text);
        checks.finish(Vin(vin)).map_err(|_| absent())
    }
}
