//! Families as the file has them: name, type, help, labels.

use std::collections::{BTreeMap, BTreeSet};

use exporter_kit::config::Spanned;
use exposition::{Desc, Kind, is_label_name, is_metric_name};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::{Domain, Label, Rejections};

/// Names the exporter keeps for itself.
const RESERVED: [&str; 2] = ["business_exporter_", "process_"];

/// Ends of names that belong to other types.
const SUFFIXES: [&str; 7] = ["_total", "_bucket", "_count", "_sum", "_gcount", "_gsum", "_info"];

/// Labels that belong to other types.
const RESERVED_LABELS: [&str; 2] = ["le", "quantile"];

/// A family as it is written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Family {
    /// Name of the metric
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// Type of the metric
    #[serde(rename = "type")]
    kind: FamilyType,
    /// What it means, for people
    help: String,
    /// The unit, which is the end of the name
    unit: Option<String>,
    /// Names of the labels, or a map of name to the values that there can be
    #[serde(default)]
    labels: Labels,
    /// Which series are there before a row or an event has them; default: `zero` for what events fill and whose labels
    /// have known values, else `observed`
    init: Option<Init>,
    /// Finite upper bounds of a histogram or gaugehistogram, ascending; `+Inf` is added
    buckets: Option<Vec<f64>>,
    /// Every state of a stateset
    states: Option<Vec<String>>,
    /// Rows that fill it are never changed or deleted: it may be counted by mode `snapshot`
    #[serde(default)]
    append_only: bool,
    /// Takes a name that ends as those of another type do, as it was elsewhere
    #[serde(default)]
    any_name: bool,
}

/// The labels of a family: their names, or with the domain of each.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "labels are a list of names, or a map of name to {values, enum, max, other}")]
enum Labels {
    Any(Vec<String>),
    Domains(BTreeMap<String, Domain>),
}

impl Default for Labels {
    fn default() -> Labels {
        Labels::Any(Vec::new())
    }
}

impl Labels {
    fn domains(&self) -> Vec<(&String, Domain)> {
        match self {
            Labels::Any(names) => names.iter().map(|name| (name, Domain::default())).collect(),
            Labels::Domains(domains) => domains.iter().map(|(name, domain)| (name, domain.clone())).collect(),
        }
    }
}

/// Which series of a family there are before a row or an event has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// None: what queries fill has this by default.
    Observed,
    /// Every one that the domains of the labels allow, at 0: what events fill has this by default, where the values of
    /// every label are known.
    Zero,
}

/// The types that a definition may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum FamilyType {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Info,
    StateSet,
}

/// A family, shared by everything that fills it.
#[derive(Debug)]
pub struct FamilyDefinition {
    /// Name, type, help, unit.
    pub desc: Desc,
    /// The labels by name.
    pub labels: BTreeMap<String, Label>,
    /// Which series are there from the start, if the file says.
    pub init: Option<Init>,
    /// Finite upper bounds of a histogram, ascending; empty for other types.
    pub buckets: Vec<f64>,
    /// Every state of a state set; empty for other types.
    pub states: Vec<String>,
    /// Whether rows that fill it are neither changed nor deleted, as far as the definition's author knows.
    pub append_only: bool,
    /// Samples or events that no domain took.
    pub rejections: Rejections,
}

impl FamilyDefinition {
    /// Its type, as a file has it.
    pub fn type_name(&self) -> &'static str {
        match self.desc.kind {
            Kind::Histogram => "histogram",
            Kind::GaugeHistogram => "gaugehistogram",
            Kind::Info => "info",
            Kind::StateSet => "stateset",
            kind => kind.text(),
        }
    }

    /// One of the exporter's own counters, with one label.
    pub fn own(desc: Desc, label: &str, values: impl IntoIterator<Item = String>) -> FamilyDefinition {
        let values: BTreeSet<String> = values.into_iter().collect();
        let domain = Domain { values: Some(values.into_iter().collect()), ..Domain::default() };
        let labels = BTreeMap::from([(label.to_owned(), Label::new(domain))]);
        let (buckets, rejections) = (Vec::new(), Rejections::default());
        FamilyDefinition {
            desc,
            labels,
            init: None,
            buckets,
            states: Vec::new(),
            append_only: true,
            rejections,
        }
    }
}

/// Whether a definition may use a label of this name.
pub(super) fn is_free_label(label: &str) -> bool {
    is_label_name(label) && !label.starts_with("__") && !RESERVED_LABELS.contains(&label)
}

impl Family {
    /// The family, if it keeps to the rules of the exposition formats and of promtool.
    pub(super) fn definition(&self) -> Result<FamilyDefinition, String> {
        let name = self.name.value.as_str();
        if !is_metric_name(name) || name.contains(':') {
            return Err(format!("{name:?} is not a metric name; use letters, digits and _"));
        }
        if let Some(prefix) = RESERVED.iter().find(|prefix| name.starts_with(**prefix)) {
            return Err(format!("names that start with {prefix} are the exporter's own; rename {name}"));
        }
        let (kind, word) = match self.kind {
            FamilyType::Counter => (Kind::Counter, "counter"),
            FamilyType::Gauge => (Kind::Gauge, "gauge"),
            FamilyType::Histogram => (Kind::Histogram, "histogram"),
            FamilyType::GaugeHistogram => (Kind::GaugeHistogram, "gaugehistogram"),
            FamilyType::Info => (Kind::Info, "info"),
            FamilyType::StateSet => (Kind::StateSet, "stateset"),
        };
        if self.any_name {
            // As it was elsewhere.
        } else if kind == Kind::Counter {
            if !name.ends_with("_total") {
                return Err(format!("a counter ends in _total; rename {name}, or make it a gauge"));
            }
        } else if kind == Kind::Info {
            if !name.ends_with("_info") {
                return Err(format!("an info ends in _info; rename {name}, or make it a gauge"));
            }
        } else if let Some(suffix) = SUFFIXES.iter().find(|suffix| name.ends_with(**suffix)) {
            return Err(format!("a {word} does not end in {suffix}; rename {name}"));
        }
        if self.help.trim().is_empty() && !self.any_name {
            return Err(format!("{name} needs a help text"));
        }
        let base = name.strip_suffix("_total").unwrap_or(name);
        if let Some(unit) = &self.unit
            && !base.strip_suffix(unit.as_str()).is_some_and(|front| front.ends_with('_'))
        {
            return Err(format!(
                "the unit of {name} is not the end of its name; write …_{unit}, or leave it out"
            ));
        }
        let buckets = self.buckets(kind)?;
        let states = self.states(kind)?;
        let mut labels = BTreeMap::new();
        for (label, domain) in self.labels.domains() {
            if !is_free_label(label) || kind == Kind::StateSet && label == name {
                return Err(format!("{label:?} of {name} is not a label name, or a reserved one"));
            }
            domain.check().map_err(|problem| format!("label {label} of {name}: {problem}"))?;
            if labels.insert(label.clone(), Label::new(domain)).is_some() {
                return Err(format!("label {label} of {name} stands twice"));
            }
        }
        let mut desc = Desc::new(kind, name.to_owned(), self.help.clone());
        if let Some(unit) = &self.unit {
            desc = desc.with_unit(unit.clone());
        }
        let (init, append_only, rejections) = (self.init, self.append_only, Rejections::default());
        Ok(FamilyDefinition { desc, labels, init, buckets, states, append_only, rejections })
    }

    fn buckets(&self, kind: Kind) -> Result<Vec<f64>, String> {
        let name = &self.name.value;
        match (kind, &self.buckets) {
            (Kind::Histogram | Kind::GaugeHistogram, Some(buckets))
                if !buckets.is_empty()
                    && buckets.iter().all(|bound| bound.is_finite())
                    && buckets.is_sorted_by(|a, b| a < b) =>
            {
                Ok(buckets.clone())
            }
            (Kind::Histogram | Kind::GaugeHistogram, _) => {
                Err(format!("{name} needs buckets: its finite upper bounds, ascending; +Inf is added"))
            }
            (_, Some(_)) => Err(format!("{name} has buckets, which are for histograms")),
            (_, None) => Ok(Vec::new()),
        }
    }

    fn states(&self, kind: Kind) -> Result<Vec<String>, String> {
        let name = &self.name.value;
        match (kind, &self.states) {
            (Kind::StateSet, Some(states)) if !states.is_empty() => {
                match states.iter().collect::<BTreeSet<_>>().len() == states.len() {
                    true => Ok(states.clone()),
                    false => Err(format!("a state of {name} stands twice")),
                }
            }
            (Kind::StateSet, _) => Err(format!("{name} needs states: all that there can be")),
            (_, Some(_)) => Err(format!("{name} has states, which are for statesets")),
            (_, None) => Ok(Vec::new()),
        }
    }
}
