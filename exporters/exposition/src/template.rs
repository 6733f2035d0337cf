//! What a snapshot shares with the one before it.

use std::sync::Arc;

use crate::rows::Rows;
use crate::shape::Shape;
use crate::table::Table;

/// Of tables with more text in their rows than this only the shape is kept: a process may have a thousand targets.
const LONG: usize = 64 * 1024;

/// The shapes and the rows of tables, in the order in which they were made. A snapshot that
/// [follows](crate::Snapshot::follow) it shares what is the same again, which most is from one scrape to the next: it need
/// not be made, and rows that differed before still do. What differs is made as without a template.
#[derive(Clone, Debug, Default)]
pub struct Template {
    tables: Vec<(Arc<Shape>, Arc<Rows>)>,
    /// Tables of the snapshot that were there before.
    skipped: usize,
}

impl Template {
    /// For a snapshot that has so many tables.
    pub(crate) fn after(self, skipped: usize) -> Template {
        Template { skipped, ..self }
    }

    /// What a table may share that will be this one of the snapshot's.
    pub(crate) fn get(&self, index: usize) -> Option<&(Arc<Shape>, Arc<Rows>)> {
        self.tables.get(index.checked_sub(self.skipped)?)
    }

    /// The same for the tables of a snapshot that followed it.
    pub(crate) fn of(mut self, tables: &mut [Arc<Table>]) -> Template {
        let tables = tables.get_mut(self.skipped..).unwrap_or_default();
        self.tables.truncate(tables.len());
        for (index, table) in tables.iter_mut().enumerate() {
            if !table.is_trim() {
                Arc::make_mut(table).trim();
            }
            let rows = if table.rows.size() > LONG { &Arc::default() } else { &table.rows };
            match self.tables.get_mut(index) {
                Some((known, kept)) => {
                    replace(known, &table.shape);
                    replace(kept, rows);
                }
                None => self.tables.push((Arc::clone(&table.shape), Arc::clone(rows))),
            }
        }
        self
    }
}

fn replace<T>(old: &mut Arc<T>, new: &Arc<T>) {
    if !Arc::ptr_eq(old, new) {
        *old = Arc::clone(new);
    }
}

#[cfg(test)]
mod tests {
    use crate::{Desc, Snapshot};

    static DESC: Desc = Desc::gauge("a", "A.");

    #[test]
    fn few_rows_are_kept_and_many_are_not() {
        let snapshot = |rows: usize| {
            let mut snapshot = Snapshot::new();
            let table = snapshot.table(&["name"]);
            let column = table.column(&DESC);
            for row in 0..rows {
                table.row(&[&row.to_string()]).set(column, 1.0);
            }
            snapshot
        };
        for (rows, kept) in [(1_000, 1_000), (10_000, 0)] {
            let template = snapshot(rows).template();
            assert_eq!(template.get(0).map(|(_, rows)| rows.len()), Some(kept));
        }
    }
}
