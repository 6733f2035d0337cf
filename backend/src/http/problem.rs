//! Every refusal of the API as problem details (RFC 9457), and how failures of the stores become one.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::passwords::PasswordError;
use crate::cache::CacheError;
use crate::db::DbError;

/// Seconds after which a client may try again when a store is away.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// One field that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Path of the field in the body or query, `.`-separated.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// 400: the body or the query is not even readable.
    #[error("{0}")]
    Malformed(String),
    /// 401: no session token, or one that is not (or no longer) valid.
    #[error("a valid bearer token is required; log in first")]
    Unauthorized,
    /// 401: a login was refused; never says why.
    #[error("unknown account or wrong password")]
    LoginRefused,
    /// 403: only admins may do this.
    #[error("this is for admins")]
    Forbidden,
    /// 404: the object does not exist, or belongs to somebody else.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// 405: the path exists, the method does not.
    #[error("this path does not know this method")]
    MethodNotAllowed,
    /// 408: the body did not arrive in time.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// 409: the request contradicts the present state.
    #[error("{0}")]
    Conflict(String),
    /// 412: `If-Match` names another version than the present one.
    #[error("the object has changed; get it again")]
    Outdated,
    /// 413: the body is over the limit.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// 415: the body is not JSON.
    #[error("the body must be application/json")]
    NotJson,
    /// 422: readable, but some fields are not acceptable.
    #[error("some fields are not acceptable")]
    Invalid(Vec<FieldError>),
    /// 429: too many attempts at what is limited.
    #[error("too many attempts; try again in {seconds} seconds")]
    TooMany {
        /// How long to wait.
        seconds: u64,
    },
    /// 500: a defect; the cause is in the log only.
    #[error("the request failed unexpectedly")]
    Internal,
    /// 503: a store is away, or the service has more to do than it can.
    #[error("{0}; try again")]
    Unavailable(&'static str),
}

/// Problem details (RFC 9457).
#[derive(Serialize, ToSchema)]
pub(super) struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    /// One refused field.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem::Invalid(vec![FieldError { field: field.into(), message: message.into() }])
    }

    /// The status and the last part of the type URI.
    const fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Problem::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed", "Malformed request"),
            Problem::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "Not logged in"),
            Problem::LoginRefused => (StatusCode::UNAUTHORIZED, "login-refused", "Login refused"),
            Problem::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "Not allowed"),
            Problem::NotFound(_) => (StatusCode::NOT_FOUND, "not-found", "Not found"),
            Problem::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed")
            }
            Problem::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too-slow", "Request timeout"),
            Problem::Conflict(_) => (StatusCode::CONFLICT, "conflict", "Conflict"),
            Problem::Outdated => (StatusCode::PRECONDITION_FAILED, "outdated", "Precondition failed"),
            Problem::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many requests"),
            Problem::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Body too large"),
            Problem::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", "Unsupported media type"),
            Problem::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid fields"),
            Problem::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
            Problem::Unavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Temporarily unavailable")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, name, title) = self.kind();
        let document = Document {
            r#type: format!("urn:autodealgenie:problem:{name}"),
            title,
            status: status.as_u16(),
            detail: self.to_string(),
            errors: if let Problem::Invalid(errors) = &self { errors } else { &[] },
        };
        // Strings and numbers cannot fail to serialize; an empty body still carries the status.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        match status {
            StatusCode::UNAUTHORIZED => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                if let Problem::TooMany { seconds } = self {
                    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                }
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            _ => {}
        }
        response
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Problem {
        match &error {
            DbError::Unavailable { .. } => {
                tracing::warn!(%error, "database unavailable");
                Problem::Unavailable("the database does not answer")
            }
            DbError::Constraint { constraint, .. } if constraint.ends_with("_user_id_fkey") => {
                Problem::Unauthorized
            }
            DbError::Constraint { constraint, .. } if constraint.ends_with("_fkey") => {
                Problem::Conflict("what this refers to is gone".to_owned())
            }
            // A store maps the other constraints it expects; one that arrives here was not thought of.
            DbError::Constraint { .. } | DbError::Failed { .. } => {
                tracing::error!(%error, "database statement failed");
                Problem::Internal
            }
        }
    }
}

impl From<CacheError> for Problem {
    fn from(error: CacheError) -> Problem {
        tracing::warn!(%error, "redis unavailable");
        Problem::Unavailable("sessions cannot be checked now")
    }
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Problem {
        match error {
            PasswordError::Busy => Problem::Unavailable("too many logins at once"),
            PasswordError::Failed(_) => {
                tracing::error!(%error, "password hashing failed");
                Problem::Internal
            }
        }
    }
}
