//! `check --connect`: what the planner says of the queries, before anybody relies on them.

use pg_client::{Limits, QueryError, Session};

use crate::definition::Definition;

/// What the planner expects of each query: its name, and the first line of its plan, or why there is none.
///
/// # Errors
/// When the connection is lost.
pub async fn plans<'a>(
    session: &Session,
    definition: &'a Definition,
) -> Result<Vec<(&'a str, String)>, QueryError> {
    let mut plans = Vec::new();
    for query in &definition.queries {
        let limits = Limits { read_only: true, statement_timeout: Some(query.timeout), ..Limits::default() };
        let plan = match session.query(&format!("EXPLAIN {}", query.sql), &limits).await {
            Ok(rows) => rows.first().and_then(|row| row.get(0)).unwrap_or_default().to_owned(),
            Err(error) if error.sqlstate.is_some() => error.message,
            Err(error) => return Err(error),
        };
        plans.push((query.name.as_str(), plan));
    }
    Ok(plans)
}
