//! `redis_commands_total` and its siblings: calls, time, rejections and failures of each command,
//! from INFO's Commandstats section.

use std::collections::HashMap;

use exposition::{Desc, Snapshot};

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::info::{Info, number, part};
use crate::options::Options;

static SPEC: Spec =
    Spec { name: "commandstats", doc: "Calls, time and failures of each command", default_enabled: true };

pub(super) struct Commandstats {
    calls: Desc,
    seconds: Desc,
    rejected: Desc,
    failed: Desc,
}

impl Commandstats {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            calls: options.counter("commands_total", "Calls of a command."),
            seconds: options.counter("commands_duration_seconds_total", "Time spent in a command."),
            rejected: options
                .counter("commands_rejected_calls_total", "Calls of a command refused before it ran."),
            failed: options
                .counter("commands_failed_calls_total", "Calls of a command that failed while it ran."),
        }
    }
}

/// The commands in INFO with their `k=v` text.
fn commands(info: &Info) -> impl Iterator<Item = (&str, &str)> {
    info.section("Commandstats").filter_map(|field| Some((field.key.strip_prefix("cmdstat_")?, field.value)))
}

/// Calls and microseconds of each command.
pub(super) fn totals(info: &Info) -> HashMap<&str, (Option<f64>, Option<f64>)> {
    let read = |value, name| part(value, name).and_then(number);
    commands(info).map(|(command, value)| (command, (read(value, "calls"), read(value, "usec")))).collect()
}

impl Section for Commandstats {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let table = page.table(&["cmd"]);
        let calls = table.column(&self.calls);
        let seconds = table.column(&self.seconds);
        let rejected = table.column(&self.rejected);
        let failed = table.column(&self.failed);
        for (command, value) in commands(&replies.info) {
            let read = |name| part(value, name).and_then(number);
            table
                .row(&[command])
                .set_some(calls, read("calls"))
                .set_some(seconds, read("usec").map(|usec| usec / 1e6))
                .set_some(rejected, read("rejected_calls"))
                .set_some(failed, read("failed_calls"));
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
