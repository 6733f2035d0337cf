//! `pg_sequence_*`: how much of its range each sequence of the connected database has used. One that was never used, or
//! that the role may not read, has no sample.

use exporter_kit::collector::Spec;

use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec { name: "sequences", doc: "Values used and left of every sequence (pg_sequences).", default_enabled: false },
    scope: Scope::Database,
    cost: Cost::High("opens every sequence"),
    queries: &[Query::Columns(Columns {
            versions: Versions::since(10),
            labels: &[("datname", "pg_catalog.current_database()"), ("schemaname", "schemaname"), ("sequencename", "sequencename")],
            metrics: &[Metric::gauge("pg_sequence_last_value", "last_value", "Last value that was written to disk."), Metric::gauge("pg_sequence_used_ratio", "CASE WHEN increment_by > 0 THEN (last_value::numeric - min_value + 1) ELSE (max_value::numeric - last_value + 1) END / (max_value::numeric - min_value + 1)", "Used part of the range, from 0 to 1."), Metric::gauge("pg_sequence_values_left", "CASE WHEN increment_by > 0 THEN max_value::numeric - last_value ELSE last_value::numeric - min_value END / pg_catalog.abs(increment_by)", "Number of values left."), Metric::gauge("pg_sequence_cycles", "cycle", "Whether the sequence starts again at its end instead of failing."),],
            from: "FROM pg_catalog.pg_sequences",
            joins: &[],
            server_label: ServerLabel::Never,
        })],
};
