//! `pg_stat_recovery_prefetch_*`: blocks read ahead during replay, on a standby.

use exporter_kit::collector::Spec;

use crate::read::ONE_ROW;
use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec { name: "stat_recovery_prefetch", doc: "Blocks prefetched during replay, on a standby (pg_stat_recovery_prefetch; from version 15 on).", default_enabled: true },
    scope: Scope::Server,
    cost: Cost::Low,
    queries: &[Query::Columns(Columns {
            versions: Versions::since(15),
            labels: &[],
            metrics: &[Metric::counter("pg_stat_recovery_prefetch_blocks_total", "prefetch.prefetch", "Number of blocks prefetched because they were not in the buffer pool."), Metric::counter("pg_stat_recovery_prefetch_hits_total", "prefetch.hit", "Number of blocks not prefetched because they were in the buffer pool."), Metric::counter("pg_stat_recovery_prefetch_skipped_init_total", "prefetch.skip_init", "Number of blocks not prefetched because they would be zero-initialized."), Metric::counter("pg_stat_recovery_prefetch_skipped_new_total", "prefetch.skip_new", "Number of blocks not prefetched because they did not exist yet."), Metric::counter("pg_stat_recovery_prefetch_skipped_fpw_total", "prefetch.skip_fpw", "Number of blocks not prefetched because a full page image was in the WAL."), Metric::counter("pg_stat_recovery_prefetch_skipped_rep_total", "prefetch.skip_rep", "Number of blocks not prefetched because they had been lately."), Metric::gauge("pg_stat_recovery_prefetch_wal_distance_bytes", "prefetch.wal_distance", "How many bytes ahead the prefetcher is looking."), Metric::gauge("pg_stat_recovery_prefetch_block_distance", "prefetch.block_distance", "How many blocks ahead the prefetcher is looking."), Metric::gauge("pg_stat_recovery_prefetch_io_depth", "prefetch.io_depth", "Number of prefetches that have started and are not known to have ended."), Metric::gauge("pg_stat_recovery_prefetch_stats_reset_timestamp_seconds", "extract(epoch FROM prefetch.stats_reset)", "Unix time at which these statistics were last reset."),],
            from: ONE_ROW,
            joins: &["LEFT JOIN pg_catalog.pg_stat_get_recovery_prefetch() prefetch ON pg_catalog.pg_is_in_recovery()"],
            server_label: ServerLabel::Never,
        })],
};
