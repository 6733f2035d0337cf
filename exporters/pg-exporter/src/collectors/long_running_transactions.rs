//! `pg_long_running_transactions*`: open transactions, and the age of the oldest.

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};

use crate::activity::{Group, SESSIONS, groups};
use crate::read::Found;
use crate::session::PgSession;
use crate::sql::{Cost, Custom, PgCollector, Query, Scope, ServerLabel, Versions};

const COUNT: Desc = Desc::gauge("pg_long_running_transactions", "Number of open transactions.");
const OLDEST: Desc = Desc::gauge(
    "pg_long_running_transactions_oldest_timestamp_seconds",
    "Age of the oldest open transaction in seconds, in spite of its name; 0 without any.",
);

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "long_running_transactions",
        doc: "Number of open transactions and age of the oldest, autovacuum not counted (pg_stat_activity).",
        default_enabled: false,
    },
    scope: Scope::Server,
    cost: Cost::Grows("sessions"),
    queries: &[Query::Custom(Custom {
        versions: Versions::since(10),
        reads: &[&SESSIONS],
        decode,
        families: &[&COUNT, &OLDEST],
        sizes: false,
        server_label: ServerLabel::Never,
    })],
};

fn decode(found: &[Found], _: &PgSession, snapshot: &mut Snapshot) {
    let [sessions] = found else { return };
    // Whose kind is hidden from the role has no transaction to see either.
    let counted =
        |group: &Group<'_>| !group.is_own() && group.backend_type().is_some_and(|kind| kind != "autovacuum worker");
    let others: Vec<Group<'_>> = groups(sessions).filter(counted).collect();
    snapshot.sample(&COUNT, others.iter().map(|group| group.transactions()).sum());
    snapshot.sample(&OLDEST, others.iter().filter_map(|group| group.longest_transaction()).fold(0.0, f64::max));
}
