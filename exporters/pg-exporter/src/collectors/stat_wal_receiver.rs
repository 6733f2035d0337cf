//! `pg_stat_wal_receiver_*`: what a standby receives, and from where.

use exporter_kit::collector::Spec;

use crate::read::ONE_ROW;
use crate::sql::{Columns, Cost, Metric, PgCollector, Query, Scope, ServerLabel, Versions};

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "stat_wal_receiver",
        doc: "Positions and times of the WAL receiver of a standby (pg_stat_wal_receiver).",
        default_enabled: false,
    },
    scope: Scope::Server,
    cost: Cost::Low,
    queries: &[Query::Columns(Columns {
        versions: Versions::since(13),
        labels: &[("upstream_host", "receiver.sender_host"), ("slot_name", "receiver.slot_name"), ("status", "receiver.status")],
        metrics: &[
            Metric::counter(
                "pg_stat_wal_receiver_receive_start_lsn",
                "receiver.receive_start_lsn - '0/0'",
                "WAL position at which the receiver started, in bytes.",
            ),
            Metric::gauge(
                "pg_stat_wal_receiver_receive_start_tli",
                "receiver.receive_start_tli",
                "Timeline at which the receiver started.",
            ),
            Metric::counter(
                "pg_stat_wal_receiver_flushed_lsn",
                "receiver.flushed_lsn - '0/0'",
                "WAL position up to which WAL was received and flushed to disk, in bytes.",
            ),
            Metric::gauge(
                "pg_stat_wal_receiver_written_lsn_bytes",
                "receiver.written_lsn - '0/0'",
                "WAL position up to which WAL was received and written, maybe not flushed, in bytes.",
            ),
            Metric::gauge(
                "pg_stat_wal_receiver_received_tli",
                "receiver.received_tli",
                "Timeline of the last WAL position received and flushed to disk.",
            ),
            Metric::counter(
                "pg_stat_wal_receiver_last_msg_send_time",
                "extract(epoch FROM receiver.last_msg_send_time)",
                "Unix time at which the last message from the sender was sent.",
            ),
            Metric::counter(
                "pg_stat_wal_receiver_last_msg_receipt_time",
                "extract(epoch FROM receiver.last_msg_receipt_time)",
                "Unix time at which the last message from the sender arrived.",
            ),
            Metric::counter(
                "pg_stat_wal_receiver_latest_end_lsn",
                "receiver.latest_end_lsn - '0/0'",
                "Last WAL position reported to the sender, in bytes.",
            ),
            Metric::counter(
                "pg_stat_wal_receiver_latest_end_time",
                "extract(epoch FROM receiver.latest_end_time)",
                "Unix time of the last WAL position reported to the sender.",
            ),
            Metric::gauge(
                "pg_stat_wal_receiver_upstream_node",
                "substring(receiver.slot_name, 'repmgr_slot_([0-9]+)')",
                "Node ID of the upstream, where repmgr named the slot.",
            ),
        ],
        from: ONE_ROW,
        joins: &["LEFT JOIN pg_catalog.pg_stat_get_wal_receiver() receiver ON true"],
        server_label: ServerLabel::Never,
    })],
};
