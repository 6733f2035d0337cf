//! `pg_stat_replication_slots_*`: what logical slots decoded, streamed and had to spill to disk.

use exporter_kit::collector::Spec;

use crate::read::SLOTS;
use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec { name: "stat_replication_slots", doc: "Decoded, streamed and spilled transactions of logical slots (pg_stat_replication_slots).", default_enabled: true },
    scope: Scope::Server,
    cost: Cost::Grows("slots"),
    queries: &[Query::Columns(Columns {
            versions: Versions::since(14),
            labels: &[("slot_name", "s.slot_name")],
            metrics: &[Metric::counter("pg_stat_replication_slots_spill_transactions_total", "stat.spill_txns", "Number of transactions spilled to disk because logical_decoding_work_mem was exceeded."), Metric::counter("pg_stat_replication_slots_spills_total", "stat.spill_count", "Number of times transactions were spilled to disk."), Metric::counter("pg_stat_replication_slots_spill_bytes_total", "stat.spill_bytes", "Bytes of changes spilled to disk."), Metric::counter("pg_stat_replication_slots_stream_transactions_total", "stat.stream_txns", "Number of transactions streamed while in progress."), Metric::counter("pg_stat_replication_slots_streams_total", "stat.stream_count", "Number of times transactions were streamed while in progress."), Metric::counter("pg_stat_replication_slots_stream_bytes_total", "stat.stream_bytes", "Bytes of changes streamed while in progress."), Metric::counter("pg_stat_replication_slots_transactions_total", "stat.total_txns", "Number of decoded transactions sent to the output plugin."), Metric::counter("pg_stat_replication_slots_bytes_total", "stat.total_bytes", "Bytes of changes sent to the output plugin."), Metric::gauge("pg_stat_replication_slots_stats_reset_timestamp_seconds", "extract(epoch FROM stat.stats_reset)", "Unix time at which these statistics were last reset."),],
            from: SLOTS,
            joins: &["LEFT JOIN LATERAL pg_catalog.pg_stat_get_replication_slot(s.slot_name) stat ON s.datoid IS NOT NULL"],
            server_label: ServerLabel::Never,
        })],
};
