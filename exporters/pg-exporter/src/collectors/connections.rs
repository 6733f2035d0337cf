//! `pg_connections_*`: how many more clients can connect.

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};

use crate::activity::{Group, SESSIONS, groups};
use crate::read::{Found, ONE_ROW, Read, Select};
use crate::session::PgSession;
use crate::sql::{Cost, Custom, PgCollector, Query, Scope, ServerLabel, Versions};

const LIMIT: Desc =
    Desc::gauge("pg_connections_limit", "Number of connections the server allows (max_connections).");
const USED: Desc = Desc::gauge("pg_connections_used", "Number of client connections.");
const RESERVED: Desc =
    Desc::gauge("pg_connections_reserved", "Number of connections that ordinary roles cannot use.");
const AVAILABLE: Desc =
    Desc::gauge("pg_connections_available", "Number of connections left for ordinary roles.");

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "connections",
        doc: "Connections in use, reserved and left (max_connections).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("sessions"),
    queries: &[Query::Custom(Custom {
        versions: Versions::since(10),
        reads: &[
            &SESSIONS,
            &Read::Select(Select {
                columns: &[
                    "pg_catalog.current_setting('max_connections')",
                    "pg_catalog.current_setting('superuser_reserved_connections')",
                    "pg_catalog.current_setting('reserved_connections', true)",
                ],
                from: ONE_ROW,
                joins: &[],
            }),
        ],
        decode,
        families: &[&LIMIT, &USED, &RESERVED, &AVAILABLE],
        sizes: false,
        server_label: ServerLabel::Never,
    })],
};

fn decode(found: &[Found], _: &PgSession, snapshot: &mut Snapshot) {
    let [sessions, settings] = found else { return };
    let clients = groups(sessions).filter(|group| group.backend_type() == Some("client backend"));
    let used: f64 = clients.map(Group::count).sum();
    let Some(settings) = settings.first() else { return };
    let Some(limit) = settings.float(0) else { return };
    // The second of them came with version 16.
    let reserved: f64 = [1, 2].into_iter().filter_map(|column| settings.float(column)).sum();
    let available = (limit - reserved - used).max(0.0);
    for (desc, value) in [(&LIMIT, limit), (&USED, used), (&RESERVED, reserved), (&AVAILABLE, available)] {
        snapshot.sample(desc, value);
    }
}
