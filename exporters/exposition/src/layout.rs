//! The order of the families of a page. It seldom differs from that of the page before.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::family::{is_label_name, is_metric_name};
use crate::shape::Shape;
use crate::snapshot::Table;
use crate::write::Headers;

/// Which families a page has, in what order they are written, and which of them need a look at their samples. Kept
/// from one page of a target to the next it saves sorting and describing them again, and nothing else: a page with other
/// families gets a layout of its own.
#[derive(Debug, Default)]
pub struct Layout {
    shapes: Vec<Arc<Shape>>,
    /// Families as (table, family), sorted by name; parts of one family are neighbours in the order they came.
    pub(crate) order: Vec<(usize, usize)>,
    /// Ranges of `order`, one for each name.
    pub(crate) names: Vec<Range<usize>>,
    /// Families whose name, or the name of a label, is invalid.
    pub(crate) invalid: Vec<(usize, usize)>,
    /// What stands before the samples of each name, in each of the formats, once it was written.
    pub(crate) headers: [OnceLock<Headers>; 2],
}

impl Layout {
    /// The layout of these tables: `known` itself when it is theirs.
    pub(crate) fn of(tables: &[Arc<Table>], known: &mut Arc<Layout>) -> Arc<Layout> {
        if !known.is_of(tables) {
            *known = Arc::new(Layout::new(tables));
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
        let shapes = tables.iter().map(|table| Arc::clone(&table.shape)).collect();
        Layout { shapes, order, names, invalid, headers: Default::default() }
    }

    /// The parts of each family.
    pub(crate) fn families(&self) -> impl Iterator<Item = &[(usize, usize)]> {
        self.names.iter().map(|range| &self.order[range.clone()])
    }

    fn is_of(&self, tables: &[Arc<Table>]) -> bool {
        let same = |(known, table): (&Arc<Shape>, &Arc<Table>)| {
            Arc::ptr_eq(known, &table.shape) || *known == table.shape
        };
        self.shapes.len() == tables.len() && self.shapes.iter().zip(tables).all(same)
    }

    /// Whether it is about as many families as these tables have.
    pub(crate) fn is_as_long_as(&self, tables: &[Arc<Table>]) -> bool {
        let long =
            |(known, table): (&Arc<Shape>, &Arc<Table>)| known.families.len() == table.shape.families.len();
        self.shapes.len() == tables.len() && self.shapes.iter().zip(tables).all(long)
    }
}
