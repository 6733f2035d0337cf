//! `pg_stat_replication_*`: the standbys that stream from this server.

use std::collections::BTreeMap;

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};

use crate::options::Compat;
use crate::read::{Found, Read, SLOTS, STANDBYS, Select};
use crate::session::PgSession;
use crate::sql::{Cost, Custom, PgCollector, Query, Scope, ServerLabel, Versions};

const CURRENT: Desc =
    Desc::gauge("pg_stat_replication_pg_current_wal_lsn_bytes", "WAL position of this server in bytes.");
const DIFF: Desc = Desc::gauge("pg_stat_replication_pg_wal_lsn_diff", "Replay lag of the standby in bytes; of the one furthest behind, where several have these labels.");
const REPLY_TIME: Desc =
    Desc::unknown("pg_stat_replication_reply_time", "Unix time of the last reply message from the standby.");

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_replication",
        doc: "Position and byte lag of every streaming standby (pg_stat_replication).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("standbys"),
    queries: &[Query::Custom(Custom {
        versions: Versions::since(10),
        reads: &[
            &Read::Select(Select {
                columns: &[
                    "(a.application_name)::text",
                    "host(a.client_addr) || CASE WHEN masklen(a.client_addr) IN (32, 128) THEN ''
                                                 ELSE '/' || masklen(a.client_addr) END",
                    "(w.state)::text",
                    "w.pid",
                    "CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
                          ELSE pg_catalog.pg_current_wal_lsn() END - '0/0'",
                    "w.replay_lsn - '0/0'",
                    "extract(epoch FROM w.reply_time)",
                ],
                from: STANDBYS,
                joins: &[],
            }),
            &Read::Select(Select { columns: &["s.active_pid", "(s.slot_name)::text"], from: SLOTS, joins: &[] }),
        ],
        decode,
        families: &[&CURRENT, &DIFF, &REPLY_TIME],
        sizes: false,
        server_label: ServerLabel::Until0_19,
    })],
};

/// What standbys with the same labels have in common.
#[derive(Default)]
struct Standbys {
    /// Of the server.
    lsn: Option<f64>,
    /// Of the one furthest behind.
    diff: Option<f64>,
    /// Of the one that has been silent longest.
    reply_time: Option<f64>,
}

fn decode(found: &[Found], session: &PgSession, snapshot: &mut Snapshot) {
    let [standbys, slots] = found else { return };
    let v0_19 = session.options().compat == Compat::V0_19;
    let slots = slots.by_first();
    let mut groups: BTreeMap<[&str; 4], Standbys> = BTreeMap::new();
    for row in standbys.iter() {
        let pid = row.get(3).unwrap_or_default();
        // 0.19 shows the WAL sender's pid, which makes every standby a row of its own.
        let slot = if v0_19 { pid } else { slots.get(pid).copied().unwrap_or_default() };
        let [application, address, state] = [0, 1, 2].map(|column| row.get(column).unwrap_or_default());
        let group = groups.entry([application, address, state, slot]).or_default();
        group.lsn = row.float(4);
        let diff = row.float(4).zip(row.float(5)).map(|(lsn, replayed)| lsn - replayed);
        group.diff = [group.diff, diff].into_iter().flatten().reduce(f64::max);
        let reply_time = row.float(6).map(f64::floor);
        group.reply_time = [group.reply_time, reply_time].into_iter().flatten().reduce(f64::min);
    }
    let table = snapshot.table(&["application_name", "client_addr", "state", "slot_name"]);
    let (current, diff) = (table.column(&CURRENT), table.column(&DIFF));
    let reply_time = v0_19.then(|| table.column(&REPLY_TIME));
    for (labels, group) in groups {
        let mut cells = table.row(&labels);
        cells.set_some(current, group.lsn).set_some(diff, group.diff);
        if let Some(reply_time) = reply_time {
            cells.set_some(reply_time, group.reply_time);
        }
    }
}
