//! `pg_process_idle_seconds`: for how long idle sessions have been idle.

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};

use crate::read::{Found, Read};
use crate::session::PgSession;
use crate::sql::{Cost, Custom, PgCollector, Query, Scope, ServerLabel, Versions};

const IDLE: Desc = Desc::histogram("pg_process_idle_seconds", "Idle time of idle sessions in seconds.");

/// Upper bounds of the buckets in seconds.
const BOUNDS: [f64; 9] = [1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 90.0, 120.0, 300.0];

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "process_idle",
        doc: "Histogram of how long idle sessions have been idle, by state and application (pg_stat_activity).",
        default_enabled: false,
    },
    scope: Scope::Server,
    cost: Cost::Grows("sessions"),
    queries: &[Query::Custom(Custom {
        versions: Versions::ALL,
        reads: &[&Read::Statement(|_| {
            let buckets: Vec<String> =
                BOUNDS.iter().map(|bound| format!("(count(*) FILTER (WHERE idle <= {bound}))::text")).collect();
            format!(
                "SELECT state, application_name, count(*)::text, sum(idle)::text, {}
                 FROM (SELECT state, application_name,
                              extract(epoch FROM pg_catalog.clock_timestamp() - state_change) AS idle
                       FROM pg_catalog.pg_stat_get_activity(NULL)
                       WHERE state LIKE 'idle%') sessions
                 GROUP BY state, application_name",
                buckets.join(", ")
            )
        })],
        decode,
        families: &[&IDLE],
        sizes: false,
        server_label: ServerLabel::Never,
    })],
};

fn decode(found: &[Found], _: &PgSession, snapshot: &mut Snapshot) {
    let [sessions] = found else { return };
    let table = snapshot.table(&["state", "application_name"]);
    let idle = table.histogram(&IDLE, &BOUNDS);
    for row in sessions.iter() {
        let cumulative: Vec<_> = (0..BOUNDS.len()).map(|index| row.float(4 + index)).collect();
        let labels = [row.get(0).unwrap_or_default(), row.get(1).unwrap_or_default()];
        table.row(&labels).histogram(&idle, &cumulative, row.float(2).unwrap_or_default(), row.float(3));
    }
}
