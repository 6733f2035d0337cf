//! `redis_cluster_slot_*`: the slots of this node with the most keys, from CLUSTER SLOT-STATS (Valkey 8.0, Redis 8.2).

use std::collections::BTreeMap;

use exposition::{Desc, Kind, Snapshot};

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::options::Options;
use crate::request::{Request, Server, items, number, pairs, text};

static SPEC: Spec = Spec {
    name: "slot_stats",
    doc: "The cluster slots of the node with the most keys",
    default_enabled: false,
};

/// Fields of a slot. All but the first need `cluster-slot-stats-enabled` on the server.
const FIELDS: &[(&str, &str, Kind, f64)] = &[
    ("key-count", "keys", Kind::Gauge, 1.0),
    ("cpu-usec", "cpu_seconds_total", Kind::Counter, 1e6),
    ("network-bytes-in", "net_input_bytes_total", Kind::Counter, 1.0),
    ("network-bytes-out", "net_output_bytes_total", Kind::Counter, 1.0),
];

pub(super) struct SlotStats {
    fields: Vec<(&'static str, Desc, f64)>,
}

impl SlotStats {
    pub(super) fn new(options: &Options) -> Self {
        let desc = |(field, family, kind, divisor): &(&'static str, &str, Kind, f64)| {
            let help = format!("Field {field} of CLUSTER SLOT-STATS, of the slots with the most keys.");
            (*field, options.desc(*kind, &format!("cluster_slot_{family}"), &help), *divisor)
        };
        Self { fields: FIELDS.iter().map(desc).collect() }
    }
}

/// Whether the server knows CLUSTER SLOT-STATS.
fn has_slot_stats(server: &Server) -> bool {
    server.cluster && (server.valkey >= (8, 0) || server.valkey == (0, 0) && server.version >= (8, 2))
}

impl Section for SlotStats {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn requests(&self, server: &Server) -> Vec<Request> {
        has_slot_stats(server).then_some(Request::SlotStats).into_iter().collect()
    }

    /// A row is a slot and the map of its fields.
    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let Some(reply) = replies.get(&Request::SlotStats) else { return Ok(()) };
        let unexpected = || ReplyError::unexpected(Request::SlotStats.name());
        let table = page.table(&["slot"]);
        let columns: Vec<_> = self.fields.iter().map(|(_, desc, _)| table.column(desc)).collect();
        for row in items(reply?).ok_or_else(unexpected)? {
            let [slot, values] = items(row).ok_or_else(unexpected)? else { return Err(unexpected()) };
            let values: BTreeMap<String, f64> = pairs(values)
                .ok_or_else(unexpected)?
                .filter_map(|(field, value)| Some((text(field)?, number(value)?)))
                .collect();
            let mut row = table.row(&[&text(slot).ok_or_else(unexpected)?]);
            for (column, (field, _, divisor)) in columns.iter().zip(&self.fields) {
                row.set_some(*column, values.get(*field).map(|value| value / divisor));
            }
        }
        Ok(())
    }
}
