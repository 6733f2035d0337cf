//! What the signature of a handler says about its route: who may call it, what it takes, what it answers.
//! The OpenAPI document is made of this, so it cannot promise what the handler does not do.

use std::future::Future;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use super::etag::{IfMatch, Versioned};
use super::extract::{Client, Id, Json, Query, Vin};
use super::problem::Problem;
use super::written::Written;
use crate::App;
use crate::auth::{Admin, CurrentUser, Visitor};

/// Who may call a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    #[default]
    Public,
    /// Everybody; a session, if shown, must be good.
    Visitor,
    /// Who has a session.
    User,
}

/// One method of one path.
#[derive(Default)]
pub struct Operation {
    /// Who may call it.
    pub access: Access,
    /// Parameters, as OpenAPI writes them.
    pub parameters: Vec<Value>,
    /// Name of the schema of the body, if it takes one.
    pub body: Option<String>,
    /// Status of success.
    pub success: u16,
    /// Whether the answer carries its version as ETag.
    pub versioned: bool,
    /// Name of the schema of the answer, if it has one.
    pub answer: Option<String>,
    /// Statuses of refusals that follow from the parameters.
    pub refusals: Vec<u16>,
    /// The schemas by name, and those that they refer to.
    pub schemas: Vec<(String, RefOr<Schema>)>,
}

impl Operation {
    fn refer<T: ToSchema>(&mut self) -> String {
        let name = T::name().into_owned();
        T::schemas(&mut self.schemas);
        self.schemas.push((name.clone(), T::schema()));
        name
    }

    /// Headers of the answer with `status`, as OpenAPI writes them.
    pub fn headers(&self, status: u16) -> Map<String, Value> {
        let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
        let mut headers = Map::new();
        headers.insert("X-Request-Id".to_owned(), text("Names this request in the log."));
        if matches!(status, 429 | 503) {
            headers.insert("Retry-After".to_owned(), text("Seconds to wait."));
        }
        if status == 401 {
            headers.insert("WWW-Authenticate".to_owned(), text("Bearer"));
        }
        if status == self.success && self.versioned {
            headers.insert("ETag".to_owned(), text("The version, for If-Match."));
        }
        headers
    }

    fn parameter(&mut self, place: &str, name: &str, required: bool, schema: &Value) {
        self.parameters.push(json!({"in": place, "name": name, "required": required, "schema": schema}));
    }
}

/// What a handler takes of a request.
pub trait Part {
    /// Notes what that means for callers.
    fn describe(operation: &mut Operation);
}

impl Part for State<App> {
    fn describe(_: &mut Operation) {}
}

impl Part for CurrentUser {
    fn describe(operation: &mut Operation) {
        operation.access = Access::User;
        operation.refusals.push(401);
    }
}

impl Part for Admin {
    fn describe(operation: &mut Operation) {
        CurrentUser::describe(operation);
        operation.refusals.push(403);
    }
}

impl Part for Visitor {
    fn describe(operation: &mut Operation) {
        operation.access = Access::Visitor;
        operation.refusals.push(401);
    }
}

impl Part for Client {
    fn describe(operation: &mut Operation) {
        operation.refusals.push(429);
    }
}

impl Part for IfMatch {
    fn describe(operation: &mut Operation) {
        operation.parameter("header", "If-Match", false, &json!({"type": "string"}));
        operation.refusals.push(412);
    }
}

impl<T: ToSchema> Part for Json<T> {
    fn describe(operation: &mut Operation) {
        operation.body = Some(operation.refer::<T>());
        operation.refusals.extend([400, 408, 413, 415, 422]);
    }
}

impl<T: ToSchema> Part for Query<T> {
    fn describe(operation: &mut Operation) {
        T::schemas(&mut operation.schemas);
        let schema = json!(T::schema());
        let required = &schema["required"];
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let required = required.as_array().is_some_and(|names| names.iter().any(|field| field == name));
            operation.parameter("query", name, required, &without_null(property));
        }
        operation.refusals.push(422);
    }
}

impl Part for Id {
    fn describe(operation: &mut Operation) {
        operation.parameter("path", "id", true, &json!({"type": "integer", "format": "int64", "minimum": 1}));
        operation.refusals.push(404);
    }
}

impl Part for Vin {
    fn describe(operation: &mut Operation) {
        operation.parameter("path", "vin", true, &json!({"type": "string", "pattern": super::validate::VIN}));
        operation.refusals.push(404);
    }
}

/// A query has no null: what is optional is left out.
fn without_null(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(types) = schema["type"].as_array() {
        schema["type"] = types.iter().find(|name| *name != "null").cloned().unwrap_or_default();
    }
    for choice in ["oneOf", "anyOf"] {
        let real: Vec<_> =
            schema[choice].as_array().into_iter().flatten().filter(|one| one["type"] != "null").collect();
        if let [only] = real[..] {
            return only.clone();
        }
    }
    if let Value::Object(fields) = &mut schema {
        fields.retain(|_, value| !value.is_null());
    }
    schema
}

/// What a handler answers.
pub trait Reply {
    /// Notes status and schema.
    fn describe(operation: &mut Operation);
}

impl<T: ToSchema> Reply for Answer<T> {
    fn describe(operation: &mut Operation) {
        operation.success = StatusCode::OK.as_u16();
        operation.answer = Some(operation.refer::<T>());
    }
}

impl<T: ToSchema> Reply for Written<T> {
    fn describe(operation: &mut Operation) {
        Answer::<T>::describe(operation);
    }
}

impl<T: ToSchema> Reply for Versioned<T> {
    fn describe(operation: &mut Operation) {
        Answer::<T>::describe(operation);
        operation.versioned = true;
    }
}

/// Something was created.
impl<R: Reply> Reply for (StatusCode, R) {
    fn describe(operation: &mut Operation) {
        R::describe(operation);
        operation.success = StatusCode::CREATED.as_u16();
        if operation.access == Access::User {
            let key = json!({"type": "string", "pattern": "^[!-~]{1,64}$"});
            operation.parameter("header", "Idempotency-Key", false, &key);
            operation.refusals.push(409);
        }
    }
}

/// Something was done that leaves nothing to say.
impl Reply for StatusCode {
    fn describe(operation: &mut Operation) {
        operation.success = StatusCode::NO_CONTENT.as_u16();
    }
}

impl<R: Reply> Reply for Result<R, Problem> {
    fn describe(operation: &mut Operation) {
        R::describe(operation);
    }
}

/// A handler with parts `P`.
pub trait Described<P> {
    /// What its signature says.
    fn operation() -> Operation;
}

macro_rules! described {
    ($($part:ident)*) => {
        impl<F, A, R, $($part),*> Described<($($part,)*)> for F
        where
            F: Fn($($part),*) -> A,
            A: Future<Output = R>,
            R: Reply,
            $($part: Part,)*
        {
            fn operation() -> Operation {
                let mut operation = Operation::default();
                $( $part::describe(&mut operation); )*
                R::describe(&mut operation);
                operation
            }
        }
    };
}
described!(P1);
described!(P1 P2);
described!(P1 P2 P3);
described!(P1 P2 P3 P4);
described!(P1 P2 P3 P4 P5);

/// What the signature of `handler` says.
pub fn operation<P, H: Described<P>>(_: H) -> Operation {
    H::operation()
}
