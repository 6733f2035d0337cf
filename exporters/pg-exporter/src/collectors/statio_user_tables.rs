//! `pg_statio_user_tables_*`: blocks read and hit of every table of the connected database, its indexes and its TOAST
//! table.

use exporter_kit::collector::Spec;

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
        labels: &[
            ("datname", "pg_catalog.current_database()"),
            ("schemaname", "n.nspname"),
            ("relname", "c.relname"),
        ],
        metrics: &[
            Metric::counter(
                "pg_statio_user_tables_heap_blocks_read",
                "pg_catalog.pg_stat_get_blocks_fetched(c.oid) - pg_catalog.pg_stat_get_blocks_hit(c.oid)",
                "Number of disk blocks read from this table.",
            ),
            Metric::counter(
                "pg_statio_user_tables_heap_blocks_hit",
                "pg_catalog.pg_stat_get_blocks_hit(c.oid)",
                "Number of buffer hits in this table.",
            ),
            Metric::counter(
                "pg_statio_user_tables_idx_blocks_read",
                "coalesce(i.read, 0)",
                "Number of disk blocks read from all indexes on this table.",
            ),
            Metric::counter(
                "pg_statio_user_tables_idx_blocks_hit",
                "coalesce(i.hit, 0)",
                "Number of buffer hits in all indexes on this table.",
            ),
            Metric::counter(
                "pg_statio_user_tables_toast_blocks_read",
                "coalesce(pg_catalog.pg_stat_get_blocks_fetched(nullif(c.reltoastrelid, 0)) - pg_catalog.pg_stat_get_blocks_hit(nullif(c.reltoastrelid, 0)), 0)",
                "Number of disk blocks read from this table's TOAST table (if any).",
            ),
            Metric::counter(
                "pg_statio_user_tables_toast_blocks_hit",
                "coalesce(pg_catalog.pg_stat_get_blocks_hit(nullif(c.reltoastrelid, 0)), 0)",
                "Number of buffer hits in this table's TOAST table (if any).",
            ),
            Metric::counter(
                "pg_statio_user_tables_tidx_blocks_read",
                "coalesce(x.read, 0)",
                "Number of disk blocks read from this table's TOAST table indexes (if any).",
            ),
            Metric::counter(
                "pg_statio_user_tables_tidx_blocks_hit",
                "coalesce(x.hit, 0)",
                "Number of buffer hits in this table's TOAST table indexes (if any).",
            ),
        ],
        from: "FROM pg_catalog.pg_class c
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               LEFT JOIN (SELECT indrelid,
                                 pg_catalog.sum(pg_catalog.pg_stat_get_blocks_fetched(indexrelid)
                                                - pg_catalog.pg_stat_get_blocks_hit(indexrelid)) AS read,
                                 pg_catalog.sum(pg_catalog.pg_stat_get_blocks_hit(indexrelid)) AS hit
                          FROM pg_catalog.pg_index
                          GROUP BY indrelid) i ON i.indrelid = c.oid
               LEFT JOIN (SELECT indrelid,
                                 pg_catalog.sum(pg_catalog.pg_stat_get_blocks_fetched(indexrelid)
                                                - pg_catalog.pg_stat_get_blocks_hit(indexrelid)) AS read,
                                 pg_catalog.sum(pg_catalog.pg_stat_get_blocks_hit(indexrelid)) AS hit
                          FROM pg_catalog.pg_index
                          GROUP BY indrelid) x ON x.indrelid = c.reltoastrelid
               WHERE c.relkind IN ('r', 't', 'm')
                 AND n.nspname NOT IN ('pg_catalog', 'information_schema')
                 AND n.nspname !~ '^pg_toast'",
        server_label: ServerLabel::Never,
    })],
};
