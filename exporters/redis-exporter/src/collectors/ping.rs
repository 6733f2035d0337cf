//! `redis_exporter_last_scrape_ping_time_seconds`: the first command of a scrape, for how long the way to the server
//! takes. The family is written with the others about the exporter: it is the time that this collector takes.

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Spec};
use exposition::Snapshot;

use crate::request::Request;
use crate::session::Session;

pub(crate) static SPEC: Spec =
    Spec { name: "ping", doc: "How long PING takes, before anything else", default_enabled: false };

pub(super) struct Ping;

impl Collector<Session> for Ping {
    fn spec(&self) -> &Spec {
        &SPEC
    }

    fn collect<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        Box::pin(async move {
            session.ask(Request::Ping).await?;
            Ok(Snapshot::new())
        })
    }
}
