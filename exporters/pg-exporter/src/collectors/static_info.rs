//! `pg_static`: the server's version as labels.

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};

use crate::read::{Found, ONE_ROW, Read, Select};
use crate::session::PgSession;
use crate::sql::{Cost, Custom, PgCollector, Query, Scope, ServerLabel, Versions};

const STATIC: Desc = Desc::unknown("pg_static", "Version string as reported by postgres.");

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec { name: "static", doc: "Version of the server as labels (version()).", default_enabled: true },
    scope: Scope::Server,
    cost: Cost::Low,
    queries: &[Query::Custom(Custom {
        versions: Versions::ALL,
        reads: &[&Read::Select(Select {
            columns: &["pg_catalog.version()", "pg_catalog.current_setting('server_version_num')"],
            from: ONE_ROW,
            joins: &[],
        })],
        decode,
        families: &[&STATIC],
        sizes: false,
        server_label: ServerLabel::Always,
    })],
};

fn decode(found: &[Found], session: &PgSession, snapshot: &mut Snapshot) {
    let Some(row) = found.first().and_then(Found::first) else { return };
    let version = row.get(0).unwrap_or_default();
    let number: u32 = row.get(1).and_then(|number| number.parse().ok()).unwrap_or_default();
    let table = snapshot.table(&["server", "short_version", "version"]);
    let column = table.column(&STATIC);
    table.row(&[session.server_label(), &short_version(number), version]).set(column, 1.0);
}

/// `15.18.0` of 150018; before version 10, `9.6.24` of 90624.
fn short_version(number: u32) -> String {
    let (major, minor, patch) = (number / 10_000, number / 100 % 100, number % 100);
    if major >= 10 { format!("{major}.{}.0", number % 10_000) } else { format!("{major}.{minor}.{patch}") }
}

#[cfg(test)]
mod tests {
    #[test]
    fn short_versions() {
        assert_eq!(super::short_version(150_018), "15.18.0");
        assert_eq!(super::short_version(90_624), "9.6.24");
    }
}
