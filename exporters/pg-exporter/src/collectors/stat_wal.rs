//! `pg_stat_wal_*`: WAL generation. From version 18 on, writes and syncs are in `pg_stat_io_*`.

use exporter_kit::collector::Spec;

use crate::read::ONE_ROW;
use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_wal",
        doc: "WAL records, bytes, writes and syncs (pg_stat_wal; from version 14 on).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Low,
    queries: &[
        Query::Columns(Columns {
            versions: Versions::since(14),
            labels: &[],
            metrics: &[
                Metric::counter(
                    "pg_stat_wal_records_total",
                    "wal.wal_records",
                    "Number of WAL records generated.",
                ),
                Metric::counter(
                    "pg_stat_wal_full_page_images_total",
                    "wal.wal_fpi",
                    "Number of full page images generated.",
                ),
                Metric::counter(
                    "pg_stat_wal_bytes_total",
                    "wal.wal_bytes",
                    "Bytes of WAL generated.",
                ),
                Metric::counter(
                    "pg_stat_wal_buffers_full_total",
                    "wal.wal_buffers_full",
                    "Number of times WAL was written because WAL buffers were full.",
                ),
                Metric::counter(
                    "pg_stat_wal_writes_total",
                    "wal.wal_write",
                    "Number of times WAL buffers were written.",
                ).until(17),
                Metric::counter(
                    "pg_stat_wal_syncs_total",
                    "wal.wal_sync",
                    "Number of times WAL was synced.",
                ).until(17),
                Metric::counter(
                    "pg_stat_wal_write_seconds_total",
                    "wal.wal_write_time / 1000",
                    "Time spent writing WAL (needs track_wal_io_timing).",
                ).until(17),
                Metric::counter(
                    "pg_stat_wal_sync_seconds_total",
                    "wal.wal_sync_time / 1000",
                    "Time spent syncing WAL (needs track_wal_io_timing).",
                ).until(17),
                Metric::gauge(
                    "pg_stat_wal_stats_reset_timestamp_seconds",
                    "extract(epoch FROM wal.stats_reset)",
                    "Unix time at which these statistics were last reset.",
                ),
            ],
            from: ONE_ROW,
            joins: &["LEFT JOIN pg_catalog.pg_stat_get_wal() wal ON true"],
            server_label: ServerLabel::Never,
        }),
    ],
};
