//! pgsty's pg_exporter: collectors whose columns may be renamed, scaled and have a default.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Converted, Emit, Family, Query, Value, cached, identifier, seconds, statement};

pub(super) type File = BTreeMap<String, Collector>;

#[derive(Debug, Deserialize)]
pub(super) struct Collector {
    name: Option<String>,
    query: String,
    #[serde(default)]
    ttl: f64,
    timeout: Option<f64>,
    min_version: Option<u32>,
    /// The first version that it is not for.
    max_version: Option<u32>,
    #[serde(default)]
    skip: bool,
    #[serde(default)]
    tags: Vec<String>,
    predicate_queries: Option<Vec<serde_json::Value>>,
    #[serde(default)]
    metrics: Vec<BTreeMap<String, Column>>,
}

#[derive(Debug, Deserialize)]
struct Column {
    usage: String,
    rename: Option<String>,
    #[serde(default)]
    description: String,
    scale: Option<Number>,
    default: Option<Number>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Number {
    Number(f64),
    Text(String),
}

impl Number {
    fn get(&self) -> Option<f64> {
        match self {
            Number::Number(number) => Some(*number),
            Number::Text(text) => text.parse().ok(),
        }
    }
}

pub(super) fn convert(file: File) -> Converted {
    let mut converted = Converted::default();
    for (branch, collector) in file {
        if collector.skip {
            converted.note(&branch, "it is skipped");
            continue;
        }
        let namespace = collector.name.clone().unwrap_or_else(|| branch.clone());
        let columns: Vec<(&String, &Column)> = collector.metrics.iter().flatten().collect();
        let shown = |name: &String, column: &Column| column.rename.clone().unwrap_or_else(|| name.clone());
        let is = |column: &Column, usage: &str| column.usage.eq_ignore_ascii_case(usage);
        let labels: Vec<(&String, String)> = columns
            .iter()
            .filter(|(_, column)| is(column, "label"))
            .map(|(name, column)| (*name, shown(name, column)))
            .collect();
        let names: Vec<String> = labels.iter().map(|(_, name)| name.clone()).collect();
        // The query as a table, whose columns get the names, and the numbers their scale and default.
        let mut selected: Vec<String> = labels
            .iter()
            .map(|(column, name)| format!("q.{} AS {}", identifier(column), identifier(name)))
            .collect();
        let mut emit = Vec::new();
        for (name, column) in columns {
            let family = format!("{namespace}_{}", shown(name, column));
            let kind = match column.usage.to_ascii_lowercase().as_str() {
                "label" | "discard" => continue,
                "gauge" => "gauge",
                "counter" => "counter",
                usage => {
                    converted.note(&family, &format!("usage {usage} has no counterpart; see le and count"));
                    continue;
                }
            };
            let (scale, default) = (column.scale.as_ref(), column.default.as_ref());
            let mut value = format!("q.{}", identifier(name));
            if let Some(scale) = scale.and_then(Number::get) {
                value = format!("{value} * {scale}::float8");
            }
            if let Some(default) = default.and_then(Number::get) {
                value = format!("coalesce({value}, {default})");
            }
            selected.push(format!("{value} AS {}", identifier(&family)));
            let help = column.description.clone();
            if converted.family(&family, Family { kind, help, labels: names.clone(), ..Family::default() }) {
                let value = Value::Column(family.clone());
                emit.push(Emit { family, value, labels: names.clone(), ..Emit::default() });
            }
        }
        if collector.predicate_queries.is_some() {
            converted.note(&branch, "its predicate_queries are left out; see requires");
        }
        let requires = requires(&branch, &collector, &mut converted);
        let sql = format!("SELECT {}\nFROM (\n{}\n) AS q", selected.join(", "), statement(&collector.query));
        converted.query(Query {
            name: branch,
            database: None,
            sql,
            requires,
            timeout: collector.timeout.filter(|timeout| *timeout > 0.0).map(seconds),
            schedule: cached(collector.ttl),
            emit,
        });
    }
    converted
}

fn requires(branch: &str, collector: &Collector, converted: &mut Converted) -> Vec<(&'static str, String)> {
    let mut requires = Vec::new();
    if let Some(version) = collector.min_version.filter(|version| *version >= 100_000) {
        requires.push(("min_version", (version / 10_000).to_string()));
    }
    if let Some(version) = collector.max_version.filter(|version| *version >= 100_000) {
        requires.push(("max_version", ((version - 1) / 10_000).to_string()));
    }
    for tag in &collector.tags {
        match (tag.as_str(), tag.strip_prefix("extension:")) {
            ("cluster", _) => {}
            ("primary" | "master", _) => requires.push(("role", "primary".to_owned())),
            ("standby" | "replica", _) => requires.push(("role", "standby".to_owned())),
            (_, Some(extension)) => requires.push(("extension", extension.to_owned())),
            (tag, None) => converted.note(branch, &format!("the tag {tag} is left out; see requires")),
        }
    }
    requires
}
