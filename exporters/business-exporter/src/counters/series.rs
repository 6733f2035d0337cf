//! What is counted, as series: labels put into their domains, buckets added up.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use exposition::Kind;
use pg_client::Row;

use crate::definition::{FamilyDefinition, Init};
use crate::domain::{Admitted, Domain};

/// Labels of enum types, by type.
pub(super) type Enums = BTreeMap<String, BTreeSet<String>>;

/// What was counted of one family with these labels, up to one bound.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) family: String,
    labels: Vec<String>,
    le: f64,
    n: f64,
    /// Sum of the values, whatever the bound.
    s: f64,
    /// Whether its place among the first values of a label is settled.
    placed: bool,
}

impl Entry {
    /// From the columns family, labels as JSON, bound, number, sum, place.
    pub(super) fn parse(row: Row<'_>, first: usize) -> Option<Entry> {
        Some(Entry {
            family: row.get(first)?.to_owned(),
            labels: serde_json::from_str(row.get(first + 1)?).ok()?,
            le: row.float(first + 2)?,
            n: row.float(first + 3)?,
            s: row.float(first + 4)?,
            placed: row.get(first + 5).is_some(),
        })
    }
}

/// Values that a label with a maximum has, for each label of a family.
pub(super) type Seen = Vec<BTreeSet<String>>;

/// What the entries of one family add up to.
pub(super) struct Series<'a> {
    pub(super) family: &'a FamilyDefinition,
    sums: BTreeMap<Vec<String>, Sum>,
    pub(super) seen: Seen,
    /// Labels as they were counted whose sum was added: the server adds it up exactly, whatever the bounds are.
    added: BTreeSet<Vec<String>>,
    pub(super) rejected: u64,
    /// Whether a value waits for its place.
    pub(super) waiting: bool,
}

/// One series, or one histogram: observations by upper bound, and their sum.
#[derive(Default)]
struct Sum {
    observations: Vec<(f64, f64)>,
    sum: f64,
}

/// Where an entry belongs.
enum Place {
    Series(Vec<String>),
    Later,
    Nowhere,
}

impl<'a> Series<'a> {
    /// Nothing yet; `seen` has places of before, if those are to stay.
    pub(super) fn new(family: &'a FamilyDefinition, seen: Option<Seen>) -> Series<'a> {
        let seen = seen.unwrap_or_else(|| vec![BTreeSet::new(); family.labels.len()]);
        let (sums, added) = Default::default();
        Series { family, sums, seen, added, rejected: 0, waiting: false }
    }

    /// Adds an entry. Entries come in the order in which their labels were met.
    pub(super) fn add(&mut self, entry: &Entry, enums: &Enums, max_series: usize) {
        match self.admit(&entry.labels, entry.placed, enums) {
            Place::Series(place) if self.sums.len() < max_series || self.sums.contains_key(&place) => {
                let sum = self.sums.entry(place).or_default();
                sum.observations.push((entry.le, entry.n));
                if self.added.insert(entry.labels.clone()) {
                    sum.sum += entry.s;
                }
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count, at least 0"
            )]
            Place::Series(_) | Place::Nowhere => self.rejected += entry.n as u64,
            Place::Later => self.waiting = true,
        }
    }

    fn admit(&mut self, labels: &[String], placed: bool, enums: &Enums) -> Place {
        if labels.len() != self.family.labels.len() {
            // The definition had other labels when these were counted.
            return Place::Nowhere;
        }
        let mut admitted = Vec::with_capacity(labels.len());
        for ((value, label), seen) in labels.iter().zip(self.family.labels.values()).zip(&mut self.seen) {
            let domain = label.domain();
            let inside = match domain {
                Domain { values: Some(values), .. } => values.contains(value),
                Domain { enum_type: Some(name), .. } => {
                    enums.get(name).is_some_and(|values| values.contains(value))
                }
                Domain { max: Some(max), .. } if !seen.contains(value) && seen.len() < *max => {
                    if !placed {
                        // Whether it is among the first ones is settled when it is folded.
                        return Place::Later;
                    }
                    seen.insert(value.clone());
                    true
                }
                Domain { max: Some(_), .. } => seen.contains(value),
                _ => true,
            };
            match domain.place(value, inside) {
                Admitted::As(value) | Admitted::Folded(value) => admitted.push(Cow::into_owned(value)),
                Admitted::Rejected => return Place::Nowhere,
            }
        }
        Place::Series(admitted)
    }

    /// The values of each label set, see [`super::publication::Reading`]; those that are known beforehand at 0.
    pub(super) fn values(&self, enums: &Enums, max_series: usize) -> BTreeMap<Vec<String>, Vec<f64>> {
        let zeros = zeros(self.family, enums, max_series).into_iter();
        let zeros = zeros.map(|labels| (labels, Sum::default().values(self.family)));
        let counted = self.sums.iter().map(|(labels, sum)| (labels.clone(), sum.values(self.family)));
        zeros.chain(counted).collect()
    }
}

impl Sum {
    fn values(&self, family: &FamilyDefinition) -> Vec<f64> {
        if family.desc.kind != Kind::Histogram {
            return vec![self.sum];
        }
        let below = |bound: f64| {
            // The sum of nothing is -0.
            0.0 + self.observations.iter().filter(|(le, _)| *le <= bound).map(|(_, n)| n).sum::<f64>()
        };
        let buckets = family.buckets.iter().map(|bound| below(*bound));
        buckets.chain([self.sum, below(f64::INFINITY)]).collect()
    }
}

/// The label sets that are there from the start.
fn zeros(family: &FamilyDefinition, enums: &Enums, max_series: usize) -> Vec<Vec<String>> {
    if family.init == Some(Init::Observed) {
        return Vec::new();
    }
    let mut sets = vec![Vec::new()];
    for label in family.labels.values() {
        let domain = label.domain();
        let values: Vec<String> = match (domain.closed(), &domain.enum_type) {
            (Some(values), _) => values.into_iter().map(str::to_owned).collect(),
            (None, Some(name)) => {
                enums.get(name).into_iter().flatten().chain(&domain.other).cloned().collect()
            }
            (None, None) => return Vec::new(),
        };
        if sets.len().saturating_mul(values.len()) > max_series {
            return Vec::new();
        }
        sets = sets
            .iter()
            .flat_map(|front: &Vec<String>| {
                values.iter().map(|value| front.iter().cloned().chain([value.clone()]).collect::<Vec<_>>())
            })
            .collect();
    }
    sets
}
