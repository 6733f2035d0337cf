//! `check --connect`: what the server says of the role and of the queries, before anybody relies on them.

use pg_client::{Limits, QueryError, Session};

use crate::definition::Definition;

/// Tables of users that the role may write.
const WRITABLE: &str = "
SELECT c.oid::regclass
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS s ON s.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND s.nspname !~ '^pg_' AND s.nspname <> 'information_schema'
  AND pg_catalog.has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
ORDER BY 1 LIMIT 5";

/// What the role can do that an exporter need not, a sentence each.
///
/// # Errors
/// When the server does not answer.
pub async fn role(session: &Session) -> Result<Vec<String>, QueryError> {
    if session.is_superuser() == Some(true) {
        return Ok(vec!["the role is a superuser".to_owned()]);
    }
    let rows = session.query(WRITABLE, &Limits { read_only: true, ..Limits::default() }).await?;
    Ok(rows.iter().filter_map(|row| row.get(0)).map(|table| format!("the role may write {table}")).collect())
}

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
