//! `pg_wraparound_*`: how far each database is from the limits of transaction and multixact IDs. On a standby, ages are
//! those of the primary as far as it was replayed. Settings are in subqueries so that they are looked up once, not for every row.

use exporter_kit::collector::Spec;

use crate::read::DATABASES;
use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec { name: "wraparound", doc: "Age of every database and distance to the wraparound limits (pg_database).", default_enabled: true },
    scope: Scope::Server,
    cost: Cost::Grows("databases"),
    queries: &[Query::Columns(Columns {
            versions: Versions::ALL,
            labels: &[("datname", "d.datname")],
            metrics: &[Metric::gauge("pg_wraparound_xid_age_transactions", "pg_catalog.age(d.datfrozenxid)", "Age of the oldest transaction ID that has not been frozen."), Metric::gauge("pg_wraparound_xid_to_autovacuum_transactions", "(SELECT pg_catalog.current_setting('autovacuum_freeze_max_age')::bigint) - pg_catalog.age(d.datfrozenxid)", "Transactions until autovacuum freezes by force; negative once it should have."), Metric::gauge("pg_wraparound_xid_to_stop_transactions", "(2147483648 - 3000000) - pg_catalog.age(d.datfrozenxid)", "Transactions until the server assigns no more transaction IDs."), Metric::gauge("pg_wraparound_multixact_age_multixacts", "pg_catalog.mxid_age(d.datminmxid)", "Age of the oldest multixact ID that has not been replaced."), Metric::gauge("pg_wraparound_multixact_to_autovacuum_multixacts", "(SELECT pg_catalog.current_setting('autovacuum_multixact_freeze_max_age')::bigint) - pg_catalog.mxid_age(d.datminmxid)", "Multixacts until autovacuum freezes by force; negative once it should have."), Metric::gauge("pg_wraparound_multixact_to_stop_multixacts", "(2147483648 - 3000000) - pg_catalog.mxid_age(d.datminmxid)", "Multixacts until the server assigns no more multixact IDs."),],
            from: DATABASES,
            joins: &[],
            server_label: ServerLabel::Never,
        })],
};
