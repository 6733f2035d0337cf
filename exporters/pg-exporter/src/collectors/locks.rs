//! `pg_locks_*`: locks held or waited for, by database and mode.

use std::collections::HashMap;

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};
use pg_client::Rows;

use crate::session::PgSession;
use crate::sql::{Cost, Custom, PgCollector, Query, Scope, ServerLabel, Versions};

const COUNT: Desc = Desc::gauge("pg_locks_count", "Number of locks.");

/// Every lock mode, so that a mode without locks is 0 rather than absent.
const MODES: [&str; 9] = [
    "accesssharelock",
    "rowsharelock",
    "rowexclusivelock",
    "shareupdateexclusivelock",
    "sharelock",
    "sharerowexclusivelock",
    "exclusivelock",
    "accessexclusivelock",
    "sireadlock",
];

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec { name: "locks", doc: "Locks by database and mode (pg_locks).", default_enabled: true },
    scope: Scope::Server,
    cost: Cost::Grows("locks"),
    queries: &[Query::Custom(Custom {
        versions: Versions::ALL,
        sql: |_| {
            "SELECT d.datname::text, l.mode, l.count::text
             FROM pg_catalog.pg_database d
             LEFT JOIN (SELECT database, pg_catalog.lower(mode) AS mode, pg_catalog.count(*) AS count
                        FROM pg_catalog.pg_lock_status()
                        WHERE database IS NOT NULL
                        GROUP BY 1, 2) l ON l.database = d.oid"
                .to_owned()
        },
        fixed: true,
        decode,
        families: &[&COUNT],
        sizes: false,
        server_label: ServerLabel::Never,
    })],
};

fn decode(rows: &Rows, _: &PgSession, snapshot: &mut Snapshot) {
    let mut databases: Vec<&str> = Vec::new();
    let mut counts: HashMap<(&str, &str), f64> = HashMap::new();
    for row in rows.iter() {
        let Some(datname) = row.get(0) else { continue };
        if databases.last() != Some(&datname) {
            databases.push(datname);
        }
        if let (Some(mode), Some(count)) = (row.get(1), row.float(2)) {
            counts.insert((datname, mode), count);
        }
    }
    databases.sort_unstable();
    databases.dedup();
    let table = snapshot.table(&["datname", "mode"]);
    let column = table.column(&COUNT);
    for datname in databases {
        for mode in MODES {
            let count = counts.get(&(datname, mode)).copied().unwrap_or(0.0);
            table.row(&[datname, mode]).set(column, count);
        }
    }
}
