//! `pg_roles_*`: connection limits of roles.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec { name: "roles", doc: "Connection limit of every role (pg_roles).", default_enabled: true },
    scope: Scope::Server,
    cost: Cost::Grows("roles"),
    queries: &[Query::Columns(Columns {
        versions: Versions::ALL,
        labels: &[("rolname", "rolname")],
        metrics: &[Metric::gauge(
            "pg_roles_connection_limit",
            "rolconnlimit",
            "Connection limit of the role; -1 means none.",
        )],
        from: "FROM pg_catalog.pg_roles",
        joins: &[],
        server_label: ServerLabel::Never,
    })],
};
