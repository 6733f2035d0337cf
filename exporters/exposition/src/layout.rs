//! The order of the families of a page. It seldom differs from that of the page before.

use std::ops::Range;
use std::sync::Arc;

use crate::SharedStr;
use crate::family::{is_label_name, is_metric_name};
use crate::snapshot::Table;

/// Which families a page has, in what order they are written, and which of them need a look at their samples. Kept
/// from one page of a target to the next it saves sorting names that are in order already, and nothing else: a page with
/// other families gets a layout of its own.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    tables: Vec<Names>,
    /// Families as (table, family), sorted by name; parts of one family are neighbours in the order they came.
    pub(crate) order: Vec<(usize, usize)>,
    /// Ranges of `order` that are one family in several parts.
    pub(crate) shared: Vec<Range<usize>>,
    /// Families whose name, or the name of a label, is invalid.
    pub(crate) invalid: Vec<(usize, usize)>,
}

/// The names in a table.
#[derive(Clone, Debug)]
struct Names {
    labels: Vec<String>,
    families: Vec<SharedStr>,
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
            content.families.iter().enumerate().map(move |(family, part)| (&*part.desc.name, table, family))
        });
        let mut named: Vec<_> = parts.collect();
        named.sort_by_key(|(name, ..)| *name);
        let mut shared = Vec::new();
        let mut at = 0;
        for parts in named.chunk_by(|a, b| a.0 == b.0) {
            if parts.len() > 1 {
                shared.push(at..at + parts.len());
            }
            at += parts.len();
        }
        let valid = |table: &Table| table.label_names().iter().all(|name| is_label_name(name));
        let invalid =
            named.iter().filter(|(name, table, _)| !is_metric_name(name) || !valid(&tables[*table]));
        let invalid = invalid.map(|(_, table, family)| (*table, *family)).collect();
        let order = named.into_iter().map(|(_, table, family)| (table, family)).collect();
        let names = |table: &Arc<Table>| Names {
            labels: table.label_names().to_vec(),
            families: table.families.iter().map(|family| family.desc.name.clone()).collect(),
        };
        Layout { tables: tables.iter().map(names).collect(), order, shared, invalid }
    }

    fn is_of(&self, tables: &[Arc<Table>]) -> bool {
        let same = |(names, table): (&Names, &Arc<Table>)| {
            names.families.len() == table.families.len()
                && names.families.iter().zip(&table.families).all(|(name, family)| *name == family.desc.name)
                && names.labels == table.label_names()
        };
        self.tables.len() == tables.len() && self.tables.iter().zip(tables).all(same)
    }

    /// Whether it is about as many families as these tables have.
    pub(crate) fn is_as_long_as(&self, tables: &[Arc<Table>]) -> bool {
        self.tables.len() == tables.len()
            && self
                .tables
                .iter()
                .zip(tables)
                .all(|(names, table)| names.families.len() == table.families.len())
    }
}
