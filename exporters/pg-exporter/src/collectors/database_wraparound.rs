//! `pg_database_wraparound_*`: how far each database is from transaction ID wraparound.

use exporter_kit::collector::Spec;

use crate::read::DATABASES;
use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "database_wraparound",
        doc: "Age of the oldest transaction and multixact ID of every database (pg_database).",
        default_enabled: false,
    },
    scope: Scope::Server,
    cost: Cost::Grows("databases"),
    queries: &[Query::Columns(Columns {
        versions: Versions::ALL,
        labels: &[("datname", "d.datname")],
        metrics: &[
            Metric::gauge(
                "pg_database_wraparound_age_datfrozenxid_seconds",
                "CASE WHEN d.datallowconn THEN pg_catalog.age(d.datfrozenxid) END",
                "Age of the oldest transaction ID that has not been frozen; in transactions, in spite of its name.",
            ),
            Metric::gauge(
                "pg_database_wraparound_age_datminmxid_seconds",
                "CASE WHEN d.datallowconn THEN pg_catalog.mxid_age(d.datminmxid) END",
                "Age of the oldest multixact ID that has not been replaced; in multixacts, in spite of its name.",
            ),
        ],
        from: DATABASES,
        joins: &[],
        server_label: ServerLabel::Never,
    })],
};
