//! `pg_stat_progress_*`: CREATE INDEX, ANALYZE, CLUSTER, COPY and base backups that run now. Commands of one kind on one
//! relation are added up. The progress of vacuums has its own collector.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_progress",
        doc: "Progress of running CREATE INDEX, ANALYZE, CLUSTER, COPY and base backups (pg_stat_progress_*).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("sessions"),
    queries: &[
        Query::Columns(Columns {
            versions: Versions::since(12),
            labels: &[("datname", "datname"), ("relname", "CASE WHEN datname = pg_catalog.current_database() THEN relid::pg_catalog.regclass::text ELSE relid::text END"), ("command", "command"), ("phase", "phase")],
            metrics: &[
                Metric::gauge(
                    "pg_stat_progress_create_index_blocks",
                    "pg_catalog.sum(blocks_total)",
                    "Number of blocks to process in this phase.",
                ),
                Metric::gauge(
                    "pg_stat_progress_create_index_blocks_done",
                    "pg_catalog.sum(blocks_done)",
                    "Number of blocks processed in this phase.",
                ),
                Metric::gauge(
                    "pg_stat_progress_create_index_tuples",
                    "pg_catalog.sum(tuples_total)",
                    "Number of tuples to process in this phase.",
                ),
                Metric::gauge(
                    "pg_stat_progress_create_index_tuples_done",
                    "pg_catalog.sum(tuples_done)",
                    "Number of tuples processed in this phase.",
                ),
                Metric::gauge(
                    "pg_stat_progress_create_index_lockers",
                    "pg_catalog.sum(lockers_total)",
                    "Number of lockers to wait for.",
                ),
                Metric::gauge(
                    "pg_stat_progress_create_index_lockers_done",
                    "pg_catalog.sum(lockers_done)",
                    "Number of lockers waited for.",
                ),
Metric::gauge("pg_stat_progress_create_index_partitions", "pg_catalog.sum(partitions_total)", "Number of partitions to index."),Metric::gauge("pg_stat_progress_create_index_partitions_done", "pg_catalog.sum(partitions_done)", "Number of partitions indexed."),            ],
            from: "FROM pg_catalog.pg_stat_progress_create_index GROUP BY 1, 2, 3, 4",
            server_label: ServerLabel::Never,
        }),
        Query::Columns(Columns {
            versions: Versions::since(13),
            labels: &[("datname", "datname"), ("relname", "CASE WHEN datname = pg_catalog.current_database() THEN relid::pg_catalog.regclass::text ELSE relid::text END"), ("phase", "phase")],
            metrics: &[
                Metric::gauge(
                    "pg_stat_progress_analyze_sample_blocks",
                    "pg_catalog.sum(sample_blks_total)",
                    "Number of blocks to sample.",
                ),
                Metric::gauge(
                    "pg_stat_progress_analyze_sample_blocks_scanned",
                    "pg_catalog.sum(sample_blks_scanned)",
                    "Number of blocks sampled.",
                ),
                Metric::gauge(
                    "pg_stat_progress_analyze_child_tables",
                    "pg_catalog.sum(child_tables_total)",
                    "Number of child tables.",
                ),
                Metric::gauge(
                    "pg_stat_progress_analyze_child_tables_done",
                    "pg_catalog.sum(child_tables_done)",
                    "Number of child tables scanned.",
                ),
Metric::gauge("pg_stat_progress_analyze_ext_stats", "pg_catalog.sum(ext_stats_total)", "Number of extended statistics to compute."),Metric::gauge("pg_stat_progress_analyze_ext_stats_computed", "pg_catalog.sum(ext_stats_computed)", "Number of extended statistics computed."),Metric::gauge("pg_stat_progress_analyze_delay_seconds", "pg_catalog.sum(delay_time) / 1000", "Time spent sleeping (needs track_cost_delay_timing).").since(18),            ],
            from: "FROM pg_catalog.pg_stat_progress_analyze GROUP BY 1, 2, 3",
            server_label: ServerLabel::Never,
        }),
        Query::Columns(Columns {
            versions: Versions::since(12),
            labels: &[("datname", "datname"), ("relname", "CASE WHEN datname = pg_catalog.current_database() THEN relid::pg_catalog.regclass::text ELSE relid::text END"), ("command", "command"), ("phase", "phase")],
            metrics: &[
                Metric::gauge(
                    "pg_stat_progress_cluster_heap_blocks",
                    "pg_catalog.sum(heap_blks_total)",
                    "Number of blocks of the table.",
                ),
                Metric::gauge(
                    "pg_stat_progress_cluster_heap_blocks_scanned",
                    "pg_catalog.sum(heap_blks_scanned)",
                    "Number of blocks scanned.",
                ),
                Metric::gauge(
                    "pg_stat_progress_cluster_heap_tuples_scanned",
                    "pg_catalog.sum(heap_tuples_scanned)",
                    "Number of tuples scanned.",
                ),
                Metric::gauge(
                    "pg_stat_progress_cluster_heap_tuples_written",
                    "pg_catalog.sum(heap_tuples_written)",
                    "Number of tuples written.",
                ),
Metric::gauge("pg_stat_progress_cluster_indexes_rebuilt", "pg_catalog.sum(index_rebuild_count)", "Number of indexes rebuilt."),            ],
            from: "FROM pg_catalog.pg_stat_progress_cluster GROUP BY 1, 2, 3, 4",
            server_label: ServerLabel::Never,
        }),
        Query::Columns(Columns {
            versions: Versions::since(14),
            labels: &[("datname", "datname"), ("relname", "CASE WHEN datname = pg_catalog.current_database() THEN relid::pg_catalog.regclass::text ELSE relid::text END"), ("command", "command"), ("type", "type")],
            metrics: &[
                Metric::gauge(
                    "pg_stat_progress_copy_size_bytes",
                    "pg_catalog.sum(bytes_total)",
                    "Size of the source; 0 when it is not known.",
                ),
                Metric::gauge(
                    "pg_stat_progress_copy_processed_bytes",
                    "pg_catalog.sum(bytes_processed)",
                    "Number of bytes processed.",
                ),
                Metric::gauge(
                    "pg_stat_progress_copy_tuples_processed",
                    "pg_catalog.sum(tuples_processed)",
                    "Number of tuples processed.",
                ),
                Metric::gauge(
                    "pg_stat_progress_copy_tuples_excluded",
                    "pg_catalog.sum(tuples_excluded)",
                    "Number of tuples left out by WHERE.",
                ),
Metric::gauge("pg_stat_progress_copy_tuples_skipped", "pg_catalog.sum(tuples_skipped)", "Number of tuples skipped because of bad data.").since(17),            ],
            from: "FROM pg_catalog.pg_stat_progress_copy GROUP BY 1, 2, 3, 4",
            server_label: ServerLabel::Never,
        }),
        Query::Columns(Columns {
            versions: Versions::since(13),
            labels: &[("phase", "phase")],
            metrics: &[
                Metric::gauge(
                    "pg_stat_progress_basebackup_size_bytes",
                    "pg_catalog.sum(backup_total)",
                    "Estimated size of the backup.",
                ),
                Metric::gauge(
                    "pg_stat_progress_basebackup_streamed_bytes",
                    "pg_catalog.sum(backup_streamed)",
                    "Number of bytes streamed.",
                ),
                Metric::gauge(
                    "pg_stat_progress_basebackup_tablespaces",
                    "pg_catalog.sum(tablespaces_total)",
                    "Number of tablespaces.",
                ),
                Metric::gauge(
                    "pg_stat_progress_basebackup_tablespaces_streamed",
                    "pg_catalog.sum(tablespaces_streamed)",
                    "Number of tablespaces streamed.",
                ),
            ],
            from: "FROM pg_catalog.pg_stat_progress_basebackup GROUP BY 1",
            server_label: ServerLabel::Never,
        }),
    ],
};
