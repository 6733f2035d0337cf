//! `pg_blocked_sessions*`: sessions that wait for a lock.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "blocked_sessions",
        doc: "Sessions that wait for a lock, and the longest wait (pg_locks).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("locks"),
    queries: &[
        Query::Columns(Columns {
            versions: Versions::ALL,
            labels: &[],
            metrics: &[
                Metric::gauge(
                    "pg_blocked_sessions",
                    "pg_catalog.count(DISTINCT pid)",
                    "Number of sessions that wait for a lock.",
                ),
                Metric::gauge(
                    "pg_blocked_sessions_longest_wait_seconds",
                    "coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.min(waitstart)), 0)",
                    "Longest time that a session has been waiting for a lock.",
                ).since(14),
            ],
            from: "FROM pg_catalog.pg_lock_status() WHERE NOT granted",
            server_label: ServerLabel::Never,
        }),
    ],
};
