//! `pg_stat_archiver_*`: WAL archiving.

use exporter_kit::collector::Spec;

use crate::read::ONE_ROW;
use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_archiver",
        doc: "Archived and failed WAL segments, age of the last archived one (pg_stat_archiver).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Low,
    queries: &[Query::Columns(Columns {
        versions: Versions::ALL,
        labels: &[],
        metrics: &[
            Metric::counter(
                "pg_stat_archiver_archived_count",
                "archiver.archived_count",
                "Number of WAL files that have been successfully archived.",
            ),
            Metric::counter(
                "pg_stat_archiver_failed_count",
                "archiver.failed_count",
                "Number of failed attempts for archiving WAL files.",
            ),
            Metric::gauge(
                "pg_stat_archiver_last_archive_age",
                "extract(epoch FROM pg_catalog.now() - archiver.last_archived_time)",
                "Time in seconds since the last WAL segment was archived.",
            )
            .nan_before_0_20(),
            Metric::gauge(
                "pg_stat_archiver_last_archived_timestamp_seconds",
                "extract(epoch FROM archiver.last_archived_time)",
                "Unix time of the last archived WAL file.",
            ),
            Metric::gauge(
                "pg_stat_archiver_last_failed_timestamp_seconds",
                "extract(epoch FROM archiver.last_failed_time)",
                "Unix time of the last failed attempt to archive.",
            ),
            Metric::gauge(
                "pg_stat_archiver_stats_reset_timestamp_seconds",
                "extract(epoch FROM archiver.stats_reset)",
                "Unix time at which these statistics were last reset.",
            ),
        ],
        from: ONE_ROW,
        joins: &["LEFT JOIN pg_catalog.pg_stat_get_archiver() archiver ON true"],
        server_label: ServerLabel::Until0_19,
    })],
};
