//! `pg_recovery_*`: what a standby knows of its own state. Without these, a lag of 0 may mean that the primary is gone.
//! On a primary there are no samples.

use exporter_kit::collector::Spec;

use crate::read::ONE_ROW;
use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec { name: "recovery", doc: "Receiver, last message, replay and pause of a standby.", default_enabled: true },
    scope: Scope::Server,
    cost: Cost::Low,
    queries: &[Query::Columns(Columns {
            versions: Versions::since(10),
            labels: &[],
            metrics: &[Metric::gauge("pg_recovery_receiver_streaming", "CASE WHEN pg_catalog.pg_is_in_recovery() THEN coalesce(receiver.status = 'streaming', false) END", "Whether a WAL receiver streams from the upstream server; 0 also where WAL comes from an archive."), Metric::gauge("pg_recovery_last_message_age_seconds", "CASE WHEN pg_catalog.pg_is_in_recovery()
                      THEN extract(epoch FROM pg_catalog.clock_timestamp() - receiver.last_msg_receipt_time) END", "Time since the upstream server sent its last message; absent without a receiver."), Metric::gauge("pg_recovery_replay_paused", "CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_is_wal_replay_paused() END", "Whether replay is paused."), Metric::gauge("pg_recovery_replay_backlog_bytes", "CASE WHEN pg_catalog.pg_is_in_recovery() AND pg_catalog.pg_last_wal_receive_lsn() IS NOT NULL
                      THEN greatest(0, pg_catalog.pg_last_wal_receive_lsn() - pg_catalog.pg_last_wal_replay_lsn()) END", "Bytes of WAL received and not replayed; absent where nothing was ever streamed."), Metric::gauge("pg_recovery_replay_lsn_bytes", "CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() - '0/0' END", "Last WAL position replayed, in bytes since the beginning of WAL."),],
            from: ONE_ROW,
            joins: &["LEFT JOIN pg_catalog.pg_stat_get_wal_receiver() receiver ON true"],
            server_label: ServerLabel::Never,
        })],
};
