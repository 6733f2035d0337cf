//! `redis_module_info` and the families of known modules, from INFO MODULES.

use exposition::Kind::{Counter, Gauge};
use exposition::{Desc, Kind, Snapshot};

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::info::{Info, part, value};
use crate::options::Options;
use crate::request::{Request, Server, text};

static SPEC: Spec = Spec { name: "modules", doc: "The modules of the server", default_enabled: false };

/// Type, field and family.
#[rustfmt::skip]
const FIELDS: &[(Kind, &str, &str)] = &[
    (Gauge, "bf_bloom_capacity_across_objects", "bf_bloom_capacity_across_objects"),
    (Counter, "bf_bloom_defrag_hits", "bf_bloom_defrag_hits_total"),
    (Counter, "bf_bloom_defrag_misses", "bf_bloom_defrag_misses_total"),
    (Gauge, "bf_bloom_num_filters_across_objects", "bf_bloom_num_filters_across_objects"),
    (Gauge, "bf_bloom_num_items_across_objects", "bf_bloom_num_items_across_objects"),
    (Gauge, "bf_bloom_num_objects", "bf_bloom_num_objects"),
    (Gauge, "bf_bloom_total_memory_bytes", "bf_bloom_total_memory_bytes"),
    (Gauge, "json_num_documents", "json_num_documents"),
    (Gauge, "json_total_memory_bytes", "json_total_memory_bytes"),
    (Counter, "search_total_active_queries", "search_active_queries_total"),
    (Gauge, "search_bytes_collected", "search_collected_bytes"),
    (Counter, "search_total_cycles", "search_cycles_total"),
    (Gauge, "search_dialect_1", "search_dialect_1"),
    (Gauge, "search_dialect_2", "search_dialect_2"),
    (Gauge, "search_dialect_3", "search_dialect_3"),
    (Gauge, "search_dialect_4", "search_dialect_4"),
    (Gauge, "search_errors_indexing_failures", "search_errors_indexing_failures"),
    (Counter, "search_failure_requests_count", "search_failure_requests_count"),
    (Gauge, "search_gc_bytes_collected", "search_gc_collected_bytes"),
    (Counter, "search_gc_total_cycles", "search_gc_cycles_total"),
    (Gauge, "search_gc_marked_deleted_vectors", "search_gc_marked_deleted_vectors"),
    (Counter, "search_gc_total_ms_run", "search_gc_run_ms_total"),
    (Gauge, "search_gc_total_docs_not_collected", "search_gc_total_docs_not_collected"),
    (Gauge, "search_global_idle", "search_global_idle"),
    (Gauge, "search_global_idle_internal", "search_global_idle_internal"),
    (Gauge, "search_global_idle_user", "search_global_idle_user"),
    (Gauge, "search_global_total", "search_global_total"),
    (Gauge, "search_global_total_internal", "search_global_total_internal"),
    (Gauge, "search_global_total_user", "search_global_total_user"),
    (Counter, "search_hnsw_add_exceptions_count", "search_hnsw_add_exceptions_count"),
    (Counter, "search_hnsw_create_exceptions_count", "search_hnsw_create_exceptions_count"),
    (Counter, "search_hnsw_modify_exceptions_count", "search_hnsw_modify_exceptions_count"),
    (Counter, "search_hnsw_remove_exceptions_count", "search_hnsw_remove_exceptions_count"),
    (Counter, "search_hnsw_search_exceptions_count", "search_hnsw_search_exceptions_count"),
    (Counter, "search_hybrid_requests_count", "search_hybrid_requests_count"),
    (Counter, "search_total_indexing_time", "search_indexing_time_ms_total"),
    (Counter, "search_inline_filtering_requests_count", "search_inline_filtering_requests_count"),
    (Gauge, "search_largest_memory_index", "search_largest_memory_index_bytes"),
    (Gauge, "search_number_of_active_indexes", "search_number_of_active_indexes"),
    (Gauge, "search_number_of_active_indexes_indexing", "search_number_of_active_indexes_indexing"),
    (Gauge, "search_number_of_active_indexes_running_queries", "search_number_of_active_indexes_running_queries"),
    (Gauge, "search_number_of_attributes", "search_number_of_attributes"),
    (Gauge, "search_number_of_indexes", "search_number_of_indexes"),
    (Counter, "search_total_queries_processed", "search_queries_processed_total"),
    (Counter, "search_total_query_commands", "search_query_commands_total"),
    (Counter, "search_total_query_execution_time_ms", "search_query_execution_time_ms_total"),
    (Gauge, "search_query_queue_size", "search_query_queue_size"),
    (Counter, "search_rdb_load_failure_cnt", "search_rdb_load_failure_count"),
    (Counter, "search_rdb_load_success_cnt", "search_rdb_load_success_count"),
    (Counter, "search_rdb_save_failure_cnt", "search_rdb_save_failure_count"),
    (Counter, "search_rdb_save_success_cnt", "search_rdb_save_success_count"),
    (Counter, "search_reader_resumed_cnt", "search_reader_resumed_count"),
    (Counter, "search_total_ms_run", "search_run_ms_total"),
    (Gauge, "search_smallest_memory_index", "search_smallest_memory_index_bytes"),
    (Gauge, "search_string_interning_store_size", "search_string_interning_store_size"),
    (Counter, "search_successful_requests_count", "search_successful_requests_count"),
    (Gauge, "search_total_active_write_threads", "search_total_active_write_threads"),
    (Gauge, "search_total_indexed_documents", "search_total_indexed_documents"),
    (Gauge, "search_total_num_docs_in_indexes", "search_total_num_docs_in_indexes"),
    (Gauge, "search_used_memory_bytes", "search_used_memory_bytes"),
    (Gauge, "search_used_memory_indexes", "search_used_memory_indexes_bytes"),
    (Gauge, "search_used_memory_vector_index", "search_used_memory_vector_index_bytes"),
    (Counter, "search_vector_externing_deferred_entry_cnt", "search_vector_externing_deferred_entry_count"),
    (Counter, "search_vector_externing_entry_count", "search_vector_externing_entry_count"),
    (Counter, "search_vector_externing_generated_value_cnt", "search_vector_externing_generated_value_count"),
    (Gauge, "search_vector_externing_hash_extern_errors", "search_vector_externing_hash_extern_errors"),
    (Counter, "search_vector_externing_lru_promote_cnt", "search_vector_externing_lru_promote_count"),
    (Gauge, "search_vector_externing_num_lru_entries", "search_vector_externing_num_lru_entries"),
    (Counter, "search_worker_pool_suspend_cnt", "search_worker_pool_suspend_count"),
    (Gauge, "search_writer_queue_size", "search_writer_queue_size"),
    (Counter, "search_writer_resumed_cnt", "search_writer_resumed_count"),
    (Counter, "search_writer_suspension_expired_cnt", "search_writer_suspension_expired_count"),
];

/// Labels of a module, as INFO calls them.
const LABELS: &[&str] = &["name", "ver", "api", "filters", "usedby", "using"];

pub(super) struct Modules {
    module: Desc,
    fields: Vec<(&'static str, Desc)>,
}

impl Modules {
    pub(super) fn new(options: &Options) -> Self {
        let desc = |(kind, field, family): &(Kind, &'static str, &str)| {
            // In-flight searches go up and down, whatever 1.86 calls them.
            let kind = if field.contains("active_queries") && !options.compat_1_86() { Gauge } else { *kind };
            (*field, options.desc(kind, family, &format!("Field {field} of INFO MODULES.")))
        };
        Self {
            module: options.gauge("module_info", "A module of the server; the value is 1."),
            fields: FIELDS.iter().map(desc).collect(),
        }
    }
}

impl Section for Modules {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn requests(&self, server: &Server) -> Vec<Request> {
        if server.sentinel { Vec::new() } else { vec![Request::InfoModules] }
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let Some(reply) = replies.get(&Request::InfoModules) else { return Ok(()) };
        let info = text(reply?).ok_or_else(|| ReplyError::unexpected(Request::InfoModules.name()))?;
        let info = Info::parse(info);
        let table = page.table(LABELS);
        let column = table.column(&self.module);
        // `name=search,ver=21005,api=1,filters=0,usedby=[a|b],using=[],options=[…]`
        for field in info.fields().filter(|field| field.key == "module") {
            let labels: Vec<&str> =
                LABELS.iter().map(|label| part(field.value, label).unwrap_or_default()).collect();
            table.row(&labels).set(column, 1.0);
        }
        for field in info.fields() {
            if let Some((_, desc)) = self.fields.iter().find(|(name, _)| *name == field.key)
                && let Some(value) = value(field.value)
            {
                page.sample(desc, value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, page, replies};
    use super::*;
    use redis::Value;

    #[test]
    fn modules_and_their_fields() {
        let text = "# Modules\r\nmodule:name=search,ver=21005,api=1,filters=0,usedby=[],using=[ReJSON],options=[]\r\n\
            # search_indexes\r\nsearch_number_of_indexes:2\r\n";
        let reply = (Request::InfoModules, Value::BulkString(text.as_bytes().to_vec()));
        assert_eq!(
            lines(&page(&Modules::new(&Options::default()), &replies("", [reply]))),
            [
                "redis_module_info{name=search,ver=21005,api=1,filters=0,usedby=[],using=[ReJSON]} 1",
                "redis_search_number_of_indexes{} 2",
            ]
        );
    }
}
