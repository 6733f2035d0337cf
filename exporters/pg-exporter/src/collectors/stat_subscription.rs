//! `pg_stat_subscription_*`: subscriptions of logical replication, their workers, errors and conflicts.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

/// Each subscription, once for each of its workers.
const SUBSCRIPTIONS: &str = "FROM pg_catalog.pg_stat_subscription s";

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec { name: "stat_subscription", doc: "Workers, positions, errors and conflicts of subscriptions (pg_stat_subscription, pg_stat_subscription_stats).", default_enabled: true },
    scope: Scope::Server,
    cost: Cost::Grows("subscriptions"),
    queries: &[Query::Columns(Columns {
            versions: Versions::since(10),
            labels: &[("subname", "s.subname")],
            metrics: &[Metric::gauge("pg_stat_subscription_workers", "(s.pid IS NOT NULL)::int", "Number of running workers; 0 when the subscription does not run.").sum(), Metric::gauge("pg_stat_subscription_received_lsn_bytes", "s.received_lsn - '0/0'", "Last WAL position received, in bytes since the beginning of WAL.").max(), Metric::gauge("pg_stat_subscription_latest_end_lsn_bytes", "s.latest_end_lsn - '0/0'", "Last WAL position reported to the publisher, in bytes since the beginning of WAL.").max(), Metric::gauge("pg_stat_subscription_last_message_sent_timestamp_seconds", "extract(epoch FROM s.last_msg_send_time)", "Unix time at which the publisher sent its last message.").max(), Metric::gauge("pg_stat_subscription_last_message_received_timestamp_seconds", "extract(epoch FROM s.last_msg_receipt_time)", "Unix time at which the last message was received.").max(), Metric::gauge("pg_stat_subscription_latest_end_timestamp_seconds", "extract(epoch FROM s.latest_end_time)", "Unix time of the last position reported to the publisher.").max(),],
            from: SUBSCRIPTIONS,
            joins: &[],
            server_label: ServerLabel::Never,
        }), Query::Columns(Columns {
            versions: Versions::since(15),
            labels: &[("subname", "s.subname")],
            metrics: &[Metric::counter("pg_stat_subscription_apply_errors_total", "stat.apply_error_count", "Number of errors while applying changes.").max(), Metric::counter("pg_stat_subscription_sync_errors_total", "stat.sync_error_count", "Number of errors while copying tables at the start.").max(), Metric::counter("pg_stat_subscription_conflicts_insert_exists_total", "stat.confl_insert_exists", "Number of conflicts of the kind insert_exists.").max().since(18), Metric::counter("pg_stat_subscription_conflicts_update_origin_differs_total", "stat.confl_update_origin_differs", "Number of conflicts of the kind update_origin_differs.").max().since(18), Metric::counter("pg_stat_subscription_conflicts_update_exists_total", "stat.confl_update_exists", "Number of conflicts of the kind update_exists.").max().since(18), Metric::counter("pg_stat_subscription_conflicts_update_missing_total", "stat.confl_update_missing", "Number of conflicts of the kind update_missing.").max().since(18), Metric::counter("pg_stat_subscription_conflicts_delete_origin_differs_total", "stat.confl_delete_origin_differs", "Number of conflicts of the kind delete_origin_differs.").max().since(18), Metric::counter("pg_stat_subscription_conflicts_delete_missing_total", "stat.confl_delete_missing", "Number of conflicts of the kind delete_missing.").max().since(18), Metric::counter("pg_stat_subscription_conflicts_multiple_unique_conflicts_total", "stat.confl_multiple_unique_conflicts", "Number of conflicts of the kind multiple_unique_conflicts.").max().since(18), Metric::gauge("pg_stat_subscription_stats_reset_timestamp_seconds", "extract(epoch FROM stat.stats_reset)", "Unix time at which these statistics were last reset.").max(),],
            from: SUBSCRIPTIONS,
            joins: &["LEFT JOIN LATERAL pg_catalog.pg_stat_get_subscription_stats(s.subid) stat ON true"],
            server_label: ServerLabel::Never,
        })],
};
