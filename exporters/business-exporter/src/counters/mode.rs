//! Which of the ways to count a role can use.

use pg_client::Rows;

use crate::definition::{Counters, Definition, Mode, Operation};

/// A statement that says whether the ledger, and whether watermarks can be used.
pub(super) fn statement(counters: &Counters) -> String {
    let schema = counters.schema();
    format!(
        "WITH s AS (SELECT n.oid FROM pg_catalog.pg_namespace AS n
                    WHERE n.nspname = '{schema}' AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')),
              t AS (SELECT c.relname, c.oid FROM pg_catalog.pg_class AS c JOIN s ON s.oid = c.relnamespace)
         SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger AS g
                        JOIN pg_catalog.pg_proc AS p ON p.oid = g.tgfoid JOIN s ON s.oid = p.pronamespace)
                AND EXISTS (SELECT FROM t WHERE relname = 'delta' AND pg_catalog.has_table_privilege(oid, 'SELECT')),
                EXISTS (SELECT FROM t WHERE relname = 'watermark' AND pg_catalog.has_table_privilege(oid, 'INSERT'))"
    )
}

/// The strongest way, by the answer to [`statement`].
pub(super) fn strongest(rows: &Rows) -> Mode {
    let can = |column| rows.first().and_then(|row| row.get(column)) == Some("t");
    match (can(0), can(1)) {
        (true, _) => Mode::Ledger,
        (false, true) => Mode::Checkpoint,
        (false, false) => Mode::Snapshot,
    }
}

/// Whether a family is counted in a mode: all its events must be.
pub(super) fn counts(definition: &Definition, mode: Mode, family: &str) -> bool {
    let mut emissions = definition
        .events
        .iter()
        .flat_map(|event| event.emit.iter().map(move |emission| (event.on, &emission.family)))
        .filter(|(_, of)| of.desc.name == family);
    match mode {
        Mode::Auto | Mode::Ledger => true,
        Mode::Checkpoint => emissions.all(|(on, _)| on == Operation::Insert),
        Mode::Snapshot => emissions.all(|(on, of)| on == Operation::Insert && of.append_only),
    }
}
