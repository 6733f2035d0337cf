//! `pg_stat_replication_slots_*`: what logical slots decoded, streamed and had to spill to disk.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec { name: "stat_replication_slots", doc: "Decoded, streamed and spilled transactions of logical slots (pg_stat_replication_slots).", default_enabled: true },
    scope: Scope::Server,
    cost: Cost::Grows("slots"),
    queries: &[Query::Columns(Columns {
            versions: Versions::since(14),
            labels: &[("slot_name", "slot_name")],
            metrics: &[Metric::counter("pg_stat_replication_slots_spill_transactions_total", "spill_txns", "Number of transactions spilled to disk because logical_decoding_work_mem was exceeded."), Metric::counter("pg_stat_replication_slots_spills_total", "spill_count", "Number of times transactions were spilled to disk."), Metric::counter("pg_stat_replication_slots_spill_bytes_total", "spill_bytes", "Bytes of changes spilled to disk."), Metric::counter("pg_stat_replication_slots_stream_transactions_total", "stream_txns", "Number of transactions streamed while in progress."), Metric::counter("pg_stat_replication_slots_streams_total", "stream_count", "Number of times transactions were streamed while in progress."), Metric::counter("pg_stat_replication_slots_stream_bytes_total", "stream_bytes", "Bytes of changes streamed while in progress."), Metric::counter("pg_stat_replication_slots_transactions_total", "total_txns", "Number of decoded transactions sent to the output plugin."), Metric::counter("pg_stat_replication_slots_bytes_total", "total_bytes", "Bytes of changes sent to the output plugin."), Metric::gauge("pg_stat_replication_slots_stats_reset_timestamp_seconds", "extract(epoch FROM stats_reset)", "Unix time at which these statistics were last reset."),],
            from: "FROM pg_catalog.pg_stat_replication_slots",
            server_label: ServerLabel::Never,
        })],
};
