//! `pg_wait_events_*`: what sessions wait for. A sample of the moment, so it says something only over many scrapes.

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};

use crate::activity::{SESSIONS, counts, groups};
use crate::read::Found;
use crate::session::PgSession;
use crate::sql::{Cost, Custom, PgCollector, Query, Scope, ServerLabel, Versions};

const COUNT: Desc = Desc::gauge(
    "pg_wait_events_sessions",
    "Number of server processes that wait for something of this type; none for those that wait for nothing.",
);

/// Not waiting.
const NONE: &str = "none";

/// What there is to wait for, so that each has a sample.
const TYPES: [&str; 10] =
    ["Activity", "BufferPin", "Client", "Extension", "IO", "IPC", "Lock", "LWLock", "Timeout", NONE];

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "wait_events",
        doc: "Sessions by what they wait for (pg_stat_activity).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("sessions"),
    queries: &[Query::Custom(Custom {
        versions: Versions::ALL,
        reads: &[&SESSIONS],
        decode,
        families: &[&COUNT],
        sizes: false,
        server_label: ServerLabel::Never,
    })],
};

fn decode(found: &[Found], _: &PgSession, snapshot: &mut Snapshot) {
    let [sessions] = found else { return };
    let table = snapshot.table(&["wait_event_type"]);
    let column = table.column(&COUNT);
    let others = groups(sessions).filter(|group| !group.is_own());
    let mut waiting = counts(others, |group| Some(group.wait_event_type().unwrap_or(NONE)));
    for kind in TYPES {
        waiting.entry(kind).or_default();
    }
    for (kind, count) in waiting {
        table.row(&[kind]).set(column, count);
    }
}
