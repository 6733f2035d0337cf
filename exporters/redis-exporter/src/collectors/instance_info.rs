//! `redis_instance_info`: what the server is, as labels.

use std::sync::Arc;

use exposition::{Column, Desc, Shape, Snapshot};

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::kept::Kept;
use crate::options::Options;

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
    shape: Kept<Vec<&'static str>, (Arc<Shape>, Column)>,
}

impl InstanceInfo {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            desc: options.gauge("instance_info", "What the server is; the value is 1."),
            shape: Kept::default(),
        }
    }
}

impl Section for InstanceInfo {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let info = &replies.info;
        let labels = ALWAYS.iter().map(|label| (*label, info.get(label).unwrap_or_default()));
        let more = IF_PRESENT.iter().filter_map(|label| Some((*label, info.get(label)?)));
        let (names, values): (Vec<&str>, Vec<&str>) = labels.chain(more).unzip();
        let (shape, column) = self.shape.get(names, |names| {
            let mut shape = Shape::new(names);
            let column = shape.column(&self.desc);
            (Arc::new(shape), column)
        });
        page.table_of(&shape).row(&values).set(column, 1.0);
        Ok(())
    }
}
