//! The columnar snapshot: what one scrape found, ready to be written in any format.
//!
//! A [`Table`] has label names, rows, and a column of values for every family that shares those rows. The labels of
//! a row are rendered once, however many families use them, and a value that was not set is absent from the page.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::family::{Desc, is_label_name};
use crate::labels;
use crate::layout::Layout;
use crate::shape::{Column, Family, HistogramColumns, LabelName, Shape, SummaryColumns};

/// Marks "no sample": a NaN with a payload that no arithmetic makes. A real NaN is a value like any other.
const ABSENT: f64 = f64::from_bits(0x7ff4_0ab5_e470_0001);

/// Ends the labels of a row.
const AFTER: &str = "} ";

/// Up to so many rows of a table are compared one by one, which is faster than hashing them.
const FEW: usize = 16;

/// What one scrape found. A clone shares the tables until one side changes them, so that what is read seldom can be
/// kept and put on every page for nothing.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(crate) tables: Vec<Arc<Table>>,
    /// Index of the table that [`Snapshot::sample`] fills.
    unlabelled: Option<usize>,
    /// What the writers need, from [`Snapshot::arrange`] until families change.
    layout: Option<Arc<Layout>>,
    duplicates: u64,
    rejected: u64,
}

/// Rows of label values, and one column of sample values for each family over them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub(crate) shape: Arc<Shape>,
    /// Names of the labels that every row of the table has, beside those of the shape.
    common: Vec<String>,
    /// These labels, rendered, with a trailing comma when not empty.
    pub(crate) prefix: String,
    /// Rendered label blocks of all rows, back to back.
    blocks: String,
    ends: Vec<usize>,
    /// Every row, by a hash of its label block, once there are [`FEW`] of them.
    seen: HashTable<usize>,
    hasher: RandomState,
    /// Row after row, a value for each column.
    values: Vec<f64>,
    duplicates: u64,
}

impl Snapshot {
    /// An empty snapshot.
    pub fn new() -> Snapshot {
        Snapshot::default()
    }

    /// Adds a family with one sample and no labels.
    pub fn sample(&mut self, desc: &Desc, value: f64) {
        let index = *self.unlabelled.get_or_insert_with(|| {
            self.tables.push(Arc::default());
            self.tables.len() - 1
        });
        let table = Arc::make_mut(&mut self.tables[index]);
        let column = table.column(desc);
        if table.ends.is_empty() {
            table.row(&[]);
        }
        Row { table, row: Some(0) }.set(column, value);
    }

    /// Adds a table whose rows have these labels.
    pub fn table(&mut self, labels: &[&str]) -> &mut Table {
        self.table_of(&Arc::new(Shape::new(labels)))
    }

    /// Adds a table of a shape that was made before.
    pub fn table_of(&mut self, shape: &Arc<Shape>) -> &mut Table {
        self.tables.push(Arc::new(Table::new(Arc::clone(shape))));
        let last = self.tables.len() - 1;
        Arc::make_mut(&mut self.tables[last])
    }

    /// Takes over everything in `other` but tables without rows.
    pub fn append(&mut self, other: Snapshot) {
        self.duplicates += other.duplicates;
        self.tables.extend(other.tables.into_iter().filter(|table| table.rows() > 0));
        self.rejected += other.rejected;
    }

    /// Puts labels on every series that is in the snapshot now; a label of the series itself wins.
    pub fn add_labels(&mut self, labels: &[(&str, &str)]) {
        for table in &mut self.tables {
            let table = Arc::make_mut(table);
            for (name, value) in labels {
                if table.label_names().all(|own| own != *name) && is_label_name(name) {
                    labels::push(&mut table.prefix, &LabelName::new(name), value);
                    table.prefix.push(',');
                    table.common.push((*name).to_owned());
                }
            }
        }
    }

    /// Drops the families that are in the snapshot now and whose name does not pass.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.layout = None;
        for table in &mut self.tables {
            // A table that other snapshots share is copied only when something of it goes.
            if table.shape.families.iter().all(|family| keep(&family.desc.name)) {
                continue;
            }
            let table = Arc::make_mut(table);
            for index in 0..table.shape.families.len() {
                if !keep(&table.shape.families[index].desc.name) {
                    table.clear_family(index);
                }
            }
            Arc::make_mut(&mut table.shape).families.retain(|family| keep(&family.desc.name));
        }
    }

    /// Gives every family that is in the snapshot now the name that `rename` has for it, if any.
    pub fn rename(&mut self, rename: impl Fn(&str) -> Option<String>) {
        self.layout = None;
        for table in &mut self.tables {
            for index in 0..table.shape.families.len() {
                if let Some(name) = rename(&table.shape.families[index].desc.name) {
                    Arc::make_mut(&mut Arc::make_mut(table).shape).families[index].desc.name = name.into();
                }
            }
        }
    }

    /// Makes families that are in the snapshot now what `restate` says, if anything: their description, and what their
    /// values are multiplied by.
    pub fn restate(&mut self, restate: impl Fn(&Desc) -> Option<(Desc, f64)>) {
        self.layout = None;
        for table in &mut self.tables {
            for index in 0..table.shape.families.len() {
                let Some((desc, factor)) = restate(&table.shape.families[index].desc) else { continue };
                let table = Arc::make_mut(table);
                let family = &mut Arc::make_mut(&mut table.shape).families[index];
                family.desc = desc;
                let columns = family.first..family.first + family.count;
                for row in table.values.chunks_exact_mut(table.shape.width()) {
                    row[columns.clone()]
                        .iter_mut()
                        .filter(|value| !is_absent(**value))
                        .for_each(|value| *value *= factor);
                }
            }
        }
    }

    /// Labels and value of each sample of a family that has one value a row.
    pub fn values<'a>(&'a self, family: &'a str) -> impl Iterator<Item = (Vec<(String, String)>, f64)> + 'a {
        let tables = self.tables.iter().enumerate();
        let parts = tables.flat_map(|(table, content)| {
            (0..content.shape.families.len()).map(move |family| (table, family))
        });
        let parts = parts.filter(move |part| self.name(*part) == family);
        parts.flat_map(move |part| {
            let (table, first) = (&self.tables[part.0], self.family(part).first);
            (0..table.rows()).filter_map(move |row| {
                let labels = table.canonical_labels(row).into_iter();
                let labels =
                    labels.map(|(name, value)| (name.to_owned(), labels::unescape(value).into_owned()));
                table.value(first, row).map(|value| (labels.collect(), value))
            })
        })
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.tables.iter().flat_map(|table| &table.values).filter(|value| !is_absent(**value)).count()
    }

    /// Samples that were dropped because a series with the same labels was there before.
    /// Complete once [`Snapshot::seal`] ran.
    pub fn duplicates(&self) -> u64 {
        self.duplicates + self.tables.iter().map(|table| table.duplicates).sum::<u64>()
    }

    /// Samples that were dropped because of an invalid name, or a type that contradicts the family's first one.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Makes the snapshot fit to be written: invalid names, contradicting types and duplicate series across tables are
    /// dropped and counted. The writers rely on it; calling it twice changes nothing.
    pub fn seal(&mut self) {
        self.seal_like(&mut Arc::default());
    }

    /// [Seals](Snapshot::seal), sparing what `known`, the layout of the page before, tells. It becomes this page's.
    pub fn seal_like(&mut self, known: &mut Arc<Layout>) {
        let layout = Layout::of(&self.tables, known);
        for (table, family) in &layout.invalid {
            self.rejected += Arc::make_mut(&mut self.tables[*table]).clear_family(*family);
        }
        // Families of the same tables have the same rows, so that these are compared once.
        let mut distinct: HashMap<Vec<usize>, bool, RandomState> = HashMap::default();
        for parts in layout.families().filter(|parts| parts.len() > 1) {
            let kind = self.family(parts[0]).desc.kind;
            for part in &parts[1..] {
                if self.family(*part).desc.kind != kind {
                    self.rejected += Arc::make_mut(&mut self.tables[part.0]).clear_family(part.1);
                }
            }
            let tables = parts.iter().map(|(table, _)| *table).collect();
            if !*distinct.entry(tables).or_insert_with_key(|tables| self.all_rows_differ(tables)) {
                self.drop_duplicates(parts);
            }
        }
        self.layout = Some(layout);
    }

    /// Puts the families in order for the writers, which else do it for each format; as [`Snapshot::seal_like`] with the
    /// layout of the page before.
    pub fn arrange(&mut self, known: &mut Arc<Layout>) {
        self.layout = Some(Layout::of(&self.tables, known));
    }

    /// Whether no two rows of these tables have the same labels; no where that takes a closer look.
    fn all_rows_differ(&self, tables: &[usize]) -> bool {
        let hasher = RandomState::default();
        let mut seen = HashSet::with_hasher(RandomState::default());
        tables.iter().map(|index| &self.tables[*index]).all(|table| {
            let hash = |row| labels::hash_unordered(&hasher, [&table.prefix, table.labels(row)]);
            (0..table.rows()).all(|row| seen.insert(hash(row)))
        })
    }

    /// Clears the rows of later parts of a family whose labels an earlier part already has.
    fn drop_duplicates(&mut self, parts: &[(usize, usize)]) {
        let hasher = RandomState::default();
        let mut seen: HashMap<u64, Vec<(usize, usize)>> = HashMap::new();
        for &(table_index, family_index) in parts {
            for row in 0..self.tables[table_index].ends.len() {
                let table = &self.tables[table_index];
                let family = &table.shape.families[family_index];
                if table.present(family, row) == 0 {
                    continue;
                }
                let hash = labels::hash_unordered(&hasher, [&table.prefix, table.labels(row)]);
                let same = seen.entry(hash).or_default();
                let canonical = table.canonical_labels(row);
                if same.iter().any(|(t, r)| self.tables[*t].canonical_labels(*r) == canonical) {
                    self.duplicates +=
                        Arc::make_mut(&mut self.tables[table_index]).clear_row(family_index, row);
                } else {
                    same.push((table_index, row));
                }
            }
        }
    }

    /// In what order families are written.
    pub(crate) fn layout(&self) -> Arc<Layout> {
        match &self.layout {
            Some(layout) if layout.is_as_long_as(&self.tables) => Arc::clone(layout),
            _ => Arc::new(Layout::new(&self.tables)),
        }
    }

    pub(crate) fn family(&self, (table, family): (usize, usize)) -> &Family {
        &self.tables[table].shape.families[family]
    }

    pub(crate) fn name(&self, part: (usize, usize)) -> &str {
        &self.family(part).desc.name
    }
}

impl Table {
    fn new(shape: Arc<Shape>) -> Table {
        Table { shape, ..Table::default() }
    }

    /// Adds a family with one value a row.
    pub fn column(&mut self, desc: &Desc) -> Column {
        self.extend(|shape| shape.column(desc))
    }

    /// Adds a family of histograms or gauge histograms, see [`Shape::histogram`].
    pub fn histogram(&mut self, desc: &Desc, bounds: &[f64]) -> HistogramColumns {
        self.extend(|shape| shape.histogram(desc, bounds))
    }

    /// Adds a summary family, see [`Shape::summary`].
    pub fn summary(&mut self, desc: &Desc, quantiles: &[f64]) -> SummaryColumns {
        self.extend(|shape| shape.summary(desc, quantiles))
    }

    fn extend<T>(&mut self, add: impl FnOnce(&mut Shape) -> T) -> T {
        let before = self.shape.width();
        let added = add(Arc::make_mut(&mut self.shape));
        self.widen(before);
        added
    }

    /// Makes room for columns that were added to rows that are there.
    fn widen(&mut self, before: usize) {
        let (rows, width) = (self.ends.len(), self.shape.width());
        if rows <= 1 {
            self.values.resize(rows * width, ABSENT);
            return;
        }
        let mut values = Vec::with_capacity(rows * width);
        for row in 0..rows {
            values.extend_from_slice(&self.values[row * before..][..before]);
            values.resize((row + 1) * width, ABSENT);
        }
        self.values = values;
    }

    /// Adds a row with the values of the table's labels, in their order. Values that are missing are empty, further
    /// ones are ignored. When a row with the same labels is there already, what is set on this one is dropped and
    /// counted.
    pub fn row(&mut self, values: &[&str]) -> Row<'_> {
        if self.ends.is_empty() {
            self.make_room();
        }
        let start = self.blocks.len();
        for (index, name) in self.shape.labels.iter().enumerate() {
            self.blocks.push(if index == 0 { '{' } else { ',' });
            labels::push(&mut self.blocks, name, values.get(index).copied().unwrap_or_default());
        }
        if !self.shape.labels.is_empty() {
            self.blocks.push_str(AFTER);
        }
        if self.is_new(start) {
            let row = self.ends.len();
            self.ends.push(self.blocks.len());
            self.values.resize((row + 1) * self.shape.width(), ABSENT);
            Row { table: self, row: Some(row) }
        } else {
            self.blocks.truncate(start);
            Row { table: self, row: None }
        }
    }

    /// Room for a table as most are: growing from nothing costs more than filling it.
    fn make_room(&mut self) {
        let rows = if self.shape.labels.is_empty() { 1 } else { FEW };
        self.ends.reserve(rows);
        self.values.reserve(rows * self.shape.width());
        self.blocks.reserve(rows * self.shape.labels.len() * 32);
    }

    /// Whether the block that was just rendered at `start` differs from that of every row.
    fn is_new(&mut self, start: usize) -> bool {
        let next = self.ends.len();
        let Table { blocks, ends, seen, hasher, .. } = self;
        let rows = |row: usize| block(blocks, ends, row);
        let new = &blocks[start..];
        if next < FEW {
            return (0..next).all(|row| rows(row) != new);
        }
        let hash_of = |row: &usize| hasher.hash_one(rows(*row));
        if next == FEW {
            seen.reserve(4 * FEW, hash_of);
            for row in 0..next {
                seen.insert_unique(hash_of(&row), row, hash_of);
            }
        }
        let hash = hasher.hash_one(new);
        // Growing hashes all rows again, and this one is none yet.
        let hash_of = |row: &usize| if *row == next { hash } else { hash_of(row) };
        match seen.entry(hash, |row| rows(*row) == new, hash_of) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                free.insert(next);
                true
            }
        }
    }

    /// What stands between name and value in a row, unless labels are added: its labels in braces, and a space. Empty
    /// without labels.
    pub(crate) fn block(&self, row: usize) -> &str {
        block(&self.blocks, &self.ends, row)
    }

    /// The rendered labels of a row.
    pub(crate) fn labels(&self, row: usize) -> &str {
        let block = self.block(row);
        block.strip_prefix('{').and_then(|rest| rest.strip_suffix(AFTER)).unwrap_or(block)
    }

    /// Bytes of the rendered labels of all rows.
    pub(crate) fn blocks_size(&self) -> usize {
        self.blocks.len()
    }

    pub(crate) fn label_names(&self) -> impl Iterator<Item = &str> {
        self.shape.labels.iter().map(LabelName::name).chain(self.common.iter().map(String::as_str))
    }

    pub(crate) fn rows(&self) -> usize {
        self.ends.len()
    }

    /// The value of a column in a row, unless it is absent.
    pub(crate) fn value(&self, column: usize, row: usize) -> Option<f64> {
        let value = self.values[row * self.shape.width() + column];
        (!is_absent(value)).then_some(value)
    }

    fn present(&self, family: &Family, row: usize) -> usize {
        (family.first..family.first + family.count)
            .filter(|column| self.value(*column, row).is_some())
            .count()
    }

    fn canonical_labels(&self, row: usize) -> Vec<(&str, &str)> {
        let both = labels::pairs(&self.prefix).chain(labels::pairs(self.labels(row)));
        let mut pairs: Vec<_> = both.filter(|(_, value)| !value.is_empty()).collect();
        pairs.sort_unstable();
        pairs
    }

    fn clear_row(&mut self, family: usize, row: usize) -> u64 {
        let Family { first, count, .. } = self.shape.families[family];
        let mut cleared = 0;
        let first = row * self.shape.width() + first;
        for value in &mut self.values[first..first + count] {
            if !is_absent(*value) {
                *value = ABSENT;
                cleared += 1;
            }
        }
        cleared
    }

    fn clear_family(&mut self, family: usize) -> u64 {
        (0..self.ends.len()).map(|row| self.clear_row(family, row)).sum()
    }

    fn set(&mut self, column: usize, row: Option<usize>, value: f64) {
        let Some(row) = row else {
            self.duplicates += 1;
            return;
        };
        let index = row * self.shape.width() + column;
        self.values[index] = value;
    }
}

/// A row being filled.
#[derive(Debug)]
pub struct Row<'a> {
    table: &'a mut Table,
    /// `None` when the row repeats an earlier one.
    row: Option<usize>,
}

impl Row<'_> {
    /// Sets the value of a family. A value that is not set is absent.
    pub fn set(&mut self, column: Column, value: f64) -> &mut Self {
        self.table.set(column.0, self.row, value);
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

fn block<'a>(blocks: &'a str, ends: &[usize], row: usize) -> &'a str {
    let start = if row == 0 { 0 } else { ends[row - 1] };
    &blocks[start..ends[row]]
}

fn is_absent(value: f64) -> bool {
    value.to_bits() == ABSENT.to_bits()
}
