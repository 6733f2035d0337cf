//! The rows of a table: the labels of each, rendered once and copied for every family.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::labels;
use crate::shape::LabelName;

/// Ends the labels of a row.
pub(crate) const AFTER: &str = "} ";

/// Up to so many rows are compared one by one, which is faster than hashing them.
pub(crate) const FEW: usize = 16;

/// Rendered labels of rows that differ: `a="b",c="d"} `, or nothing where there are no labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    text: String,
    /// Where each row ends.
    ends: Vec<usize>,
    /// Whether a value stands there otherwise than it is.
    escaped: bool,
    /// Every row, by a hash of its text, once there are [`FEW`] of them.
    seen: HashTable<usize>,
    hasher: RandomState,
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// What stands between the name of a family and a row's value, behind the opening brace.
    pub(crate) fn text(&self, row: usize) -> &str {
        &self.text[self.end(row)..self.ends[row]]
    }

    /// The text of each row.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |end| &self.text[std::mem::replace(&mut start, *end)..*end])
    }

    /// The labels of a row.
    pub(crate) fn labels(&self, row: usize) -> &str {
        let text = self.text(row);
        text.strip_suffix(AFTER).unwrap_or(text)
    }

    /// Bytes of all rows.
    pub(crate) fn size(&self) -> usize {
        self.text.len()
    }

    /// Where the first rows end.
    fn end(&self, rows: usize) -> usize {
        rows.checked_sub(1).map_or(0, |last| self.ends[last])
    }

    /// Whether a row has these values. The names are those of all rows; a value that is missing is empty.
    pub(crate) fn is(&self, row: usize, names: &[LabelName], values: &[&str]) -> bool {
        if row >= self.len() || self.escaped {
            return false;
        }
        let mut rest = self.text(row).as_bytes();
        names.iter().enumerate().all(|(index, name)| {
            let value = values.get(index).copied().unwrap_or_default();
            let after_name = rest.strip_prefix(name.before_value().as_bytes());
            match after_name.and_then(|rest| rest.strip_prefix(value.as_bytes())) {
                // What separates labels, or ends them.
                Some([b'"', _, after @ ..]) => {
                    rest = after;
                    true
                }
                _ => false,
            }
        })
    }

    /// Adds a row, unless there is one with the same labels.
    pub(crate) fn push(&mut self, names: &[LabelName], values: &[&str]) -> bool {
        let start = self.text.len();
        if self.len() == 1 {
            // Room for as many rows as most tables have: growing bit by bit costs more than filling it.
            self.ends.reserve(FEW);
            self.text.reserve(FEW * start);
        }
        for (index, name) in names.iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            let value = values.get(index).copied().unwrap_or_default();
            self.escaped |= labels::push(&mut self.text, name, value);
        }
        if !names.is_empty() {
            self.text.push_str(AFTER);
        }
        self.ends.push(self.text.len());
        let new = self.last_is_new();
        if !new {
            self.ends.pop();
            self.text.truncate(start);
        }
        new
    }

    /// Keeps the first rows.
    pub(crate) fn truncate(&mut self, rows: usize) {
        if rows < self.len() {
            self.text.truncate(self.end(rows));
            self.ends.truncate(rows);
            self.seen.clear();
        }
    }

    /// Whether the last row differs from all before.
    fn last_is_new(&mut self) -> bool {
        let last = self.len() - 1;
        if last < FEW {
            return (0..last).all(|row| self.text(row) != self.text(last));
        }
        let mut seen = std::mem::take(&mut self.seen);
        let hash_of = |row: &usize| self.hasher.hash_one(self.text(*row));
        if seen.is_empty() {
            seen.reserve(2 * last.max(2 * FEW), hash_of);
            for row in 0..last {
                seen.insert_unique(hash_of(&row), row, hash_of);
            }
        }
        let is_new = match seen.entry(hash_of(&last), |row| self.text(*row) == self.text(last), hash_of) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                free.insert(last);
                true
            }
        };
        self.seen = seen;
        is_new
    }
}
