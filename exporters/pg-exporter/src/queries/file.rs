//! The file of `--extend.query-path`, in postgres_exporter's form: namespaces, each with a query and what its columns
//! mean.

use std::collections::BTreeMap;
use std::path::Path;

use exporter_kit::config::{ConfigError, load_or_empty, parse};
use exposition::{is_label_name, is_metric_name};
use pg_client::statement;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::versions::Range;

/// What the file says of a namespace.
#[derive(Deserialize)]
struct RawNamespace {
    query: String,
    #[serde(default)]
    metrics: Vec<BTreeMap<String, RawColumn>>,
    #[serde(default)]
    master: bool,
    #[serde(default)]
    cache_seconds: u64,
    #[serde(default)]
    runonserver: String,
    #[serde(flatten)]
    other: BTreeMap<String, IgnoredAny>,
}

/// What the file says of a column.
#[derive(Deserialize)]
struct RawColumn {
    #[serde(default)]
    usage: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    metric_mapping: Option<BTreeMap<String, f64>>,
    #[serde(default)]
    pg_version: String,
    #[serde(flatten)]
    other: BTreeMap<String, IgnoredAny>,
}

/// A query and what its columns mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Namespace {
    /// Start of the names of its families.
    pub name: String,
    /// One statement.
    pub sql: String,
    /// Whether it is left out of databases that were discovered.
    pub master: bool,
    /// How long a result counts, in seconds.
    pub cache_seconds: u64,
    /// The servers it runs on; all without it.
    pub servers: Option<Range>,
    /// The columns that the file names, in its order.
    pub columns: Vec<Column>,
}

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name in the result.
    pub name: String,
    /// What becomes of it.
    pub usage: Usage,
    /// Help text.
    pub description: String,
    /// The servers it has this meaning on; it is discarded on others.
    pub servers: Option<Range>,
}

/// What becomes of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Usage {
    /// Nothing.
    Discard,
    /// A label of all families of the query.
    Label,
    /// A counter.
    Counter,
    /// A gauge.
    Gauge,
    /// A gauge whose value stands here for the column's text.
    Mapped(BTreeMap<String, f64>),
    /// A gauge in milliseconds, from an interval or a text such as `1m30s`.
    Duration,
    /// The bounds of a histogram; columns of this name with `_bucket`, `_sum` and `_count` have the rest.
    Histogram,
}

/// The namespaces, and what in the file has no effect.
#[derive(Debug, Default, PartialEq)]
pub struct Queries {
    /// In the order of their names.
    pub namespaces: Vec<Namespace>,
    /// Each names the place.
    pub warnings: Vec<String>,
}

impl Queries {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong, and where: then nothing of the file is used.
    pub fn load(path: &Path) -> Result<Queries, ConfigError> {
        Queries::build(load_or_empty(path)?, &path.display().to_string())
    }

    /// Reads its text; `file` is for messages.
    ///
    /// # Errors
    /// See [`Queries::load`].
    pub fn parse(text: &str, file: &str) -> Result<Queries, ConfigError> {
        Queries::build(parse(text, file)?, file)
    }

    fn build(raw: BTreeMap<String, RawNamespace>, file: &str) -> Result<Queries, ConfigError> {
        let mut queries = Queries::default();
        for (name, raw) in raw {
            let namespace = queries.namespace(&name, raw).map_err(|message| ConfigError::Parse {
                name: file.to_owned(),
                line: 0,
                column: 0,
                message: format!("{name}: {message}"),
            })?;
            queries.namespaces.push(namespace);
        }
        Ok(queries)
    }

    fn namespace(&mut self, name: &str, raw: RawNamespace) -> Result<Namespace, String> {
        if !is_metric_name(name) {
            return Err("the name cannot start a metric's name; use letters, digits and _".to_owned());
        }
        self.unknown_keys(name, &raw.other);
        let mut columns = Vec::new();
        for (column, raw) in raw.metrics.into_iter().flatten() {
            let place = format!("{name}.{column}");
            self.unknown_keys(&place, &raw.other);
            let usage = match raw.usage.as_str() {
                "LABEL" if !is_label_name(&column) => {
                    return Err(format!(
                        "{column:?} cannot be the name of a label; give the column another name"
                    ));
                }
                "LABEL" => Usage::Label,
                "COUNTER" => Usage::Counter,
                "GAUGE" => Usage::Gauge,
                "HISTOGRAM" => Usage::Histogram,
                "DURATION" => Usage::Duration,
                "MAPPEDMETRIC" => Usage::Mapped(raw.metric_mapping.ok_or_else(|| {
                    format!("{column}: MAPPEDMETRIC needs metric_mapping: which text is which number")
                })?),
                "DISCARD" => Usage::Discard,
                other => {
                    self.warnings
                        .push(format!("{place}: usage {other:?} is unknown, the column is discarded"));
                    Usage::Discard
                }
            };
            let servers = range(&raw.pg_version).map_err(|error| format!("{column}.pg_version: {error}"))?;
            columns.push(Column { name: column, usage, description: raw.description, servers });
        }
        Ok(Namespace {
            name: name.to_owned(),
            sql: statement::single(&raw.query).map_err(|error| format!("query: {error}"))?.to_owned(),
            master: raw.master,
            cache_seconds: raw.cache_seconds,
            servers: range(&raw.runonserver).map_err(|error| format!("runonserver: {error}"))?,
            columns,
        })
    }

    fn unknown_keys(&mut self, place: &str, keys: &BTreeMap<String, IgnoredAny>) {
        self.warnings
            .extend(keys.keys().map(|key| format!("{place}: key {key:?} is unknown and has no effect")));
    }
}

fn range(text: &str) -> Result<Option<Range>, String> {
    if text.trim().is_empty() { Ok(None) } else { text.parse().map(Some) }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
