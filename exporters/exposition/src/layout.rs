//! The order of the families of a page. It seldom differs from that of the page before.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use crate::family::{is_label_name, is_metric_name};
use crate::shape::Shape;
use crate::table::Table;
use crate::write::Frame;

/// Which families a page has, in what order they are written, and which of them need a look at their samples. Kept
/// from one page of a target to the next it saves sorting and describing them again, and nothing else: a page with other
/// families gets a layout of its own.
#[derive(Debug, Default)]
pub struct Layout {
    /// Of each table its shape, and the labels that all of its rows have.
    tables: Vec<(Arc<Shape>, String)>,
    /// Families as (table, family), sorted by name; parts of one family are neighbours in the order they came.
    pub(crate) order: Vec<(usize, usize)>,
    /// Ranges of `order`, one for each name.
    pub(crate) names: Vec<Range<usize>>,
    /// Families whose name, or the name of a label, is invalid.
    pub(crate) invalid: Vec<(usize, usize)>,
    /// What each of the formats writes of it whatever the samples are, once it was written.
    pub(crate) frames: [OnceLock<Frame>; 2],
}

/// Those that somebody keeps. Most targets of a kind have the same one, and a process may have a thousand of them.
static KEPT: Mutex<Vec<Weak<Layout>>> = Mutex::new(Vec::new());

impl Layout {
    /// The layout of these tables: `known` itself when it is theirs.
    pub(crate) fn of(tables: &[Arc<Table>], known: &mut Arc<Layout>) -> Arc<Layout> {
        if !known.is_of(tables) {
            let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
            kept.retain(|layout| layout.strong_count() > 0);
            let same = kept.iter().filter_map(Weak::upgrade).find(|layout| layout.is_of(tables));
            *known = same.unwrap_or_else(|| {
                let new = Arc::new(Layout::new(tables));
                kept.push(Arc::downgrade(&new));
                new
            });
        }
        Arc::clone(known)
    }

    /// A layout of these tables.
    pub(crate) fn new(tables: &[Arc<Table>]) -> Layout {
        let parts = tables.iter().enumerate().flat_map(|(table, content)| {
            let families = content.shape.families.iter().enumerate();
            families.map(move |(family, part)| (&*part.desc.name, table, family))
        });
        let mut named: Vec<_> = parts.collect();
        named.sort_by_key(|(name, ..)| *name);
        let mut names = Vec::new();
        let mut at = 0;
        for parts in named.chunk_by(|a, b| a.0 == b.0) {
            names.push(at..at + parts.len());
            at += parts.len();
        }
        let valid = |table: &Table| table.label_names().all(is_label_name);
        let invalid =
            named.iter().filter(|(name, table, _)| !is_metric_name(name) || !valid(&tables[*table]));
        let invalid = invalid.map(|(_, table, family)| (*table, *family)).collect();
        let order = named.into_iter().map(|(_, table, family)| (table, family)).collect();
        let tables = tables.iter().map(|table| (Arc::clone(&table.shape), table.prefix.clone())).collect();
        Layout { tables, order, names, invalid, frames: Default::default() }
    }

    /// The parts of each family.
    pub(crate) fn families(&self) -> impl Iterator<Item = &[(usize, usize)]> {
        self.names.iter().map(|range| &self.order[range.clone()])
    }

    fn is_of(&self, tables: &[Arc<Table>]) -> bool {
        let same = |((shape, prefix), table): (&(Arc<Shape>, String), &Arc<Table>)| {
            (Arc::ptr_eq(shape, &table.shape) || *shape == table.shape) && *prefix == table.prefix
        };
        self.tables.len() == tables.len() && self.tables.iter().zip(tables).all(same)
    }

    /// Whether it is about as many families as these tables have.
    pub(crate) fn is_as_long_as(&self, tables: &[Arc<Table>]) -> bool {
        let long = |((shape, _), table): (&(Arc<Shape>, String), &Arc<Table>)| {
            shape.families.len() == table.shape.families.len()
        };
        self.tables.len() == tables.len() && self.tables.iter().zip(tables).all(long)
    }
}
