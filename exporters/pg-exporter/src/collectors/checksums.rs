//! `pg_checksum_*`: corrupt pages found. Without data checksums there are no samples.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "checksums",
        doc: "Data page checksum failures by database (pg_stat_database).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("databases"),
    queries: &[
        Query::Columns(Columns {
            versions: Versions::since(12),
            labels: &[("datname", "datname")],
            metrics: &[
                Metric::counter(
                    "pg_checksum_failures_total",
                    "checksum_failures",
                    "Number of data page checksum failures; shared objects have an empty datname.",
                ),
                Metric::gauge(
                    "pg_checksum_last_failure_timestamp_seconds",
                    "extract(epoch FROM checksum_last_failure)",
                    "Unix time of the last data page checksum failure.",
                ),
            ],
            from: "FROM pg_catalog.pg_stat_database",
            server_label: ServerLabel::Never,
        }),
    ],
};
