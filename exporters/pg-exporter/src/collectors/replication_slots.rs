//! `pg_replication_slots_*`: positions and state of replication slots. 0.19 called half of them
//! `pg_replication_slot_*`.

use std::cell::LazyCell;

use exporter_kit::collector::Spec;
use exposition::{Desc, Kind, Snapshot};

use crate::options::Compat;
use crate::read::{DATABASE_NAMES, Found, Read, SLOTS, Select};
use crate::session::PgSession;
use crate::sql::{Cost, Custom, PgCollector, Query, Scope, ServerLabel, Versions};

/// The families 0.19 has under another prefix.
static SLOT: [Desc; 5] = [
    Desc::gauge("pg_replication_slots_slot_current_wal_lsn", "WAL position of the server, in bytes since the beginning of WAL."),
    Desc::gauge(
        "pg_replication_slots_slot_confirmed_flush_lsn",
        "Position up to which a logical slot's consumer confirmed, 0 for a physical slot; active slots only.",
    ),
    Desc::gauge("pg_replication_slots_slot_is_active", "Whether the slot is active."),
    Desc::gauge(
        "pg_replication_slots_safe_wal_size_bytes",
        "Bytes that can be written to WAL before the slot is in danger of losing what it needs.",
    ),
    Desc::gauge("pg_replication_slots_wal_status", "Availability of the WAL files the slot claims."),
];
const ACTIVE: Desc = Desc::gauge("pg_replication_slots_active", "Whether the slot is active.");
const LSN_DIFF: Desc = Desc::gauge("pg_replication_slots_pg_wal_lsn_diff", "Bytes of WAL the slot holds back.");

const CURRENT_LSN: &str = "CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
          ELSE pg_catalog.pg_current_wal_lsn() END - '0/0'";
const LSN_DIFF_SQL: &str = "CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
          ELSE pg_catalog.pg_current_wal_lsn() END - s.restart_lsn";

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "replication_slots",
        doc: "Positions, state and retained WAL of replication slots (pg_replication_slots).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("slots"),
    queries: &[Query::Custom(Custom {
        versions: Versions::since(13),
        reads: &[
            &DATABASE_NAMES,
            &Read::Select(Select {
                columns: &[
                    "(s.slot_name)::text",
                    "(s.slot_type)::text",
                    "s.datoid",
                    "s.active",
                    "s.wal_status",
                    "s.safe_wal_size",
                    CURRENT_LSN,
                    "coalesce(s.confirmed_flush_lsn, '0/0') - '0/0'",
                    LSN_DIFF_SQL,
                ],
                from: SLOTS,
                joins: &[],
            }),
        ],
        decode,
        families: &[&SLOT[0], &SLOT[1], &SLOT[2], &SLOT[3], &SLOT[4], &ACTIVE, &LSN_DIFF],
        sizes: false,
        server_label: ServerLabel::Never,
    })],
};

fn decode(found: &[Found], session: &PgSession, snapshot: &mut Snapshot) {
    let [databases, slots] = found else { return };
    // Most servers have no slots.
    let names = LazyCell::new(|| databases.by_first());
    let v0_19 = session.options().compat == Compat::V0_19;
    let named = |desc: &Desc| match v0_19 {
        true => {
            let name = desc.name.replace("pg_replication_slots_", "pg_replication_slot_");
            Desc::new(Kind::Gauge, name, desc.help.clone())
        }
        false => desc.clone(),
    };
    let table = snapshot.table(&["slot_name", "slot_type"]);
    let [current, confirmed, is_active, safe] =
        [&SLOT[0], &SLOT[1], &SLOT[2], &SLOT[3]].map(|desc| table.column(&named(desc)));
    for row in slots.iter() {
        let active = row.float(3);
        table
            .row(&[row.get(0).unwrap_or("unknown"), row.get(1).unwrap_or("unknown")])
            .set_some(current, row.float(6))
            .set_some(confirmed, row.float(7).filter(|_| active == Some(1.0)))
            .set_some(is_active, active)
            .set_some(safe, row.float(5));
    }
    let table = snapshot.table(&["slot_name", "slot_type", "wal_status"]);
    let status = table.column(&named(&SLOT[4]));
    for row in slots.iter() {
        if let Some(wal_status) = row.get(4) {
            let labels = [row.get(0).unwrap_or("unknown"), row.get(1).unwrap_or("unknown"), wal_status];
            table.row(&labels).set(status, 1.0);
        }
    }
    let mut legacy = Snapshot::new();
    let table = legacy.table(&["slot_name", "database"]);
    let (active, diff) = (table.column(&ACTIVE), table.column(&LSN_DIFF));
    for row in slots.iter() {
        let database = row.get(2).and_then(|oid| names.get(oid).copied());
        table
            .row(&[row.get(0).unwrap_or_default(), database.unwrap_or_default()])
            .set_some(active, row.float(3))
            .set_some(diff, row.float(8));
    }
    session.add_server_label(ServerLabel::Until0_19, &mut legacy);
    snapshot.append(legacy);
}
