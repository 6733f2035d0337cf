//! The committed documents say what the program does. `UPDATE_DOCS=1 cargo test -p autodealgenie-backend docs` writes them.

use std::collections::BTreeMap;
use std::path::Path;

use autodealgenie_backend::http::openapi;
use autodealgenie_backend::http::routes::ROUTES;
use autodealgenie_backend::metrics::LIST;
use serde_json::Value;

use crate::stack::Stack;

/// Compares a file of `docs/` with what it should be, or writes it.
pub(crate) fn assert_committed(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "docs/{name} is out of date: run the tests `docs` with UPDATE_DOCS=1");
}

#[tokio::test]
async fn the_served_openapi_document_is_the_committed_one() {
    let stack = Stack::start().await;
    let served = stack.call("GET", "/openapi.json", None, None).await;
    assert_eq!((served.status.as_u16(), served.header("content-type")), (200, Some("application/json")));
    assert_committed("openapi.json", &served.text);
}

#[test]
fn router_and_document_have_the_same_routes() {
    let document = openapi::document();
    let mut documented: Vec<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| (path.clone(), method.to_uppercase()))
        })
        .collect();
    let mut routed: Vec<_> =
        ROUTES.iter().map(|route| (route.path.to_owned(), route.verb.to_string())).collect();
    documented.sort();
    routed.sort();
    assert_eq!(documented, routed);
}

#[test]
fn a_schema_name_means_one_schema() {
    let mut schemas = BTreeMap::new();
    for (name, schema) in ROUTES.iter().flat_map(|route| route.operation().schemas) {
        let schema = serde_json::to_value(schema).unwrap();
        assert_eq!(schemas.entry(name.clone()).or_insert_with(|| schema.clone()), &schema, "{name}");
    }
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = openapi::document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 50, "{found:?}");
    for reference in found {
        assert!(document.pointer(&reference[1..]).is_some(), "{reference} leads nowhere");
    }
}

/// The page of the metrics, from the list and from the labels that the running service has.
#[tokio::test]
async fn the_metric_reference_is_the_list() {
    let stack = Stack::start().await;
    let page = stack.metrics().await;
    let mut text = "# Metrics of the backend\n\n\
        Made from `backend/src/metrics.rs`; `UPDATE_DOCS=1 cargo test -p autodealgenie-backend docs` writes it. \
        Closed label sets exist at 0 from the start.\n\n\
        | Metric | Type | Labels | Meaning |\n|---|---|---|---|\n"
        .to_owned();
    for metric in LIST {
        let family = page.family(metric.name).unwrap_or_else(|| panic!("{} is missing", metric.name));
        let labels = family.samples[0].labels.iter().filter(|(name, _)| name != "le");
        let labels: Vec<_> = labels.map(|(name, _)| format!("`{name}`")).collect();
        let line = [&format!("`{}`", metric.name), metric.kind, &labels.join(", "), metric.help.trim()];
        text.push_str(&format!("| {} |\n", line.join(" | ")));
    }
    text.push_str(
        "\n`autodealgenie_app_info` carries `version` and `environment`; the `process_*` families are those of every \
         exporter of the suite.\n\nIn OpenMetrics the buckets of `http_request_duration_seconds` have exemplars: \
         `request_id` is that of the access log and of the answer's `X-Request-Id`. Prometheus keeps them with \
         `--enable-feature=exemplar-storage`.\n",
    );
    assert_committed("backend-metrics.md", &text);
}
