//! The columnar snapshot: what one scrape found, ready to be written in any format.
//!
//! A [`Table`] has label names, rows, and a column of values for every family that shares those rows. The labels of
//! a row are rendered once, however many families use them, and a value that was not set is absent from the page.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::family::Desc;
use crate::labels;
use crate::layout::Layout;
use crate::shape::{Family, Shape};
use crate::table::Table;
use crate::template::Template;

/// What one scrape found. A clone shares the tables until one side changes them, so that what is read seldom can be
/// kept and put on every page for nothing.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(crate) tables: Vec<Arc<Table>>,
    /// Index of the table that [`Snapshot::sample`] fills.
    unlabelled: Option<usize>,
    /// What the writers need, from [`Snapshot::arrange`] until families change.
    layout: Option<Arc<Layout>>,
    /// What the next tables may share.
    template: Template,
    duplicates: u64,
    rejected: u64,
}

impl Snapshot {
    /// An empty snapshot.
    pub fn new() -> Snapshot {
        Snapshot::default()
    }

    /// From now on, tables are likely to be those of this template, one after the other.
    pub fn follow(&mut self, template: Template) {
        self.template = template.after(self.tables.len());
    }

    /// The template of the tables since the last one was followed, or of all.
    pub fn template(&mut self) -> Template {
        std::mem::take(&mut self.template).of(&mut self.tables)
    }

    /// Adds a family with one sample and no labels.
    pub fn sample(&mut self, desc: &Desc, value: f64) {
        let index = self.unlabelled.unwrap_or_else(|| {
            self.table(&[]);
            self.tables.len() - 1
        });
        self.unlabelled = Some(index);
        let table = Arc::make_mut(&mut self.tables[index]);
        let column = table.column(desc);
        if table.len() == 0 {
            table.row(&[]);
        }
        table.set(column, 0, value);
    }

    /// Adds a table whose rows have these labels.
    pub fn table(&mut self, labels: &[&str]) -> &mut Table {
        let past = self.template.get(self.tables.len()).filter(|(shape, _)| shape.has_labels(labels));
        let table = match past {
            Some((shape, rows)) => Table::new(Arc::clone(shape), 0, Some(rows)),
            None => Table::new(Arc::new(Shape::new(labels)), 0, None),
        };
        self.push(table)
    }

    /// Adds a table of a shape that was made before.
    pub fn table_of(&mut self, shape: &Arc<Shape>) -> &mut Table {
        let same = |past: &Arc<Shape>| Arc::ptr_eq(past, shape) || past.labels == shape.labels;
        let past = self.template.get(self.tables.len()).filter(|(shape, _)| same(shape));
        let table = Table::new(Arc::clone(shape), shape.families.len(), past.map(|(_, rows)| rows));
        self.push(table)
    }

    fn push(&mut self, table: Table) -> &mut Table {
        self.tables.push(Arc::new(table));
        let last = self.tables.len() - 1;
        Arc::make_mut(&mut self.tables[last])
    }

    /// Takes over everything in `other` but tables without rows.
    pub fn append(&mut self, other: Snapshot) {
        let Snapshot { mut tables, duplicates, rejected, .. } = other;
        tables.retain(|table| table.len() > 0);
        if self.tables.is_empty() {
            self.tables = tables;
        } else {
            self.tables.append(&mut tables);
        }
        self.duplicates += duplicates;
        self.rejected += rejected;
    }

    /// Puts labels on every series that is in the snapshot now; a label of the series itself wins.
    pub fn add_labels(&mut self, labels: &[(&str, &str)]) {
        if labels.is_empty() {
            return;
        }
        self.layout = None;
        for table in &mut self.tables {
            let table = Arc::make_mut(table);
            labels.iter().for_each(|(name, value)| table.add_label(name, value));
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
                Arc::make_mut(table).restate(index, desc, factor);
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
            (0..table.len()).filter_map(move |row| {
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
        self.tables.iter().map(|table| table.samples()).sum()
    }

    /// Number of samples that there is room for: no less than there are, and sooner known.
    pub fn room(&self) -> usize {
        self.tables.iter().map(|table| table.room()).sum()
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
            let hash = |row| labels::hash_unordered(&hasher, [&table.prefix, table.rows.labels(row)]);
            (0..table.len()).all(|row| seen.insert(hash(row)))
        })
    }

    /// Clears the rows of later parts of a family whose labels an earlier part already has.
    fn drop_duplicates(&mut self, parts: &[(usize, usize)]) {
        let hasher = RandomState::default();
        let mut seen: HashMap<u64, Vec<(usize, usize)>> = HashMap::new();
        for &(table_index, family_index) in parts {
            for row in 0..self.tables[table_index].len() {
                let table = &self.tables[table_index];
                let family = &table.shape.families[family_index];
                if table.count(family, row) == 0 {
                    continue;
                }
                let hash = labels::hash_unordered(&hasher, [&table.prefix, table.rows.labels(row)]);
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
