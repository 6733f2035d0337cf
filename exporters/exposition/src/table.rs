//! A table: rows of label values, and one column of sample values for each family over them.

use std::sync::Arc;

use crate::family::{Desc, is_label_name};
use crate::labels;
use crate::rows::{FEW, Rows};
use crate::shape::{
    Column, Family, HistogramColumns, LabelName, Sample, Shape, SummaryColumns, VALUE, buckets, quantiles,
};

/// Marks "no sample": a NaN with a payload that no arithmetic makes. A real NaN is a value like any other.
const ABSENT: f64 = f64::from_bits(0x7ff4_0ab5_e470_0001);

/// Rows of label values, and one column of sample values for each family over them.
#[derive(Clone, Debug)]
pub struct Table {
    pub(crate) shape: Arc<Shape>,
    /// Families of the shape that the table was given. A shape of another table before may have more.
    families: usize,
    /// Names of the labels that every row of the table has, beside those of the shape.
    common: Vec<String>,
    /// These labels, rendered, with a trailing comma when not empty.
    pub(crate) prefix: String,
    /// The table's rows, perhaps those of another table before, of which the first are this one's.
    pub(crate) rows: Arc<Rows>,
    len: usize,
    /// Row after row, a value for each column.
    values: Vec<f64>,
    pub(crate) duplicates: u64,
}

impl Table {
    /// A table of a shape. `like` are the rows of another with the same labels.
    pub(crate) fn new(shape: Arc<Shape>, families: usize, like: Option<&Arc<Rows>>) -> Table {
        let rows = like.map(Arc::clone).unwrap_or_default();
        let (common, prefix, values) = (Vec::new(), String::new(), Vec::new());
        Table { shape, families, common, prefix, rows, len: 0, values, duplicates: 0 }
    }

    /// Adds a family with one value a row.
    pub fn column(&mut self, desc: &Desc) -> Column {
        Column(self.add(desc, &[VALUE]))
    }

    /// Adds a family of histograms or gauge histograms, see [`Shape::histogram`].
    pub fn histogram(&mut self, desc: &Desc, bounds: &[f64]) -> HistogramColumns {
        let first_bucket = self.add(desc, &buckets(desc.kind, bounds));
        HistogramColumns { first_bucket, bounds: bounds.len() }
    }

    /// Adds a summary family, see [`Shape::summary`].
    pub fn summary(&mut self, desc: &Desc, quantiles: &[f64]) -> SummaryColumns {
        let first_quantile = self.add(desc, &self::quantiles(quantiles));
        SummaryColumns { first_quantile, quantiles: quantiles.len() }
    }

    fn add(&mut self, desc: &Desc, columns: &[Sample]) -> usize {
        let index = self.families;
        self.families += 1;
        self.shape.find(index, desc, columns).unwrap_or_else(|| {
            self.reshape(|shape| {
                shape.truncate(index);
                shape.add(desc, columns)
            })
        })
    }

    /// Takes away the families of a shape of another table before that this one was not given.
    pub(crate) fn trim(&mut self) {
        let families = self.families;
        self.reshape(|shape| shape.truncate(families));
    }

    /// Whether its shape has families that it was not given.
    pub(crate) fn is_trim(&self) -> bool {
        self.families >= self.shape.families.len()
    }

    /// Changes the shape, and fits rows that are there to its columns.
    fn reshape<T>(&mut self, change: impl FnOnce(&mut Shape) -> T) -> T {
        let before = self.shape.width();
        let result = change(Arc::make_mut(&mut self.shape));
        let width = self.shape.width();
        if self.len <= 1 {
            self.values.resize(self.len * width, ABSENT);
        } else {
            let mut values = Vec::with_capacity(self.len * width);
            for row in 0..self.len {
                values.extend_from_slice(&self.values[row * before..][..before.min(width)]);
                values.resize((row + 1) * width, ABSENT);
            }
            self.values = values;
        }
        result
    }

    /// Adds a row with the values of the table's labels, in their order. Values that are missing are empty, further
    /// ones are ignored. When a row with the same labels is there already, what is set on this one is dropped and
    /// counted.
    pub fn row(&mut self, values: &[&str]) -> Row<'_> {
        let Shape { labels, columns, .. } = &*self.shape;
        if self.len == 0 {
            let rows = if labels.is_empty() { 1 } else { self.rows.len().max(FEW) };
            self.values.reserve(rows * columns.len());
        }
        let is_new = self.rows.is(self.len, labels, values) || {
            let rows = Arc::make_mut(&mut self.rows);
            rows.truncate(self.len);
            rows.push(labels, values)
        };
        let mut cells = None;
        if is_new {
            self.len += 1;
            let start = self.values.len();
            self.values.resize(start + columns.len(), ABSENT);
            cells = Some(&mut self.values[start..]);
        }
        Row { cells, duplicates: &mut self.duplicates }
    }

    pub(crate) fn label_names(&self) -> impl Iterator<Item = &str> {
        self.shape.labels.iter().map(LabelName::name).chain(self.common.iter().map(String::as_str))
    }

    /// Gives every row one more label, unless it has it.
    pub(crate) fn add_label(&mut self, name: &str, value: &str) {
        if self.label_names().all(|own| own != name) && is_label_name(name) {
            labels::push(&mut self.prefix, &LabelName::new(name), value);
            self.prefix.push(',');
            self.common.push(name.to_owned());
        }
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The samples of which each may be there.
    pub(crate) fn room(&self) -> usize {
        self.values.len()
    }

    /// What is there of the samples.
    pub(crate) fn samples(&self) -> usize {
        self.values.iter().filter(|value| !is_absent(**value)).count()
    }

    /// The labels of each row, as [`Rows::text`] has them, and its values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[f64])> {
        // Without a column, there are no values.
        self.rows.iter().zip(self.values.chunks_exact(self.shape.width().max(1)))
    }

    /// The value of a column in a row, unless it is absent.
    pub(crate) fn value(&self, column: usize, row: usize) -> Option<f64> {
        present(self.values[row * self.shape.width() + column])
    }

    /// Sets a value in a row that is there.
    pub(crate) fn set(&mut self, column: Column, row: usize, value: f64) {
        let index = row * self.shape.width() + column.0;
        self.values[index] = value;
    }

    /// Describes a family anew, and multiplies its values.
    pub(crate) fn restate(&mut self, family: usize, desc: Desc, factor: f64) {
        let width = self.shape.width();
        let family = &mut Arc::make_mut(&mut self.shape).families[family];
        family.desc = desc;
        for row in self.values.chunks_exact_mut(width) {
            let values = row[family.columns()].iter_mut();
            values.filter(|value| !is_absent(**value)).for_each(|value| *value *= factor);
        }
    }

    /// How many samples of a family a row has.
    pub(crate) fn count(&self, family: &Family, row: usize) -> usize {
        family.columns().filter(|column| self.value(*column, row).is_some()).count()
    }

    /// The labels of a row, each where it does not depend on the table.
    pub(crate) fn canonical_labels(&self, row: usize) -> Vec<(&str, &str)> {
        let both = labels::pairs(&self.prefix).chain(labels::pairs(self.rows.labels(row)));
        let mut pairs: Vec<_> = both.filter(|(_, value)| !value.is_empty()).collect();
        pairs.sort_unstable();
        pairs
    }

    /// Drops the samples of a family in a row; says how many.
    pub(crate) fn clear_row(&mut self, family: usize, row: usize) -> u64 {
        let first = row * self.shape.width();
        let mut cleared = 0;
        for value in &mut self.values[first..][self.shape.families[family].columns()] {
            cleared += u64::from(!is_absent(*value));
            *value = ABSENT;
        }
        cleared
    }

    /// Drops the samples of a family; says how many.
    pub(crate) fn clear_family(&mut self, family: usize) -> u64 {
        (0..self.len).map(|row| self.clear_row(family, row)).sum()
    }
}

/// A row being filled.
#[derive(Debug)]
pub struct Row<'a> {
    /// `None` when the row repeats an earlier one.
    cells: Option<&'a mut [f64]>,
    duplicates: &'a mut u64,
}

impl Row<'_> {
    /// Sets the value of a family. A value that is not set is absent.
    pub fn set(&mut self, column: Column, value: f64) -> &mut Self {
        match &mut self.cells {
            Some(cells) => cells[column.0] = value,
            None => *self.duplicates += 1,
        }
        self
    }

    /// Sets the value of a family unless it is unknown.
    pub fn set_some(&mut self, column: Column, value: Option<f64>) -> &mut Self {
        if let Some(value) = value {
            self.set(column, value);
        }
        self
    }

    /// Sets a histogram: the cumulative count at each finite bound, where known, the count of all observations, and
    /// their sum, where known.
    pub fn histogram(
        &mut self,
        columns: &HistogramColumns,
        cumulative: &[Option<f64>],
        count: f64,
        sum: Option<f64>,
    ) -> &mut Self {
        let infinity = columns.first_bucket + columns.bounds;
        let buckets = columns.first_bucket..infinity;
        for (column, value) in buckets.zip(cumulative.iter().copied()).chain([(infinity, Some(count))]) {
            self.set_some(Column(column), value);
        }
        self.set_some(Column(infinity + 1), sum).set(Column(infinity + 2), count)
    }

    /// Sets a summary: a value for each quantile, the sum and the count, each where known.
    pub fn summary(
        &mut self,
        columns: &SummaryColumns,
        values: &[Option<f64>],
        count: Option<f64>,
        sum: Option<f64>,
    ) -> &mut Self {
        let after = columns.first_quantile + columns.quantiles;
        for (column, value) in (columns.first_quantile..after).zip(values.iter().copied()) {
            self.set_some(Column(column), value);
        }
        self.set_some(Column(after), sum).set_some(Column(after + 1), count)
    }
}

/// A value, unless it stands for none.
pub(crate) fn present(value: f64) -> Option<f64> {
    (!is_absent(value)).then_some(value)
}

fn is_absent(value: f64) -> bool {
    value.to_bits() == ABSENT.to_bits()
}
