//! A namespace of the user's file as a collector on the connected database.

use std::sync::Arc;
use std::time::Duration;

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Outcome, Spec};
use exposition::Snapshot;
use futures_util::FutureExt;
use pg_client::{QueryError, QueryErrorKind, Session, Warm};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::decode::decode;
use super::file::Namespace;
use super::interned;
use super::run::{ResultColumn, run};
use super::versions::version;
use crate::session::{PgSession, collect_error, connect_error};

/// A namespace on the connected database.
pub struct UserQuery {
    spec: Spec,
    namespace: Arc<Namespace>,
    lane: Warm,
    memory: Mutex<Memory>,
}

/// What is kept of a namespace in one database.
#[derive(Default)]
pub(super) struct Memory {
    columns: Vec<ResultColumn>,
    result: Option<(Instant, Snapshot)>,
}

impl Memory {
    /// The last result, while it counts.
    pub(super) fn fresh(&self, namespace: &Namespace) -> Option<&Snapshot> {
        let (read, result) = self.result.as_ref()?;
        (read.elapsed() < Duration::from_secs(namespace.cache_seconds)).then_some(result)
    }

    /// Runs the query and keeps its result, if it is to be kept. Says `None` on a server that it is not for.
    pub(super) async fn read(
        &mut self,
        namespace: &Namespace,
        session: &Session,
        deadline: Instant,
    ) -> Result<Option<Snapshot>, QueryError> {
        let server = version(session.version_num());
        if namespace.servers.as_ref().is_some_and(|range| !range.contains(server)) {
            return Ok(None);
        }
        let rows = run(session, &namespace.sql, &mut self.columns, deadline).await?;
        let snapshot = decode(namespace, &rows, &self.columns, server);
        self.result = (namespace.cache_seconds > 0).then(|| (Instant::now(), snapshot.clone()));
        Ok(Some(snapshot))
    }
}

/// Names and labels as postgres_exporter has them on what comes from the user's file.
pub(super) fn finish(mut snapshot: Snapshot, session: &PgSession) -> Snapshot {
    snapshot.rename(|name| session.options().prefixed(name));
    session.add_labels_of_server(&mut snapshot);
    snapshot
}

impl UserQuery {
    pub(super) fn new(namespace: Arc<Namespace>, lane: Warm) -> UserQuery {
        let name = interned(format!("query.{}", namespace.name));
        let spec = Spec { name, doc: "A query of --extend.query-path.", default_enabled: true };
        UserQuery { spec, namespace, lane, memory: Mutex::default() }
    }

    async fn run(&self, session: &PgSession) -> Result<Snapshot, CollectError> {
        let mut memory = self.memory.lock().await;
        if let Some(kept) = memory.fresh(&self.namespace) {
            return Ok(finish(kept.clone(), session));
        }
        let deadline = session.deadline();
        let lease = self.lane.lease(deadline).await.map_err(|error| connect_error(&error))?;
        let result = match memory.read(&self.namespace, &lease, deadline).await {
            // A connection that was kept may have died since.
            Err(error) if error.kind == QueryErrorKind::Connection && lease.is_reused() => {
                let lease = lease.renew(deadline).await.map_err(|error| connect_error(&error))?;
                memory.read(&self.namespace, &lease, deadline).await
            }
            result => result,
        };
        match result.map_err(|error| collect_error(&error))? {
            Some(snapshot) => Ok(finish(snapshot, session)),
            None => Err(CollectError::new(Outcome::UnsupportedVersion, "runonserver excludes this server")),
        }
    }
}

impl Collector<PgSession> for UserQuery {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn collect<'a>(&'a self, session: &'a PgSession) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        self.run(session).boxed()
    }
}
