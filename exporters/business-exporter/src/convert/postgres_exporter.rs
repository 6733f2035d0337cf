//! postgres_exporter's file of queries: a namespace, its query, and what each column is.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Converted, Emit, Family, Query, Value, seconds};

pub(super) type File = BTreeMap<String, Namespace>;

#[derive(Debug, Deserialize)]
pub(super) struct Namespace {
    query: String,
    #[serde(default)]
    metrics: Vec<BTreeMap<String, Column>>,
    #[serde(default)]
    cache_seconds: f64,
    runonserver: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Column {
    usage: String,
    #[serde(default)]
    description: String,
}

/// Results that are kept for at least this long are read in the background.
const LONG: f64 = 60.0;

pub(super) fn convert(file: File) -> Converted {
    let mut converted = Converted::default();
    if !file.is_empty() {
        converted.note("every series", "the label server is left out: the scrape's instance says it");
    }
    for (namespace, Namespace { query, metrics, cache_seconds, runonserver }) in file {
        let columns: Vec<(&String, &Column)> = metrics.iter().flatten().collect();
        let labels: Vec<String> = columns
            .iter()
            .filter(|(_, column)| column.usage.eq_ignore_ascii_case("label"))
            .map(|(name, _)| (*name).clone())
            .collect();
        let mut emit = Vec::new();
        for (column, Column { usage, description }) in columns {
            let name = format!("{namespace}_{column}");
            let kind = match usage.to_ascii_lowercase().as_str() {
                "label" | "discard" => continue,
                "gauge" => "gauge",
                "counter" => "counter",
                usage => {
                    converted.note(&name, &format!("usage {usage} has no counterpart; select numbers"));
                    continue;
                }
            };
            let family =
                Family { kind, help: description.clone(), labels: labels.clone(), states: Vec::new() };
            if converted.family(&name, family) {
                let value = Value::Column(column.clone());
                emit.push(Emit { family: name, value, labels: labels.clone(), ..Emit::default() });
            }
        }
        let requires = match &runonserver {
            None => Vec::new(),
            Some(range) => versions(range).unwrap_or_else(|| {
                converted.note(&namespace, &format!("runonserver {range} is left out; set requires"));
                Vec::new()
            }),
        };
        let refresh = (cache_seconds >= LONG).then(|| seconds(cache_seconds));
        converted.query(Query { name: namespace, sql: query, requires, refresh, emit, ..Query::default() });
    }
    converted
}

/// The majors of a range such as `>=10.0.0 <13.0.0`; none when it is not one.
fn versions(range: &str) -> Option<Vec<(&'static str, String)>> {
    let mut requires = Vec::new();
    for part in range.split_whitespace() {
        let digits = part.find(|one: char| one.is_ascii_digit())?;
        let (operator, version) = part.split_at(digits);
        let mut numbers = version.split('.').map(str::parse::<u32>);
        let major = numbers.next()?.ok()?;
        let whole = numbers.all(|number| number == Ok(0));
        requires.push(match operator {
            ">=" if whole => ("min_version", major.to_string()),
            "<" if whole => ("max_version", major.checked_sub(1)?.to_string()),
            _ => return None,
        });
    }
    Some(requires)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_versions() {
        let is = |range, expected: &[(&'static str, &str)]| {
            let expected: Vec<_> = expected.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
            assert_eq!(versions(range), Some(expected), "{range}");
        };
        is(">=10.0.0", &[("min_version", "10")]);
        is(">=11 <13.0.0", &[("min_version", "11"), ("max_version", "12")]);
        assert_eq!(versions(">9.4.1"), None);
        assert_eq!(versions(">=9.6.0"), None);
    }
}
