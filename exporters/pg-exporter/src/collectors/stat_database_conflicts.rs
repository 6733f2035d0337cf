//! `pg_stat_database_conflicts_*`: queries a standby cancelled because of recovery.

use exporter_kit::collector::Spec;

use crate::read::DATABASES;
use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_database_conflicts",
        doc: "Queries cancelled on a standby, by cause (pg_stat_database_conflicts).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("databases"),
    queries: &[Query::Columns(Columns {
        versions: Versions::ALL,
        labels: &[("datid", "d.oid"), ("datname", "d.datname")],
        metrics: &[
            Metric::counter(
                "pg_stat_database_conflicts_confl_tablespace",
                "pg_catalog.pg_stat_get_db_conflict_tablespace(d.oid)",
                "Number of queries in this database canceled due to dropped tablespaces.",
            ),
            Metric::counter(
                "pg_stat_database_conflicts_confl_lock",
                "pg_catalog.pg_stat_get_db_conflict_lock(d.oid)",
                "Number of queries in this database canceled due to lock timeouts.",
            ),
            Metric::counter(
                "pg_stat_database_conflicts_confl_snapshot",
                "pg_catalog.pg_stat_get_db_conflict_snapshot(d.oid)",
                "Number of queries in this database canceled due to old snapshots.",
            ),
            Metric::counter(
                "pg_stat_database_conflicts_confl_bufferpin",
                "pg_catalog.pg_stat_get_db_conflict_bufferpin(d.oid)",
                "Number of queries in this database canceled due to pinned buffers.",
            ),
            Metric::counter(
                "pg_stat_database_conflicts_confl_deadlock",
                "pg_catalog.pg_stat_get_db_conflict_startup_deadlock(d.oid)",
                "Number of queries in this database canceled due to deadlocks.",
            ),
            Metric::untyped(
                "pg_stat_database_conflicts_confl_active_logicalslot",
                "pg_catalog.pg_stat_get_db_conflict_logicalslot(d.oid)",
                "Number of uses of logical slots in this database canceled due to old snapshots or a too low wal_level.",
            )
            .since(16),
        ],
        from: DATABASES,
        joins: &[],
        server_label: ServerLabel::Always,
    })],
};
