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
    /// Where each value of each row ends.
    ends: Vec<usize>,
    /// Labels of a row.
    labels: usize,
    len: usize,
    /// Whether a value stands there otherwise than it is.
    escaped: bool,
    /// Every row, by a hash of its text, once there are [`FEW`] of them.
    seen: HashTable<usize>,
    hasher: RandomState,
}

impl Rows {
    /// Rows with so many labels.
    pub(crate) fn new(labels: usize) -> Rows {
        Rows { labels, ..Rows::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What stands between the name of a family and a row's value, behind the opening brace.
    pub(crate) fn text(&self, row: usize) -> &str {
        &self.text[self.end(row)..self.end(row + 1)]
    }

    /// The text of each row.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        let (mut start, mut rest) = (0, self.text.as_str());
        (0..self.len).map(move |row| {
            let end = self.end(row + 1);
            let (text, more) = rest.split_at(end - start);
            (start, rest) = (end, more);
            text
        })
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
        match (rows * self.labels).checked_sub(1) {
            Some(last) => self.ends[last] + 1 + AFTER.len(),
            None => 0,
        }
    }

    /// Whether a row has these values. The names are those of all rows; a value that is missing is empty.
    pub(crate) fn is(&self, row: usize, names: &[LabelName], values: &[&str]) -> bool {
        if row >= self.len || self.escaped {
            return false;
        }
        let mut start = self.end(row);
        let ends = &self.ends[row * self.labels..][..self.labels];
        names.iter().zip(ends).enumerate().all(|(index, (name, end))| {
            start += name.before_value().len();
            let value = values.get(index).copied().unwrap_or_default();
            let same = self.text.as_bytes()[start..*end] == *value.as_bytes();
            // Behind the quote and the comma.
            start = end + 2;
            same
        })
    }

    /// Adds a row, unless there is one with the same labels.
    pub(crate) fn push(&mut self, names: &[LabelName], values: &[&str]) -> bool {
        let start = self.text.len();
        if self.len == 1 {
            // Room for as many rows as most tables have: growing bit by bit costs more than filling it.
            self.ends.reserve(FEW * names.len());
            self.text.reserve(FEW * start);
        }
        for (index, name) in names.iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            let value = values.get(index).copied().unwrap_or_default();
            self.escaped |= labels::push(&mut self.text, name, value);
            self.ends.push(self.text.len() - 1);
        }
        if !names.is_empty() {
            self.text.push_str(AFTER);
        }
        let new = self.is_new(start);
        if new {
            self.len += 1;
        } else {
            self.text.truncate(start);
            self.ends.truncate(self.len * self.labels);
        }
        new
    }

    /// Keeps the first rows.
    pub(crate) fn truncate(&mut self, rows: usize) {
        if rows < self.len {
            self.text.truncate(self.end(rows));
            self.ends.truncate(rows * self.labels);
            self.seen.clear();
            self.len = rows;
        }
    }

    /// Whether the row that was just rendered at `start` differs from all before.
    fn is_new(&mut self, start: usize) -> bool {
        let (next, new) = (self.len, &self.text[start..]);
        if next < FEW {
            return (0..next).all(|row| self.text(row) != new);
        }
        let mut seen = std::mem::take(&mut self.seen);
        let hash_of = |row: &usize| self.hasher.hash_one(self.text(*row));
        if seen.is_empty() {
            seen.reserve(2 * next.max(2 * FEW), hash_of);
            for row in 0..next {
                seen.insert_unique(hash_of(&row), row, hash_of);
            }
        }
        let is_new = match seen.entry(hash_of(&next), |row| self.text(*row) == new, hash_of) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                free.insert(next);
                true
            }
        };
        self.seen = seen;
        is_new
    }
}
