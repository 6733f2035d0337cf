//! `pg_replication_*`: how far a standby is behind.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "replication",
        doc: "Role of the server and replay lag of a standby.",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Low,
    queries: &[Query::Columns(Columns {
        versions: Versions::since(10),
        labels: &[],
        metrics: &[
            Metric::gauge(
                "pg_replication_lag_seconds",
                // Without a receiver, having replayed all that was received says nothing about the primary.
                "CASE WHEN NOT standby OR replayed AND receiving OR age < 0 THEN 0 ELSE age END",
                "Replication lag behind the primary in seconds: age of the last replayed transaction; 0 on a primary and \
                 when all that a running WAL receiver received is replayed.",
            )
            .before_0_20("CASE WHEN NOT standby OR replayed THEN 0 ELSE greatest(0, age) END"),
            Metric::gauge("pg_replication_is_replica", "standby", "Whether the server is a replica."),
            Metric::gauge(
                "pg_replication_last_replay_seconds",
                "CASE WHEN NOT standby OR age IS NOT NULL THEN greatest(0, age) END",
                "Age of the last replayed transaction in seconds.",
            )
            .before_0_20("greatest(0, age)"),
        ],
        from: "FROM (SELECT pg_catalog.pg_is_in_recovery() AS standby,
                            pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn() AS replayed,
                            r.pid IS NOT NULL AS receiving,
                            extract(epoch FROM pg_catalog.now() - pg_catalog.pg_last_xact_replay_timestamp()) AS age
                     FROM pg_catalog.pg_stat_get_wal_receiver() r) state",
        server_label: ServerLabel::Never,
    })],
};
