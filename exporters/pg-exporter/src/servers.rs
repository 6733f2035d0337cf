//! Several servers on one page, as several connection strings in DATA_SOURCE_NAME ask for: everything of the first, and
//! of the others what has a `server` label. One that is down or slow costs its own samples only.

use std::sync::Arc;
use std::time::Duration;

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Outcome, Spec};
use exporter_kit::scrape::{Pass, Source};
use exporter_kit::telemetry::log::Throttle;
use exposition::{Desc, Snapshot};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use crate::session::PgSession;
use crate::source::PgSource;

const SERVER_UP: Desc = Desc::gauge(
    "pg_exporter_server_up",
    "Whether each of several servers answered in the last scrape; pg_up is 1 when all did.",
);

const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Several servers, the first one in full.
pub struct Servers {
    servers: Arc<[PgSource]>,
    collectors: Vec<Box<dyn Collector<Sessions>>>,
    throttle: Throttle,
}

/// A session on each server, opened when a collector first wants it.
pub struct Sessions {
    cells: Vec<OnceCell<Result<PgSession, CollectError>>>,
    deadline: Instant,
    /// A little before the deadline: what the others have is shown even when one server is silent.
    patience: Instant,
}

/// A collector on all servers that have it.
struct OnAll {
    spec: Spec,
    servers: Arc<[PgSource]>,
}

impl Servers {
    /// The servers, in order.
    pub fn new(servers: Vec<PgSource>) -> Servers {
        let servers: Arc<[PgSource]> = servers.into();
        let first = servers.first().map(PgSource::collectors).unwrap_or_default();
        let collectors = first
            .iter()
            .map(|collector| OnAll { spec: *collector.spec(), servers: Arc::clone(&servers) })
            .map(|collector| Box::new(collector) as Box<_>)
            .collect();
        Servers { collectors, servers, throttle: Throttle::new(LOG_INTERVAL) }
    }
}

impl OnAll {
    async fn on_server(&self, index: usize, sessions: &Sessions) -> Option<Result<Snapshot, CollectError>> {
        let source = self.servers.get(index)?;
        let cell = sessions.cells.get(index)?;
        let collector = source.collectors().iter().find(|other| other.spec().name == self.spec.name)?;
        let run = async {
            let session = cell.get_or_init(|| source.open(sessions.deadline)).await;
            collector.collect(session.as_ref().map_err(Clone::clone)?).await
        };
        let late = |_| Err(CollectError::new(Outcome::Timeout, "no reply before the deadline"));
        Some(timeout_at(sessions.patience, run).await.unwrap_or_else(late))
    }
}

impl Collector<Sessions> for OnAll {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn collect<'a>(&'a self, sessions: &'a Sessions) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        async move {
            let all = join_all((0..self.servers.len()).map(|index| self.on_server(index, sessions))).await;
            let (mut snapshot, mut error, mut found) = (Snapshot::new(), None, false);
            for result in all.into_iter().flatten() {
                match result {
                    Ok(part) => {
                        found = true;
                        snapshot.append(part);
                    }
                    Err(one) => error = error.or(Some(one)),
                }
            }
            error.filter(|_| !found).map_or(Ok(snapshot), Err)
        }
        .boxed()
    }
}

impl Source for Servers {
    type Session = Sessions;

    fn collectors(&self) -> &[Box<dyn Collector<Sessions>>] {
        &self.collectors
    }

    fn open(&self, deadline: Instant) -> BoxFuture<'_, Result<Sessions, CollectError>> {
        let cells = self.servers.iter().map(|_| OnceCell::new()).collect();
        let patience = Instant::now() + deadline.saturating_duration_since(Instant::now()).mul_f32(0.9);
        async move { Ok(Sessions { cells, deadline, patience }) }.boxed()
    }

    fn finish(&self, pass: Pass<Sessions>, page: &mut Snapshot) {
        let silent =
            || CollectError::new(Outcome::Timeout, "the server did not let us in before the deadline");
        let sessions: Vec<Result<PgSession, CollectError>> = match pass.session {
            Ok(sessions) => {
                let cells = sessions.cells.into_iter();
                cells.map(|cell| cell.into_inner().unwrap_or_else(|| Err(silent()))).collect()
            }
            Err(error) => self.servers.iter().map(|_| Err(error.clone())).collect(),
        };
        let up = |session: &Result<PgSession, CollectError>| session.as_ref().is_ok_and(PgSession::answered);
        let table = page.table(&["server"]);
        let column = table.column(&SERVER_UP);
        for (source, session) in self.servers.iter().zip(&sessions) {
            let server = source.server_label();
            if let Err(error) = session
                && let Some(suppressed) = self.throttle.check(&server)
            {
                let outcome = error.outcome.as_str();
                tracing::warn!(server, outcome, error = error.message, suppressed, "no session");
            }
            table.row(&[&server]).set(column, f64::from(u8::from(up(session))));
        }
        // pg_up speaks for all: it is that of the first server that is down.
        let down = sessions.iter().position(|session| !up(session)).unwrap_or(0);
        if let Some((first, session)) = self.servers.first().zip(sessions.into_iter().nth(down)) {
            let Pass { collectors, duration, complete, .. } = pass;
            first.finish(Pass { session, collectors, duration, complete }, page);
        }
    }
}
