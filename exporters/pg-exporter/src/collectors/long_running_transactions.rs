//! `pg_long_running_transactions*`: open transactions, and the age of the oldest.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "long_running_transactions",
        doc: "Number of open transactions and age of the oldest, autovacuum not counted (pg_stat_activity).",
        default_enabled: false,
    },
    scope: Scope::Server,
    cost: Cost::Grows("sessions"),
    queries: &[Query::Columns(Columns {
        versions: Versions::since(10),
        labels: &[],
        metrics: &[
            Metric::gauge(
                "pg_long_running_transactions",
                "pg_catalog.count(*)",
                "Number of open transactions.",
            ),
            Metric::gauge(
                "pg_long_running_transactions_oldest_timestamp_seconds",
                "coalesce(pg_catalog.max(extract(epoch FROM pg_catalog.clock_timestamp() - xact_start)), 0)",
                "Age of the oldest open transaction in seconds, in spite of its name; 0 without any.",
            ),
        ],
        from: "FROM pg_catalog.pg_stat_get_activity(NULL)
               WHERE xact_start IS NOT NULL
                 AND pid <> pg_catalog.pg_backend_pid()
                 AND backend_type <> 'autovacuum worker'",
        server_label: ServerLabel::Never,
    })],
};
