//! Runs one statement of the user: READ ONLY, within limits, with the types of its columns known.
//!
//! The statement stands in parentheses, so that anything but one reading statement is a syntax error, and its columns
//! are cast to text as their types want it. What the columns are is asked once, without running the statement, in the
//! simple protocol: that works through transaction poolers, too.

use std::time::Duration;

use pg_client::{Limits, QueryError, QueryErrorKind, Rows, Session};
use tokio::time::Instant;

/// How long a statement waits for a lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultColumn {
    /// Its name.
    pub name: String,
    /// What its type means for us.
    pub class: Class,
}

/// What a type means for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A point in time: seconds since 1970.
    Time,
    /// An interval: seconds.
    Interval,
    /// Text, or what is shown as text.
    Text,
    /// A number, or what counts as one.
    Number,
    /// An array.
    Array,
}

/// The classes of types by their name; all others are shown as text.
const CLASSES: &[(Class, &[&str])] = &[
    (Class::Time, &["timestamp with time zone", "timestamp without time zone", "date"]),
    (Class::Interval, &["interval"]),
    (
        Class::Number,
        &[
            "smallint",
            "integer",
            "bigint",
            "numeric",
            "real",
            "double precision",
            "boolean",
            "oid",
            "xid",
            "xid8",
            "pg_lsn",
        ],
    ),
];

fn class(type_name: &str) -> Class {
    if type_name.ends_with("[]") {
        return Class::Array;
    }
    let found = CLASSES.iter().find(|(_, names)| names.contains(&type_name));
    found.map_or(Class::Text, |(class, _)| *class)
}

/// Runs a statement. `columns` holds what its columns are; it is filled when it is empty, and anew when that no longer
/// fits.
///
/// # Errors
/// What the server said.
pub(crate) async fn run(
    session: &Session,
    sql: &str,
    columns: &mut Vec<ResultColumn>,
    deadline: Instant,
) -> Result<Rows, QueryError> {
    if is_show(sql) {
        let rows = query(session, sql, deadline).await?;
        *columns = names(&rows).map(|name| ResultColumn { name, class: Class::Text }).collect();
        return Ok(rows);
    }
    if !columns.is_empty() {
        match query(session, &select(sql, columns), deadline).await {
            Err(error) if matches!(error.kind, QueryErrorKind::Other | QueryErrorKind::UndefinedObject) => {}
            result => return result,
        }
    }
    *columns = describe(session, sql, deadline).await?;
    query(session, &select(sql, columns), deadline).await
}

/// SHOW cannot stand in parentheses; it has only texts.
fn is_show(sql: &str) -> bool {
    sql.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("show "))
}

async fn query(session: &Session, sql: &str, deadline: Instant) -> Result<Rows, QueryError> {
    // The server's limit ends a little before the deadline, so that its word for it still arrives.
    let remaining = deadline.saturating_duration_since(Instant::now());
    let limits = Limits {
        statement_timeout: Some(remaining.mul_f32(0.9)),
        lock_timeout: Some(LOCK_TIMEOUT),
        deadline: Some(deadline),
        read_only: true,
        ..Limits::default()
    };
    session.query(sql, &limits).await
}

/// Asks for names and types of the columns; the statement does not run.
async fn describe(session: &Session, sql: &str, deadline: Instant) -> Result<Vec<ResultColumn>, QueryError> {
    let empty = query(session, &format!("SELECT * FROM (\n{sql}\n) AS q LIMIT 0"), deadline).await?;
    let names: Vec<String> = names(&empty).collect();
    let types: Vec<String> =
        (0..names.len()).map(|index| format!("pg_catalog.pg_typeof(q.c{index})::text")).collect();
    let sql = format!(
        "SELECT {} FROM (VALUES (1)) AS one LEFT JOIN (\n{sql}\n) AS q({}) ON false",
        types.join(", "),
        aliases(names.len())
    );
    let types = query(session, &sql, deadline).await?;
    let class = |index| types.first().and_then(|row| row.get(index)).map_or(Class::Text, class);
    Ok(names
        .into_iter()
        .enumerate()
        .map(|(index, name)| ResultColumn { name, class: class(index) })
        .collect())
}

fn names(rows: &Rows) -> impl Iterator<Item = String> {
    rows.columns().map(str::to_owned)
}

fn aliases(count: usize) -> String {
    (0..count).map(|index| format!("c{index}")).collect::<Vec<_>>().join(", ")
}

/// The statement with columns as text.
fn select(sql: &str, columns: &[ResultColumn]) -> String {
    let cast = |(index, column): (usize, &ResultColumn)| match column.class {
        Class::Time | Class::Interval => format!("extract(epoch FROM q.c{index})::text"),
        Class::Number | Class::Array => format!("q.c{index}::text"),
        // As the type prints itself: a cast writes 10.0.0.1 as 10.0.0.1/32.
        Class::Text => {
            format!("CASE WHEN q.c{index} IS NOT NULL THEN pg_catalog.format('%s', q.c{index}) END")
        }
    };
    let casts: Vec<String> = columns.iter().enumerate().map(cast).collect();
    format!("SELECT {} FROM (\n{sql}\n) AS q({})", casts.join(", "), aliases(columns.len()))
}
