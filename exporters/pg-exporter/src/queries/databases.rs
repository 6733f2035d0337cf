//! `--auto-discover-databases`: the user's queries in the other databases of the server. Sessions there last as long as
//! the queries take, and are few at a time: nothing is kept that DROP DATABASE would wait for.

use std::collections::HashMap;
use std::sync::Arc;

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Spec};
use exposition::{Desc, Snapshot};
use futures_util::{FutureExt, StreamExt, stream};
use pg_client::Connector;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::collector::{Memory, finish};
use super::file::Namespace;
use crate::databases::others;
use crate::options::DatabaseNames;
use crate::session::PgSession;

/// Sessions at a time.
pub(crate) const SESSIONS: usize = 2;

const ERROR: Desc = Desc::gauge(
    "pg_exporter_user_query_error",
    "Whether a query of --extend.query-path failed in a database that was discovered.",
);

/// The queries in all other databases.
pub struct OtherDatabases {
    spec: Spec,
    namespaces: Vec<Arc<Namespace>>,
    connector: Connector,
    names: DatabaseNames,
    memory: Mutex<HashMap<String, OfDatabase>>,
}

/// What is kept of a database: an entry for each namespace.
type OfDatabase = Vec<Memory>;

impl OtherDatabases {
    pub(super) fn new(
        namespaces: Vec<Arc<Namespace>>,
        connector: Connector,
        names: DatabaseNames,
    ) -> OtherDatabases {
        let doc = "The queries of --extend.query-path in the other databases.";
        let spec = Spec { name: "query.databases", doc, default_enabled: true };
        OtherDatabases { spec, namespaces, connector, names, memory: Mutex::default() }
    }

    async fn run(&self, session: &PgSession) -> Result<Snapshot, CollectError> {
        // What is there in time is shown even when a database is slow.
        let remaining = session.deadline().saturating_duration_since(Instant::now());
        let deadline = Instant::now() + remaining.mul_f32(0.9);
        let mut kept = self.memory.lock().await;
        let others = others(session, &self.names).await?;
        let work: Vec<(String, OfDatabase)> = others
            .into_iter()
            .filter(|database| database.may_connect)
            .map(|database| {
                let fresh = || self.namespaces.iter().map(|_| Memory::default()).collect();
                let memory = kept.remove(&database.name).unwrap_or_else(fresh);
                (database.name, memory)
            })
            .collect();
        let reads = work.into_iter().map(|(name, memory)| self.database(name, memory, deadline));
        let results: Vec<_> = stream::iter(reads).buffer_unordered(SESSIONS).collect().await;
        // Databases that are gone are forgotten.
        kept.clear();
        let mut snapshot = Snapshot::new();
        let mut errors = Snapshot::new();
        let table = errors.table(&["datname", "namespace"]);
        let column = table.column(&ERROR);
        for (name, memory, parts) in results {
            for (namespace, part) in self.namespaces.iter().zip(parts) {
                let failed = f64::from(u8::from(part.is_none()));
                table.row(&[&name, &namespace.name]).set(column, failed);
                snapshot.append(part.unwrap_or_default());
            }
            kept.insert(name, memory);
        }
        let mut snapshot = finish(snapshot, session);
        snapshot.append(errors);
        Ok(snapshot)
    }

    /// The results of one database, in the order of the namespaces; none where there is none.
    async fn database(
        &self,
        name: String,
        mut memory: OfDatabase,
        deadline: Instant,
    ) -> (String, OfDatabase, Vec<Option<Snapshot>>) {
        let mut session = None;
        let mut parts = Vec::with_capacity(memory.len());
        for (namespace, memory) in self.namespaces.iter().zip(&mut memory) {
            if let Some(kept) = memory.fresh(namespace) {
                parts.push(Some(kept.clone()));
                continue;
            }
            if session.is_none() {
                session = Some(self.connector.with_dbname(&name).connect(deadline).await.ok());
            }
            parts.push(match session.as_ref().and_then(Option::as_ref) {
                // On a server that it is not for, there is nothing to show.
                Some(session) => {
                    memory.read(namespace, session, deadline).await.ok().map(Option::unwrap_or_default)
                }
                None => None,
            });
        }
        (name, memory, parts)
    }
}

impl Collector<PgSession> for OtherDatabases {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn collect<'a>(&'a self, session: &'a PgSession) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        self.run(session).boxed()
    }
}
