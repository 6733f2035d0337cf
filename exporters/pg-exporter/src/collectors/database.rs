//! `pg_database_*`: connection limit and size of each database. Sizes come from their own lane.

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};

use crate::read::{DATABASES, Found, Read, Select};
use crate::session::PgSession;
use crate::sql::{Cost, Custom, PgCollector, Query, Scope, ServerLabel, Versions};

const LIMIT: Desc = Desc::gauge("pg_database_connection_limit", "Connection limit of the database; -1 means none.");
const SIZE: Desc = Desc::gauge("pg_database_size_bytes", "Disk space used by the database.");

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "database",
        doc: "Connection limit and disk space of every database (pg_database, pg_database_size).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::High("walks the files of every database, in the background"),
    queries: &[Query::Custom(Custom {
        versions: Versions::ALL,
        reads: &[&Read::Select(Select { columns: &["(d.datname)::text", "d.datconnlimit"], from: DATABASES, joins: &[] })],
        decode,
        families: &[&LIMIT, &SIZE],
        sizes: true,
        server_label: ServerLabel::Never,
    })],
};

fn decode(found: &[Found], session: &PgSession, snapshot: &mut Snapshot) {
    let [databases] = found else { return };
    let sizes = session.sizes.databases();
    let table = snapshot.table(&["datname"]);
    let (limit, size) = (table.column(&LIMIT), table.column(&SIZE));
    let names = &session.options().names;
    for row in databases.iter() {
        let Some(datname) = row.get(0).filter(|name| !names.exclude(name)) else { continue };
        let bytes = sizes.as_ref().and_then(|sizes| sizes.get(datname)).copied();
        table.row(&[datname]).set_some(limit, row.float(1)).set_some(size, bytes);
    }
}
