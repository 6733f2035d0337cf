//! `pg_stat_ssl_*`, `pg_stat_gssapi_*`: how sessions are protected.

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};

use crate::activity::{Group, SESSIONS, counts, groups};
use crate::read::Found;
use crate::session::PgSession;
use crate::sql::{Cost, Custom, PgCollector, Query, Scope, ServerLabel, Versions};

const TLS: Desc = Desc::gauge(
    "pg_stat_ssl_sessions",
    "Number of client connections; version and cipher are empty without TLS.",
);
const GSSAPI: Desc =
    Desc::gauge("pg_stat_gssapi_sessions", "Number of client connections authenticated by GSSAPI.");

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_ssl",
        doc: "Sessions by TLS version and cipher, and by GSSAPI encryption (pg_stat_ssl, pg_stat_gssapi).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("sessions"),
    queries: &[Query::Custom(Custom {
        versions: Versions::since(13),
        reads: &[&SESSIONS],
        decode,
        families: &[&TLS, &GSSAPI],
        sizes: false,
        server_label: ServerLabel::Never,
    })],
};

fn decode(found: &[Found], _: &PgSession, snapshot: &mut Snapshot) {
    let [sessions] = found else { return };
    let table = snapshot.table(&["version", "cipher"]);
    let column = table.column(&TLS);
    for (tls, count) in counts(groups(sessions), Group::tls) {
        table.row(&tls).set(column, count);
    }
    let table = snapshot.table(&["encrypted"]);
    let column = table.column(&GSSAPI);
    for (encrypted, count) in counts(groups(sessions), Group::gssapi) {
        table.row(&[encrypted]).set(column, count);
    }
}
