//! What `--names=clean` calls the families whose name, type or unit redis_exporter chose badly, without the namespace.

use exporter_kit::names::CleanName;

pub(crate) const CLEAN: &[CleanName] = &[
    CleanName::gauge("aof_current_rewrite_duration_sec", "aof_current_rewrite_duration_seconds"),
    CleanName::gauge("aof_last_rewrite_duration_sec", "aof_last_rewrite_duration_seconds"),
    CleanName::gauge("current_eviction_exceeded_time_ms", "current_eviction_exceeded_time_seconds")
        .times(MILLI),
    CleanName::counter("eviction_exceeded_time_ms_total", "eviction_exceeded_time_seconds_total")
        .times(MILLI),
    CleanName::counter("expire_cycle_cpu_time_ms_total", "expire_cycle_cpu_time_seconds_total").times(MILLI),
    CleanName::gauge("instantaneous_eventloop_cycles_per_sec", "instantaneous_eventloop_cycles_per_second"),
    CleanName::gauge(
        "last_key_groups_scrape_duration_milliseconds",
        "last_key_groups_scrape_duration_seconds",
    )
    .times(MILLI),
    CleanName::gauge("memory_used_vm_total", "memory_used_vm_bytes"),
    CleanName::gauge("migrate_cached_sockets_total", "migrate_cached_sockets"),
    CleanName::gauge("rdb_current_bgsave_duration_sec", "rdb_current_bgsave_duration_seconds"),
    CleanName::gauge("rdb_last_bgsave_duration_sec", "rdb_last_bgsave_duration_seconds"),
    CleanName::gauge(
        "sentinel_master_setting_down_after_milliseconds",
        "sentinel_master_setting_down_after_seconds",
    )
    .times(MILLI),
    CleanName::counter("search_gc_run_ms_total", "search_gc_run_seconds_total").times(MILLI),
    CleanName::counter("search_indexing_time_ms_total", "search_indexing_time_seconds_total").times(MILLI),
    CleanName::counter("search_query_execution_time_ms_total", "search_query_execution_time_seconds_total")
        .times(MILLI),
    CleanName::counter("total_error_replies", "error_replies_total"),
    CleanName::counter("total_reads_processed", "reads_processed_total"),
    CleanName::counter("total_writes_processed", "writes_processed_total"),
    CleanName::counter("*", "_total"),
];

const MILLI: f64 = 0.001;

#[cfg(test)]
mod tests {
    use super::CLEAN;

    #[test]
    fn the_documentation_has_each_of_them() {
        let page = include_str!("../../../docs/compatibility.md");
        for name in CLEAN {
            assert!(page.contains(&format!("| `redis_{}`", name.peer())), "{}", name.peer());
        }
    }
}
