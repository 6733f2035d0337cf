//! `pg_postmaster_*`: when the server was started.

use exporter_kit::collector::Spec;

use crate::read::ONE_ROW;
use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "postmaster",
        doc: "Start time of the server (pg_postmaster_start_time).",
        default_enabled: false,
    },
    scope: Scope::Server,
    cost: Cost::Low,
    queries: &[Query::Columns(Columns {
        versions: Versions::ALL,
        labels: &[],
        metrics: &[Metric::gauge(
            "pg_postmaster_start_time_seconds",
            "extract(epoch FROM pg_catalog.pg_postmaster_start_time())",
            "Unix time at which the server started.",
        )],
        from: ONE_ROW,
        joins: &[],
        server_label: ServerLabel::Never,
    })],
};
