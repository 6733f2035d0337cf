//! `pg_stat_bgwriter_*`: the background writer, and up to PostgreSQL 16 the checkpointer.

use exporter_kit::collector::Spec;

use crate::read::ONE_ROW;
use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_bgwriter",
        doc: "Buffers written and checkpoints (pg_stat_bgwriter; checkpoints moved to pg_stat_checkpointer in 17).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Low,
    queries: &[Query::Columns(Columns {
        versions: Versions::ALL,
        labels: &[],
        metrics: &[
            Metric::counter(
                "pg_stat_bgwriter_checkpoints_timed_total",
                "pg_catalog.pg_stat_get_bgwriter_timed_checkpoints()",
                "Number of scheduled checkpoints that have been performed.",
            )
            .until(16),
            Metric::counter(
                "pg_stat_bgwriter_checkpoints_req_total",
                "pg_catalog.pg_stat_get_bgwriter_requested_checkpoints()",
                "Number of requested checkpoints that have been performed.",
            )
            .until(16),
            Metric::counter(
                "pg_stat_bgwriter_checkpoint_write_time_total",
                "pg_catalog.pg_stat_get_checkpoint_write_time()",
                "Time spent in checkpoints writing files to disk, in milliseconds.",
            )
            .until(16),
            Metric::counter(
                "pg_stat_bgwriter_checkpoint_sync_time_total",
                "pg_catalog.pg_stat_get_checkpoint_sync_time()",
                "Time spent in checkpoints synchronizing files to disk, in milliseconds.",
            )
            .until(16),
            Metric::counter(
                "pg_stat_bgwriter_buffers_checkpoint_total",
                "pg_catalog.pg_stat_get_bgwriter_buf_written_checkpoints()",
                "Number of buffers written during checkpoints.",
            )
            .until(16),
            Metric::counter(
                "pg_stat_bgwriter_buffers_clean_total",
                "pg_catalog.pg_stat_get_bgwriter_buf_written_clean()",
                "Number of buffers written by the background writer.",
            ),
            Metric::counter(
                "pg_stat_bgwriter_maxwritten_clean_total",
                "pg_catalog.pg_stat_get_bgwriter_maxwritten_clean()",
                "Number of times the background writer stopped a cleaning scan because it had written too many buffers.",
            ),
            Metric::counter(
                "pg_stat_bgwriter_buffers_backend_total",
                "pg_catalog.pg_stat_get_buf_written_backend()",
                "Number of buffers written directly by a backend.",
            )
            .until(16),
            Metric::counter(
                "pg_stat_bgwriter_buffers_backend_fsync_total",
                "pg_catalog.pg_stat_get_buf_fsync_backend()",
                "Number of times a backend had to execute its own fsync call.",
            )
            .until(16),
            Metric::counter(
                "pg_stat_bgwriter_buffers_alloc_total",
                "pg_catalog.pg_stat_get_buf_alloc()",
                "Number of buffers allocated.",
            ),
            Metric::counter(
                "pg_stat_bgwriter_stats_reset_total",
                "coalesce(floor(pg_catalog.date_part('epoch', pg_catalog.pg_stat_get_bgwriter_stat_reset_time()))::bigint, 0)",
                "Unix time at which these statistics were last reset; a timestamp, in spite of its type and name.",
            ),
        ],
        from: ONE_ROW,
        joins: &[],
        server_label: ServerLabel::Never,
    })],
};
