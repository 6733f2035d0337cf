//! Statements as data: text, operation and table, so that each one is measured under bounded labels.

use prometheus_client::encoding::EncodeLabelValue;

use crate::metrics::QueryLabels;

/// What a statement does.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Operation {
    /// Reads rows.
    Select,
    /// Adds rows.
    Insert,
    /// Changes rows.
    Update,
    /// Removes rows.
    Delete,
}

impl Operation {
    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Operation::Select => "select",
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
        }
    }
}

impl EncodeLabelValue for Operation {
    fn encode(&self, encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>) -> std::fmt::Result {
        self.as_str().encode(encoder)
    }
}

/// A statement of a store.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// What it does.
    pub operation: Operation,
    /// The table it is about.
    pub table: &'static str,
    /// Its text, with `$1`-style parameters.
    pub sql: &'static str,
}

impl Query {
    /// A statement that reads `table`.
    pub const fn select(table: &'static str, sql: &'static str) -> Query {
        Query { operation: Operation::Select, table, sql }
    }

    /// A statement that adds to `table`.
    pub const fn insert(table: &'static str, sql: &'static str) -> Query {
        Query { operation: Operation::Insert, table, sql }
    }

    /// A statement that changes `table`.
    pub const fn update(table: &'static str, sql: &'static str) -> Query {
        Query { operation: Operation::Update, table, sql }
    }

    /// A statement that removes from `table`.
    pub const fn delete(table: &'static str, sql: &'static str) -> Query {
        Query { operation: Operation::Delete, table, sql }
    }

    /// The labels it is measured under.
    pub const fn labels(&self) -> QueryLabels {
        QueryLabels { operation: self.operation, table: self.table }
    }
}
