//! More of `pg_stat_user_tables`: what postgres_exporter leaves out.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec { name: "stat_user_tables_detail", doc: "Inserts since vacuum, last scans, and time in vacuum and analyze of every table (pg_stat_user_tables).", default_enabled: false },
    scope: Scope::Database,
    cost: Cost::Grows("tables"),
    queries: &[Query::Columns(Columns {
            versions: Versions::since(13),
            labels: &[("datname", "pg_catalog.current_database()"), ("schemaname", "schemaname"), ("relname", "relname")],
            metrics: &[Metric::gauge("pg_stat_user_tables_n_ins_since_vacuum", "n_ins_since_vacuum", "Estimated number of rows inserted since the last vacuum."), Metric::counter("pg_stat_user_tables_newpage_updates_total", "n_tup_newpage_upd", "Number of rows updated where the new version went to another page.").since(16), Metric::gauge("pg_stat_user_tables_last_seq_scan_timestamp_seconds", "extract(epoch FROM last_seq_scan)", "Unix time of the last sequential scan.").since(16), Metric::gauge("pg_stat_user_tables_last_idx_scan_timestamp_seconds", "extract(epoch FROM last_idx_scan)", "Unix time of the last index scan.").since(16), Metric::counter("pg_stat_user_tables_vacuum_seconds_total", "total_vacuum_time / 1000", "Time spent in manual vacuums.").since(18), Metric::counter("pg_stat_user_tables_autovacuum_seconds_total", "total_autovacuum_time / 1000", "Time spent in vacuums by the autovacuum daemon.").since(18), Metric::counter("pg_stat_user_tables_analyze_seconds_total", "total_analyze_time / 1000", "Time spent in manual analyzes.").since(18), Metric::counter("pg_stat_user_tables_autoanalyze_seconds_total", "total_autoanalyze_time / 1000", "Time spent in analyzes by the autovacuum daemon.").since(18),],
            from: "FROM pg_catalog.pg_stat_user_tables",
            joins: &[],
            server_label: ServerLabel::Never,
        })],
};
