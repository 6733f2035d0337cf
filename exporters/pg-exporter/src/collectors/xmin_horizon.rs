//! `pg_xmin_horizon_*`: who keeps dead rows from being vacuumed.

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};
use pg_client::Rows;

use crate::activity::{self, groups};
use crate::session::PgSession;
use crate::sql::{Columns, Cost, Custom, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

const NAME: &str = "pg_xmin_horizon_age_transactions";
const HELP: &str = "Age of the oldest transaction ID that holders of this kind keep; 0 without any.";
const AGE: Desc = Desc::gauge(NAME, HELP);

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "xmin_horizon",
        doc: "Age of the oldest transaction held by sessions, standbys, slots and prepared transactions.",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("sessions"),
    queries: &[
        Query::Custom(Custom {
            versions: Versions::since(10),
            sql: activity::sql,
            shared: true,
            decode,
            families: &[&AGE],
            sizes: false,
            server_label: ServerLabel::Never,
        }),
        Query::Columns(Columns {
            versions: Versions::since(10),
            labels: &[("holder", "holder")],
            metrics: &[Metric::gauge(NAME, "coalesce(age, 0)", HELP)],
            from: "FROM (VALUES
                       ('prepared_transaction',
                        (SELECT pg_catalog.max(pg_catalog.age(transaction)) FROM pg_catalog.pg_prepared_xact())),
                       ('slot',
                        (SELECT pg_catalog.max(pg_catalog.age(xmin)) FROM pg_catalog.pg_get_replication_slots())),
                       ('slot_catalog',
                        (SELECT pg_catalog.max(pg_catalog.age(catalog_xmin))
                         FROM pg_catalog.pg_get_replication_slots()))) holders(holder, age)",
            server_label: ServerLabel::Never,
        }),
    ],
};

fn decode(rows: &Rows, _: &PgSession, snapshot: &mut Snapshot) {
    let table = snapshot.table(&["holder"]);
    let column = table.column(&AGE);
    let (mut session, mut standby) = (0.0, 0.0);
    for group in groups(rows).filter(|group| !group.is_own()) {
        let oldest = if group.backend_type() == Some("walsender") { &mut standby } else { &mut session };
        *oldest = f64::max(*oldest, group.xmin_age().unwrap_or_default());
    }
    table.row(&["session"]).set(column, session);
    table.row(&["standby"]).set(column, standby);
}
