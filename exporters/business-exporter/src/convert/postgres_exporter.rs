//! postgres_exporter's file of queries: a namespace, its query, and what each column is.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Converted, Emit, Family, Query, Value, cached, identifier, statement};

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
    /// Numbers of texts, of a MAPPEDMETRIC.
    #[serde(default)]
    metric_mapping: BTreeMap<String, f64>,
}

pub(super) fn convert(file: File) -> Converted {
    let mut converted = Converted::default();
    if !file.is_empty() {
        converted.note("every series", "the label server is left out: the scrape's instance says it");
    }
    for (name, namespace) in file {
        namespace.convert(name, &mut converted);
    }
    converted
}

impl Namespace {
    fn convert(self, namespace: String, converted: &mut Converted) {
        let columns: Vec<(&String, &Column)> = self.metrics.iter().flatten().collect();
        let labels: Vec<String> = columns
            .iter()
            .filter(|(_, column)| column.usage.eq_ignore_ascii_case("label"))
            .map(|(name, _)| (*name).clone())
            .collect();
        let requires = match &self.runonserver {
            None => Vec::new(),
            Some(range) => versions(range).unwrap_or_else(|| {
                converted.note(&namespace, &format!("runonserver {range} is left out; set requires"));
                Vec::new()
            }),
        };
        let (mut emit, mut computed, mut histograms) = (Vec::new(), Vec::new(), Vec::new());
        for (column, definition) in columns {
            let usage = definition.usage.to_ascii_lowercase();
            let mut name = format!("{namespace}_{column}");
            let mut value = column.clone();
            let kind = match usage.as_str() {
                "label" | "discard" => continue,
                "gauge" => "gauge",
                "counter" => "counter",
                "duration" => {
                    name += "_milliseconds";
                    converted.note(&name, "texts such as 1m30s are shown, too; theirs shows numbers only");
                    computed.push((milliseconds(column), name.clone()));
                    value.clone_from(&name);
                    "gauge"
                }
                "mappedmetric" => {
                    converted
                        .note(&name, "texts are shown by their metric_mapping; theirs shows numbers only");
                    computed.push((mapped(column, &definition.metric_mapping), name.clone()));
                    value.clone_from(&name);
                    "gauge"
                }
                "histogram" => {
                    histograms.push((column, definition));
                    continue;
                }
                usage => {
                    converted.note(&name, &format!("usage {usage} has no counterpart; select numbers"));
                    continue;
                }
            };
            let help = definition.description.clone();
            let family = Family { kind, help, labels: labels.clone(), ..Family::default() };
            if converted.family(&name, family) {
                let value = Value::Column(value);
                emit.push(Emit { family: name, value, labels: labels.clone(), ..Emit::default() });
            }
        }
        let query = |name: String, sql: String, emit: Vec<Emit>| Query {
            name,
            sql,
            requires: requires.clone(),
            schedule: cached(self.cache_seconds),
            emit,
            ..Query::default()
        };
        for (column, definition) in histograms {
            let name = format!("{namespace}_{column}");
            let Some(buckets) = bounds(&self.query) else {
                let why = "a histogram's bounds are needed beforehand, and are not one array of its query; see le and count";
                converted.note(&name, why);
                continue;
            };
            let help = definition.description.clone();
            let family =
                Family { kind: "histogram", help, labels: labels.clone(), buckets, ..Family::default() };
            if converted.family(&name, family) {
                let sql = rows_of_buckets(column, &labels, &self.query);
                let emit = Emit {
                    family: name.clone(),
                    value: Value::Buckets,
                    labels: labels.clone(),
                    ..Emit::default()
                };
                converted.query(query(name, sql, vec![emit]));
            }
        }
        let sql = match computed.as_slice() {
            [] => self.query.clone(),
            computed => {
                let computed: String = computed
                    .iter()
                    .map(|(value, name)| format!(", {value} AS {}", identifier(name)))
                    .collect();
                format!("SELECT q.*{computed}\nFROM (\n{}\n) AS q", statement(&self.query))
            }
        };
        converted.query(query(namespace, sql, emit));
    }
}

/// What is a number.
fn number(column: &str) -> String {
    let text = format!("q.{}::text", identifier(column));
    format!("WHEN {text} ~ '^[-+]?[0-9.]+(e[-+]?[0-9]+)?$' THEN {text}::float8")
}

/// Milliseconds of a text such as `1m30s`, as Go writes durations; a number as it is.
fn milliseconds(column: &str) -> String {
    let text = format!("q.{}::text", identifier(column));
    format!(
        "CASE {} WHEN {text} ~ '^([0-9.]+(h|m|s|ms|us))+$' \
         THEN trunc(extract(epoch FROM {text}::interval)::numeric * 1000)::float8 END",
        number(column)
    )
}

/// The numbers of texts; a number as it is.
fn mapped(column: &str, mapping: &BTreeMap<String, f64>) -> String {
    let text = format!("q.{}::text", identifier(column));
    let cases: String = mapping
        .iter()
        .map(|(from, to)| format!(" WHEN {text} = '{}' THEN {to}", from.replace('\'', "''")))
        .collect();
    format!("CASE{cases} {} END", number(column))
}

/// The bounds of a histogram, where exactly one array of ascending numbers is written in the query.
fn bounds(sql: &str) -> Option<Vec<f64>> {
    let upper = sql.to_ascii_uppercase();
    let starts = upper.match_indices("ARRAY[").map(|(at, start)| &sql[at + start.len()..]);
    let literals = sql.match_indices("'{").map(|(at, start)| &sql[at + start.len()..]);
    let lists = starts
        .filter_map(|rest| rest.split(']').next())
        .chain(literals.filter_map(|rest| rest.split('}').next()));
    let mut found = lists.filter_map(|list| {
        let numbers: Vec<f64> = list.split(',').map(|one| one.trim().parse().ok()).collect::<Option<_>>()?;
        (!numbers.is_empty() && numbers.is_sorted_by(|a, b| a < b)).then_some(numbers)
    });
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

/// A row for each bucket of the arrays `column` and `column_bucket`, which are cumulative there, and one for the rest.
fn rows_of_buckets(column: &str, labels: &[String], sql: &str) -> String {
    let of = |suffix: &str| format!("q.{}", identifier(&format!("{column}{suffix}")));
    let labels: String = labels.iter().map(|label| format!("q.{}, ", identifier(label))).collect();
    let (le, counts, sum, count) = (of(""), of("_bucket"), of("_sum"), of("_count"));
    format!(
        "SELECT {labels}b.le, b.count, b.sum
FROM (
{}
) AS q CROSS JOIN LATERAL (
    SELECT u.le::float8 AS le, (u.n - coalesce(lag(u.n) OVER (ORDER BY u.le), 0))::float8 AS count, 0::float8 AS sum
    FROM unnest({le}, {counts}) AS u (le, n)
    UNION ALL
    SELECT NULL, ({count} - coalesce((SELECT max(u.n) FROM unnest({counts}) AS u (n)), 0))::float8, {sum}::float8
) AS b",
        statement(sql)
    )
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
    fn bounds_are_those_of_the_only_array() {
        let sql = |list: &str| format!("SELECT array_agg(le) AS size FROM unnest({list}) AS le, t");
        assert_eq!(bounds(&sql("array[1, 2.5,10]")), Some(vec![1.0, 2.5, 10.0]));
        assert_eq!(bounds(&sql("'{1,2}'::int[]")), Some(vec![1.0, 2.0]));
        for other in ["ARRAY[2, 1]", "ARRAY['a']", "ARRAY[1], ARRAY[2]", "bounds"] {
            assert_eq!(bounds(&sql(other)), None, "{other}");
        }
    }

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
