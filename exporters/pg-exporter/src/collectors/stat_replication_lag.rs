//! `pg_stat_replication_*_lag_seconds`: how long standbys take to write, flush and replay. A standby that is idle and has
//! caught up has no sample.
//!
//! Read from the functions behind pg_stat_replication, WAL senders first: the view reads all sessions, also where there is
//! no standby.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_replication_lag",
        doc: "Lag of every streaming standby in seconds and bytes, and its synchronous state (pg_stat_replication).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("standbys"),
    queries: &[
        Query::Columns(Columns {
            versions: Versions::since(10),
            labels: &[("application_name", "application_name"), ("client_addr", "pg_catalog.host(client_addr)"), ("state", "state")],
            metrics: &[
                Metric::gauge(
                    "pg_stat_replication_write_lag_seconds",
                    "extract(epoch FROM pg_catalog.max(write_lag))",
                    "Longest time between flushing WAL locally and hearing that the standby has written it.",
                ),
                Metric::gauge(
                    "pg_stat_replication_flush_lag_seconds",
                    "extract(epoch FROM pg_catalog.max(flush_lag))",
                    "Longest time between flushing WAL locally and hearing that the standby has flushed it.",
                ),
                Metric::gauge(
                    "pg_stat_replication_replay_lag_seconds",
                    "extract(epoch FROM pg_catalog.max(replay_lag))",
                    "Longest time between flushing WAL locally and hearing that the standby has replayed it.",
                ),
                Metric::gauge("pg_stat_replication_sent_lag_bytes", "pg_catalog.max(lsn - sent_lsn)", "Bytes of WAL that the standby furthest behind has not been sent."),
                Metric::gauge("pg_stat_replication_write_lag_bytes", "pg_catalog.max(lsn - write_lsn)", "Bytes of WAL that the standby furthest behind has not written."),
                Metric::gauge("pg_stat_replication_flush_lag_bytes", "pg_catalog.max(lsn - flush_lsn)", "Bytes of WAL that the standby furthest behind has not flushed."),
                Metric::gauge("pg_stat_replication_replay_lag_bytes", "pg_catalog.max(lsn - replay_lsn)", "Bytes of WAL that the standby furthest behind has not replayed."),
                Metric::gauge("pg_stat_replication_standbys", "pg_catalog.count(*)", "Number of standbys with these labels."),
                Metric::gauge("pg_stat_replication_last_reply_timestamp_seconds", "extract(epoch FROM pg_catalog.min(reply_time))", "Unix time at which the standby that has been silent longest sent its last reply."),
            ],
            // A standby passes on what it has, replayed or not.
            from: "FROM (SELECT w.*, a.application_name, a.client_addr,
                                CASE WHEN pg_catalog.pg_is_in_recovery()
                                     THEN greatest(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())
                                     ELSE pg_catalog.pg_current_wal_lsn() END AS lsn
                         FROM pg_catalog.pg_stat_get_wal_senders() w
                         CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(w.pid) a) standbys
                   GROUP BY 1, 2, 3",
            server_label: ServerLabel::Never,
        }),
        Query::Columns(Columns {
            versions: Versions::since(10),
            labels: &[("application_name", "application_name"), ("sync_state", "sync_state")],
            metrics: &[Metric::gauge("pg_stat_replication_sync_standbys", "pg_catalog.count(*)", "Number of standbys in this state of synchronous replication."),
                Metric::gauge("pg_stat_replication_sync_priority", "pg_catalog.min(sync_priority)", "Priority of being chosen as synchronous standby; 0 for asynchronous and quorum-based ones."),],
            from: "FROM pg_catalog.pg_stat_get_wal_senders() w CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(w.pid) a GROUP BY 1, 2",
            server_label: ServerLabel::Never,
        }),
    ],
};
