//! justwatchcom's sql_exporter: jobs with connections and queries, whose values are series of one gauge.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Converted, Emit, Family, Query, Value};

#[derive(Debug, Deserialize)]
pub(super) struct File {
    jobs: Vec<Job>,
    /// SQL by name.
    #[serde(default)]
    queries: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Job {
    name: String,
    interval: Option<String>,
    cron_schedule: Option<String>,
    #[serde(default)]
    connections: Vec<String>,
    #[serde(default)]
    startup_sql: Vec<String>,
    iterator: Option<serde_json::Value>,
    #[serde(default)]
    queries: Vec<JobQuery>,
}

#[derive(Debug, Deserialize)]
struct JobQuery {
    name: String,
    #[serde(default)]
    help: String,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    values: Vec<String>,
    query: Option<String>,
    query_ref: Option<String>,
    timestamp: Option<String>,
}

/// The label that tells the values of a query apart.
const COLUMN: &str = "col";

/// The labels that every series has beside it: what is in the connection's address, and the job.
const FIXED: [&str; 5] = ["driver", "host", "database", "user", "sql_job"];

pub(super) fn convert(file: &File) -> Converted {
    let mut converted = Converted::default();
    let addresses: BTreeSet<&String> = file.jobs.iter().flat_map(|job| &job.connections).collect();
    let several = addresses.len() > 1;
    let mut names: BTreeMap<&String, String> = BTreeMap::new();
    for address in addresses {
        let name = name_of_database(address, &names);
        if several {
            converted.databases.push(name.clone());
        }
        names.insert(address, name);
    }
    for job in &file.jobs {
        if job.iterator.is_some() {
            converted.note(&job.name, "its iterator is left out; write a query for each of its rows");
            continue;
        }
        if !job.startup_sql.is_empty() {
            converted.note(&job.name, "startup_sql is left out; see timeout and lock_timeout");
        }
        if job.connections.is_empty() {
            converted.note(&job.name, "it has no connections");
        }
        let schedule = match (&job.cron_schedule, &job.interval) {
            (Some(cron), _) => Some(("cron", super::quoted(cron))),
            (None, Some(interval)) => Some(("refresh", interval.clone())),
            (None, None) => None,
        };
        for address in &job.connections {
            let Some(fixed) = labels_of(address, &job.name) else {
                converted.note(&job.name, "a connection is not to PostgreSQL, or not an address");
                continue;
            };
            for query in &job.queries {
                let Some(sql) = sql_of(query, &file.queries) else {
                    converted.note(&query.name, "there is no query of the name in query_ref");
                    continue;
                };
                let emit = emit(query, &fixed, &mut converted);
                let name = match job.connections.len() {
                    1 => format!("{}_{}", job.name, query.name),
                    _ => format!("{}_{}_{}", job.name, query.name, names[address]),
                };
                converted.query(Query {
                    name,
                    database: several.then(|| names[address].clone()),
                    sql: sql.to_owned(),
                    schedule: schedule.clone(),
                    emit: emit.into_iter().collect(),
                    ..Query::default()
                });
            }
        }
    }
    converted
}

fn sql_of<'a>(query: &'a JobQuery, named: &'a BTreeMap<String, String>) -> Option<&'a str> {
    match (&query.query, &query.query_ref) {
        (Some(sql), _) => Some(sql),
        (None, name) => named.get(name.as_ref()?).map(String::as_str),
    }
}

fn emit(query: &JobQuery, fixed: &BTreeMap<String, String>, converted: &mut Converted) -> Option<Emit> {
    let is_name = |one: &char| one.is_ascii_alphanumeric() || matches!(one, '_' | ':');
    let name: String = format!("sql_{}", query.name).chars().filter(is_name).collect();
    if query.timestamp.is_some() {
        converted.note(&name, "timestamp is left out: samples have the time of the scrape");
    }
    let taken = |label: &&String| FIXED.contains(&label.as_str()) || *label == COLUMN;
    if let Some(label) = query.labels.iter().find(taken) {
        converted
            .note(&name, &format!("every series has a label {label} already; call the column another name"));
        return None;
    }
    let labels = query.labels.iter().chain(fixed.keys()).cloned().chain([COLUMN.to_owned()]).collect();
    let family = Family { kind: "gauge", help: query.help.clone(), labels, ..Family::default() };
    converted.family(&name, family).then(|| Emit {
        family: name,
        value: Value::Pivot { label: COLUMN.to_owned(), columns: query.values.clone() },
        labels: query.labels.clone(),
        static_labels: fixed.clone(),
    })
}

/// An address in parts: scheme, user, host with its port, database.
fn parts(address: &str) -> Option<[&str; 4]> {
    let (scheme, rest) = address.split_once("://")?;
    let rest = rest.split(['?', '#']).next()?;
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    Some([scheme, user.split(':').next().unwrap_or_default(), host, database])
}

/// The labels of what a connection's address says; none when it is not PostgreSQL's.
fn labels_of(address: &str, job: &str) -> Option<BTreeMap<String, String>> {
    let [scheme, user, host, database] =
        parts(address).filter(|[scheme, ..]| ["postgres", "postgresql"].contains(scheme))?;
    let values = [scheme, host, database, user, job];
    Some(FIXED.iter().zip(values).map(|(label, value)| ((*label).to_owned(), value.to_owned())).collect())
}

/// A name for a database that no other has.
fn name_of_database(address: &str, known: &BTreeMap<&String, String>) -> String {
    let name = match parts(address) {
        Some([.., database]) if !database.is_empty() => database.to_owned(),
        _ => "main".to_owned(),
    };
    let mut candidates = std::iter::once(name.clone()).chain((2..).map(|number| format!("{name}_{number}")));
    candidates.find(|name| !known.values().any(|known| known == name)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_parts() {
        assert_eq!(
            parts("postgres://me:p@ss@db:5432/shop?sslmode=disable"),
            Some(["postgres", "me", "db:5432", "shop"])
        );
        assert_eq!(parts("postgres://db"), Some(["postgres", "", "db", ""]));
        assert_eq!(parts("{{URL}}"), None);
        assert_eq!(labels_of("mysql://u@db/x", "job"), None);
    }
}
