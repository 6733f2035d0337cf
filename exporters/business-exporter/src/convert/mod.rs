//! Definitions of other SQL exporters become ours: the same names, labels and values, by the same queries.
//!
//! Each of the other formats is one file here, which turns it into what is converted. What cannot be said in a definition
//! is left out, and noted at its top.

mod justwatch;
mod pg_exporter;
mod postgres_exporter;
mod query_exporter;
mod sql_exporter;

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::Path;

use exporter_kit::config::{self, ConfigError};

/// Where a file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Format {
    /// burningalchemist's sql_exporter: collectors with metrics
    SqlExporter,
    /// justwatchcom's sql_exporter: jobs with queries
    Justwatch,
    /// query-exporter: databases, metrics and queries
    QueryExporter,
    /// postgres_exporter: the file of --extend.query-path
    PostgresExporter,
    /// pgsty's pg_exporter: collectors with columns
    PgExporter,
}

/// Reads a file of another exporter and writes the definition that gives the same samples.
///
/// # Errors
/// When the file cannot be read, or is not of the format.
pub fn convert(path: &Path, format: Format) -> Result<String, ConfigError> {
    let converted = match format {
        Format::SqlExporter => sql_exporter::convert(config::load(path)?),
        Format::Justwatch => justwatch::convert(&config::load(path)?),
        Format::QueryExporter => query_exporter::convert(&config::load(path)?),
        Format::PostgresExporter => postgres_exporter::convert(config::load(path)?),
        Format::PgExporter => pg_exporter::convert(config::load(path)?),
    };
    Ok(converted.to_string())
}

/// A definition in the making.
#[derive(Debug, Default)]
struct Converted {
    /// Names of the databases; none when there is but one.
    databases: Vec<String>,
    families: BTreeMap<String, Family>,
    queries: Vec<Query>,
    /// What is not the same, and why.
    notes: Vec<String>,
}

#[derive(Debug, Default, PartialEq)]
struct Family {
    kind: &'static str,
    help: String,
    labels: Vec<String>,
    states: Vec<String>,
    /// Of a histogram.
    buckets: Vec<f64>,
}

#[derive(Debug, Default)]
struct Query {
    name: String,
    database: Option<String>,
    sql: String,
    /// Keys and values of `requires`.
    requires: Vec<(&'static str, String)>,
    timeout: Option<String>,
    /// `refresh` or `cron`, and its value as YAML has it.
    schedule: Option<(&'static str, String)>,
    emit: Vec<Emit>,
}

#[derive(Debug, Default)]
struct Emit {
    family: String,
    value: Value,
    labels: Vec<String>,
    static_labels: BTreeMap<String, String>,
}

#[derive(Debug)]
enum Value {
    Column(String),
    Pivot {
        label: String,
        columns: Vec<String>,
    },
    State(String),
    /// Columns `le`, `count` and `sum`.
    Buckets,
}

impl Default for Value {
    fn default() -> Value {
        Value::Column(String::new())
    }
}

impl Converted {
    fn note(&mut self, what: &str, why: &str) {
        self.notes.push(format!("{what}: {why}"));
    }

    /// Adds a family, or notes that there is another of its name.
    fn family(&mut self, name: &str, family: Family) -> bool {
        match self.families.get(name) {
            Some(known) if known.labels != family.labels || known.kind != family.kind => {
                self.note(
                    name,
                    "it stands more than once, with other labels or types; only the first is here",
                );
                false
            }
            Some(_) => true,
            None => {
                self.families.insert(name.to_owned(), family);
                true
            }
        }
    }

    /// Adds a query with what it emits, under a name of its own.
    fn query(&mut self, mut query: Query) {
        if query.emit.is_empty() {
            return;
        }
        let name = query.name.clone();
        let mut number = 2;
        while self.queries.iter().any(|known| known.name == query.name) {
            query.name = format!("{name}_{number}");
            number += 1;
        }
        self.queries.push(query);
    }
}

/// A query in the background with this pause, if results are kept for so long that it is meant.
fn cached(seconds_kept: f64) -> Option<(&'static str, String)> {
    const LONG: f64 = 60.0;
    (seconds_kept >= LONG).then(|| ("refresh", seconds(seconds_kept)))
}

/// Seconds, as others write them, as a duration.
fn seconds(seconds: f64) -> String {
    format!("{}ms", (seconds * 1000.0).round().max(1.0))
}

/// JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}

/// An SQL identifier.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// SQL without what ends it.
fn statement(sql: &str) -> String {
    sql.trim().trim_end_matches(';').trim_end().to_owned()
}

impl fmt::Display for Converted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "# not the same: {}", note.replace('\n', " "))?;
        }
        writeln!(f, "version: 1")?;
        if !self.databases.is_empty() {
            writeln!(f, "databases:")?;
            for name in &self.databases {
                let variable: String = name
                    .chars()
                    .map(|one| if one.is_ascii_alphanumeric() { one.to_ascii_uppercase() } else { '_' })
                    .collect();
                writeln!(f, "  - {{name: {}, dsn: {{env: {variable}_URL}}}}", quoted(name))?;
            }
        }
        writeln!(f, "# The others have no such limits.\ndefaults: {{max_rows: 10000, max_series: 10000}}")?;
        writeln!(f, "families:")?;
        for (name, family) in &self.families {
            write!(
                f,
                "  - {{name: {name}, type: {}, any_name: true, help: {}",
                family.kind,
                quoted(&family.help)
            )?;
            if !family.labels.is_empty() {
                write!(f, ", labels: {}", list(&family.labels))?;
            }
            if !family.states.is_empty() {
                write!(f, ", states: {}", list(&family.states))?;
            }
            if !family.buckets.is_empty() {
                write!(f, ", buckets: {:?}", family.buckets)?;
            }
            writeln!(f, "}}")?;
        }
        writeln!(f, "queries:")?;
        self.queries.iter().try_for_each(|query| query.fmt(f))
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  - name: {}", quoted(&self.name))?;
        if let Some(database) = &self.database {
            writeln!(f, "    database: {}", quoted(database))?;
        }
        let timeout = self.timeout.as_ref().map(|timeout| ("timeout", timeout));
        let schedule = self.schedule.as_ref().map(|(key, value)| (*key, value));
        for (key, value) in timeout.into_iter().chain(schedule) {
            writeln!(f, "    {key}: {value}")?;
        }
        if !self.requires.is_empty() {
            let requires: Vec<String> =
                self.requires.iter().map(|(key, value)| format!("{key}: {value}")).collect();
            writeln!(f, "    requires: {{{}}}", requires.join(", "))?;
        }
        writeln!(f, "    sql: |")?;
        for line in statement(&self.sql).lines() {
            writeln!(f, "{}", format!("      {line}").trim_end())?;
        }
        writeln!(f, "    emit:")?;
        for emit in &self.emit {
            let mut text = format!("family: {}", emit.family);
            match &emit.value {
                Value::Column(column) => write!(text, ", value: {}", quoted(column))?,
                Value::Buckets => text.push_str(", le: le, count: count, sum: sum"),
                Value::State(column) => write!(text, ", state: {}", quoted(column))?,
                Value::Pivot { label, columns } => {
                    write!(text, ", pivot: {{label: {label}, columns: {}}}", list(columns))?;
                }
            }
            if !emit.labels.is_empty() {
                write!(text, ", labels: {}", list(&emit.labels))?;
            }
            if !emit.static_labels.is_empty() {
                let labels: Vec<String> = emit
                    .static_labels
                    .iter()
                    .map(|(name, value)| format!("{name}: {}", quoted(value)))
                    .collect();
                write!(text, ", static_labels: {{{}}}", labels.join(", "))?;
            }
            writeln!(f, "      - {{{text}}}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        for (format, file) in [
            (Format::SqlExporter, "sql_exporter.yml"),
            (Format::Justwatch, "justwatch.yml"),
            (Format::QueryExporter, "query_exporter.yml"),
            (Format::PostgresExporter, "postgres_exporter.yml"),
            (Format::PgExporter, "pg_exporter.yml"),
        ] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/convert").join(file);
            let text = convert(&path, format).unwrap();
            if let Err(error) = crate::definition::parse(&text, Path::new("converted.yml")) {
                panic!("{error}\n{text}");
            }
        }
    }
}
