//! `pg_stat_user_functions_*`: calls of functions; needs `track_functions`. Overloads are added up.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec { name: "stat_user_functions", doc: "Calls and time of functions (pg_stat_user_functions; needs track_functions).", default_enabled: false },
    scope: Scope::Database,
    cost: Cost::Grows("functions"),
    queries: &[Query::Columns(Columns {
            versions: Versions::ALL,
            labels: &[("datname", "pg_catalog.current_database()"), ("schemaname", "schemaname"), ("funcname", "funcname")],
            metrics: &[Metric::counter("pg_stat_user_functions_calls_total", "pg_catalog.sum(calls)", "Number of calls."), Metric::counter("pg_stat_user_functions_seconds_total", "pg_catalog.sum(total_time) / 1000", "Time spent in the function and the functions it called."), Metric::counter("pg_stat_user_functions_self_seconds_total", "pg_catalog.sum(self_time) / 1000", "Time spent in the function itself."),],
            from: "FROM pg_catalog.pg_stat_user_functions GROUP BY 2, 3",
            joins: &[],
            server_label: ServerLabel::Never,
        })],
};
