//! `pg_setting_*`: settings that are no numbers, and those that wait for a restart.
//!
//! Texts are shown only of settings listed here: others may hold a password, as `primary_conninfo` does.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec { name: "settings_info", doc: "Settings with a name or list as value, and settings that wait for a restart (pg_settings).", default_enabled: false },
    scope: Scope::Server,
    cost: Cost::Low,
    queries: &[Query::Columns(Columns {
            versions: Versions::ALL,
            labels: &[("name", "name"), ("setting", "setting")],
            metrics: &[Metric::gauge("pg_setting_info", "1", "Value of a setting that is no number; always 1."),],
            from: "FROM pg_catalog.pg_settings WHERE vartype = 'enum' OR vartype = 'string' AND name IN ('archive_library', 'cluster_name', 'data_checksums', 'DateStyle', 'default_table_access_method', 'default_text_search_config', 'lc_collate', 'lc_ctype', 'lc_messages', 'lc_monetary', 'lc_numeric', 'lc_time', 'listen_addresses', 'log_destination', 'log_timezone', 'recovery_target_timeline', 'server_encoding', 'server_version', 'shared_preload_libraries', 'synchronous_standby_names', 'TimeZone', 'wal_consistency_checking')",
            joins: &[],
            server_label: ServerLabel::Never,
        }), Query::Columns(Columns {
            versions: Versions::ALL,
            labels: &[("name", "name")],
            metrics: &[Metric::gauge("pg_setting_pending_restart", "1", "A setting whose new value needs a restart of the server; always 1."),],
            from: "FROM pg_catalog.pg_settings WHERE pending_restart",
            joins: &[],
            server_label: ServerLabel::Never,
        })],
};
