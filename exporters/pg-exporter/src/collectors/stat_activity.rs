//! `pg_stat_activity_*`: sessions by database, state, user, application, kind and what they wait for.

use std::collections::{BTreeMap, BTreeSet};

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};

use crate::activity::{SESSIONS, groups};
use crate::read::{DATABASE_NAMES, Found};
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
        reads: &[&DATABASE_NAMES, &SESSIONS],
        decode,
        families: &[&COUNT, &MAX_TX],
        sizes: false,
        server_label: ServerLabel::Until0_19,
    })],
};

fn decode(found: &[Found], _: &PgSession, snapshot: &mut Snapshot) {
    let [databases, sessions] = found else { return };
    let names = databases.by_first();
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
    let mut rows_of: BTreeMap<[&str; 7], (f64, f64)> = BTreeMap::new();
    for group in groups(sessions).filter(|group| group.state().is_some() && !group.is_own()) {
        let row = rows_of.entry(group.labels(&names)).or_default();
        *row = (row.0 + group.count(), row.1.max(group.longest_transaction().unwrap_or_default()));
    }
    // A session without a database sends WAL, and is a standby's.
    rows_of.retain(|labels, _| !labels[0].is_empty());
    for (labels, (sessions, longest)) in &rows_of {
        table.row(labels).set(count, *sessions).set(max_tx, *longest);
    }
    let seen: BTreeSet<_> = rows_of.keys().map(|labels| (labels[0], labels[1])).collect();
    for datname in names.into_values().collect::<BTreeSet<_>>() {
        for state in STATES.into_iter().filter(|state| !seen.contains(&(datname, *state))) {
            table.row(&[datname, state]).set(count, 0.0).set(max_tx, 0.0);
        }
    }
}
