//! `pg_xmin_horizon_*`: who keeps dead rows from being vacuumed.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "xmin_horizon",
        doc: "Age of the oldest transaction held by sessions, standbys, slots and prepared transactions.",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("sessions"),
    queries: &[
        Query::Columns(Columns {
            versions: Versions::since(10),
            labels: &[("holder", "k.holder")],
            metrics: &[
                Metric::gauge(
                    "pg_xmin_horizon_age_transactions",
                    "coalesce(pg_catalog.max(h.age), 0)",
                    "Age of the oldest transaction ID that holders of this kind keep; 0 without any.",
                ),
            ],
            from: "FROM (VALUES ('session'), ('standby'), ('prepared_transaction'), ('slot'), ('slot_catalog')) k(holder)
                   LEFT JOIN (SELECT CASE backend_type WHEN 'walsender' THEN 'standby' ELSE 'session' END AS holder,
                                     pg_catalog.age(backend_xmin) AS age
                              FROM pg_catalog.pg_stat_get_activity(NULL)
                              WHERE pid <> pg_catalog.pg_backend_pid()
                              UNION ALL
                              SELECT 'prepared_transaction', pg_catalog.age(transaction) FROM pg_catalog.pg_prepared_xact()
                              UNION ALL
                              SELECT 'slot', pg_catalog.age(xmin) FROM pg_catalog.pg_get_replication_slots()
                              UNION ALL
                              SELECT 'slot_catalog', pg_catalog.age(catalog_xmin) FROM pg_catalog.pg_get_replication_slots()
                             ) h ON h.holder = k.holder
                   GROUP BY k.holder",
            server_label: ServerLabel::Never,
        }),
    ],
};
