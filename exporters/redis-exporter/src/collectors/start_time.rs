//! `redis_start_time_seconds`: when the server process started, from its clock and its uptime.

use exposition::{Desc, Snapshot};

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::options::Options;

static SPEC: Spec =
    Spec { name: "start_time", doc: "When the server process started", default_enabled: true };

pub(super) struct StartTime {
    desc: Desc,
}

impl StartTime {
    pub(super) fn new(options: &Options) -> Self {
        Self { desc: options.gauge("start_time_seconds", "When the server process started, in Unix time.") }
    }
}

impl Section for StartTime {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        if let Some(start_time) = replies.start_time {
            page.sample(&self.desc, start_time);
        }
        Ok(())
    }
}
