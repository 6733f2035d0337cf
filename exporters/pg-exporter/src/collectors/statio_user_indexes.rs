//! `pg_statio_user_indexes_*`: blocks read and hit of every index of the connected database.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "statio_user_indexes",
        doc: "Blocks read and hit of every index (pg_statio_user_indexes).",
        default_enabled: false,
    },
    scope: Scope::Database,
    cost: Cost::Grows("indexes"),
    queries: &[Query::Columns(Columns {
        versions: Versions::ALL,
        labels: &[("schemaname", "schemaname"), ("relname", "relname"), ("indexrelname", "indexrelname")],
        metrics: &[
            Metric::counter(
                "pg_statio_user_indexes_idx_blks_read_total",
                "idx_blks_read",
                "Number of disk blocks read from this index.",
            ),
            Metric::counter(
                "pg_statio_user_indexes_idx_blks_hit_total",
                "idx_blks_hit",
                "Number of buffer hits in this index.",
            ),
        ],
        from: "FROM pg_catalog.pg_statio_user_indexes",
        joins: &[],
        server_label: ServerLabel::Never,
    })],
};
