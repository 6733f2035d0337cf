//! `pg_stat_activity_autovacuum_*`: autovacuum workers at work.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_activity_autovacuum",
        doc: "Start and number of running autovacuums by relation (pg_stat_activity).",
        default_enabled: false,
    },
    scope: Scope::Server,
    cost: Cost::Grows("sessions"),
    queries: &[Query::Columns(Columns {
        versions: Versions::since(10),
        // The text of a worker is `autovacuum: VACUUM schema.relation (to prevent wraparound)`.
        labels: &[(
            "relname",
            "pg_catalog.regexp_replace(pg_catalog.split_part(query, '.', 2), ' [(]to prevent wraparound[)]$', '')",
        )],
        metrics: &[
            Metric::gauge(
                "pg_stat_activity_autovacuum_timestamp_seconds",
                "extract(epoch FROM pg_catalog.min(xact_start))",
                "Unix time at which the oldest running autovacuum of a relation of this name started.",
            ),
            Metric::gauge(
                "pg_stat_activity_autovacuum_workers",
                "pg_catalog.count(*)",
                "Number of running autovacuums of relations of this name, whatever their database and schema.",
            ),
        ],
        from: "FROM pg_catalog.pg_stat_get_activity(NULL)
               WHERE backend_type = 'autovacuum worker' AND query LIKE 'autovacuum:%'
               GROUP BY 1",
        joins: &[],
        server_label: ServerLabel::Never,
    })],
};
