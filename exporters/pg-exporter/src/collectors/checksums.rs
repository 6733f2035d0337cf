//! `pg_checksum_*`: corrupt pages found. Without data checksums there are no samples.

use exporter_kit::collector::Spec;

use crate::read::{DATABASES, ONE_ROW};
use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

const FAILURES: &str = "pg_checksum_failures_total";
const FAILURES_HELP: &str = "Number of data page checksum failures; shared objects have an empty datname.";
const LAST: &str = "pg_checksum_last_failure_timestamp_seconds";
const LAST_HELP: &str = "Unix time of the last data page checksum failure.";

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "checksums",
        doc: "Data page checksum failures by database (pg_stat_database).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("databases"),
    queries: &[
        Query::Columns(Columns {
            versions: Versions::since(12),
            labels: &[("datname", "d.datname")],
            metrics: &[
                Metric::counter(FAILURES, "pg_catalog.pg_stat_get_db_checksum_failures(d.oid)", FAILURES_HELP),
                Metric::gauge(
                    LAST,
                    "extract(epoch FROM pg_catalog.pg_stat_get_db_checksum_last_failure(d.oid))",
                    LAST_HELP,
                ),
            ],
            from: DATABASES,
            joins: &[],
            server_label: ServerLabel::Never,
        }),
        Query::Columns(Columns {
            versions: Versions::since(12),
            labels: &[("datname", "''")],
            metrics: &[
                Metric::counter(FAILURES, "pg_catalog.pg_stat_get_db_checksum_failures(0)", FAILURES_HELP),
                Metric::gauge(
                    LAST,
                    "extract(epoch FROM pg_catalog.pg_stat_get_db_checksum_last_failure(0))",
                    LAST_HELP,
                ),
            ],
            from: ONE_ROW,
            joins: &[],
            server_label: ServerLabel::Never,
        }),
    ],
};
