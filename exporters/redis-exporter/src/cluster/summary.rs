//! What no node alone can say: whether every slot is served, whether the nodes agree, and sums over all masters.

use std::collections::BTreeMap;
use std::sync::Arc;

use exporter_kit::page::Page;
use exposition::{Desc, Snapshot};

use super::keys::row;
use super::node::Node;
use crate::cluster_nodes::{Agreement, View};
use crate::options::Options;
use crate::slots::SLOTS;

/// Families that are summed over all masters: what each of them has of its own, and all of them have.
const SUMMED: &[(&str, &str)] = &[
    ("db_keys", "Keys of all masters."),
    ("db_keys_expiring", "Keys with a time to live of all masters."),
    ("keys_count", "Keys of all masters that match the pattern that the label shows."),
    ("memory_used_bytes", "Memory of all masters."),
];

/// What one node answered.
pub(super) struct Answer {
    pub(super) node: Arc<Node>,
    pub(super) page: Arc<Page>,
    pub(super) view: Option<View>,
}

pub(super) struct Summary {
    coverage: Desc,
    contested: Desc,
    views: Desc,
    epochs: Desc,
    nodes: Desc,
    answering: Desc,
    /// The family of a node, and the sum.
    summed: Vec<(String, Desc)>,
}

/// The view that most nodes share; of several such, the one of the first node.
pub(super) fn majority(answers: &[Answer]) -> Option<View> {
    let views: Vec<&View> = answers.iter().filter_map(|answer| answer.view.as_ref()).collect();
    let shared = |view: &View| {
        let agreement = view.agreement();
        views.iter().filter(|other| other.agreement() == agreement).count()
    };
    // The last of equals would win.
    views.iter().rev().max_by_key(|view| shared(view)).map(|view| (*view).clone())
}

/// How many nodes that answered serve each slot.
fn owners(answers: &[Answer]) -> Vec<u32> {
    let mut owners = vec![0; usize::from(SLOTS)];
    let nodes = answers.iter().filter_map(|answer| answer.view.as_ref()?.myself());
    for slot in nodes.flat_map(|node| node.slots.iter()) {
        owners[usize::from(slot)] += 1;
    }
    owners
}

/// The nodes that serve slots; `None` unless every slot is served: a part of a sum is not the sum.
pub(super) fn masters(answers: &[Answer]) -> Option<Vec<&Answer>> {
    let serves = |answer: &&Answer| {
        let myself = answer.view.as_ref().and_then(View::myself);
        myself.is_some_and(|node| !node.slots.is_empty())
    };
    let whole = owners(answers).iter().all(|owners| *owners > 0);
    whole.then(|| answers.iter().filter(serves).collect())
}

/// How many different ones there are.
fn different<T: PartialEq>(all: impl Iterator<Item = T>) -> f64 {
    let mut seen: Vec<T> = Vec::new();
    for one in all {
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    seen.len() as f64
}

impl Summary {
    pub(super) fn new(options: &Options) -> Self {
        let summed = |(family, help): &(&str, &str)| {
            let own = format!("{}_{family}", options.namespace);
            (own, options.gauge(&format!("cluster_sum_{family}"), help))
        };
        Self {
            coverage: options.gauge(
                "cluster_slot_coverage_ratio",
                "Share of the 16384 slots that masters which answered say they serve.",
            ),
            contested: options
                .gauge("cluster_slots_contested", "Slots that more than one master says it serves."),
            views: options.gauge(
                "cluster_topology_views",
                "Different accounts of masters, replicas and slots among the nodes that answered; 1 is agreement.",
            ),
            epochs: options.gauge(
                "cluster_epoch_views",
                "Different accounts of the epochs of slots among the nodes that answered; 1 is agreement.",
            ),
            nodes: options.gauge("cluster_nodes", "Nodes of the cluster, by the account of most nodes."),
            answering: options.gauge("cluster_nodes_answering", "Nodes that answered in this scrape."),
            summed: SUMMED.iter().map(summed).collect(),
        }
    }

    /// `view` is the one that most nodes share.
    pub(super) fn write(&self, answers: &[Answer], view: &View, page: &mut Snapshot) {
        let views = || answers.iter().filter_map(|answer| answer.view.as_ref());
        let owners = owners(answers);
        let covered = owners.iter().filter(|owners| **owners > 0).count();
        page.sample(&self.coverage, covered as f64 / f64::from(SLOTS));
        page.sample(&self.contested, owners.iter().filter(|owners| **owners > 1).count() as f64);
        page.sample(&self.views, different(views().map(View::agreement as fn(&View) -> Agreement<'_>)));
        page.sample(&self.epochs, different(views().map(View::epochs)));
        let table = page.table(&["role"]);
        let (nodes, answering) = (table.column(&self.nodes), table.column(&self.answering));
        for role in ["master", "slave"] {
            let placed = view.0.iter().filter(|node| node.has_place() && node.role() == role).count();
            let answered = views().filter_map(View::myself).filter(|node| node.role() == role).count();
            table.row(&[role]).set(nodes, placed as f64).set(answering, answered as f64);
        }
        if let Some(masters) = masters(answers) {
            self.sums(&masters, page);
        }
    }

    fn sums(&self, masters: &[&Answer], page: &mut Snapshot) {
        for (family, desc) in &self.summed {
            let mut sums: BTreeMap<Vec<(String, String)>, (usize, f64)> = BTreeMap::new();
            for (labels, value) in masters.iter().flat_map(|answer| answer.page.snapshot().values(family)) {
                let sum = sums.entry(labels).or_default();
                *sum = (sum.0 + 1, sum.1 + value);
            }
            for (labels, (parts, sum)) in sums {
                if parts == masters.len() {
                    row(page, desc, &labels, sum);
                }
            }
        }
    }
}
