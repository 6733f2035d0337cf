//! `redis_latency_spike_*`: the newest spike of each event, from LATENCY LATEST.

use exposition::{Desc, Snapshot};

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::options::Options;
use crate::request::{Request, Server, items, number, text};

static SPEC: Spec =
    Spec { name: "latency", doc: "Newest latency spike of each event", default_enabled: true };

pub(super) struct Latency {
    excluded: bool,
    last: Desc,
    duration: Desc,
}

impl Latency {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            excluded: options.exclude_latency,
            last: options.gauge("latency_spike_last", "When the newest spike of an event was, in Unix time."),
            duration: options
                .gauge("latency_spike_duration_seconds", "How long the newest spike of an event took."),
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
        let table = page.table(&["event_name"]);
        let (last, duration) = (table.column(&self.last), table.column(&self.duration));
        for event in items(reply?).ok_or_else(unexpected)? {
            let [name, at, newest, ..] = items(event).ok_or_else(unexpected)? else {
                return Err(unexpected());
            };
            let name = text(name).ok_or_else(unexpected)?;
            table
                .row(&[&name])
                .set_some(last, number(at))
                .set_some(duration, number(newest).map(|milliseconds| milliseconds / 1e3));
        }
        Ok(())
    }
}
