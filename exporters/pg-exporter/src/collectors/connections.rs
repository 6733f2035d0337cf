//! `pg_connections_*`: how many more clients can connect.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "connections",
        doc: "Connections in use, reserved and left (max_connections).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("sessions"),
    queries: &[
        Query::Columns(Columns {
            versions: Versions::since(10),
            labels: &[],
            metrics: &[
                Metric::gauge(
                    "pg_connections_limit",
                    "m.maximum",
                    "Number of connections the server allows (max_connections).",
                ),
                Metric::gauge(
                    "pg_connections_used",
                    "u.used",
                    "Number of client connections.",
                ),
                Metric::gauge(
                    "pg_connections_reserved",
                    "m.reserved",
                    "Number of connections that ordinary roles cannot use.",
                ),
                Metric::gauge(
                    "pg_connections_available",
                    "greatest(0, m.maximum - m.reserved - u.used)",
                    "Number of connections left for ordinary roles.",
                ),
            ],
            from: "FROM (SELECT pg_catalog.current_setting('max_connections')::int AS maximum,
                                pg_catalog.current_setting('superuser_reserved_connections')::int
                                + coalesce(pg_catalog.current_setting('reserved_connections', true)::int, 0) AS reserved) m
                   CROSS JOIN (SELECT pg_catalog.count(*) AS used
                               FROM pg_catalog.pg_stat_get_activity(NULL)
                               WHERE backend_type = 'client backend') u",
            server_label: ServerLabel::Never,
        }),
    ],
};
