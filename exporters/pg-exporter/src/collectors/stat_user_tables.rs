//! `pg_stat_user_tables_*`: use, maintenance and size of every table of the connected database. Sizes come from their
//! own lane.
//!
//! Read from the functions behind the view, indexes aggregated once: the view joins and groups for each table.

use exporter_kit::collector::Spec;
use exposition::{Desc, Snapshot};

use crate::read::{Found, ONE_ROW, Read, Select};
use crate::session::PgSession;
use crate::sql::{Columns, Cost, Custom, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

const INDEX_SIZE: Desc = Desc::gauge("pg_stat_user_tables_index_size_bytes", "Disk space used by the table's indexes.");
const TABLE_SIZE: Desc =
    Desc::gauge("pg_stat_user_tables_table_size_bytes", "Disk space used by the table, without its indexes.");

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_user_tables",
        doc: "Scans, rows, vacuums and size of every table (pg_stat_user_tables).",
        default_enabled: true,
    },
    scope: Scope::Database,
    cost: Cost::High("walks the files of every table, in the background"),
    queries: &[TABLES, SIZES],
};

/// The labels of a table.
pub(super) const TABLE_LABELS: &[(&str, &str)] =
    &[("datname", "(SELECT pg_catalog.current_database())"), ("schemaname", "n.nspname"), ("relname", "c.relname")];

/// The tables that pg_stat_user_tables has as `c`, what their indexes add up to as `i`, and the index of their TOAST table
/// as `x`. What initdb made has lower OIDs: without user tables this reads next to nothing. Sums of bigint would be numeric,
/// which takes longer than all the rest.
pub(super) const TABLES_AND_INDEXES: &str =
    "FROM pg_catalog.pg_class c
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN (SELECT indrelid,
                       pg_catalog.sum(pg_catalog.pg_stat_get_numscans(indexrelid)::float8) AS scans,
                       pg_catalog.sum(pg_catalog.pg_stat_get_tuples_fetched(indexrelid)::float8) AS fetched,
                       pg_catalog.sum(pg_catalog.pg_stat_get_blocks_fetched(indexrelid)::float8) AS blocks,
                       pg_catalog.sum(pg_catalog.pg_stat_get_blocks_hit(indexrelid)::float8) AS hit
                FROM pg_catalog.pg_index
                WHERE indexrelid >= 16384
                GROUP BY indrelid) i ON i.indrelid = c.oid
     LEFT JOIN pg_catalog.pg_index x ON x.indrelid = c.reltoastrelid AND x.indisvalid
     WHERE c.oid >= 16384
       AND (c.relkind IN ('r', 't', 'm')
            OR c.relkind = 'p' AND pg_catalog.current_setting('server_version_num')::int >= 140000)
       AND n.nspname NOT IN ('pg_catalog', 'information_schema')
       AND n.nspname !~ '^pg_toast'";

const TABLES: Query = Query::Columns(Columns {
    versions: Versions::ALL,
    labels: TABLE_LABELS,
    metrics: &[
            Metric::counter(
                "pg_stat_user_tables_seq_scan",
                "pg_catalog.pg_stat_get_numscans(c.oid)",
                "Number of sequential scans initiated on this table.",
            ),
            Metric::counter(
                "pg_stat_user_tables_seq_tup_read",
                "pg_catalog.pg_stat_get_tuples_returned(c.oid)",
                "Number of live rows fetched by sequential scans.",
            ),
            Metric::counter(
                "pg_stat_user_tables_idx_scan",
                "coalesce(i.scans, 0)",
                "Number of index scans initiated on this table.",
            ),
            Metric::counter(
                "pg_stat_user_tables_idx_tup_fetch",
                "coalesce(i.fetched + pg_catalog.pg_stat_get_tuples_fetched(c.oid), 0)",
                "Number of live rows fetched by index scans.",
            ),
            Metric::counter(
                "pg_stat_user_tables_n_tup_ins",
                "pg_catalog.pg_stat_get_tuples_inserted(c.oid)",
                "Number of rows inserted.",
            ),
            Metric::counter(
                "pg_stat_user_tables_n_tup_upd",
                "pg_catalog.pg_stat_get_tuples_updated(c.oid)",
                "Number of rows updated.",
            ),
            Metric::counter(
                "pg_stat_user_tables_n_tup_del",
                "pg_catalog.pg_stat_get_tuples_deleted(c.oid)",
                "Number of rows deleted.",
            ),
            Metric::counter(
                "pg_stat_user_tables_n_tup_hot_upd",
                "pg_catalog.pg_stat_get_tuples_hot_updated(c.oid)",
                "Number of rows HOT updated (with no separate index update required).",
            ),
            Metric::gauge(
                "pg_stat_user_tables_n_live_tup",
                "pg_catalog.pg_stat_get_live_tuples(c.oid)",
                "Estimated number of live rows.",
            ),
            Metric::gauge(
                "pg_stat_user_tables_n_dead_tup",
                "pg_catalog.pg_stat_get_dead_tuples(c.oid)",
                "Estimated number of dead rows.",
            ),
            Metric::gauge(
                "pg_stat_user_tables_n_mod_since_analyze",
                "pg_catalog.pg_stat_get_mod_since_analyze(c.oid)",
                "Estimated number of rows changed since last analyze.",
            ),
            Metric::gauge(
                "pg_stat_user_tables_last_vacuum",
                "coalesce(floor(pg_catalog.date_part('epoch', pg_catalog.pg_stat_get_last_vacuum_time(c.oid)))::bigint, 0)",
                "Unix time of the last manual vacuum (not counting VACUUM FULL), 0 if never.",
            ),
            Metric::gauge(
                "pg_stat_user_tables_last_autovacuum",
                "coalesce(floor(pg_catalog.date_part('epoch', pg_catalog.pg_stat_get_last_autovacuum_time(c.oid)))::bigint, 0)",
                "Unix time of the last vacuum by the autovacuum daemon, 0 if never.",
            ),
            Metric::gauge(
                "pg_stat_user_tables_last_analyze",
                "coalesce(floor(pg_catalog.date_part('epoch', pg_catalog.pg_stat_get_last_analyze_time(c.oid)))::bigint, 0)",
                "Unix time of the last manual analyze, 0 if never.",
            ),
            Metric::gauge(
                "pg_stat_user_tables_last_autoanalyze",
                "coalesce(floor(pg_catalog.date_part('epoch', pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid)))::bigint, 0)",
                "Unix time of the last analyze by the autovacuum daemon, 0 if never.",
            ),
            Metric::counter(
                "pg_stat_user_tables_vacuum_count",
                "pg_catalog.pg_stat_get_vacuum_count(c.oid)",
                "Number of manual vacuums (not counting VACUUM FULL).",
            ),
            Metric::counter(
                "pg_stat_user_tables_autovacuum_count",
                "pg_catalog.pg_stat_get_autovacuum_count(c.oid)",
                "Number of vacuums by the autovacuum daemon.",
            ),
            Metric::counter(
                "pg_stat_user_tables_analyze_count",
                "pg_catalog.pg_stat_get_analyze_count(c.oid)",
                "Number of manual analyzes.",
            ),
            Metric::counter(
                "pg_stat_user_tables_autoanalyze_count",
                "pg_catalog.pg_stat_get_autoanalyze_count(c.oid)",
                "Number of analyzes by the autovacuum daemon.",
            ),
    ],
    from: TABLES_AND_INDEXES,
    joins: &[],
    server_label: ServerLabel::Never,
});

/// No statement is needed for the sizes; the database's name is.
const SIZES: Query = Query::Custom(Custom {
    versions: Versions::ALL,
    reads: &[&Read::Select(Select { columns: &["pg_catalog.current_database()"], from: ONE_ROW, joins: &[] })],
    decode,
    families: &[&INDEX_SIZE, &TABLE_SIZE],
    sizes: true,
    server_label: ServerLabel::Never,
});

fn decode(found: &[Found], session: &PgSession, snapshot: &mut Snapshot) {
    let Some(sizes) = session.sizes.relations() else { return };
    let Some(datname) = found.first().and_then(Found::first).and_then(|row| row.get(0)) else { return };
    let table = snapshot.table(&["datname", "schemaname", "relname"]);
    let (index_size, table_size) = (table.column(&INDEX_SIZE), table.column(&TABLE_SIZE));
    for relation in sizes.iter() {
        table
            .row(&[datname, &relation.schema, &relation.name])
            .set(index_size, relation.index_bytes)
            .set(table_size, relation.table_bytes);
    }
}
