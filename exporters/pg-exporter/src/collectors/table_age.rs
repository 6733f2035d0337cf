//! `pg_table_*_age_*`: how far each table is from wraparound, its TOAST table included.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Metric, PgCollector, Query, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "table_age",
        doc: "Age of the oldest transaction and multixact ID of every table of the connected database (pg_class).",
        default_enabled: false,
    },
    queries: &[
        Query::Columns(Columns {
            versions: Versions::ALL,
            labels: &[("datname", "pg_catalog.current_database()"), ("schemaname", "n.nspname"), ("relname", "c.relname")],
            metrics: &[
                Metric::gauge(
                    "pg_table_xid_age_transactions",
                    "greatest(pg_catalog.age(c.relfrozenxid), pg_catalog.age(t.relfrozenxid))",
                    "Age of the oldest transaction ID that has not been frozen.",
                ),
                Metric::gauge(
                    "pg_table_multixact_age_multixacts",
                    "greatest(pg_catalog.mxid_age(c.relminmxid), pg_catalog.mxid_age(t.relminmxid))",
                    "Age of the oldest multixact ID that has not been replaced.",
                ),
            ],
            from: "FROM pg_catalog.pg_class c
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                   LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
                   WHERE c.relkind IN ('r', 'm')
                     AND n.nspname NOT IN ('pg_catalog', 'information_schema')",
            server_label: ServerLabel::Never,
        }),
    ],
};
