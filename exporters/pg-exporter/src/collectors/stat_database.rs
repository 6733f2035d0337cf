//! `pg_stat_database_*`: activity of each database.
//!
//! Read from the functions behind the view: the view joins and calls the same ones, for more than is needed.

use exporter_kit::collector::Spec;

use crate::read::DATABASES;
use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_database",
        doc: "Sessions, transactions, blocks and rows of every database (pg_stat_database).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("databases"),
    queries: &[Query::Columns(Columns {
        versions: Versions::ALL,
        labels: &[("datid", "d.oid"), ("datname", "d.datname")],
        metrics: &[
            Metric::gauge(
                "pg_stat_database_numbackends",
                "pg_catalog.pg_stat_get_db_numbackends(d.oid)",
                "Number of backends currently connected to this database.",
            ),
            Metric::counter(
                "pg_stat_database_xact_commit",
                "pg_catalog.pg_stat_get_db_xact_commit(d.oid)",
                "Number of transactions in this database that have been committed.",
            ),
            Metric::counter(
                "pg_stat_database_xact_rollback",
                "pg_catalog.pg_stat_get_db_xact_rollback(d.oid)",
                "Number of transactions in this database that have been rolled back.",
            ),
            Metric::counter(
                "pg_stat_database_blks_read",
                "pg_catalog.pg_stat_get_db_blocks_fetched(d.oid) - pg_catalog.pg_stat_get_db_blocks_hit(d.oid)",
                "Number of disk blocks read in this database.",
            ),
            Metric::counter(
                "pg_stat_database_blks_hit",
                "pg_catalog.pg_stat_get_db_blocks_hit(d.oid)",
                "Number of times disk blocks were found in the buffer cache.",
            ),
            Metric::counter(
                "pg_stat_database_tup_returned",
                "pg_catalog.pg_stat_get_db_tuples_returned(d.oid)",
                "Number of rows returned by queries in this database.",
            ),
            Metric::counter(
                "pg_stat_database_tup_fetched",
                "pg_catalog.pg_stat_get_db_tuples_fetched(d.oid)",
                "Number of rows fetched by queries in this database.",
            ),
            Metric::counter(
                "pg_stat_database_tup_inserted",
                "pg_catalog.pg_stat_get_db_tuples_inserted(d.oid)",
                "Number of rows inserted by queries in this database.",
            ),
            Metric::counter(
                "pg_stat_database_tup_updated",
                "pg_catalog.pg_stat_get_db_tuples_updated(d.oid)",
                "Number of rows updated by queries in this database.",
            ),
            Metric::counter(
                "pg_stat_database_tup_deleted",
                "pg_catalog.pg_stat_get_db_tuples_deleted(d.oid)",
                "Number of rows deleted by queries in this database.",
            ),
            Metric::counter(
                "pg_stat_database_conflicts",
                "pg_catalog.pg_stat_get_db_conflict_all(d.oid)",
                "Number of queries canceled due to conflicts with recovery in this database.",
            ),
            Metric::counter(
                "pg_stat_database_temp_files",
                "pg_catalog.pg_stat_get_db_temp_files(d.oid)",
                "Number of temporary files created by queries in this database.",
            ),
            Metric::counter(
                "pg_stat_database_temp_bytes",
                "pg_catalog.pg_stat_get_db_temp_bytes(d.oid)",
                "Amount of data written to temporary files by queries in this database, in bytes.",
            ),
            Metric::counter(
                "pg_stat_database_deadlocks",
                "pg_catalog.pg_stat_get_db_deadlocks(d.oid)",
                "Number of deadlocks detected in this database.",
            ),
            Metric::counter(
                "pg_stat_database_blk_read_time",
                "pg_catalog.pg_stat_get_db_blk_read_time(d.oid)",
                "Time spent reading data file blocks by backends in this database, in milliseconds.",
            ),
            Metric::counter(
                "pg_stat_database_blk_write_time",
                "pg_catalog.pg_stat_get_db_blk_write_time(d.oid)",
                "Time spent writing data file blocks by backends in this database, in milliseconds.",
            ),
            Metric::counter(
                "pg_stat_database_stats_reset",
                "coalesce(floor(pg_catalog.date_part('epoch', pg_catalog.pg_stat_get_db_stat_reset_time(d.oid)))::bigint, 0)",
                "Unix time at which these statistics were last reset, 0 if never; a timestamp, in spite of its type.",
            ),
            Metric::counter(
                "pg_stat_database_active_time_seconds_total",
                "pg_catalog.pg_stat_get_db_active_time(d.oid) / 1000",
                "Time spent executing SQL statements in this database, in seconds.",
            )
            .since(14),
Metric::counter("pg_stat_database_session_time_seconds_total", "pg_catalog.pg_stat_get_db_session_time(d.oid) / 1000", "Time spent by sessions in this database, in seconds; added when their state changes.").since(14),Metric::counter("pg_stat_database_idle_in_transaction_time_seconds_total", "pg_catalog.pg_stat_get_db_idle_in_transaction_time(d.oid) / 1000", "Time spent idle inside a transaction in this database, in seconds.").since(14),Metric::counter("pg_stat_database_sessions_total", "pg_catalog.pg_stat_get_db_sessions(d.oid)", "Number of sessions established to this database.").since(14),Metric::counter("pg_stat_database_sessions_abandoned_total", "pg_catalog.pg_stat_get_db_sessions_abandoned(d.oid)", "Number of sessions whose client went away without a goodbye.").since(14),Metric::counter("pg_stat_database_sessions_fatal_total", "pg_catalog.pg_stat_get_db_sessions_fatal(d.oid)", "Number of sessions ended by a fatal error.").since(14),Metric::counter("pg_stat_database_sessions_killed_total", "pg_catalog.pg_stat_get_db_sessions_killed(d.oid)", "Number of sessions ended by an operator.").since(14),Metric::counter("pg_stat_database_parallel_workers_to_launch_total", "pg_catalog.pg_stat_get_db_parallel_workers_to_launch(d.oid)", "Number of parallel workers that queries planned.").since(18),Metric::counter("pg_stat_database_parallel_workers_launched_total", "pg_catalog.pg_stat_get_db_parallel_workers_launched(d.oid)", "Number of parallel workers that queries got.").since(18),
        ],
        from: DATABASES,
        joins: &[],
        server_label: ServerLabel::Never,
    })],
};
