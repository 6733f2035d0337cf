//! `pg_stat_activity_*`: sessions by database, state, user, application, kind and what they wait for.

use std::collections::BTreeSet;

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};
use pg_client::Rows;

use crate::session::PgSession;
use crate::sql::{Cost, Custom, PgCollector, Query, Scope, ServerLabel, Versions};

const COUNT: Desc = Desc::gauge("pg_stat_activity_count", "Number of connections in this state.");
const MAX_TX: Desc = Desc::gauge(
    "pg_stat_activity_max_tx_duration",
    "Longest time in seconds that a transaction of these sessions has been running.",
);

/// Every state, so that a database without sessions in it has a 0 there.
const STATES: [&str; 6] = [
    "active",
    "idle",
    "idle in transaction",
    "idle in transaction (aborted)",
    "fastpath function call",
    "disabled",
];

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_activity",
        doc: "Sessions and longest transaction by database, state, user, application and wait (pg_stat_activity).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("sessions"),
    queries: &[Query::Custom(Custom {
        versions: Versions::since(10),
        sql: |_| {
            "SELECT d.datname::text, a.state, u.rolname::text, a.application_name, a.backend_type, a.wait_event_type,
                    a.wait_event, a.count::text, a.max_tx::text
             FROM pg_catalog.pg_database d
             LEFT JOIN (SELECT datid, usesysid, state, application_name, backend_type, wait_event_type, wait_event,
                               pg_catalog.count(*) AS count,
                               pg_catalog.max(extract(epoch FROM pg_catalog.now() - xact_start)) AS max_tx
                        FROM pg_catalog.pg_stat_get_activity(NULL)
                        WHERE pid <> pg_catalog.pg_backend_pid() AND state IS NOT NULL
                        GROUP BY 1, 2, 3, 4, 5, 6, 7) a ON a.datid = d.oid
             LEFT JOIN pg_catalog.pg_roles u ON u.oid = a.usesysid"
                .to_owned()
        },
        fixed: true,
        decode,
        families: &[&COUNT, &MAX_TX],
        sizes: false,
        server_label: ServerLabel::Until0_19,
    })],
};

fn decode(rows: &Rows, _: &PgSession, snapshot: &mut Snapshot) {
    let table = snapshot.table(&[
        "datname",
        "state",
        "usename",
        "application_name",
        "backend_type",
        "wait_event_type",
        "wait_event",
    ]);
    let (count, max_tx) = (table.column(&COUNT), table.column(&MAX_TX));
    let mut databases = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for row in rows.iter() {
        let labels = [0, 1, 2, 3, 4, 5, 6].map(|index| row.get(index).unwrap_or_default());
        databases.insert(labels[0]);
        if row.get(1).is_some() {
            seen.insert((labels[0], labels[1]));
            table.row(&labels).set_some(count, row.float(7)).set(max_tx, row.float(8).unwrap_or(0.0));
        }
    }
    for datname in databases {
        for state in STATES.into_iter().filter(|state| !seen.contains(&(datname, *state))) {
            table.row(&[datname, state]).set(count, 0.0).set(max_tx, 0.0);
        }
    }
}
