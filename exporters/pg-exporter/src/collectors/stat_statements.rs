//! `pg_stat_statements_*`: the statements that take most of the server's time.
//!
//! Rows that differ only in `toplevel` are one row here. Texts are read only when they are asked for: they are in a
//! file that grows to many megabytes.

use std::collections::BTreeSet;

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};
use pg_client::Rows;

use crate::extension::{ExtensionVersion, OfExtension};
use crate::session::PgSession;
use crate::sql::{Cost, PgCollector, Query, Scope};

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
        sql: |session, extension| sql(session, &extension.schema, extension.version),
        decode,
        families: &[&VALUES[0], &VALUES[1], &VALUES[2], &VALUES[3], &VALUES[4], &QUERY_ID],
    })],
};

fn sql(session: &PgSession, schema: &str, version: ExtensionVersion) -> String {
    let options = &session.options().statements;
    let names = COLUMNS.iter().rev().find(|(since, _)| *since <= version).unwrap_or(&COLUMNS[0]);
    let [total, read, write] = names.1;
    let text = if options.include_query {
        format!("pg_catalog.left(s.query, {})", options.query_length)
    } else {
        "NULL".to_owned()
    };
    format!(
        "SELECT pg_catalog.pg_get_userbyid(s.userid)::text, d.datname::text, s.queryid::text,
                s.calls::text, (s.total / 1000)::text, s.rows::text, (s.read / 1000)::text, (s.write / 1000)::text,
                {text}
         FROM (SELECT userid, dbid, queryid, sum(calls) AS calls, sum({total}) AS total, sum(rows) AS rows,
                      sum({read}) AS read, sum({write}) AS write, min(query) AS query
               FROM {schema}.pg_stat_statements({show})
               WHERE queryid IS NOT NULL
               GROUP BY userid, dbid, queryid) s
         JOIN pg_catalog.pg_database d ON d.oid = s.dbid
         WHERE d.datname <> ALL ({databases}) AND pg_catalog.pg_get_userbyid(s.userid) <> ALL ({users})
         ORDER BY s.total DESC, s.queryid
         LIMIT {limit}",
        show = options.include_query,
        databases = names_array(&options.exclude_databases),
        users = names_array(&options.exclude_users),
        limit = options.limit,
    )
}

/// An SQL array of names.
fn names_array(names: &[String]) -> String {
    let quoted: Vec<String> = names
        .iter()
        .map(|name| format!("E'{}'", name.replace('\\', "\\\\").replace('\'', "\\'")))
        .collect();
    format!("ARRAY[{}]::pg_catalog.name[]", quoted.join(", "))
}

fn decode(rows: &Rows, session: &PgSession, snapshot: &mut Snapshot) {
    let table = snapshot.table(&["user", "datname", "queryid"]);
    let columns = VALUES.each_ref().map(|desc| table.column(desc));
    for row in rows.iter() {
        let mut cells = table.row(&[0, 1, 2].map(|index| row.get(index).unwrap_or_default()));
        for (index, column) in columns.into_iter().enumerate() {
            cells.set_some(column, row.float(3 + index));
        }
    }
    if session.options().statements.include_query {
        let texts: BTreeSet<_> = rows.iter().filter_map(|row| Some((row.get(2)?, row.get(8)?))).collect();
        let table = snapshot.table(&["queryid", "query"]);
        let column = table.column(&QUERY_ID);
        for (queryid, text) in texts {
            table.row(&[queryid, text]).set(column, 1.0);
        }
    }
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
