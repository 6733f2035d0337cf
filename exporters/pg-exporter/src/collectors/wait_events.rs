//! `pg_wait_events_*`: what sessions wait for. A sample of the moment, so it says something only over many scrapes.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec { name: "wait_events", doc: "Sessions by what they wait for (pg_stat_activity).", default_enabled: true },
    scope: Scope::Server,
    cost: Cost::Grows("sessions"),
    queries: &[Query::Columns(Columns {
            versions: Versions::ALL,
            labels: &[("wait_event_type", "k.kind")],
            metrics: &[Metric::gauge("pg_wait_events_sessions", "pg_catalog.count(a.pid)", "Number of server processes that wait for something of this type; none for those that wait for nothing."),],
            from: "FROM (VALUES ('Activity'), ('BufferPin'), ('Client'), ('Extension'), ('IO'), ('IPC'), ('Lock'), ('LWLock'), ('Timeout'),
                           ('none')) k(kind)
                   LEFT JOIN pg_catalog.pg_stat_get_activity(NULL) a
                          ON coalesce(a.wait_event_type, 'none') = k.kind AND a.pid <> pg_catalog.pg_backend_pid()
                   GROUP BY k.kind",
            server_label: ServerLabel::Never,
        })],
};
