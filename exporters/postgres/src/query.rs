//! One statement in the simple protocol: limits go in front of it as `SET LOCAL` in the same message, so that they
//! end with it and never reach another client of a transaction pooler. Results are text.

use crate::connect::describe;
use futures_util::TryStreamExt;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::error::{Error, SqlState};
use tokio_postgres::{Client, SimpleColumn, SimpleQueryMessage, SimpleQueryRow};

/// What a statement may cost. The default is no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// The server cancels the statement after this time.
    pub statement_timeout: Option<Duration>,
    /// The server cancels the statement after waiting this long for one lock.
    pub lock_timeout: Option<Duration>,
    /// The client stops waiting at this time, cancels, and gives the session up.
    pub deadline: Option<Instant>,
    /// Rows beyond this number are not kept ([`Rows::is_truncated`]).
    pub max_rows: Option<usize>,
    /// The statement may not write.
    pub read_only: bool,
}

impl Limits {
    pub(crate) fn prefix(&self, sql: &str) -> String {
        let mut text = String::with_capacity(sql.len() + 80);
        for (name, limit) in
            [("statement_timeout", self.statement_timeout), ("lock_timeout", self.lock_timeout)]
        {
            if let Some(limit) = limit {
                // 0 would mean no limit.
                let _ = write!(text, "SET LOCAL {name} = {}; ", limit.as_millis().clamp(1, 2_147_483_647));
            }
        }
        if self.read_only {
            text.push_str("SET LOCAL transaction_read_only = on; ");
        }
        text.push_str(sql);
        text
    }
}

/// Why a statement failed; a bounded set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueryErrorKind {
    /// Cancelled by statement_timeout, by an administrator, or given up at the deadline (57014).
    Timeout,
    /// lock_timeout (55P03).
    LockTimeout,
    /// Permission denied (42501).
    Permission,
    /// No such table, column, function, object or schema (42P01, 42703, 42883, 42704, 3F000).
    UndefinedObject,
    /// The server or vendor does not offer this (0A000).
    FeatureNotSupported,
    /// The connection is gone; the session must be replaced.
    Connection,
    /// Anything else.
    Other,
}

/// A failed statement.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    /// The kind, by SQLSTATE.
    pub kind: QueryErrorKind,
    /// The server's SQLSTATE, if the server said anything.
    pub sqlstate: Option<String>,
    /// The server's message with SQLSTATE, detail and hint, or what happened to the connection.
    pub message: String,
}

impl QueryError {
    pub(crate) fn connection(message: String) -> QueryError {
        QueryError { kind: QueryErrorKind::Connection, sqlstate: None, message }
    }

    pub(crate) fn deadline(host: &str) -> QueryError {
        let message = format!("no reply from {host} before the deadline; the statement was cancelled");
        QueryError { kind: QueryErrorKind::Timeout, sqlstate: None, message }
    }
}

impl From<Error> for QueryError {
    fn from(error: Error) -> QueryError {
        let Some(db) = error.as_db_error() else {
            // Without a server's word, the stream of replies cannot be trusted any more.
            return QueryError::connection(describe(&error));
        };
        let kind = match *db.code() {
            SqlState::QUERY_CANCELED => QueryErrorKind::Timeout,
            SqlState::LOCK_NOT_AVAILABLE => QueryErrorKind::LockTimeout,
            SqlState::INSUFFICIENT_PRIVILEGE => QueryErrorKind::Permission,
            SqlState::UNDEFINED_TABLE
            | SqlState::UNDEFINED_COLUMN
            | SqlState::UNDEFINED_FUNCTION
            | SqlState::UNDEFINED_OBJECT
            | SqlState::INVALID_SCHEMA_NAME => QueryErrorKind::UndefinedObject,
            SqlState::FEATURE_NOT_SUPPORTED => QueryErrorKind::FeatureNotSupported,
            SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => {
                QueryErrorKind::Connection
            }
            ref code if code.code().starts_with("08") => QueryErrorKind::Connection,
            _ => QueryErrorKind::Other,
        };
        let mut message = format!("{} [{}]", db.message(), db.code().code());
        for (what, text) in [("detail", db.detail()), ("hint", db.hint())] {
            if let Some(text) = text {
                let _ = write!(message, "; {what}: {text}");
            }
        }
        QueryError { kind, sqlstate: Some(db.code().code().to_owned()), message }
    }
}

/// The rows of one result, as text. Cells are slices of the bytes that came from the server.
#[derive(Debug, Default)]
pub struct Rows {
    columns: Option<Arc<[SimpleColumn]>>,
    rows: Vec<SimpleQueryRow>,
    truncated: bool,
}

impl Rows {
    /// Takes over what the server says of a result.
    pub(crate) fn push(&mut self, message: SimpleQueryMessage) {
        match message {
            SimpleQueryMessage::RowDescription(columns) => self.columns = Some(columns),
            SimpleQueryMessage::Row(row) => self.rows.push(row),
            _ => {}
        }
    }

    /// Column names, in order; empty when the statement returns no rows by nature.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = &str> {
        self.columns.as_deref().unwrap_or_default().iter().map(SimpleColumn::name)
    }

    /// The position of a column by its exact name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns().position(|column| column == name)
    }

    /// The rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        self.rows.iter().map(Row)
    }

    /// The first row.
    pub fn first(&self) -> Option<Row<'_>> {
        self.rows.first().map(Row)
    }

    /// Number of rows kept.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether there were more rows than `max_rows`.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a>(&'a SimpleQueryRow);

impl<'a> Row<'a> {
    /// A cell; `None` for NULL, for a column that does not exist, and for bytes that are not UTF-8.
    pub fn get(&self, column: usize) -> Option<&'a str> {
        if column >= self.len() {
            return None;
        }
        self.0.try_get(column).ok().flatten()
    }

    /// A cell as a number, see [`crate::cell::float`]; `None` also for text that is none.
    pub fn float(&self, column: usize) -> Option<f64> {
        self.get(column).and_then(crate::cell::float)
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no columns.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Sends `text` when first polled and collects the reply.
pub(crate) async fn run(client: &Client, text: &str, max_rows: Option<usize>) -> Result<Rows, QueryError> {
    let max_rows = max_rows.unwrap_or(usize::MAX);
    let mut rows = Rows::default();
    let stream = client.simple_query_raw(text).await?;
    let mut stream = std::pin::pin!(stream);
    while let Some(message) = stream.try_next().await? {
        match message {
            SimpleQueryMessage::RowDescription(_) if rows.columns.is_some() => {
                let message = "the text holds more than one statement that returns rows".to_owned();
                return Err(QueryError { kind: QueryErrorKind::Other, sqlstate: None, message });
            }
            SimpleQueryMessage::Row(_) if rows.rows.len() == max_rows => {
                // The rest is read and thrown away by the connection's task.
                rows.truncated = true;
                return Ok(rows);
            }
            message => rows.push(message),
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_go_in_front_of_the_statement() {
        let mut limits = Limits::default();
        assert_eq!(limits.prefix("SELECT 1"), "SELECT 1");
        limits.statement_timeout = Some(Duration::from_micros(10));
        limits.lock_timeout = Some(Duration::from_millis(100));
        assert_eq!(
            limits.prefix("SELECT 1"),
            "SET LOCAL statement_timeout = 1; SET LOCAL lock_timeout = 100; SELECT 1"
        );
        let limits = Limits { read_only: true, ..Limits::default() };
        assert_eq!(limits.prefix("SELECT 1"), "SET LOCAL transaction_read_only = on; SELECT 1");
    }
}
