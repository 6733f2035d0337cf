//! `pg_replication_*`: how far a standby is behind.

use exporter_kit::collector::Spec;

use crate::read::ONE_ROW;
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
                "CASE WHEN NOT replay.standby OR replay.replayed AND receiver.pid IS NOT NULL OR replay.age < 0 THEN 0
                      ELSE replay.age END",
                "Replication lag behind the primary in seconds: age of the last replayed transaction; 0 on a primary and \
                 when all that a running WAL receiver received is replayed.",
            )
            .before_0_20("CASE WHEN NOT replay.standby OR replay.replayed THEN 0 ELSE greatest(0, replay.age) END"),
            Metric::gauge("pg_replication_is_replica", "replay.standby", "Whether the server is a replica."),
            Metric::gauge(
                "pg_replication_last_replay_seconds",
                "CASE WHEN NOT replay.standby OR replay.age IS NOT NULL THEN greatest(0, replay.age) END",
                "Age of the last replayed transaction in seconds.",
            )
            .before_0_20("greatest(0, replay.age)"),
        ],
        from: ONE_ROW,
        joins: &[
            "LEFT JOIN pg_catalog.pg_stat_get_wal_receiver() receiver ON true",
            "LEFT JOIN (SELECT pg_catalog.pg_is_in_recovery() AS standby,
                               pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn() AS replayed,
                               extract(epoch FROM pg_catalog.now() - pg_catalog.pg_last_xact_replay_timestamp())
                               AS age) replay ON true",
        ],
        server_label: ServerLabel::Never,
    })],
};
