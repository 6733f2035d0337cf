//! `pg_stat_replication_*`: the standbys that stream from this server. WAL senders come first: the view pg_stat_replication reads
//! all sessions, also where there is no standby.

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};
use pg_client::Rows;

use crate::options::Compat;
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
        sql: |session| {
            // 0.19 shows the WAL sender's pid as slot_name, which makes every standby a row of its own. Else standbys
            // with the same labels are one row, that of the one furthest behind.
            let slot = match session.options().compat {
                Compat::V0_19 => "r.pid::text",
                Compat::V0_20 => "s.slot_name::text",
            };
            format!(
                "SELECT r.application_name::text,
                        host(r.client_addr) || CASE WHEN masklen(r.client_addr) IN (32, 128) THEN ''
                                                    ELSE '/' || masklen(r.client_addr) END,
                        r.state::text, {slot},
                        (wal.lsn - '0/0')::text, pg_catalog.max(wal.lsn - r.replay_lsn)::text,
                        floor(extract(epoch FROM pg_catalog.min(r.reply_time)))::text
                 FROM (SELECT w.*, a.application_name, a.client_addr
                       FROM pg_catalog.pg_stat_get_wal_senders() w
                       CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(w.pid) a) r
                 LEFT JOIN pg_catalog.pg_get_replication_slots() s ON s.active_pid = r.pid
                 CROSS JOIN (SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
                                         THEN pg_catalog.pg_last_wal_receive_lsn()
                                         ELSE pg_catalog.pg_current_wal_lsn() END AS lsn) wal
                 GROUP BY 1, 2, 3, 4, wal.lsn"
            )
        },
        shared: false,
        decode,
        families: &[&CURRENT, &DIFF, &REPLY_TIME],
        sizes: false,
        server_label: ServerLabel::Until0_19,
    })],
};

fn decode(rows: &Rows, session: &PgSession, snapshot: &mut Snapshot) {
    let v0_19 = session.options().compat == Compat::V0_19;
    let table = snapshot.table(&["application_name", "client_addr", "state", "slot_name"]);
    let (current, diff) = (table.column(&CURRENT), table.column(&DIFF));
    let reply_time = v0_19.then(|| table.column(&REPLY_TIME));
    for row in rows.iter() {
        let mut cells = table.row(&[0, 1, 2, 3].map(|index| row.get(index).unwrap_or_default()));
        cells.set_some(current, row.float(4)).set_some(diff, row.float(5));
        if let Some(reply_time) = reply_time {
            cells.set_some(reply_time, row.float(6));
        }
    }
}
