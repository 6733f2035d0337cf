//! The collectors, one file each. To add one: write its file, and add its line to the list below.

use crate::sql::PgCollector;

macro_rules! collectors {
    ($($name:ident),* $(,)?) => {
        $(pub(crate) mod $name;)*
        /// All collectors, in the order of the documentation.
        pub static ALL: &[&PgCollector] = &[$(&$name::COLLECTOR),*];
    };
}

collectors! {
    buffercache_summary,
    checksums,
    connections,
    database,
    database_wraparound,
    locks,
    long_running_transactions,
    postmaster,
    process_idle,
    recovery,
    replication,
    replication_slots,
    replication_slots_health,
    roles,
    sequences,
    settings,
    settings_info,
    stat_activity,
    stat_activity_autovacuum,
    stat_archiver,
    stat_bgwriter,
    stat_checkpointer,
    stat_database,
    stat_database_conflicts,
    stat_io,
    stat_progress,
    stat_progress_vacuum,
    stat_recovery_prefetch,
    stat_replication,
    stat_replication_lag,
    stat_replication_slots,
    stat_slru,
    stat_ssl,
    stat_statements,
    stat_statements_totals,
    stat_subscription,
    stat_user_functions,
    stat_user_indexes,
    stat_user_tables,
    stat_user_tables_detail,
    stat_wal,
    stat_wal_receiver,
    static_info,
    statio_user_indexes,
    statio_user_tables,
    table_age,
    wait_events,
    wal,
    wraparound,
    xmin_horizon,
}
