//! `redis_latency_spike_*`: the newest spike of each event, from LATENCY LATEST.

use std::sync::Arc;

use exposition::{Column, Shape, Snapshot};

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::options::Options;
use crate::request::{Request, Server, borrowed, items, number};

static SPEC: Spec =
    Spec { name: "latency", doc: "Newest latency spike of each event", default_enabled: true };

pub(super) struct Latency {
    excluded: bool,
    shape: Arc<Shape>,
    last: Column,
    duration: Column,
}

impl Latency {
    pub(super) fn new(options: &Options) -> Self {
        let mut shape = Shape::new(&["event_name"]);
        let mut gauge = |family, help| shape.column(&options.gauge(family, help));
        Self {
            excluded: options.exclude_latency,
            last: gauge("latency_spike_last", "When the newest spike of an event was, in Unix time."),
            duration: gauge("latency_spike_duration_seconds", "How long the newest spike of an event took."),
            shape: Arc::new(shape),
        }
    }
}

impl Section for Latency {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn requests(&self, server: &Server) -> Vec<Request> {
        let wanted = !self.excluded && !server.sentinel;
        wanted.then_some(Request::LatencyLatest).into_iter().collect()
    }

    /// A row is event, Unix time, newest and greatest milliseconds; Valkey adds the sum and the count.
    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let Some(reply) = replies.get(&Request::LatencyLatest) else { return Ok(()) };
        let unexpected = || ReplyError::unexpected(Request::LatencyLatest.name());
        let table = page.table_of(&self.shape);
        for event in items(reply?).ok_or_else(unexpected)? {
            let [name, at, newest, ..] = items(event).ok_or_else(unexpected)? else {
                return Err(unexpected());
            };
            let name = borrowed(name).ok_or_else(unexpected)?;
            table
                .row(&[&name])
                .set_some(self.last, number(at))
                .set_some(self.duration, number(newest).map(|milliseconds| milliseconds / 1e3));
        }
        Ok(())
    }
}
