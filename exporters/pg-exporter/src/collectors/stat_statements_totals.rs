//! `pg_stat_statements_database_*`: all statements of each database added up, and the health of the extension's table.
//!
//! Sums fall when entries are evicted; `pg_stat_statements_deallocations_total` says so.

use exporter_kit::collector::{CollectError, Spec};
use exposition::{Desc, Snapshot};
use futures_util::FutureExt;

use crate::extension::{Extension, ExtensionVersion, OfExtension};
use crate::session::PgSession;
use crate::sql::{Cost, PgCollector, Query, Scope};

/// Family, first version of the extension that has its column, and the column as SQL.
static SUMS: &[(Desc, ExtensionVersion, &str)] = &[
    (Desc::gauge("pg_stat_statements_database_entries", "Number of entries of this database."), (1, 8), "count(*)"),
    (Desc::counter("pg_stat_statements_database_calls_total", "Number of executions."), (1, 8), "sum(calls)"),
    (Desc::counter("pg_stat_statements_database_exec_seconds_total", "Time spent executing."), (1, 8), "sum(total_exec_time) / 1000"),
    (Desc::counter("pg_stat_statements_database_plans_total", "Number of plannings (needs track_planning)."), (1, 8), "sum(plans)"),
    (Desc::counter("pg_stat_statements_database_plan_seconds_total", "Time spent planning (needs track_planning)."), (1, 8), "sum(total_plan_time) / 1000"),
    (Desc::counter("pg_stat_statements_database_rows_total", "Number of rows retrieved or affected."), (1, 8), "sum(rows)"),
    (Desc::counter("pg_stat_statements_database_shared_blocks_hit_total", "Number of shared blocks found in the cache."), (1, 8), "sum(shared_blks_hit)"),
    (Desc::counter("pg_stat_statements_database_shared_blocks_read_total", "Number of shared blocks read."), (1, 8), "sum(shared_blks_read)"),
    (Desc::counter("pg_stat_statements_database_shared_blocks_dirtied_total", "Number of shared blocks dirtied."), (1, 8), "sum(shared_blks_dirtied)"),
    (Desc::counter("pg_stat_statements_database_shared_blocks_written_total", "Number of shared blocks written."), (1, 8), "sum(shared_blks_written)"),
    (Desc::counter("pg_stat_statements_database_local_blocks_hit_total", "Number of local blocks found in the cache."), (1, 8), "sum(local_blks_hit)"),
    (Desc::counter("pg_stat_statements_database_local_blocks_read_total", "Number of local blocks read."), (1, 8), "sum(local_blks_read)"),
    (Desc::counter("pg_stat_statements_database_local_blocks_dirtied_total", "Number of local blocks dirtied."), (1, 8), "sum(local_blks_dirtied)"),
    (Desc::counter("pg_stat_statements_database_local_blocks_written_total", "Number of local blocks written."), (1, 8), "sum(local_blks_written)"),
    (Desc::counter("pg_stat_statements_database_temp_blocks_read_total", "Number of temporary blocks read."), (1, 8), "sum(temp_blks_read)"),
    (Desc::counter("pg_stat_statements_database_temp_blocks_written_total", "Number of temporary blocks written."), (1, 8), "sum(temp_blks_written)"),
    (Desc::counter("pg_stat_statements_database_wal_records_total", "Number of WAL records."), (1, 8), "sum(wal_records)"),
    (Desc::counter("pg_stat_statements_database_wal_full_page_images_total", "Number of full page images in WAL."), (1, 8), "sum(wal_fpi)"),
    (Desc::counter("pg_stat_statements_database_wal_bytes_total", "Bytes of WAL."), (1, 8), "sum(wal_bytes)"),
    (Desc::counter("pg_stat_statements_database_wal_buffers_full_total", "Number of times WAL buffers were full."), (1, 12), "sum(wal_buffers_full)"),
    (Desc::counter("pg_stat_statements_database_temp_block_read_seconds_total", "Time spent reading temporary blocks (needs track_io_timing)."), (1, 10), "sum(temp_blk_read_time) / 1000"),
    (Desc::counter("pg_stat_statements_database_temp_block_write_seconds_total", "Time spent writing temporary blocks (needs track_io_timing)."), (1, 10), "sum(temp_blk_write_time) / 1000"),
    (Desc::counter("pg_stat_statements_database_local_block_read_seconds_total", "Time spent reading local blocks (needs track_io_timing)."), (1, 11), "sum(local_blk_read_time) / 1000"),
    (Desc::counter("pg_stat_statements_database_local_block_write_seconds_total", "Time spent writing local blocks (needs track_io_timing)."), (1, 11), "sum(local_blk_write_time) / 1000"),
    (Desc::counter("pg_stat_statements_database_jit_functions_total", "Number of functions compiled by JIT."), (1, 10), "sum(jit_functions)"),
    (Desc::counter("pg_stat_statements_database_jit_seconds_total", "Time spent on JIT compilation."), (1, 10), "sum(jit_generation_time + jit_inlining_time + jit_optimization_time + jit_emission_time) / 1000"),
    (Desc::counter("pg_stat_statements_database_parallel_workers_to_launch_total", "Number of parallel workers planned."), (1, 12), "sum(parallel_workers_to_launch)"),
    (Desc::counter("pg_stat_statements_database_parallel_workers_launched_total", "Number of parallel workers started."), (1, 12), "sum(parallel_workers_launched)"),
];
static DEALLOCATIONS: Desc = Desc::counter(
    "pg_stat_statements_deallocations_total",
    "Number of times the least used entries were evicted because pg_stat_statements.max was reached.",
);
static RESET: Desc = Desc::gauge(
    "pg_stat_statements_stats_reset_timestamp_seconds",
    "Unix time at which all statements were last reset.",
);

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_statements_totals",
        doc: "All statements of each database added up, evictions and reset (pg_stat_statements).",
        default_enabled: false,
    },
    scope: Scope::Server,
    cost: Cost::High("reads every entry of the extension"),
    queries: &[Query::OfExtension(OfExtension {
        name: "pg_stat_statements",
        since: (1, 8),
        read: |session, extension| read(session, extension).boxed(),
        families: &FAMILIES,
    })],
};

static FAMILIES: [&Desc; SUMS.len() + 2] = {
    let mut families = [&DEALLOCATIONS; SUMS.len() + 2];
    families[1] = &RESET;
    let mut index = 0;
    while index < SUMS.len() {
        families[index + 2] = &SUMS[index].0;
        index += 1;
    }
    families
};

fn sql(schema: &str, version: ExtensionVersion) -> String {
    let sums: Vec<String> = SUMS
        .iter()
        .map(|(_, since, sum)| match *since <= version {
            true => format!("(pg_catalog.{sum})::text"),
            false => "NULL::text".to_owned(),
        })
        .collect();
    let info = match version >= (1, 9) {
        true => format!("{schema}.pg_stat_statements_info()"),
        false => "(VALUES (NULL::bigint, NULL::timestamptz)) AS none(dealloc, stats_reset)".to_owned(),
    };
    format!(
        "SELECT 't', d.datname::text, {sums}
         FROM {schema}.pg_stat_statements(false) s JOIN pg_catalog.pg_database d ON d.oid = s.dbid
         GROUP BY d.datname
         UNION ALL
         SELECT 'f', dealloc::text, extract(epoch FROM stats_reset)::text{nulls} FROM {info}",
        sums = sums.join(", "),
        nulls = ", NULL".repeat(SUMS.len() - 1),
    )
}

async fn read(session: &PgSession, extension: &Extension) -> Result<Snapshot, CollectError> {
    let rows = session.query(&sql(&extension.schema, extension.version), true).await?;
    let mut snapshot = Snapshot::new();
    let table = snapshot.table(&["datname"]);
    let columns: Vec<_> = SUMS.iter().map(|(desc, ..)| table.column(desc)).collect();
    for row in rows.iter().filter(|row| row.get(0) == Some("t")) {
        let mut cells = table.row(&[row.get(1).unwrap_or_default()]);
        for (index, column) in columns.iter().enumerate() {
            cells.set_some(*column, row.float(2 + index));
        }
    }
    for row in rows.iter().filter(|row| row.get(0) == Some("f")) {
        for (desc, index) in [(&DEALLOCATIONS, 1), (&RESET, 2)] {
            if let Some(value) = row.float(index) {
                snapshot.sample(desc, value);
            }
        }
    }
    Ok(snapshot)
}
