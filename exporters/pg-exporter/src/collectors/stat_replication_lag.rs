//! `pg_stat_replication_*_lag_seconds`: how long standbys take to write, flush and replay. A standby that is idle and has
//! caught up has no sample.

use exporter_kit::collector::Spec;

use crate::read::STANDBYS;
use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

/// The server's position. A standby passes on what it has, replayed or not.
const HERE: &str = "LEFT JOIN (SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
                             THEN greatest(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())
                             ELSE pg_catalog.pg_current_wal_lsn() END AS lsn) here ON true";

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
            labels: &[("application_name", "a.application_name"), ("client_addr", "pg_catalog.host(a.client_addr)"), ("state", "w.state")],
            metrics: &[
                Metric::gauge(
                    "pg_stat_replication_write_lag_seconds",
                    "extract(epoch FROM w.write_lag)",
                    "Longest time between flushing WAL locally and hearing that the standby has written it.",
                ).max(),
                Metric::gauge(
                    "pg_stat_replication_flush_lag_seconds",
                    "extract(epoch FROM w.flush_lag)",
                    "Longest time between flushing WAL locally and hearing that the standby has flushed it.",
                ).max(),
                Metric::gauge(
                    "pg_stat_replication_replay_lag_seconds",
                    "extract(epoch FROM w.replay_lag)",
                    "Longest time between flushing WAL locally and hearing that the standby has replayed it.",
                ).max(),
                Metric::gauge("pg_stat_replication_sent_lag_bytes", "here.lsn - w.sent_lsn", "Bytes of WAL that the standby furthest behind has not been sent.").max(),
                Metric::gauge("pg_stat_replication_write_lag_bytes", "here.lsn - w.write_lsn", "Bytes of WAL that the standby furthest behind has not written.").max(),
                Metric::gauge("pg_stat_replication_flush_lag_bytes", "here.lsn - w.flush_lsn", "Bytes of WAL that the standby furthest behind has not flushed.").max(),
                Metric::gauge("pg_stat_replication_replay_lag_bytes", "here.lsn - w.replay_lsn", "Bytes of WAL that the standby furthest behind has not replayed.").max(),
                Metric::gauge("pg_stat_replication_standbys", "1", "Number of standbys with these labels.").sum(),
                Metric::gauge("pg_stat_replication_last_reply_timestamp_seconds", "extract(epoch FROM w.reply_time)", "Unix time at which the standby that has been silent longest sent its last reply.").min(),
            ],
            from: STANDBYS,
            joins: &[HERE],
            server_label: ServerLabel::Never,
        }),
        Query::Columns(Columns {
            versions: Versions::since(10),
            labels: &[("application_name", "a.application_name"), ("sync_state", "w.sync_state")],
            metrics: &[Metric::gauge("pg_stat_replication_sync_standbys", "1", "Number of standbys in this state of synchronous replication.").sum(),
                Metric::gauge("pg_stat_replication_sync_priority", "w.sync_priority", "Priority of being chosen as synchronous standby; 0 for asynchronous and quorum-based ones.").min(),],
            from: STANDBYS,
            joins: &[],
            server_label: ServerLabel::Never,
        }),
    ],
};
