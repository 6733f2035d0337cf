//! burningalchemist's sql_exporter: collectors in a file of their own, or in the main file.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Converted, Emit, Family, Query, Value};

#[derive(Debug, Deserialize)]
pub(super) struct File {
    #[serde(default)]
    collectors: Vec<Collector>,
    #[serde(default)]
    collector_files: Vec<String>,
    // A file of one collector.
    collector_name: Option<String>,
    #[serde(default)]
    metrics: Vec<Metric>,
    #[serde(default)]
    queries: Vec<NamedQuery>,
}

#[derive(Debug, Deserialize)]
struct Collector {
    collector_name: String,
    #[serde(default)]
    metrics: Vec<Metric>,
    #[serde(default)]
    queries: Vec<NamedQuery>,
}

#[derive(Debug, Deserialize)]
struct Metric {
    metric_name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    help: String,
    #[serde(default)]
    key_labels: Vec<String>,
    #[serde(default)]
    static_labels: BTreeMap<String, String>,
    value_label: Option<String>,
    #[serde(default)]
    values: Vec<String>,
    query: Option<String>,
    query_ref: Option<String>,
    static_value: Option<f64>,
    timestamp_value: Option<String>,
}

#[derive(Debug, Deserialize)]
struct NamedQuery {
    query_name: String,
    query: String,
}

pub(super) fn convert(file: File) -> Converted {
    let File { mut collectors, collector_files, collector_name, metrics, queries } = file;
    if let Some(collector_name) = collector_name {
        collectors.push(Collector { collector_name, metrics, queries });
    }
    let mut converted = Converted::default();
    for files in collector_files {
        converted.note(&files, "convert each of these files by itself, and put them under include");
    }
    for collector in collectors {
        let mut named: BTreeMap<&str, Query> = collector
            .queries
            .iter()
            .map(|query| {
                let name = format!("{}_{}", collector.collector_name, query.query_name);
                (query.query_name.as_str(), Query { name, sql: query.query.clone(), ..Query::default() })
            })
            .collect();
        for metric in &collector.metrics {
            let Some(emit) = emit(metric, &mut converted) else { continue };
            match (&metric.query, &metric.query_ref) {
                (_, Some(name)) => match named.get_mut(name.as_str()) {
                    Some(query) => query.emit.push(emit),
                    None => converted.note(&metric.metric_name, "there is no query of the name in query_ref"),
                },
                (Some(sql), None) => {
                    let name = metric.metric_name.clone();
                    converted.query(Query { name, sql: sql.clone(), emit: vec![emit], ..Query::default() });
                }
                (None, None) => converted.note(&metric.metric_name, "it has no query"),
            }
        }
        for query in named.into_values() {
            converted.query(query);
        }
    }
    converted
}

fn emit(metric: &Metric, converted: &mut Converted) -> Option<Emit> {
    let name = &metric.metric_name;
    let kind = match metric.kind.to_ascii_lowercase().as_str() {
        "counter" => "counter",
        _ => "gauge",
    };
    if metric.static_value.is_some() {
        converted.note(name, "static_value; select it as a column instead");
        return None;
    }
    if metric.timestamp_value.is_some() {
        converted.note(name, "timestamp_value is left out: samples have the time of the scrape");
    }
    let value = match (metric.values.as_slice(), &metric.value_label) {
        ([], _) => {
            converted.note(name, "it has no values");
            return None;
        }
        ([column], None) => Value::Column(column.clone()),
        (columns, Some(label)) => Value::Pivot { label: label.clone(), columns: columns.to_vec() },
        (_, None) => {
            converted.note(name, "several values without value_label");
            return None;
        }
    };
    let labels = metric
        .key_labels
        .iter()
        .chain(metric.static_labels.keys())
        .chain(&metric.value_label)
        .cloned()
        .collect();
    let family = Family { kind, help: metric.help.clone(), labels, ..Family::default() };
    converted.family(name, family).then(|| Emit {
        family: name.clone(),
        value,
        labels: metric.key_labels.clone(),
        static_labels: metric.static_labels.clone(),
    })
}
