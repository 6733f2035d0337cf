//! `pg_stat_progress_vacuum_*`: vacuums that run now.

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};

use crate::progress::{Label, Parameter, READS, Report, commands};
use crate::read::Found;
use crate::session::PgSession;
use crate::sql::{Cost, Custom, PgCollector, Query, Scope, ServerLabel, Versions};

const PHASE: Desc = Desc::gauge("pg_stat_progress_vacuum_phase", "Current vacuum phase (1 = active).");

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

/// From version 17 on, what is dead is counted in bytes.
const PARAMETERS: &[Parameter] = &[
    Parameter::count("pg_stat_progress_vacuum_heap_blks", 2, "Total number of heap blocks in the table being vacuumed."),
    Parameter::count("pg_stat_progress_vacuum_heap_blks_scanned", 3, "Number of heap blocks scanned so far."),
    Parameter::count("pg_stat_progress_vacuum_heap_blks_vacuumed", 4, "Number of heap blocks vacuumed so far."),
    Parameter::count("pg_stat_progress_vacuum_index_vacuums", 5, "Number of completed index vacuum cycles."),
    Parameter::count(
        "pg_stat_progress_vacuum_max_dead_tuples",
        6,
        "Maximum number of dead tuples (bytes from version 17 on) that can be stored before cleanup is performed.",
    ),
    Parameter::count(
        "pg_stat_progress_vacuum_num_dead_tuples",
        7,
        "Current number of dead tuples (bytes from version 17 on) found so far.",
    ),
    Parameter::count(
        "pg_stat_progress_vacuum_dead_item_ids",
        8,
        "Number of dead item identifiers collected since the last index vacuum cycle.",
    )
    .since(17),
    Parameter::count("pg_stat_progress_vacuum_indexes", 9, "Number of indexes to vacuum or clean up.").since(17),
    Parameter::count("pg_stat_progress_vacuum_indexes_processed", 10, "Number of indexes processed in this phase.")
        .since(17),
    Parameter::time("pg_stat_progress_vacuum_delay_seconds", 11, "Time spent sleeping (needs track_cost_delay_timing).")
        .since(18),
];

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_progress_vacuum",
        doc: "Phase and progress of running vacuums (pg_stat_progress_vacuum).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("sessions"),
    queries: &[
        Query::Custom(Custom {
            versions: Versions::since(12),
            reads: READS,
            decode,
            families: &[&PHASE],
            sizes: false,
            server_label: ServerLabel::Never,
        }),
        Query::Report(Report {
            command: "VACUUM",
            versions: Versions::since(12),
            labels: &[Label::Datname, Label::Relname],
            parameters: PARAMETERS,
        }),
    ],
};

fn decode(found: &[Found], _: &PgSession, snapshot: &mut Snapshot) {
    let table = snapshot.table(&["datname", "phase", "relname"]);
    let phase = table.column(&PHASE);
    for vacuum in commands(found, "VACUUM") {
        let (datname, relname) = (vacuum.datname.unwrap_or("unknown"), vacuum.relname().unwrap_or("unknown"));
        for (index, name) in PHASES.iter().enumerate() {
            let now = vacuum.code(1) == Some(index);
            table.row(&[datname, name, relname]).set(phase, f64::from(u8::from(now)));
        }
    }
}
