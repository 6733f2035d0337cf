//! `redis_slowlog_*` and `redis_last_slow_execution_duration_seconds`, from SLOWLOG.

use std::sync::Arc;

use exposition::{Column, Shape, Snapshot};

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::options::Options;
use crate::request::{NEWEST_SLOW, Request, Server, items, number};

static SPEC: Spec =
    Spec { name: "slowlog", doc: "Length and newest entry of the slow log", default_enabled: true };

pub(super) struct Slowlog {
    shape: Arc<Shape>,
    length: Column,
    last_id: Column,
    last_duration: Column,
}

impl Slowlog {
    pub(super) fn new(options: &Options) -> Self {
        let mut shape = Shape::new(&[]);
        let mut gauge = |family, help| shape.column(&options.gauge(family, help));
        Self {
            length: gauge("slowlog_length", "Entries in the slow log."),
            last_id: gauge("slowlog_last_id", "Number of the newest entry of the slow log."),
            last_duration: gauge(
                "last_slow_execution_duration_seconds",
                "How long the newest entry of the slow log took.",
            ),
            shape: Arc::new(shape),
        }
    }
}

/// Number and microseconds of the newest entry, `[id, unix time, microseconds, …]`; an empty log counts as entry 0 that
/// took no time.
fn newest(reply: &redis::Value) -> Option<(f64, f64)> {
    match items(reply)? {
        [] => Some((0.0, 0.0)),
        [entry, ..] => {
            let [id, _, usec, ..] = items(entry)? else { return None };
            Some((number(id)?, number(usec)?))
        }
    }
}

impl Section for Slowlog {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn requests(&self, server: &Server) -> Vec<Request> {
        if server.sentinel { Vec::new() } else { vec![Request::SlowlogLen, NEWEST_SLOW] }
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let mut row = page.table_of(&self.shape).row(&[]);
        let length = replies.get(&Request::SlowlogLen).transpose();
        if let Ok(Some(value)) = &length {
            row.set_some(self.length, number(value));
        }
        if let Some(reply) = replies.get(&NEWEST_SLOW) {
            let newest = newest(reply?).ok_or_else(|| ReplyError::unexpected(NEWEST_SLOW.name()));
            let (id, usec) = newest?;
            row.set(self.last_id, id).set(self.last_duration, usec / 1e6);
        }
        length.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, page, replies};
    use super::*;
    use redis::Value;

    #[test]
    fn an_empty_log_is_zero() {
        let values = [(Request::SlowlogLen, Value::Int(0)), (NEWEST_SLOW, Value::Array(vec![]))];
        assert_eq!(
            lines(&page(&Slowlog::new(&Options::default()), &replies("", values))),
            [
                "redis_last_slow_execution_duration_seconds{} 0",
                "redis_slowlog_last_id{} 0",
                "redis_slowlog_length{} 0",
            ]
        );
    }

    #[test]
    fn a_missing_reply_leaves_the_other_whole() {
        let mut replies = replies("", [(Request::SlowlogLen, Value::Int(5))]);
        replies.replies.push((NEWEST_SLOW, Err(ReplyError::timeout("SLOWLOG GET"))));
        let mut page = Snapshot::new();
        assert!(Slowlog::new(&Options::default()).write(&replies, &mut page).is_err());
        assert_eq!(page.len(), 1);
    }
}
