//! `pg_statio_user_tables_*`: blocks read and hit of every table of the connected database, its indexes and its TOAST
//! table. Read with what pg_stat_user_tables has; partitioned tables have no blocks of their own.

use exporter_kit::collector::Spec;

use super::stat_user_tables::{TABLE_LABELS, TABLES_AND_INDEXES};
use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "statio_user_tables",
        doc: "Blocks read and hit of every table (pg_statio_user_tables).",
        default_enabled: true,
    },
    scope: Scope::Database,
    cost: Cost::Grows("tables"),
    queries: &[Query::Columns(Columns {
        versions: Versions::ALL,
        labels: TABLE_LABELS,
        metrics: &[
            Metric::counter(
                "pg_statio_user_tables_heap_blocks_read",
                "CASE WHEN c.relkind <> 'p' THEN pg_catalog.pg_stat_get_blocks_fetched(c.oid) - pg_catalog.pg_stat_get_blocks_hit(c.oid) END",
                "Number of disk blocks read from this table.",
            ),
            Metric::counter(
                "pg_statio_user_tables_heap_blocks_hit",
                "CASE WHEN c.relkind <> 'p' THEN pg_catalog.pg_stat_get_blocks_hit(c.oid) END",
                "Number of buffer hits in this table.",
            ),
            Metric::counter(
                "pg_statio_user_tables_idx_blocks_read",
                "CASE WHEN c.relkind <> 'p' THEN coalesce(i.blocks - i.hit, 0) END",
                "Number of disk blocks read from all indexes on this table.",
            ),
            Metric::counter(
                "pg_statio_user_tables_idx_blocks_hit",
                "CASE WHEN c.relkind <> 'p' THEN coalesce(i.hit, 0) END",
                "Number of buffer hits in all indexes on this table.",
            ),
            Metric::counter(
                "pg_statio_user_tables_toast_blocks_read",
                "CASE WHEN c.relkind <> 'p' THEN coalesce(pg_catalog.pg_stat_get_blocks_fetched(nullif(c.reltoastrelid, 0)) - pg_catalog.pg_stat_get_blocks_hit(nullif(c.reltoastrelid, 0)), 0) END",
                "Number of disk blocks read from this table's TOAST table (if any).",
            ),
            Metric::counter(
                "pg_statio_user_tables_toast_blocks_hit",
                "CASE WHEN c.relkind <> 'p' THEN coalesce(pg_catalog.pg_stat_get_blocks_hit(nullif(c.reltoastrelid, 0)), 0) END",
                "Number of buffer hits in this table's TOAST table (if any).",
            ),
            Metric::counter(
                "pg_statio_user_tables_tidx_blocks_read",
                "CASE WHEN c.relkind <> 'p' THEN coalesce(pg_catalog.pg_stat_get_blocks_fetched(x.indexrelid) - pg_catalog.pg_stat_get_blocks_hit(x.indexrelid), 0) END",
                "Number of disk blocks read from this table's TOAST table indexes (if any).",
            ),
            Metric::counter(
                "pg_statio_user_tables_tidx_blocks_hit",
                "CASE WHEN c.relkind <> 'p' THEN coalesce(pg_catalog.pg_stat_get_blocks_hit(x.indexrelid), 0) END",
                "Number of buffer hits in this table's TOAST table indexes (if any).",
            ),
        ],
        from: TABLES_AND_INDEXES,
        joins: &[],
        server_label: ServerLabel::Never,
    })],
};
