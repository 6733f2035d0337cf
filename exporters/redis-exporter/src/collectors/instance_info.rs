//! `redis_instance_info`: what the server is, as labels.

use std::sync::Arc;

use exposition::{Column, Desc, Shape, Snapshot};

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::kept::Kept;
use crate::options::Options;
use crate::outline::Outline;

static SPEC: Spec = Spec {
    name: "instance_info",
    doc: "Version, role and identity of the server as labels",
    default_enabled: true,
};

/// Labels that are always there, empty when INFO has no such field.
const ALWAYS: &[&str] = &[
    "role",
    "redis_version",
    "redis_build_id",
    "redis_mode",
    "os",
    "maxmemory_policy",
    "tcp_port",
    "run_id",
    "process_id",
    "master_replid",
];

/// Labels that only Valkey has.
const IF_PRESENT: &[&str] = &["valkey_version", "valkey_release_stage"];

pub(super) struct InstanceInfo {
    desc: Desc,
    labels: Kept<Arc<Outline>, Arc<Labels>>,
}

/// The labels that there are, and the lines of INFO where their values stand.
struct Labels {
    lines: Vec<Option<usize>>,
    shape: Arc<Shape>,
    column: Column,
}

impl InstanceInfo {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            desc: options.gauge("instance_info", "What the server is; the value is 1."),
            labels: Kept::default(),
        }
    }

    fn labels(&self, outline: &Outline) -> Labels {
        let labels = ALWAYS.iter().map(|label| (*label, outline.find(label)));
        let more = IF_PRESENT.iter().map(|label| (*label, outline.find(label)));
        let (names, lines): (Vec<&str>, _) = labels.chain(more.filter(|(_, line)| line.is_some())).unzip();
        let mut shape = Shape::new(&names);
        Labels { lines, column: shape.column(&self.desc), shape: Arc::new(shape) }
    }
}

impl Section for InstanceInfo {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let info = &replies.info;
        let labels = self.labels.get(info.outline(), || Arc::new(self.labels(info.outline())));
        let values = labels.lines.iter().map(|line| line.map_or("", |line| info.value(line)));
        page.table_of(&labels.shape).row(&values.collect::<Vec<_>>()).set(labels.column, 1.0);
        Ok(())
    }
}
