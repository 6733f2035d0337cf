//! `pg_stat_ssl_*`, `pg_stat_gssapi_*`: how sessions are protected.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec { name: "stat_ssl", doc: "Sessions by TLS version and cipher, and by GSSAPI encryption (pg_stat_ssl, pg_stat_gssapi).", default_enabled: true },
    scope: Scope::Server,
    cost: Cost::Grows("sessions"),
    queries: &[Query::Columns(Columns {
            versions: Versions::since(13),
            labels: &[("version", "version"), ("cipher", "cipher")],
            metrics: &[Metric::gauge("pg_stat_ssl_sessions", "pg_catalog.count(*)", "Number of client connections; version and cipher are empty without TLS."),],
            from: "FROM pg_catalog.pg_stat_ssl GROUP BY version, cipher",
            server_label: ServerLabel::Never,
        }), Query::Columns(Columns {
            versions: Versions::since(13),
            labels: &[("encrypted", "encrypted")],
            metrics: &[Metric::gauge("pg_stat_gssapi_sessions", "pg_catalog.count(*)", "Number of client connections authenticated by GSSAPI."),],
            from: "FROM pg_catalog.pg_stat_gssapi WHERE gss_authenticated GROUP BY encrypted",
            server_label: ServerLabel::Never,
        })],
};
