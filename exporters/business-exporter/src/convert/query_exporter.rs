//! query-exporter: metrics whose names are columns, and a label `database` on each.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Converted, Emit, Family, Query, Value, quoted, seconds};

#[derive(Debug, Deserialize)]
pub(super) struct File {
    databases: BTreeMap<String, Database>,
    metrics: BTreeMap<String, Metric>,
    queries: BTreeMap<String, Statement>,
}

#[derive(Debug, Deserialize)]
struct Database {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Metric {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    states: Vec<String>,
    #[serde(default)]
    increment: bool,
}

#[derive(Debug, Deserialize)]
struct Statement {
    interval: Option<Interval>,
    schedule: Option<String>,
    databases: Vec<String>,
    metrics: Vec<String>,
    sql: String,
    timeout: Option<f64>,
    parameters: Option<Parameters>,
}

/// Only that there are some matters.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Parameters {
    List(#[expect(dead_code, reason = "read to be known")] Vec<BTreeMap<String, serde_json::Value>>),
    Matrix(#[expect(dead_code, reason = "read to be known")] BTreeMap<String, serde_json::Value>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Interval {
    Seconds(f64),
    Text(String),
}

/// The label that query-exporter puts on every sample.
const DATABASE: &str = "database";

pub(super) fn convert(file: &File) -> Converted {
    let mut converted = Converted::default();
    if file.databases.len() > 1 {
        converted.databases = file.databases.keys().cloned().collect();
    }
    let labels_of_databases: Vec<String> = {
        let names = file.databases.values().flat_map(|database| database.labels.keys());
        let mut names: Vec<String> = names.cloned().collect();
        names.sort();
        names.dedup();
        names
    };
    for (query_name, query) in &file.queries {
        if query.parameters.is_some() {
            converted.note(query_name, "it has parameters; write a query for each set of them");
            continue;
        }
        for database in &query.databases {
            let Some(definition) = file.databases.get(database) else {
                converted.note(query_name, "it is for a database that is not there");
                continue;
            };
            let mut emits = Vec::new();
            for name in &query.metrics {
                let Some(metric) = file.metrics.get(name) else {
                    converted.note(name, "it is not declared");
                    continue;
                };
                let mut fixed = BTreeMap::from([(DATABASE.to_owned(), database.clone())]);
                for label in &labels_of_databases {
                    let value = definition.labels.get(label).cloned().unwrap_or_default();
                    fixed.insert(label.clone(), value);
                }
                emits.extend(emit(name, metric, fixed, &mut converted));
            }
            let name = match query.databases.len() {
                1 => query_name.clone(),
                _ => format!("{query_name}_{database}"),
            };
            let schedule = match (&query.interval, &query.schedule) {
                (Some(Interval::Seconds(number)), _) => Some(("refresh", seconds(*number))),
                (Some(Interval::Text(text)), _) => Some(("refresh", text.clone())),
                (None, Some(cron)) => Some(("cron", quoted(cron))),
                (None, None) => None,
            };
            converted.query(Query {
                name,
                database: (file.databases.len() > 1).then(|| database.clone()),
                sql: query.sql.clone(),
                requires: Vec::new(),
                timeout: query.timeout.map(seconds),
                schedule,
                emit: emits,
            });
        }
    }
    converted
}

fn emit(
    column: &str,
    metric: &Metric,
    fixed: BTreeMap<String, String>,
    converted: &mut Converted,
) -> Option<Emit> {
    let (kind, value) = match metric.kind.as_str() {
        "gauge" => ("gauge", Value::Column(column.to_owned())),
        "counter" if !metric.increment => ("counter", Value::Column(column.to_owned())),
        "counter" => {
            converted.note(column, "it adds up what each run gives; count the rows by an event instead");
            return None;
        }
        "enum" => ("stateset", Value::State(column.to_owned())),
        kind => {
            let why =
                format!("a {kind} observes the rows of each run again; write an event, or le and count");
            converted.note(column, &why);
            return None;
        }
    };
    // Its counters get the suffix when they are shown.
    let name = match kind {
        "counter" if !column.ends_with("_total") => format!("{column}_total"),
        _ => column.to_owned(),
    };
    let labels = metric.labels.iter().chain(fixed.keys()).cloned().collect();
    let family = Family {
        kind,
        help: metric.description.clone(),
        labels,
        states: metric.states.clone(),
        ..Family::default()
    };
    converted.family(&name, family).then(|| Emit {
        family: name,
        value,
        labels: metric.labels.clone(),
        static_labels: fixed,
    })
}
