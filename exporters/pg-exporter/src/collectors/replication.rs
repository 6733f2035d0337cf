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
                "CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN 0
                      WHEN pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn()
                           AND EXISTS (SELECT FROM pg_catalog.pg_stat_get_wal_receiver() WHERE pid IS NOT NULL) THEN 0
                      ELSE greatest(0, extract(epoch FROM pg_catalog.now() - pg_catalog.pg_last_xact_replay_timestamp()))
                 END",
                "Replication lag behind the primary in seconds; 0 on a primary, and when a WAL receiver runs and all it received is replayed.",
            )
            // Without a receiver nobody knows what there would be to replay.
            .corrects(
                "CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN 0
                      WHEN pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn() THEN 0
                      ELSE greatest(0, extract(epoch FROM pg_catalog.now() - pg_catalog.pg_last_xact_replay_timestamp()))
                 END",
            ),
            Metric::gauge(
                "pg_replication_is_replica",
                "pg_catalog.pg_is_in_recovery()",
                "Whether the server is a replica.",
            ),
            Metric::gauge(
                "pg_replication_last_replay_seconds",
                "greatest(0, extract(epoch FROM pg_catalog.now() - pg_catalog.pg_last_xact_replay_timestamp()))",
                "Age of the last replayed transaction in seconds.",
            ),
        ],
        from: "",
        server_label: ServerLabel::Never,
    })],
};
