//! `pg_stat_progress_vacuum_*`: vacuums that run now.

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};
use pg_client::Rows;

use crate::session::PgSession;
use crate::sql::{Columns, Cost, Custom, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

const PHASE: Desc = Desc::gauge("pg_stat_progress_vacuum_phase", "Current vacuum phase (1 = active).");

/// Family, and the progress parameter it shows. From version 17 on, parameters 5 and 6 count bytes, not tuples.
static PARAMETERS: [Desc; 6] = [
    Desc::gauge("pg_stat_progress_vacuum_heap_blks", "Total number of heap blocks in the table being vacuumed."),
    Desc::gauge("pg_stat_progress_vacuum_heap_blks_scanned", "Number of heap blocks scanned so far."),
    Desc::gauge("pg_stat_progress_vacuum_heap_blks_vacuumed", "Number of heap blocks vacuumed so far."),
    Desc::gauge("pg_stat_progress_vacuum_index_vacuums", "Number of completed index vacuum cycles."),
    Desc::gauge(
        "pg_stat_progress_vacuum_max_dead_tuples",
        "Maximum number of dead tuples (bytes from version 17 on) that can be stored before cleanup is performed.",
    ),
    Desc::gauge(
        "pg_stat_progress_vacuum_num_dead_tuples",
        "Current number of dead tuples (bytes from version 17 on) found so far.",
    ),
];

/// Names of phase 0, 1, …
const PHASES: [&str; 7] = [
    "initializing",
    "scanning heap",
    "vacuuming indexes",
    "vacuuming heap",
    "cleaning up indexes",
    "truncating heap",
    "performing final cleanup",
];

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_progress_vacuum",
        doc: "Phase and progress of running vacuums (pg_stat_progress_vacuum).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("sessions"),
    queries: &[Query::Custom(Custom {
        versions: Versions::since(12),
        // A relation of another database has no name here: its OID is shown rather than the name of a relation of
        // this database that happens to have the same OID.
        sql: |_| {
            "SELECT d.datname::text,
                    CASE WHEN d.datname = pg_catalog.current_database()
                         THEN s.relid::pg_catalog.regclass::text
                         ELSE s.relid::text END,
                    s.param1::text, s.param2::text, s.param3::text, s.param4::text, s.param5::text, s.param6::text,
                    s.param7::text
             FROM pg_catalog.pg_stat_get_progress_info('VACUUM') s
             LEFT JOIN pg_catalog.pg_database d ON d.oid = s.datid"
                .to_owned()
        },
        shared: false,
        decode,
        families: &[
            &PHASE,
            &PARAMETERS[0],
            &PARAMETERS[1],
            &PARAMETERS[2],
            &PARAMETERS[3],
            &PARAMETERS[4],
            &PARAMETERS[5],
        ],
        sizes: false,
        server_label: ServerLabel::Never,
    }), DETAIL],
};

/// What 17 and 18 added. `pg_stat_progress_vacuum_max_dead_tuples` and `_num_dead_tuples` count bytes there.
const DETAIL: Query = Query::Columns(Columns {
    versions: Versions::since(17),
    labels: &[("datname", "datname"), ("relname", "CASE WHEN datname = pg_catalog.current_database() THEN relid::pg_catalog.regclass::text ELSE relid::text END")],
    metrics: &[Metric::gauge("pg_stat_progress_vacuum_dead_item_ids", "num_dead_item_ids", "Number of dead item identifiers collected since the last index vacuum cycle."),Metric::gauge("pg_stat_progress_vacuum_indexes", "indexes_total", "Number of indexes to vacuum or clean up."),Metric::gauge("pg_stat_progress_vacuum_indexes_processed", "indexes_processed", "Number of indexes processed in this phase."),Metric::gauge("pg_stat_progress_vacuum_delay_seconds", "delay_time / 1000", "Time spent sleeping (needs track_cost_delay_timing).").since(18),],
    from: "FROM pg_catalog.pg_stat_progress_vacuum",
    server_label: ServerLabel::Never,
});

fn decode(rows: &Rows, _: &PgSession, snapshot: &mut Snapshot) {
    let labels = |row: pg_client::Row<'_>| {
        [row.get(0).unwrap_or("unknown").to_owned(), row.get(1).unwrap_or("unknown").to_owned()]
    };
    let table = snapshot.table(&["datname", "phase", "relname"]);
    let phase = table.column(&PHASE);
    for row in rows.iter() {
        let [datname, relname] = labels(row);
        let current = row.get(2).and_then(|text| text.parse::<usize>().ok());
        for (index, name) in PHASES.iter().enumerate() {
            table.row(&[&datname, name, &relname]).set(phase, f64::from(u8::from(current == Some(index))));
        }
    }
    let table = snapshot.table(&["datname", "relname"]);
    let columns = PARAMETERS.each_ref().map(|desc| table.column(desc));
    for row in rows.iter() {
        let [datname, relname] = labels(row);
        let mut cells = table.row(&[&datname, &relname]);
        for (index, column) in columns.into_iter().enumerate() {
            cells.set_some(column, row.float(3 + index));
        }
    }
}
