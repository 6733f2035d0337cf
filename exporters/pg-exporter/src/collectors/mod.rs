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
    blocked_sessions,
    buffercache_summary,
    checksums,
    connections,
    database,
    database_wraparound,
    locks,
    long_running_transactions,
    postmaster,
    process_idle,
    replication,
    replication_slots,
    replication_slots_health,
    roles,
    settings,
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
    stat_replication,
    stat_replication_lag,
    stat_slru,
    stat_statements,
    stat_user_tables,
    stat_wal,
    stat_wal_receiver,
    static_info,
    statio_user_indexes,
    statio_user_tables,
    table_age,
    wal,
    xmin_horizon,
}
