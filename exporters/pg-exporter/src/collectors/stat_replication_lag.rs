//! `pg_stat_replication_*_lag_seconds`: how long standbys take to write, flush and replay. A standby that is idle and has
//! caught up has no sample.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Metric, PgCollector, Query, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_replication_lag",
        doc: "Write, flush and replay lag of every streaming standby in seconds (pg_stat_replication).",
        default_enabled: true,
    },
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
            ],
            from: "FROM pg_catalog.pg_stat_replication GROUP BY 1, 2, 3",
            server_label: ServerLabel::Never,
        }),
    ],
};
