//! `pg_xmin_horizon_*`: who keeps dead rows from being vacuumed.

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};

use crate::activity::{SESSIONS, groups};
use crate::read::{Found, FoundRow, ONE_ROW, Read, SLOTS, Select};
use crate::session::PgSession;
use crate::sql::{Cost, Custom, PgCollector, Query, Scope, ServerLabel, Versions};

const AGE: Desc = Desc::gauge(
    "pg_xmin_horizon_age_transactions",
    "Age of the oldest transaction ID that holders of this kind keep; 0 without any.",
);

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
            reads: &[&SESSIONS],
            decode: decode_sessions,
            families: &[&AGE],
            sizes: false,
            server_label: ServerLabel::Never,
        }),
        Query::Custom(Custom {
            versions: Versions::since(10),
            reads: &[
                &Read::Select(Select {
                    columns: &["pg_catalog.age(s.xmin)", "pg_catalog.age(s.catalog_xmin)"],
                    from: SLOTS,
                    joins: &[],
                }),
                &Read::Select(Select {
                    columns: &[
                        "(SELECT pg_catalog.max(pg_catalog.age(transaction)) FROM pg_catalog.pg_prepared_xact())",
                    ],
                    from: ONE_ROW,
                    joins: &[],
                }),
            ],
            decode,
            families: &[&AGE],
            sizes: false,
            server_label: ServerLabel::Never,
        }),
    ],
};

fn decode_sessions(found: &[Found], _: &PgSession, snapshot: &mut Snapshot) {
    let [sessions] = found else { return };
    let (mut session, mut standby) = (0.0, 0.0);
    for group in groups(sessions).filter(|group| !group.is_own()) {
        let oldest = if group.backend_type() == Some("walsender") { &mut standby } else { &mut session };
        *oldest = f64::max(*oldest, group.xmin_age().unwrap_or_default());
    }
    show([("session", session), ("standby", standby)], snapshot);
}

fn decode(found: &[Found], _: &PgSession, snapshot: &mut Snapshot) {
    let [slots, prepared] = found else { return };
    let oldest = |ages: &mut dyn Iterator<Item = Option<f64>>| ages.flatten().fold(0.0, f64::max);
    let of_slots = |column| oldest(&mut slots.iter().map(|row: FoundRow<'_>| row.float(column)));
    let prepared = oldest(&mut prepared.iter().map(|row| row.float(0)));
    show([("prepared_transaction", prepared), ("slot", of_slots(0)), ("slot_catalog", of_slots(1))], snapshot);
}

fn show<const N: usize>(holders: [(&str, f64); N], snapshot: &mut Snapshot) {
    let table = snapshot.table(&["holder"]);
    let column = table.column(&AGE);
    for (holder, age) in holders {
        table.row(&[holder]).set(column, age);
    }
}
