//! The table of INFO fields that are one sample without labels: field, family, type and unit scale.
//! Everything with labels or with a rule of its own has its collector in `collectors/`.

/// The type of a family, and whether redis_exporter 1.86 gives it another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Goes up and down.
    Gauge,
    /// Only grows, until the server restarts or its statistics are reset.
    Counter,
    /// Only grows, yet redis_exporter 1.86 says `gauge`: a counter here, a gauge with `--compat=1.86`.
    Cumulative,
}

/// One row: an INFO field and the family it becomes.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The key in INFO.
    pub field: &'static str,
    /// The family's name without the namespace prefix.
    pub family: &'static str,
    /// The family's type.
    pub kind: Type,
    /// The server's unit is this many times smaller than the family's.
    pub divisor: f64,
    /// Only with `-include-system-metrics`.
    pub system: bool,
    /// redis_exporter 1.86 does not have it.
    pub after_1_86: bool,
}

impl Field {
    const fn new(kind: Type, field: &'static str, family: &'static str) -> Self {
        Self { field, family, kind, divisor: 1.0, system: false, after_1_86: false }
    }

    const fn per(mut self, divisor: f64) -> Self {
        self.divisor = divisor;
        self
    }

    const fn system(mut self) -> Self {
        self.system = true;
        self
    }

    const fn after_1_86(mut self) -> Self {
        self.after_1_86 = true;
        self
    }
}

const fn gauge(field: &'static str, family: &'static str) -> Field {
    Field::new(Type::Gauge, field, family)
}

const fn counter(field: &'static str, family: &'static str) -> Field {
    Field::new(Type::Counter, field, family)
}

const fn cumulative(field: &'static str, family: &'static str) -> Field {
    Field::new(Type::Cumulative, field, family)
}

/// Every mapped field, by section of INFO.
#[rustfmt::skip]
pub const FIELDS: &[Field] = &[
    // Server
    gauge("configured_hz", "configured_hz"),
    gauge("hz", "hz"),
    gauge("io_threads_active", "io_threads_active"),
    gauge("process_id", "process_id"),
    gauge("uptime_in_seconds", "uptime_in_seconds"),
    // Clients
    gauge("blocked_clients", "blocked_clients"),
    gauge("client_recent_max_input_buffer", "client_recent_max_input_buffer_bytes"),
    gauge("client_recent_max_output_buffer", "client_recent_max_output_buffer_bytes"),
    gauge("clients_in_timeout_table", "clients_in_timeout_table"),
    gauge("connected_clients", "connected_clients"),
    gauge("maxclients", "max_clients"),
    gauge("paused_timeout_milliseconds", "clients_paused_timeout_seconds").per(1e3).after_1_86(),
    gauge("pubsub_clients", "pubsub_clients"),
    gauge("total_blocking_keys", "total_blocking_keys"),
    gauge("total_blocking_keys_on_nokey", "total_blocking_keys_on_nokey"),
    gauge("total_watched_keys", "total_watched_keys"),
    gauge("tracking_clients", "tracking_clients"),
    gauge("watching_clients", "watching_clients"),
    // Memory
    cumulative("lazyfreed_objects", "lazyfreed_objects"),
    gauge("active_defrag_running", "active_defrag_running"),
    gauge("allocator_active", "allocator_active_bytes"),
    gauge("allocator_allocated", "allocator_allocated_bytes"),
    gauge("allocator_frag_bytes", "allocator_frag_bytes"),
    gauge("allocator_frag_ratio", "allocator_frag_ratio"),
    gauge("allocator_muzzy", "allocator_muzzy_bytes"),
    gauge("allocator_resident", "allocator_resident_bytes"),
    gauge("allocator_rss_bytes", "allocator_rss_bytes"),
    gauge("allocator_rss_ratio", "allocator_rss_ratio"),
    gauge("lazyfree_pending_objects", "lazyfree_pending_objects"),
    gauge("maxfragmentationmemory_desired_reservation", "memory_max_fragmentation_reservation_desired_bytes"),
    gauge("maxfragmentationmemory_reservation", "memory_max_fragmentation_reservation_bytes"),
    gauge("maxmemory", "memory_max_bytes"),
    gauge("maxmemory_desired_reservation", "memory_max_reservation_desired_bytes"),
    gauge("maxmemory_reservation", "memory_max_reservation_bytes"),
    gauge("mem_aof_buffer", "mem_aof_buffer_bytes"),
    gauge("mem_clients_normal", "mem_clients_normal"),
    gauge("mem_clients_slaves", "mem_clients_slaves"),
    gauge("mem_cluster_links", "mem_cluster_links_bytes"),
    gauge("mem_cluster_slot_export", "mem_cluster_slot_export_bytes").after_1_86(),
    gauge("mem_cluster_slot_import", "mem_cluster_slot_import_bytes").after_1_86(),
    gauge("mem_cluster_slot_migration_input_buffer", "mem_cluster_slot_migration_input_buffer_bytes").after_1_86(),
    gauge("mem_cluster_slot_migration_input_buffer_peak", "mem_cluster_slot_migration_input_buffer_peak_bytes").after_1_86(),
    gauge("mem_cluster_slot_migration_output_buffer", "mem_cluster_slot_migration_output_buffer_bytes").after_1_86(),
    gauge("mem_fragmentation_bytes", "mem_fragmentation_bytes"),
    gauge("mem_fragmentation_ratio", "mem_fragmentation_ratio"),
    gauge("mem_not_counted_for_evict", "mem_not_counted_for_eviction_bytes"),
    gauge("mem_overhead_db_hashtable_rehashing", "mem_overhead_db_hashtable_rehashing_bytes"),
    gauge("mem_replica_full_sync_buffer", "mem_replica_full_sync_buffer_bytes").after_1_86(),
    gauge("mem_replicas_repl_buffer", "mem_replicas_repl_buffer_bytes").after_1_86(),
    gauge("mem_replication_backlog", "mem_replication_backlog_bytes"),
    gauge("mem_total_replication_buffers", "mem_total_replication_buffers_bytes"),
    gauge("number_of_cached_scripts", "number_of_cached_scripts"),
    gauge("number_of_functions", "number_of_functions"),
    gauge("number_of_libraries", "number_of_libraries"),
    gauge("rss_overhead_bytes", "rss_overhead_bytes").after_1_86(),
    gauge("rss_overhead_ratio", "rss_overhead_ratio").after_1_86(),
    gauge("total_system_memory", "total_system_memory_bytes").system(),
    gauge("used_memory", "memory_used_bytes"),
    gauge("used_memory_dataset", "memory_used_dataset_bytes"),
    gauge("used_memory_functions", "memory_used_functions_bytes"),
    gauge("used_memory_lua", "memory_used_lua_bytes"),
    gauge("used_memory_overhead", "memory_used_overhead_bytes"),
    gauge("used_memory_peak", "memory_used_peak_bytes"),
    gauge("used_memory_peak_time", "memory_used_peak_timestamp_seconds").after_1_86(),
    gauge("used_memory_rss", "memory_used_rss_bytes"),
    gauge("used_memory_scripts", "memory_used_scripts_bytes"),
    gauge("used_memory_scripts_eval", "memory_used_scripts_eval_bytes"),
    gauge("used_memory_startup", "memory_used_startup_bytes"),
    gauge("used_memory_vm_eval", "memory_used_vm_eval_bytes"),
    gauge("used_memory_vm_functions", "memory_used_vm_functions_bytes"),
    gauge("used_memory_vm_total", "memory_used_vm_total"),
    // Persistence
    counter("aof_rewrites", "aof_rewrites_total").after_1_86(),
    cumulative("aof_delayed_fsync", "aof_delayed_fsync"),
    cumulative("rdb_saves", "rdb_saves_total"),
    gauge("aof_base_size", "aof_base_size_bytes"),
    gauge("aof_buffer_length", "aof_buffer_length"),
    gauge("aof_current_rewrite_time_sec", "aof_current_rewrite_duration_sec"),
    gauge("aof_current_size", "aof_current_size_bytes"),
    gauge("aof_enabled", "aof_enabled"),
    gauge("aof_last_bgrewrite_status", "aof_last_bgrewrite_status"),
    gauge("aof_last_cow_size", "aof_last_cow_size_bytes"),
    gauge("aof_last_rewrite_time_sec", "aof_last_rewrite_duration_sec"),
    gauge("aof_last_write_status", "aof_last_write_status"),
    gauge("aof_pending_bio_fsync", "aof_pending_bio_fsync"),
    gauge("aof_pending_rewrite", "aof_pending_rewrite"),
    gauge("aof_rewrite_buffer_length", "aof_rewrite_buffer_length"),
    gauge("aof_rewrite_in_progress", "aof_rewrite_in_progress"),
    gauge("aof_rewrite_scheduled", "aof_rewrite_scheduled"),
    gauge("aof_rewrites_consecutive_failures", "aof_rewrites_consecutive_failures").after_1_86(),
    gauge("async_loading", "async_loading"),
    gauge("current_cow_peak", "current_cow_peak_bytes").after_1_86(),
    gauge("current_cow_size", "current_cow_size_bytes").after_1_86(),
    gauge("current_save_keys_processed", "current_save_keys_processed").after_1_86(),
    gauge("current_save_keys_total", "current_save_keys").after_1_86(),
    gauge("loading", "loading_dump_file"),
    gauge("loading_eta_seconds", "loading_eta_seconds").after_1_86(),
    gauge("loading_loaded_bytes", "loading_loaded_bytes").after_1_86(),
    gauge("loading_total_bytes", "loading_bytes").after_1_86(),
    gauge("module_fork_in_progress", "module_fork_in_progress"),
    gauge("module_fork_last_cow_size", "module_fork_last_cow_size"),
    gauge("rdb_bgsave_in_progress", "rdb_bgsave_in_progress"),
    gauge("rdb_changes_since_last_save", "rdb_changes_since_last_save"),
    gauge("rdb_current_bgsave_time_sec", "rdb_current_bgsave_duration_sec"),
    gauge("rdb_last_bgsave_status", "rdb_last_bgsave_status"),
    gauge("rdb_last_bgsave_time_sec", "rdb_last_bgsave_duration_sec"),
    gauge("rdb_last_cow_size", "rdb_last_cow_size_bytes"),
    gauge("rdb_last_load_keys_expired", "rdb_last_load_expired_keys"),
    gauge("rdb_last_load_keys_loaded", "rdb_last_load_loaded_keys"),
    gauge("rdb_last_save_time", "rdb_last_save_timestamp_seconds"),
    gauge("rdb_saves_consecutive_failures", "rdb_saves_consecutive_failures").after_1_86(),
    // Stats
    counter("acl_access_denied_auth", "acl_access_denied_auth_total"),
    counter("acl_access_denied_channel", "acl_access_denied_channel_total"),
    counter("acl_access_denied_cmd", "acl_access_denied_cmd_total"),
    counter("acl_access_denied_db", "acl_access_denied_db_total").after_1_86(),
    counter("acl_access_denied_key", "acl_access_denied_key_total"),
    counter("acl_access_denied_tls_cert", "acl_access_denied_tls_cert_total").after_1_86(),
    counter("client_output_buffer_limit_disconnections", "client_output_buffer_limit_disconnections_total"),
    counter("client_query_buffer_limit_disconnections", "client_query_buffer_limit_disconnections_total"),
    counter("dump_payload_sanitizations", "dump_payload_sanitizations"),
    counter("eventloop_cycles", "eventloop_cycles_total"),
    counter("eventloop_duration_cmd_sum", "eventloop_duration_cmd_sum_usec_total"),
    counter("eventloop_duration_sum", "eventloop_duration_sum_usec_total"),
    counter("evicted_clients", "evicted_clients_total"),
    counter("evicted_keys", "evicted_keys_total"),
    counter("evicted_scripts", "evicted_scripts_total"),
    counter("expire_cycle_cpu_milliseconds", "expire_cycle_cpu_time_ms_total"),
    counter("expired_fields", "expired_fields_total").after_1_86(),
    counter("expired_keys", "expired_keys_total"),
    counter("expired_keys_active", "expired_keys_active_total").after_1_86(),
    counter("expired_subkeys", "expired_subkeys_total"),
    counter("expired_subkeys_active", "expired_subkeys_active_total").after_1_86(),
    counter("expired_time_cap_reached_count", "expired_time_cap_reached_total"),
    counter("io_threaded_accept_processed", "io_threaded_accept_processed_total").after_1_86(),
    counter("io_threaded_freed_objects", "io_threaded_freed_objects_total").after_1_86(),
    counter("io_threaded_poll_processed", "io_threaded_poll_processed_total").after_1_86(),
    counter("io_threaded_reads_processed", "io_threaded_reads_processed"),
    counter("io_threaded_total_prefetch_batches", "io_threaded_prefetch_batches_total").after_1_86(),
    counter("io_threaded_total_prefetch_entries", "io_threaded_prefetch_entries_total").after_1_86(),
    counter("io_threaded_writes_processed", "io_threaded_writes_processed"),
    counter("keyspace_hits", "keyspace_hits_total"),
    counter("keyspace_misses", "keyspace_misses_total"),
    counter("rejected_connections", "rejected_connections_total"),
    counter("reply_buffer_expands", "reply_buffer_expands_total"),
    counter("reply_buffer_shrinks", "reply_buffer_shrinks_total"),
    counter("total_active_defrag_time", "active_defrag_seconds_total").per(1e3).after_1_86(),
    counter("total_commands_processed", "commands_processed_total"),
    counter("total_connections_received", "connections_received_total"),
    counter("total_error_replies", "total_error_replies"),
    counter("total_eviction_exceeded_time", "eviction_exceeded_time_ms_total"),
    counter("total_forks", "forks_total").after_1_86(),
    counter("total_net_cluster_slot_export_bytes", "net_cluster_slot_export_bytes_total").after_1_86(),
    counter("total_net_cluster_slot_import_bytes", "net_cluster_slot_import_bytes_total").after_1_86(),
    counter("total_net_input_bytes", "net_input_bytes_total"),
    counter("total_net_output_bytes", "net_output_bytes_total"),
    counter("total_net_repl_input_bytes", "net_repl_input_bytes_total"),
    counter("total_net_repl_output_bytes", "net_repl_output_bytes_total"),
    counter("total_reads_processed", "total_reads_processed"),
    counter("total_writes_processed", "total_writes_processed"),
    counter("unexpected_error_replies", "unexpected_error_replies"),
    cumulative("active_defrag_hits", "defrag_hits"),
    cumulative("active_defrag_key_hits", "defrag_key_hits"),
    cumulative("active_defrag_key_misses", "defrag_key_misses"),
    cumulative("active_defrag_misses", "defrag_misses"),
    cumulative("sync_full", "replica_resyncs_full"),
    cumulative("sync_partial_err", "replica_partial_resync_denied"),
    cumulative("sync_partial_ok", "replica_partial_resync_accepted"),
    gauge("current_eviction_exceeded_time", "current_eviction_exceeded_time_ms"),
    gauge("expired_keys_with_volatile_items_stale_perc", "expired_keys_with_expiring_items_stale_percentage").after_1_86(),
    gauge("expired_stale_perc", "expired_stale_percentage"),
    gauge("instantaneous_eventloop_cycles_per_sec", "instantaneous_eventloop_cycles_per_sec"),
    gauge("instantaneous_eventloop_duration_usec", "instantaneous_eventloop_duration_usec"),
    gauge("latest_fork_usec", "latest_fork_seconds").per(1e6),
    gauge("migrate_cached_sockets", "migrate_cached_sockets_total"),
    gauge("pubsub_channels", "pubsub_channels"),
    gauge("pubsub_patterns", "pubsub_patterns"),
    gauge("pubsubshard_channels", "pubsubshard_channels"),
    gauge("replicas_waiting_psync", "replicas_waiting_psync").after_1_86(),
    gauge("slave_expires_tracked_keys", "slave_expires_tracked_keys"),
    gauge("slot_migration_fork_in_progress", "slot_migration_fork_in_progress").after_1_86(),
    gauge("tracking_total_items", "tracking_total_items"),
    gauge("tracking_total_keys", "tracking_total_keys"),
    gauge("tracking_total_prefixes", "tracking_total_prefixes"),
    // Replication
    counter("master_total_sync_attempts", "master_sync_attempts_total").after_1_86(),
    counter("total_disconnect_time_sec", "master_disconnected_seconds_total").after_1_86(),
    gauge("connected_slaves", "connected_slaves"),
    gauge("master_current_sync_attempts", "master_current_sync_attempts").after_1_86(),
    gauge("master_link_down_since_seconds", "master_link_down_since_seconds").after_1_86(),
    gauge("master_link_up_since_seconds", "master_link_up_since_seconds").after_1_86(),
    gauge("master_repl_offset", "master_repl_offset"),
    gauge("master_sync_last_io_seconds_ago", "master_sync_last_io_seconds_ago").after_1_86(),
    gauge("master_sync_left_bytes", "master_sync_left_bytes").after_1_86(),
    gauge("master_sync_read_bytes", "master_sync_read_bytes").after_1_86(),
    gauge("master_sync_total_bytes", "master_sync_bytes").after_1_86(),
    gauge("min_slaves_good_slaves", "min_slaves_good_slaves").after_1_86(),
    gauge("repl_backlog_active", "repl_backlog_is_active"),
    gauge("repl_backlog_first_byte_offset", "repl_backlog_first_byte_offset"),
    gauge("repl_backlog_histlen", "repl_backlog_history_bytes"),
    gauge("repl_backlog_size", "replication_backlog_bytes"),
    gauge("replica_full_sync_buffer_peak", "replica_full_sync_buffer_peak_bytes").after_1_86(),
    gauge("replica_full_sync_buffer_size", "replica_full_sync_buffer_bytes").after_1_86(),
    gauge("replicas_repl_buffer_peak", "replicas_repl_buffer_peak_bytes").after_1_86(),
    gauge("replicas_repl_buffer_size", "replicas_repl_buffer_bytes").after_1_86(),
    gauge("second_repl_offset", "second_repl_offset"),
    gauge("slave_priority", "slave_priority"),
    gauge("slave_read_repl_offset", "slave_read_repl_offset").after_1_86(),
    // CPU
    counter("used_active_time_main_thread", "active_time_main_thread_seconds_total").after_1_86(),
    counter("used_cpu_sys", "cpu_sys_seconds_total"),
    counter("used_cpu_sys_children", "cpu_sys_children_seconds_total"),
    counter("used_cpu_sys_main_thread", "cpu_sys_main_thread_seconds_total"),
    counter("used_cpu_user", "cpu_user_seconds_total"),
    counter("used_cpu_user_children", "cpu_user_children_seconds_total"),
    counter("used_cpu_user_main_thread", "cpu_user_main_thread_seconds_total"),
    // KeyDB
    counter("cached_keys", "cached_keys_total"),
    counter("storage_provider_read_hits", "storage_provider_read_hits"),
    counter("storage_provider_read_misses", "storage_provider_read_misses"),
    gauge("current_client_thread", "current_client_thread"),
    gauge("long_lock_waits", "long_lock_waits_total"),
    gauge("server_threads", "server_threads_total"),
    // Older servers
    gauge("client_biggest_input_buf", "client_biggest_input_buf"),
    gauge("client_longest_output_list", "client_longest_output_list"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn fields_and_families_are_unique() {
        let fields: HashSet<_> = FIELDS.iter().map(|row| row.field).collect();
        let families: HashSet<_> = FIELDS.iter().map(|row| row.family).collect();
        assert_eq!((fields.len(), families.len()), (FIELDS.len(), FIELDS.len()));
    }
}
