//! `pg_stat_statements_*`: the statements that take most of the server's time.
//!
//! Rows that differ only in `toplevel` are one row here. Texts are read only when they are asked for, and once for each
//! statement: they are in a file that grows to many megabytes. Which statements are shown is the server's order, as in
//! postgres_exporter, or, with `--collector.stat_statements.sticky`, a choice that seldom changes.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;

use exporter_kit::collector::{CollectError, Spec};
use exposition::{Desc, Snapshot};
use futures_util::FutureExt;
use pg_client::Row;

use crate::extension::{Extension, ExtensionVersion, OfExtension};
use crate::options::Statements;
use crate::session::PgSession;
use crate::sql::{Cost, PgCollector, Query, Scope};
use crate::sticky::{Counter, Sticky};

/// In the order of the SELECT, after user, datname and queryid.
static VALUES: [Desc; 5] = [
    Desc::counter("pg_stat_statements_calls_total", "Number of times executed."),
    Desc::counter("pg_stat_statements_seconds_total", "Total time spent in the statement, in seconds."),
    Desc::counter("pg_stat_statements_rows_total", "Total number of rows retrieved or affected by the statement."),
    Desc::counter(
        "pg_stat_statements_block_read_seconds_total",
        "Total time the statement spent reading shared blocks, in seconds (needs track_io_timing).",
    ),
    Desc::counter(
        "pg_stat_statements_block_write_seconds_total",
        "Total time the statement spent writing shared blocks, in seconds (needs track_io_timing).",
    ),
];
const QUERY_ID: Desc = Desc::counter("pg_stat_statements_query_id", "Text of the statement; always 1.");

/// First version of the extension, and its names of: total execution time, read time, write time. All in ms.
const COLUMNS: [(ExtensionVersion, [&str; 3]); 3] = [
    ((1, 0), ["total_time", "blk_read_time", "blk_write_time"]),
    ((1, 8), ["total_exec_time", "blk_read_time", "blk_write_time"]),
    ((1, 11), ["total_exec_time", "shared_blk_read_time", "shared_blk_write_time"]),
];

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_statements",
        doc: "Calls, time and rows of the statements that take the most time (pg_stat_statements).",
        default_enabled: false,
    },
    scope: Scope::Server,
    cost: Cost::High("reads every entry of the extension"),
    queries: &[Query::OfExtension(OfExtension {
        name: "pg_stat_statements",
        since: (1, 2),
        read: |session, extension| read(session, extension).boxed(),
        families: &[&VALUES[0], &VALUES[1], &VALUES[2], &VALUES[3], &VALUES[4], &QUERY_ID],
    })],
};

/// What is kept from one scrape to the next.
#[derive(Default)]
pub(crate) struct Kept {
    sticky: Sticky<Labels, { VALUES.len() }>,
    /// By queryid; none for a statement whose text the extension does not have.
    texts: HashMap<String, Option<String>>,
}

/// User, datname and queryid.
type Labels = [String; 3];

/// Stands for all statements that are not shown, as user and queryid.
const OTHER: &str = "other";

/// Place of the total time in [`VALUES`].
const TIME: usize = 1;

async fn read(session: &PgSession, extension: &Extension) -> Result<Snapshot, CollectError> {
    let options = &session.options().statements;
    let rows = session.query(&sql(options, extension), true).await?;
    let mut statements: Vec<_> = rows.iter().filter_map(statement).collect();
    let mut snapshot = Snapshot::new();
    let table = snapshot.table(&["user", "datname", "queryid"]);
    let columns = VALUES.each_ref().map(|desc| table.column(desc));
    let mut show = |labels: [&str; 3], values: &[f64; VALUES.len()]| {
        let mut cells = table.row(&labels);
        for (column, value) in columns.iter().zip(values) {
            cells.set(*column, *value);
        }
    };
    if options.sticky {
        let mut kept = session.memory().statements();
        statements = kept.sticky.update(options.limit as usize, TIME, statements);
        for (datname, values) in kept.sticky.rest() {
            show([OTHER, datname, OTHER], values);
        }
    }
    for statement in &statements {
        show(statement.key.each_ref().map(String::as_str), &statement.values);
    }
    if options.include_query {
        let shown = statements.iter().map(|statement| statement.key[2].as_str()).collect();
        let texts = texts(session, extension, &shown).await?;
        let table = snapshot.table(&["queryid", "query"]);
        let column = table.column(&QUERY_ID);
        for queryid in shown {
            if let Some(Some(text)) = texts.get(queryid) {
                table.row(&[queryid, text]).set(column, 1.0);
            }
        }
    }
    Ok(snapshot)
}

fn statement(row: Row<'_>) -> Option<Counter<Labels, { VALUES.len() }>> {
    let text = |column: usize| row.get(column).map(str::to_owned);
    let values = [3, 4, 5, 6, 7].map(|column| row.float(column).unwrap_or_default());
    Some(Counter { key: [text(0)?, text(1)?, text(2)?], group: text(1)?, values })
}

/// All statements, or the longest ones where the choice is the server's.
fn sql(options: &Statements, extension: &Extension) -> String {
    let names = COLUMNS.iter().rev().find(|(since, _)| *since <= extension.version).unwrap_or(&COLUMNS[0]);
    let [total, read, write] = names.1;
    let longest = match options.sticky {
        true => String::new(),
        false => format!("ORDER BY s.total DESC, s.queryid LIMIT {}", options.limit),
    };
    let mut excluded = String::new();
    for (column, names) in
        [("d.datname", &options.exclude_databases), ("pg_catalog.pg_get_userbyid(s.userid)", &options.exclude_users)]
    {
        if !names.is_empty() {
            let _ = write!(excluded, " AND {column} <> ALL ({})", names_array(names));
        }
    }
    // Names and texts are made of what is shown only, not of all that is sorted. Sums of bigint would be numeric, which takes longer.
    format!(
        "SELECT pg_catalog.pg_get_userbyid(userid), datname, queryid, calls::bigint, total / 1000, rows::bigint,
                read / 1000, write / 1000
         FROM (SELECT s.*, d.datname
               FROM (SELECT userid, dbid, queryid, sum(calls::float8) AS calls, sum({total}) AS total,
                            sum(rows::float8) AS rows, sum({read}) AS read, sum({write}) AS write
                     FROM {schema}.pg_stat_statements(false)
                     WHERE queryid IS NOT NULL
                     GROUP BY userid, dbid, queryid) s
               JOIN pg_catalog.pg_database d ON d.oid = s.dbid
               WHERE true{excluded}
               {longest}) shown",
        schema = extension.schema,
    )
}

/// The texts of statements. Those that are not known yet are read together: the server reads its whole file for it.
async fn texts(
    session: &PgSession,
    extension: &Extension,
    shown: &BTreeSet<&str>,
) -> Result<HashMap<String, Option<String>>, CollectError> {
    let mut texts = session.memory().statements().texts.clone();
    texts.retain(|queryid, _| shown.contains(queryid.as_str()));
    let new: Vec<&str> = shown.iter().copied().filter(|queryid| !texts.contains_key(*queryid)).collect();
    if !new.is_empty() {
        let sql = format!(
            "SELECT queryid::text, min(pg_catalog.left(query, {length})) FROM {schema}.pg_stat_statements(true)
             WHERE queryid = ANY ('{{{ids}}}'::pg_catalog.int8[]) GROUP BY queryid",
            length = session.options().statements.query_length,
            schema = extension.schema,
            ids = new.join(","),
        );
        let rows = session.query(&sql, false).await?;
        texts.extend(new.iter().map(|queryid| ((*queryid).to_owned(), None)));
        texts.extend(
            rows.iter().filter_map(|row| Some((row.get(0)?.to_owned(), row.get(1).map(str::to_owned)))),
        );
    }
    session.memory().statements().texts.clone_from(&texts);
    Ok(texts)
}

/// An SQL array of names.
fn names_array(names: &[String]) -> String {
    let quoted: Vec<String> = names
        .iter()
        .map(|name| format!("E'{}'", name.replace('\\', "\\\\").replace('\'', "\\'")))
        .collect();
    format!("ARRAY[{}]::pg_catalog.name[]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_quoted() {
        let names = ["plain", "it's", "back\\slash"].map(str::to_owned);
        assert_eq!(
            super::names_array(&names),
            "ARRAY[E'plain', E'it\\'s', E'back\\\\slash']::pg_catalog.name[]"
        );
        assert_eq!(super::names_array(&[]), "ARRAY[]::pg_catalog.name[]");
    }
}
