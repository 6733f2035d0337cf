//! `pg_stat_slru_*`: the small caches of transaction state.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_slru",
        doc: "Use of the SLRU caches (pg_stat_slru).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Low,
    queries: &[
        Query::Columns(Columns {
            versions: Versions::since(13),
            labels: &[("slru", "name")],
            metrics: &[
                Metric::counter(
                    "pg_stat_slru_blocks_zeroed_total",
                    "blks_zeroed",
                    "Number of blocks zeroed during initializations.",
                ),
                Metric::counter(
                    "pg_stat_slru_blocks_hit_total",
                    "blks_hit",
                    "Number of times a block was found in the cache.",
                ),
                Metric::counter(
                    "pg_stat_slru_blocks_read_total",
                    "blks_read",
                    "Number of blocks read.",
                ),
                Metric::counter(
                    "pg_stat_slru_blocks_written_total",
                    "blks_written",
                    "Number of blocks written.",
                ),
                Metric::counter(
                    "pg_stat_slru_blocks_exists_total",
                    "blks_exists",
                    "Number of blocks checked for existence.",
                ),
                Metric::counter(
                    "pg_stat_slru_flushes_total",
                    "flushes",
                    "Number of flushes of dirty data.",
                ),
                Metric::counter(
                    "pg_stat_slru_truncates_total",
                    "truncates",
                    "Number of truncates.",
                ),
Metric::gauge("pg_stat_slru_stats_reset_timestamp_seconds", "extract(epoch FROM stats_reset)", "Unix time at which these statistics were last reset."),
            ],
            from: "FROM pg_catalog.pg_stat_slru",
            joins: &[],
            server_label: ServerLabel::Never,
        }),
    ],
};
