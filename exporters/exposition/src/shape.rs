//! The form of a table: its labels, its families, and a column for each sample that a row of them may have.

use std::ops::Range;

use crate::family::{Desc, Kind};

/// Ends of the names of a histogram's samples, and of a gauge histogram's.
pub(crate) const BUCKET: &str = "_bucket";
pub(crate) const GSUM: &str = "_gsum";
pub(crate) const GCOUNT: &str = "_gcount";

/// The form of a table. A collector whose tables are always the same makes it once, and
/// [`Snapshot::table_of`](crate::Snapshot::table_of) shares it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    pub(crate) labels: Vec<LabelName>,
    pub(crate) families: Vec<Family>,
    pub(crate) columns: Vec<Sample>,
}

/// The name of a label, as it is written before a value: `name="`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelName(String);

/// A family's columns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Family {
    pub(crate) desc: Desc,
    pub(crate) first: usize,
    pub(crate) count: usize,
}

/// One column: what the series' name and labels get beside the family's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) suffix: &'static str,
    pub(crate) extra: Option<(&'static str, f64)>,
}

/// Handle of a family with one value a row.
#[derive(Clone, Copy, Debug)]
pub struct Column(pub(crate) usize);

/// Handle of a histogram family.
#[derive(Clone, Debug)]
pub struct HistogramColumns {
    pub(crate) first_bucket: usize,
    pub(crate) bounds: usize,
}

/// Handle of a summary family.
#[derive(Clone, Debug)]
pub struct SummaryColumns {
    pub(crate) first_quantile: usize,
    pub(crate) quantiles: usize,
}

impl Shape {
    /// Of tables whose rows have these labels, without families yet.
    pub fn new(labels: &[&str]) -> Shape {
        Shape { labels: labels.iter().map(|name| LabelName::new(name)).collect(), ..Shape::default() }
    }

    /// Adds a family with one value a row.
    pub fn column(&mut self, desc: &Desc) -> Column {
        Column(self.add(desc, &[VALUE]))
    }

    /// Adds a family of histograms or gauge histograms. `bounds` are the finite upper bounds, ascending; `+Inf` is added.
    pub fn histogram(&mut self, desc: &Desc, bounds: &[f64]) -> HistogramColumns {
        let first_bucket = self.add(desc, &buckets(desc.kind, bounds));
        HistogramColumns { first_bucket, bounds: bounds.len() }
    }

    /// Adds a summary family with these quantiles, which may be none.
    pub fn summary(&mut self, desc: &Desc, quantiles: &[f64]) -> SummaryColumns {
        let first_quantile = self.add(desc, &self::quantiles(quantiles));
        SummaryColumns { first_quantile, quantiles: quantiles.len() }
    }

    /// Keeps the first families.
    pub(crate) fn truncate(&mut self, families: usize) {
        self.families.truncate(families);
        self.columns.truncate(self.families.last().map_or(0, |last| last.columns().end));
    }

    /// Adds a family; returns its first column.
    pub(crate) fn add(&mut self, desc: &Desc, columns: &[Sample]) -> usize {
        let first = self.columns.len();
        self.columns.extend_from_slice(columns);
        self.families.push(Family { desc: desc.clone(), first, count: columns.len() });
        first
    }

    /// The first column of one of its families, if it is this.
    pub(crate) fn find(&self, index: usize, desc: &Desc, columns: &[Sample]) -> Option<usize> {
        let family = self.families.get(index)?;
        let same = family.desc == *desc && self.columns[family.columns()] == *columns;
        same.then_some(family.first)
    }

    pub(crate) fn has_labels(&self, names: &[&str]) -> bool {
        self.labels.len() == names.len()
            && self.labels.iter().zip(names).all(|(own, name)| own.name() == *name)
    }

    /// Number of values of a row.
    pub(crate) fn width(&self) -> usize {
        self.columns.len()
    }
}

impl Family {
    pub(crate) fn columns(&self) -> Range<usize> {
        self.first..self.first + self.count
    }
}

/// The column of a family with one value a row.
pub(crate) const VALUE: Sample = Sample { suffix: "", extra: None };

pub(crate) fn buckets(kind: Kind, bounds: &[f64]) -> Vec<Sample> {
    let [sum, count] = if kind == Kind::GaugeHistogram { [GSUM, GCOUNT] } else { ["_sum", "_count"] };
    let bounds = bounds.iter().chain([&f64::INFINITY]);
    let buckets = bounds.map(|bound| Sample { suffix: BUCKET, extra: Some(("le", *bound)) });
    buckets.chain([sum, count].map(|suffix| Sample { suffix, extra: None })).collect()
}

pub(crate) fn quantiles(quantiles: &[f64]) -> Vec<Sample> {
    let values = quantiles.iter().map(|quantile| Sample { suffix: "", extra: Some(("quantile", *quantile)) });
    values.chain(["_sum", "_count"].map(|suffix| Sample { suffix, extra: None })).collect()
}

impl LabelName {
    const AFTER: &str = "=\"";

    pub(crate) fn new(name: &str) -> LabelName {
        LabelName([name, LabelName::AFTER].concat())
    }

    pub(crate) fn name(&self) -> &str {
        &self.0[..self.0.len() - LabelName::AFTER.len()]
    }

    /// The name and what stands between it and the value.
    pub(crate) fn before_value(&self) -> &str {
        &self.0
    }
}

/// Whether a kind may be written with `_bucket`, `_sum` and such.
pub(crate) fn is_compound(kind: Kind) -> bool {
    matches!(kind, Kind::Histogram | Kind::GaugeHistogram | Kind::Summary)
}
