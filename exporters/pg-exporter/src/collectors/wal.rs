//! `pg_wal_*`: WAL segments on disk. Of a regular expression for their names the server would spend more than on listing them.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "wal",
        doc: "Number and size of WAL segments (pg_ls_waldir; needs pg_monitor).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::High("lists the directory of WAL segments"),
    queries: &[Query::Columns(Columns {
        versions: Versions::since(10),
        labels: &[],
        metrics: &[
            Metric::gauge("pg_wal_segments", "pg_catalog.count(*)", "Number of WAL segments."),
            Metric::gauge("pg_wal_size_bytes", "pg_catalog.sum(size)", "Total size of the WAL segments in bytes."),
        ],
        from: "FROM pg_catalog.pg_ls_waldir() WHERE pg_catalog.length(name) = 24 AND pg_catalog.translate(name, '0123456789ABCDEF', '') = ''",
        joins: &[],
        server_label: ServerLabel::Never,
    })],
};
