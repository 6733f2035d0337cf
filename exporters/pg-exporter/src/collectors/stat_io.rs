//! `pg_stat_io_*`: I/O by kind of process, object and context. What cannot happen has no sample.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_io",
        doc: "I/O by kind of process, object and context (pg_stat_io; from version 16 on).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Low,
    queries: &[
        Query::Columns(Columns {
            versions: Versions::since(16),
            labels: &[("backend_type", "backend_type"), ("object", "object"), ("context", "context")],
            metrics: &[
                Metric::counter(
                    "pg_stat_io_reads_total",
                    "reads",
                    "Number of read operations.",
                ),
                Metric::counter(
                    "pg_stat_io_read_bytes_total",
                    "reads * op_bytes",
                    "Bytes of these operations: reads.",
                ).until(17),
                Metric::counter(
                    "pg_stat_io_read_bytes_total",
                    "read_bytes",
                    "Bytes of these operations: reads.",
                ).since(18),
                Metric::counter(
                    "pg_stat_io_read_seconds_total",
                    "read_time / 1000",
                    "Time spent in read operations (needs track_io_timing).",
                ),
                Metric::counter(
                    "pg_stat_io_writes_total",
                    "writes",
                    "Number of write operations.",
                ),
                Metric::counter(
                    "pg_stat_io_write_bytes_total",
                    "writes * op_bytes",
                    "Bytes of these operations: writes.",
                ).until(17),
                Metric::counter(
                    "pg_stat_io_write_bytes_total",
                    "write_bytes",
                    "Bytes of these operations: writes.",
                ).since(18),
                Metric::counter(
                    "pg_stat_io_write_seconds_total",
                    "write_time / 1000",
                    "Time spent in write operations (needs track_io_timing).",
                ),
                Metric::counter(
                    "pg_stat_io_extends_total",
                    "extends",
                    "Number of relation extend operations.",
                ),
                Metric::counter(
                    "pg_stat_io_extend_bytes_total",
                    "extends * op_bytes",
                    "Bytes of these operations: extends.",
                ).until(17),
                Metric::counter(
                    "pg_stat_io_extend_bytes_total",
                    "extend_bytes",
                    "Bytes of these operations: extends.",
                ).since(18),
                Metric::counter(
                    "pg_stat_io_extend_seconds_total",
                    "extend_time / 1000",
                    "Time spent in extend operations (needs track_io_timing).",
                ),
                Metric::counter(
                    "pg_stat_io_writebacks_total",
                    "writebacks",
                    "Number of units that the kernel was asked to write out.",
                ),
                Metric::counter(
                    "pg_stat_io_hits_total",
                    "hits",
                    "Number of times a block was found in a shared buffer.",
                ),
                Metric::counter(
                    "pg_stat_io_evictions_total",
                    "evictions",
                    "Number of times a block was written out to make its buffer available.",
                ),
                Metric::counter(
                    "pg_stat_io_reuses_total",
                    "reuses",
                    "Number of times a buffer of a ring was reused.",
                ),
                Metric::counter(
                    "pg_stat_io_fsyncs_total",
                    "fsyncs",
                    "Number of fsync calls.",
                ),
                Metric::counter(
                    "pg_stat_io_writeback_seconds_total",
                    "writeback_time / 1000",
                    "Time spent in writeback operations (needs track_io_timing).",
                ),
                Metric::counter(
                    "pg_stat_io_fsync_seconds_total",
                    "fsync_time / 1000",
                    "Time spent in fsync operations (needs track_io_timing).",
                ),
Metric::gauge("pg_stat_io_stats_reset_timestamp_seconds", "extract(epoch FROM stats_reset)", "Unix time at which these statistics were last reset."),
            ],
            from: "FROM pg_catalog.pg_stat_io",
            joins: &[],
            server_label: ServerLabel::Never,
        }),
    ],
};
