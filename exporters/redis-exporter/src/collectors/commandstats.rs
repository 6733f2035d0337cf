//! `redis_commands_total` and its siblings: calls, time, rejections and failures of each command,
//! from INFO's Commandstats section.

use std::sync::Arc;

use exposition::{Column, Shape, Snapshot};

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::options::Options;

static SPEC: Spec =
    Spec { name: "commandstats", doc: "Calls, time and failures of each command", default_enabled: true };

pub(super) struct Commandstats {
    shape: Arc<Shape>,
    calls: Column,
    seconds: Column,
    rejected: Column,
    failed: Column,
}

impl Commandstats {
    pub(super) fn new(options: &Options) -> Self {
        let mut shape = Shape::new(&["cmd"]);
        let mut counter = |family, help| shape.column(&options.counter(family, help));
        Self {
            calls: counter("commands_total", "Calls of a command."),
            seconds: counter("commands_duration_seconds_total", "Time spent in a command."),
            rejected: counter("commands_rejected_calls_total", "Calls of a command refused before it ran."),
            failed: counter("commands_failed_calls_total", "Calls of a command that failed while it ran."),
            shape: Arc::new(shape),
        }
    }
}

impl Section for Commandstats {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let table = page.table_of(&self.shape);
        for (command, totals) in replies.info.commands() {
            table
                .row(&[command])
                .set_some(self.calls, totals.calls)
                .set_some(self.seconds, totals.usec.map(|usec| usec / 1e6))
                .set_some(self.rejected, totals.rejected)
                .set_some(self.failed, totals.failed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, page, replies};
    use super::*;

    #[test]
    fn parts_go_by_name() {
        let info = "# Commandstats\r\ncmdstat_config|get:calls=2,usec=3,usec_per_call=1.5,failed_calls=1\r\n";
        assert_eq!(
            lines(&page(&Commandstats::new(&Options::default()), &replies(info, []))),
            [
                "redis_commands_duration_seconds_total{cmd=config|get} 0.000003",
                "redis_commands_failed_calls_total{cmd=config|get} 1",
                "redis_commands_total{cmd=config|get} 2",
            ]
        );
    }
}
