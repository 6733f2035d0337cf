//! Counts whole tables, for a role that may only read: mode `snapshot`.
//!
//! A row that is deleted makes the count fall, and what is kept against that is in the memory of one process. So this is
//! for tables that only grow, is never called exact, and two replicas may differ by what they have met.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::observations;
use super::publication::{Key, Reading};
use super::series::{Entry, Seen};
use crate::definition::Definition;

/// What tells one server from another. Its own statement: it is asked in each scrape.
pub(super) const SERVER: &str = "SELECT system_identifier FROM pg_catalog.pg_control_system()";

/// The statement of each table; columns as [`Entry::parse`] wants them.
pub(super) fn statements(definition: &Definition, shown: &BTreeSet<&str>) -> BTreeMap<String, String> {
    let mut parts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let from = observations::From::Table("true");
    for event in &definition.events {
        let emissions = event.emit.iter().filter(|emission| shown.contains(&*emission.family.desc.name));
        let emissions = emissions.map(|emission| observations::of_emission(event, emission, &from));
        parts.entry(event.source()).or_default().extend(emissions);
    }
    parts.retain(|_, parts| !parts.is_empty());
    let statement = |parts: Vec<String>| {
        format!(
            "SELECT family, pg_catalog.to_json(labels), le, count(*), \
                    sum(sum(value)) OVER (PARTITION BY family, labels), 1 \
             FROM ({}\n) AS events GROUP BY family, labels, le ORDER BY family, labels, le",
            parts.join("\n        UNION ALL")
        )
    };
    parts.into_iter().map(|(table, parts)| (table, statement(parts))).collect()
}

/// What one process remembers.
#[derive(Default)]
pub(super) struct Memory {
    /// The last count of each table.
    pub(super) tables: BTreeMap<String, (Instant, Vec<Entry>)>,
    /// The first values of labels that have a maximum, by family.
    pub(super) seen: BTreeMap<String, Seen>,
    server: Option<String>,
    /// What is subtracted, since the last restart.
    base: BTreeMap<Key, Vec<f64>>,
    restarts: u64,
    reason: &'static str,
}

impl Memory {
    /// Starts every series again at 0, with the next reading.
    fn restart(&mut self, values: &BTreeMap<Key, Vec<f64>>, reason: &'static str) {
        self.base.clone_from(values);
        self.restarts += 1;
        self.reason = reason;
    }

    /// What is to be published of what was counted on this server. `ended` starts again at 0 for this reason.
    pub(super) fn reading(
        &mut self,
        server: &str,
        ended: Option<&'static str>,
        mut values: BTreeMap<Key, Vec<f64>>,
    ) -> Reading {
        if self.server.as_ref().is_some_and(|before| before != server) {
            self.restart(&values, super::publication::LINEAGE);
        } else if let Some(reason) = ended {
            self.restart(&values, reason);
        }
        self.server = Some(server.to_owned());
        for (key, values) in &mut values {
            for (value, base) in values.iter_mut().zip(self.base.get(key).into_iter().flatten()) {
                *value = (*value - base).max(0.0);
            }
        }
        let epoch = format!("{server} {}", self.restarts);
        Reading { epoch, reason: self.reason.to_owned(), values }
    }
}
