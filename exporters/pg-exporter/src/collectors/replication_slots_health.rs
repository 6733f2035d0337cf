//! `pg_replication_slots_*`: what slots hold back, for how long they are unused, and which are lost.

use exporter_kit::collector::Spec;

use crate::read::SLOTS;
use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "replication_slots_health",
        doc: "WAL and transactions held back by replication slots, and lost slots (pg_replication_slots).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Grows("slots"),
    queries: &[
        Query::Columns(Columns {
            versions: Versions::since(13),
            labels: &[("slot_name", "s.slot_name"), ("slot_type", "s.slot_type")],
            metrics: &[
                Metric::gauge(
                    "pg_replication_slots_retained_bytes",
                    "(CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END) - s.restart_lsn",
                    "Bytes of WAL the slot holds back.",
                ),
                Metric::gauge(
                    "pg_replication_slots_xmin_age_transactions",
                    "pg_catalog.age(s.xmin)",
                    "Age of the oldest transaction whose rows the slot keeps from being vacuumed.",
                ),
                Metric::gauge(
                    "pg_replication_slots_catalog_xmin_age_transactions",
                    "pg_catalog.age(s.catalog_xmin)",
                    "Age of the oldest transaction whose catalog rows the slot keeps from being vacuumed.",
                ),
                Metric::gauge(
                    "pg_replication_slots_lost",
                    "coalesce(s.wal_status = 'lost', false)",
                    "Whether the slot is invalidated and its consumer has to start again.",
                ),
                Metric::gauge(
                    "pg_replication_slots_inactive_seconds",
                    "extract(epoch FROM pg_catalog.clock_timestamp() - s.inactive_since)",
                    "Time since the slot was last used; absent while it is in use.",
                ).since(17),
Metric::gauge("pg_replication_slots_conflicting", "coalesce(s.conflicting, false)", "Whether a logical slot conflicted with recovery and is invalidated.").since(16),Metric::gauge("pg_replication_slots_failover", "s.failover", "Whether a logical slot is synchronized to standbys.").since(17),Metric::gauge("pg_replication_slots_synced", "s.synced", "Whether a logical slot was synchronized from the primary.").since(17),Metric::gauge("pg_replication_slots_two_phase", "s.two_phase", "Whether a logical slot decodes prepared transactions.").since(14),
            ],
            from: SLOTS,
            joins: &[],
            server_label: ServerLabel::Never,
        }),
        Query::Columns(Columns {
            versions: Versions::since(17),
            labels: &[("slot_name", "s.slot_name"), ("reason", "s.invalidation_reason")],
            metrics: &[Metric::gauge("pg_replication_slots_invalidated", "CASE WHEN s.invalidation_reason IS NOT NULL THEN 1 END", "A slot that is invalidated, and why; always 1."),],
            from: SLOTS,
            joins: &[],
            server_label: ServerLabel::Never,
        }),
    ],
};
