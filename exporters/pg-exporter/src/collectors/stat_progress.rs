//! `pg_stat_progress_*`: CREATE INDEX, ANALYZE, CLUSTER, COPY and base backups that run now. Commands of one kind on one
//! relation are added up. The progress of vacuums has its own collector.

use exporter_kit::collector::Spec;

use crate::progress::{Label, Parameter, Report};
use crate::sql::{Cost, PgCollector, Query, Scope, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_progress",
        doc: "Progress of running CREATE INDEX, ANALYZE, CLUSTER, COPY and base backups (pg_stat_progress_*).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("sessions"),
    queries: &[
        Query::Report(Report {
            command: "CREATE INDEX",
            versions: Versions::since(12),
            labels: &[Label::Datname, Label::Relname, Label::Code("command", 1, &["", "CREATE INDEX", "CREATE INDEX CONCURRENTLY", "REINDEX", "REINDEX CONCURRENTLY"]), Label::Code("phase", 10, &["initializing", "waiting for writers before build", "building index", "waiting for writers before validation", "index validation: scanning index", "index validation: sorting tuples", "index validation: scanning table", "waiting for old snapshots", "waiting for readers before marking dead", "waiting for readers before dropping"])],
            parameters: &[
                Parameter::count("pg_stat_progress_create_index_blocks", 16, "Number of blocks to process in this phase."),
                Parameter::count("pg_stat_progress_create_index_blocks_done", 17, "Number of blocks processed in this phase."),
                Parameter::count("pg_stat_progress_create_index_tuples", 12, "Number of tuples to process in this phase."),
                Parameter::count("pg_stat_progress_create_index_tuples_done", 13, "Number of tuples processed in this phase."),
                Parameter::count("pg_stat_progress_create_index_lockers", 4, "Number of lockers to wait for."),
                Parameter::count("pg_stat_progress_create_index_lockers_done", 5, "Number of lockers waited for."),
                Parameter::count("pg_stat_progress_create_index_partitions", 14, "Number of partitions to index."),
                Parameter::count("pg_stat_progress_create_index_partitions_done", 15, "Number of partitions indexed."),
            ],
        }),
        Query::Report(Report {
            command: "ANALYZE",
            versions: Versions::since(13),
            labels: &[Label::Datname, Label::Relname, Label::Code("phase", 1, &["initializing", "acquiring sample rows", "acquiring inherited sample rows", "computing statistics", "computing extended statistics", "finalizing analyze"])],
            parameters: &[
                Parameter::count("pg_stat_progress_analyze_sample_blocks", 2, "Number of blocks to sample."),
                Parameter::count("pg_stat_progress_analyze_sample_blocks_scanned", 3, "Number of blocks sampled."),
                Parameter::count("pg_stat_progress_analyze_child_tables", 6, "Number of child tables."),
                Parameter::count("pg_stat_progress_analyze_child_tables_done", 7, "Number of child tables scanned."),
                Parameter::count("pg_stat_progress_analyze_ext_stats", 4, "Number of extended statistics to compute."),
                Parameter::count("pg_stat_progress_analyze_ext_stats_computed", 5, "Number of extended statistics computed."),
                Parameter::time("pg_stat_progress_analyze_delay_seconds", 9, "Time spent sleeping (needs track_cost_delay_timing).").since(18),
            ],
        }),
        Query::Report(Report {
            command: "CLUSTER",
            versions: Versions::since(12),
            labels: &[Label::Datname, Label::Relname, Label::Code("command", 1, &["", "CLUSTER", "VACUUM FULL"]), Label::Code("phase", 2, &["initializing", "seq scanning heap", "index scanning heap", "sorting tuples", "writing new heap", "swapping relation files", "rebuilding index", "performing final cleanup"])],
            parameters: &[
                Parameter::count("pg_stat_progress_cluster_heap_blocks", 6, "Number of blocks of the table."),
                Parameter::count("pg_stat_progress_cluster_heap_blocks_scanned", 7, "Number of blocks scanned."),
                Parameter::count("pg_stat_progress_cluster_heap_tuples_scanned", 4, "Number of tuples scanned."),
                Parameter::count("pg_stat_progress_cluster_heap_tuples_written", 5, "Number of tuples written."),
                Parameter::count("pg_stat_progress_cluster_indexes_rebuilt", 8, "Number of indexes rebuilt."),
            ],
        }),
        Query::Report(Report {
            command: "COPY",
            versions: Versions::since(14),
            labels: &[Label::Datname, Label::Relname, Label::Code("command", 5, &["", "COPY FROM", "COPY TO"]), Label::Code("type", 6, &["", "FILE", "PROGRAM", "PIPE", "CALLBACK"])],
            parameters: &[
                Parameter::count("pg_stat_progress_copy_size_bytes", 2, "Size of the source; 0 when it is not known."),
                Parameter::count("pg_stat_progress_copy_processed_bytes", 1, "Number of bytes processed."),
                Parameter::count("pg_stat_progress_copy_tuples_processed", 3, "Number of tuples processed."),
                Parameter::count("pg_stat_progress_copy_tuples_excluded", 4, "Number of tuples left out by WHERE."),
                Parameter::count("pg_stat_progress_copy_tuples_skipped", 7, "Number of tuples skipped because of bad data.").since(17),
            ],
        }),
        Query::Report(Report {
            command: "BASEBACKUP",
            versions: Versions::since(13),
            labels: &[Label::Code("phase", 1, &["initializing", "waiting for checkpoint to finish", "estimating backup size", "streaming database files", "waiting for wal archiving to finish", "transferring wal files"])],
            parameters: &[
                Parameter::count("pg_stat_progress_basebackup_size_bytes", 2, "Estimated size of the backup."),
                Parameter::count("pg_stat_progress_basebackup_streamed_bytes", 3, "Number of bytes streamed."),
                Parameter::count("pg_stat_progress_basebackup_tablespaces", 4, "Number of tablespaces."),
                Parameter::count("pg_stat_progress_basebackup_tablespaces_streamed", 5, "Number of tablespaces streamed."),
            ],
        }),
    ],
};
