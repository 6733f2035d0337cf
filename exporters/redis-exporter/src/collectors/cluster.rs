//! `redis_cluster_*`: the cluster as this node sees it, from CLUSTER INFO and the `cluster_*` fields of INFO.
//! Every numeric field is a family, so that fields of newer servers appear by themselves.

use std::sync::Arc;

use exposition::{Desc, Kind, Snapshot};

use super::info::is_plain;
use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::info::{Info, value};
use crate::kept::Kept;
use crate::options::Options;
use crate::outline::Outline;
use crate::request::{Request, Server, text};

static SPEC: Spec =
    Spec { name: "cluster", doc: "State of the cluster as this node sees it", default_enabled: true };

/// What the names of the fields begin with.
const PREFIX: &str = "cluster_";

/// Fields whose family has another name.
const RENAMED: &[(&str, &str)] = &[
    ("cluster_stats_messages_received", "cluster_messages_received_total"),
    ("cluster_stats_messages_sent", "cluster_messages_sent_total"),
];

pub(super) struct Cluster {
    namespace: String,
    compat: bool,
    of_info: Kept<Arc<Outline>, Families>,
    of_cluster_info: Kept<Arc<Outline>, Families>,
}

/// Lines of a text that are a family each.
type Families = Arc<[(usize, Desc)]>;

impl Cluster {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            namespace: options.namespace.clone(),
            compat: options.compat_1_86(),
            of_info: Kept::default(),
            of_cluster_info: Kept::default(),
        }
    }

    /// The family of a field. What CLUSTER INFO counts under `cluster_stats_` and, on Redis 8.4,
    /// `cluster_slot_migration_stats_` is cumulative.
    fn desc(&self, key: &str) -> Desc {
        let family = RENAMED.iter().find(|(field, _)| *field == key).map_or(key, |(_, family)| family);
        let mut clean: String =
            family.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let migrations = key.starts_with("cluster_slot_migration_stats_") && !self.compat;
        let cumulative = migrations || key.starts_with("cluster_stats_") && !self.compat;
        if migrations {
            clean += "_total";
        }
        let kind = if cumulative { Kind::Counter } else { Kind::Gauge };
        Desc::new(
            kind,
            format!("{}_{clean}", self.namespace),
            format!("Field {key} of CLUSTER INFO or INFO."),
        )
    }

    fn families(&self, info: &Info) -> Families {
        let fields = info.fields_where(is_plain).filter(|field| field.key.starts_with(PREFIX));
        fields.map(|field| (field.line, self.desc(field.key))).collect()
    }

    /// Writes the fields of a text that were not seen before.
    fn write_fields<'a>(families: &Families, info: &'a Info, seen: &mut Vec<&'a str>, page: &mut Snapshot) {
        for (line, desc) in families.iter() {
            let key = info.key(*line);
            if let Some(value) = value(info.value(*line))
                && !seen.contains(&key)
            {
                seen.push(key);
                page.sample(desc, value);
            }
        }
    }
}

impl Section for Cluster {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn requests(&self, server: &Server) -> Vec<Request> {
        server.cluster.then_some(Request::ClusterInfo).into_iter().collect()
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        // Valkey repeats the fields of CLUSTER INFO in INFO: each is written once.
        let mut seen = Vec::new();
        let info = &replies.info;
        let families = self.of_info.get(info.outline(), || self.families(info));
        Self::write_fields(&families, info, &mut seen, page);
        let Some(reply) = replies.get(&Request::ClusterInfo) else { return Ok(()) };
        let reply = text(reply?).ok_or_else(|| ReplyError::unexpected(Request::ClusterInfo.name()))?;
        let info = Info::parse(reply);
        let families = self.of_cluster_info.get(info.outline(), || self.families(&info));
        Self::write_fields(&families, &info, &mut seen, page);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, page, replies};
    use super::*;
    use redis::Value;

    #[test]
    fn a_field_in_both_replies_is_written_once() {
        let info = "# Cluster\r\ncluster_enabled:1\r\n# Cluster Info\r\ncluster_state:ok\r\n";
        let reply = Value::BulkString(
            b"cluster_state:ok\r\ncluster_stats_messages_sent:7\r\ncluster_slot_migration_stats_a:2\r\n"
                .to_vec(),
        );
        let page = page(&Cluster::new(&Options::default()), &replies(info, [(Request::ClusterInfo, reply)]));
        let expected = [
            "redis_cluster_enabled{} 1",
            "redis_cluster_messages_sent_total{} 7",
            "redis_cluster_slot_migration_stats_a_total{} 2",
            "redis_cluster_state{} 1",
        ];
        assert_eq!(lines(&page), expected);
    }
}
