//! `pg_table_*`: how far each table is from wraparound, its TOAST table included. Limits of single tables
//! (`autovacuum_freeze_max_age` as a storage parameter) are not looked at.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec { name: "table_age", doc: "Age of every table and distance to the wraparound limits (pg_class).", default_enabled: false },
    scope: Scope::Database,
    cost: Cost::Grows("tables"),
    queries: &[Query::Columns(Columns {
            versions: Versions::ALL,
            labels: &[("datname", "pg_catalog.current_database()"), ("schemaname", "n.nspname"), ("relname", "c.relname")],
            metrics: &[Metric::gauge("pg_table_xid_age_transactions", "greatest(pg_catalog.age(c.relfrozenxid), pg_catalog.age(t.relfrozenxid))", "Age of the oldest transaction ID that has not been frozen."), Metric::gauge("pg_table_xid_to_autovacuum_transactions", "pg_catalog.current_setting('autovacuum_freeze_max_age')::bigint - greatest(pg_catalog.age(c.relfrozenxid), pg_catalog.age(t.relfrozenxid))", "Transactions until autovacuum freezes by force; negative once it should have."), Metric::gauge("pg_table_xid_to_stop_transactions", "(2147483648 - 3000000) - greatest(pg_catalog.age(c.relfrozenxid), pg_catalog.age(t.relfrozenxid))", "Transactions until the server assigns no more transaction IDs."), Metric::gauge("pg_table_multixact_age_multixacts", "greatest(pg_catalog.mxid_age(c.relminmxid), pg_catalog.mxid_age(t.relminmxid))", "Age of the oldest multixact ID that has not been replaced."), Metric::gauge("pg_table_multixact_to_autovacuum_multixacts", "pg_catalog.current_setting('autovacuum_multixact_freeze_max_age')::bigint - greatest(pg_catalog.mxid_age(c.relminmxid), pg_catalog.mxid_age(t.relminmxid))", "Multixacts until autovacuum freezes by force; negative once it should have."), Metric::gauge("pg_table_multixact_to_stop_multixacts", "(2147483648 - 3000000) - greatest(pg_catalog.mxid_age(c.relminmxid), pg_catalog.mxid_age(t.relminmxid))", "Multixacts until the server assigns no more multixact IDs."),],
            from: "FROM pg_catalog.pg_class c
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                   LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
                   WHERE c.relkind IN ('r', 'm')
                     AND n.nspname NOT IN ('pg_catalog', 'information_schema')",
            joins: &[],
            server_label: ServerLabel::Never,
        })],
};
