//! `redis_start_time_seconds`: when the server process started, from its clock and its uptime.

use std::sync::Arc;

use exposition::{Column, Shape, Snapshot};

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::options::Options;

static SPEC: Spec =
    Spec { name: "start_time", doc: "When the server process started", default_enabled: true };

pub(super) struct StartTime {
    shape: Arc<Shape>,
    start_time: Column,
}

impl StartTime {
    pub(super) fn new(options: &Options) -> Self {
        let desc = options.gauge("start_time_seconds", "When the server process started, in Unix time.");
        let mut shape = Shape::new(&[]);
        Self { start_time: shape.column(&desc), shape: Arc::new(shape) }
    }
}

impl Section for StartTime {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        page.table_of(&self.shape).row(&[]).set_some(self.start_time, replies.start_time);
        Ok(())
    }
}
