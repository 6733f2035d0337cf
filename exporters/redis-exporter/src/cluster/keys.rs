//! `-is-cluster` with chosen keys: the page of the configured node, with keys, streams, counts and groups of all masters, as
//! if they were its own.

use std::collections::{BTreeMap, BTreeSet};

use exporter_kit::scrape::Selection;
use exposition::{Desc, Snapshot};

use super::summary::{Answer, masters};
use crate::options::Options;

/// What other nodes are asked for, and who they are.
const COLLECTORS: &[&str] = &["cluster_view", "count_keys", "key_groups", "keys", "streams"];

/// Families of keys, each of which is on one node, by the beginning of their names.
const APART: &[&str] = &["key_memory_usage_bytes", "key_size", "key_value", "stream_"];

/// Families of what has keys on several nodes, and the collector that all masters must have done with: a part of a sum is
/// not the sum.
const SUMMED: &[(&str, &str)] = &[
    ("keys_count", "count_keys"),
    ("key_group_count", "key_groups"),
    ("key_group_memory_usage_bytes", "key_groups"),
];

type Labels = Vec<(String, String)>;

pub(super) struct Keys {
    namespace: String,
    summed: Vec<(Desc, &'static str)>,
    distinct: Desc,
}

/// The part of a request that is for other nodes.
pub(super) fn selection(wanted: &Selection, enabled: &[&'static str]) -> Selection {
    let names = COLLECTORS.iter().filter(|name| wanted.contains(name) && enabled.contains(name));
    let names: Vec<String> = names.map(|name| (*name).to_owned()).collect();
    Selection::from_filters(&names, &[], enabled).unwrap_or_default()
}

impl Keys {
    pub(super) fn new(options: &Options) -> Self {
        let gauge = |(family, collector): &(&str, &'static str)| {
            (options.gauge(family, "Keys of all masters, or their memory."), *collector)
        };
        Self {
            namespace: options.namespace.clone(),
            summed: SUMMED.iter().map(gauge).collect(),
            distinct: options.gauge("number_of_distinct_key_groups", "Groups of a database."),
        }
    }

    pub(super) fn write(&self, answers: &[Answer], page: &mut Snapshot) {
        for answer in answers {
            let mut keys = answer.page.snapshot().clone();
            keys.retain(|family| {
                let name = family.strip_prefix(&self.namespace).and_then(|name| name.strip_prefix('_'));
                name.is_some_and(|name| APART.iter().any(|begin| name.starts_with(begin)))
            });
            page.append(keys);
        }
        let Some(masters) = masters(answers) else { return };
        let outcome = format!("{}_exporter_collector_outcome", self.namespace);
        let done = |answer: &&Answer, collector: &str, family: &str| {
            let page = answer.page.snapshot();
            let mut outcomes = page.values(&outcome).peekable();
            // In the shape of 1.86 nothing tells how a collector ended.
            if outcomes.peek().is_none() {
                return page.values(family).next().is_some();
            }
            let has = |labels: &Labels, name: &str, value: &str| {
                labels.iter().any(|(n, v)| n == name && v == value)
            };
            outcomes.any(|(labels, _)| has(&labels, "collector", collector) && has(&labels, "outcome", "ok"))
        };
        let mut groups: BTreeMap<Labels, BTreeSet<Labels>> = BTreeMap::new();
        for (desc, collector) in &self.summed {
            if !masters.iter().all(|answer| done(answer, collector, &desc.name)) {
                continue;
            }
            let mut sums: BTreeMap<Labels, f64> = BTreeMap::new();
            for (labels, value) in masters.iter().flat_map(|answer| answer.page.snapshot().values(&desc.name))
            {
                *sums.entry(labels).or_default() += value;
            }
            for (labels, sum) in sums {
                row(page, desc, &labels, sum);
                if *collector == "key_groups" {
                    let database = labels.iter().filter(|(name, _)| name == "db").cloned().collect();
                    groups.entry(database).or_default().insert(labels);
                }
            }
        }
        for (database, groups) in groups {
            row(page, &self.distinct, &database, groups.len() as f64);
        }
    }
}

/// One sample.
pub(super) fn row(page: &mut Snapshot, desc: &Desc, labels: &Labels, value: f64) {
    let (names, values): (Vec<&str>, Vec<&str>) =
        labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).unzip();
    let table = page.table(&names);
    let column = table.column(desc);
    table.row(&values).set(column, value);
}
