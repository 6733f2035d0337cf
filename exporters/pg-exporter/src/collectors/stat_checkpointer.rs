//! `pg_stat_checkpointer_*`: checkpoints and restartpoints. Up to PostgreSQL 16 they are in `pg_stat_bgwriter_*`.

use exporter_kit::collector::Spec;

use crate::read::ONE_ROW;
use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_checkpointer",
        doc: "Checkpoints and restartpoints (pg_stat_checkpointer; from version 17 on).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Low,
    queries: &[Query::Columns(Columns {
        versions: Versions::since(17),
        labels: &[],
        metrics: &[
            Metric::counter(
                "pg_stat_checkpointer_num_timed_total",
                "checkpointer.num_timed",
                "Number of checkpoints that came due by time, also skipped ones.",
            ),
            Metric::counter(
                "pg_stat_checkpointer_num_requested_total",
                "checkpointer.num_requested",
                "Number of requested checkpoints, also skipped ones.",
            ),
            Metric::counter(
                "pg_stat_checkpointer_num_done_total",
                "checkpointer.num_done",
                "Number of checkpoints that have been performed.",
            )
            .since(18),
            Metric::counter(
                "pg_stat_checkpointer_restartpoints_timed_total",
                "checkpointer.restartpoints_timed",
                "Number of restartpoints that came due by time or after a failed one.",
            ),
            Metric::counter(
                "pg_stat_checkpointer_restartpoints_req_total",
                "checkpointer.restartpoints_req",
                "Number of requested restartpoints.",
            ),
            Metric::counter(
                "pg_stat_checkpointer_restartpoints_done_total",
                "checkpointer.restartpoints_done",
                "Number of restartpoints that have been performed.",
            ),
            Metric::counter(
                "pg_stat_checkpointer_write_time_total",
                "checkpointer.write_time",
                "Time spent in checkpoints and restartpoints writing files to disk, in milliseconds.",
            ),
            Metric::counter(
                "pg_stat_checkpointer_sync_time_total",
                "checkpointer.sync_time",
                "Time spent in checkpoints and restartpoints synchronizing files to disk, in milliseconds.",
            ),
            Metric::counter(
                "pg_stat_checkpointer_buffers_written_total",
                "checkpointer.buffers_written",
                "Number of buffers written during checkpoints and restartpoints.",
            ),
            Metric::counter(
                "pg_stat_checkpointer_slru_written_total",
                "checkpointer.slru_written",
                "Number of SLRU buffers written during checkpoints and restartpoints.",
            )
            .since(18),
            Metric::counter(
                "pg_stat_checkpointer_stats_reset_total",
                "coalesce(floor(pg_catalog.date_part('epoch', checkpointer.stats_reset))::bigint, 0)",
                "Unix time at which these statistics were last reset; a timestamp, in spite of its type and name.",
            ),
        ],
        from: ONE_ROW,
        joins: &["LEFT JOIN pg_catalog.pg_stat_checkpointer checkpointer ON true"],
        server_label: ServerLabel::Never,
    })],
};
