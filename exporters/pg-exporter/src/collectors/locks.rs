//! `pg_locks_*`: locks held or waited for, by database and mode; `pg_blocked_sessions*`: sessions that wait for one.

use std::collections::BTreeMap;

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};

use crate::read::{DATABASE_NAMES, Found, Read};
use crate::session::PgSession;
use crate::sql::{Cost, Custom, PgCollector, Query, Scope, ServerLabel, Versions};

const COUNT: Desc = Desc::gauge("pg_locks_count", "Number of locks.");
const BLOCKED: Desc = Desc::gauge("pg_blocked_sessions", "Number of sessions that wait for a lock.");
const LONGEST: Desc = Desc::gauge(
    "pg_blocked_sessions_longest_wait_seconds",
    "Longest time that a session has been waiting for a lock.",
);

/// The first version that tells since when a session waits.
const WAITSTART: u32 = 14;

/// Every lock mode, so that a mode without locks is 0 rather than absent.
const MODES: [&str; 9] = [
    "accesssharelock",
    "rowsharelock",
    "rowexclusivelock",
    "shareupdateexclusivelock",
    "sharelock",
    "sharerowexclusivelock",
    "exclusivelock",
    "accessexclusivelock",
    "sireadlock",
];

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec { name: "locks", doc: "Locks by database and mode, sessions that wait for one, and the longest wait (pg_locks).", default_enabled: true },
    scope: Scope::Server,
    cost: Cost::Grows("locks"),
    queries: &[Query::Custom(Custom {
        versions: Versions::ALL,
        // A session waits for one lock at most, so that those who wait can be counted by lock.
        reads: &[&DATABASE_NAMES, &Read::Statement(|major| {
            let waiting = match major {
                WAITSTART.. => "extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.min(waitstart))",
                _ => "NULL",
            };
            format!(
                "SELECT database, mode, pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE NOT granted), {waiting}
                 FROM pg_catalog.pg_lock_status()
                 GROUP BY database, mode"
            )
        })],
        decode,
        families: &[&COUNT, &BLOCKED, &LONGEST],
        sizes: false,
        server_label: ServerLabel::Never,
    })],
};

fn decode(found: &[Found], session: &PgSession, snapshot: &mut Snapshot) {
    let [databases, locks] = found else { return };
    let names = databases.by_first();
    let (mut blocked, mut longest) = (0.0, 0.0_f64);
    let mut counts: BTreeMap<&str, [f64; MODES.len()]> =
        names.values().map(|datname| (*datname, Default::default())).collect();
    for row in locks.iter() {
        blocked += row.float(3).unwrap_or_default();
        longest = longest.max(row.float(4).unwrap_or_default());
        // Objects that belong to no database, or to one that was just dropped, have no name.
        let counts = row.get(0).and_then(|oid| counts.get_mut(names.get(oid)?));
        let mode = |name: &str| MODES.iter().position(|mode| name.eq_ignore_ascii_case(mode));
        if let (Some(counts), Some(mode), Some(count)) = (counts, row.get(1).and_then(mode), row.float(2)) {
            counts[mode] = count;
        }
    }
    let table = snapshot.table(&["datname", "mode"]);
    let column = table.column(&COUNT);
    for (datname, counts) in counts {
        for (mode, count) in MODES.iter().zip(counts) {
            table.row(&[datname, mode]).set(column, count);
        }
    }
    snapshot.sample(&BLOCKED, blocked);
    if session.major() >= WAITSTART {
        snapshot.sample(&LONGEST, longest);
    }
}
