//! The OpenAPI 3.1 document, made of the routes and the types of their handlers.

use std::sync::LazyLock;

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

use super::describe::{Access, Operation};
use super::problem::{Document, FieldError};
use super::routes::{ROUTES, Route};

static TEXT: LazyLock<String> =
    LazyLock::new(|| serde_json::to_string_pretty(&document()).unwrap_or_default() + "\n");

/// Answers the document.
pub async fn serve() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "max-age=300")], TEXT.as_str())
}

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::from_iter([
        ("Problem".to_owned(), json!(Document::schema())),
        (FieldError::name().into_owned(), json!(FieldError::schema())),
    ]);
    for route in ROUTES {
        let operation = route.operation();
        paths.entry(route.path).or_insert_with(|| json!({}))[route.verb.as_str().to_lowercase()] =
            describe(route, &operation);
        for (name, schema) in operation.schemas {
            schemas.insert(name, json!(schema));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "AutoDealGenie",
            "description": "Deals on cars: accounts, a catalogue, deals and loans. Prices in US dollars, times in UTC. \
                Refusals are problem details (RFC 9457).",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "session": {"type": "http", "scheme": "bearer", "description": "The token of a login."},
            },
        },
    })
}

fn describe(route: &Route, operation: &Operation) -> Value {
    let mut answers = Map::new();
    for status in route.statuses() {
        answers.insert(status.to_string(), answer(status, operation));
    }
    let name = route.name();
    let mut described = json!({
        "operationId": name,
        "tags": [name.split('.').next()],
        "summary": route.summary,
        "security": match operation.access {
            Access::Public => json!([]),
            Access::Visitor => json!([{}, {"session": []}]),
            Access::User => json!([{"session": []}]),
        },
        "responses": answers,
    });
    if !operation.parameters.is_empty() {
        described["parameters"] = json!(operation.parameters);
    }
    if let Some(body) = &operation.body {
        described["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": reference(body)}}});
    }
    described
}

fn answer(status: u16, operation: &Operation) -> Value {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let (media_type, schema) = if status == operation.success {
        ("application/json", operation.answer.as_deref())
    } else {
        ("application/problem+json", Some("Problem"))
    };
    let mut described = json!({"description": reason.unwrap_or("Answer")});
    if let Some(schema) = schema {
        described["content"] = json!({media_type: {"schema": reference(schema)}});
    }
    let headers = operation.headers(status);
    if !headers.is_empty() {
        described["headers"] = Value::Object(headers);
    }
    described
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}
