//! `pg_stat_user_indexes_*`: use of every index of the connected database, and whether it can be used at all.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec { name: "stat_user_indexes", doc: "Use of every index, and its valid, unique and primary flags (pg_stat_user_indexes, pg_index).", default_enabled: false },
    scope: Scope::Database,
    cost: Cost::Grows("indexes"),
    queries: &[Query::Columns(Columns {
            versions: Versions::ALL,
            labels: &[("datname", "pg_catalog.current_database()"), ("schemaname", "s.schemaname"), ("relname", "s.relname"), ("indexrelname", "s.indexrelname")],
            metrics: &[Metric::counter("pg_stat_user_indexes_scans_total", "s.idx_scan", "Number of index scans initiated on this index."), Metric::counter("pg_stat_user_indexes_tuples_read_total", "s.idx_tup_read", "Number of index entries returned by scans on this index."), Metric::counter("pg_stat_user_indexes_tuples_fetched_total", "s.idx_tup_fetch", "Number of live table rows fetched by simple scans using this index."), Metric::gauge("pg_stat_user_indexes_last_scan_timestamp_seconds", "extract(epoch FROM s.last_idx_scan)", "Unix time of the last scan of this index.").since(16), Metric::gauge("pg_stat_user_indexes_valid", "i.indisvalid", "Whether queries can use the index; 0 after a failed CREATE INDEX CONCURRENTLY."), Metric::gauge("pg_stat_user_indexes_unique", "i.indisunique", "Whether the index is unique, and so needed whether or not it is scanned."), Metric::gauge("pg_stat_user_indexes_primary", "i.indisprimary", "Whether the index is that of the primary key."),],
            from: "FROM pg_catalog.pg_stat_user_indexes s JOIN pg_catalog.pg_index i ON i.indexrelid = s.indexrelid",
            joins: &[],
            server_label: ServerLabel::Never,
        })],
};
