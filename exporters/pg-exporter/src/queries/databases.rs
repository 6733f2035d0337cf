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

use super::Discovery;
use super::collector::{Memory, finish};
use super::file::Namespace;
use crate::session::PgSession;

/// Sessions at a time.
const SESSIONS: usize = 2;

const ERROR: Desc = Desc::gauge(
    "pg_exporter_user_query_error",
    "Whether a query of --extend.query-path failed in a database that was discovered.",
);

const DATABASES: &str = "SELECT datname::text FROM pg_catalog.pg_database
     WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2
       AND datname <> pg_catalog.current_database() AND pg_catalog.has_database_privilege(oid, 'CONNECT')";

/// The queries in all other databases.
pub struct OtherDatabases {
    spec: Spec,
    namespaces: Vec<Arc<Namespace>>,
    connector: Connector,
    discovery: Discovery,
    memory: Mutex<HashMap<String, OfDatabase>>,
}

/// What is kept of a database: an entry for each namespace.
type OfDatabase = Vec<Memory>;

impl OtherDatabases {
    pub(super) fn new(
        namespaces: Vec<Arc<Namespace>>,
        connector: Connector,
        discovery: Discovery,
    ) -> OtherDatabases {
        let doc = "The queries of --extend.query-path in the other databases.";
        let spec = Spec { name: "query.databases", doc, default_enabled: true };
        OtherDatabases { spec, namespaces, connector, discovery, memory: Mutex::default() }
    }

    fn wants(&self, database: &str) -> bool {
        let has = |names: &[String]| names.iter().any(|name| name == database);
        let Discovery { include, exclude } = &self.discovery;
        !has(exclude) && (include.is_empty() || has(include))
    }

    async fn run(&self, session: &PgSession) -> Result<Snapshot, CollectError> {
        // What is there in time is shown even when a database is slow.
        let remaining = session.deadline().saturating_duration_since(Instant::now());
        let deadline = Instant::now() + remaining.mul_f32(0.9);
        let mut kept = self.memory.lock().await;
        let rows = session.query(DATABASES, true).await?;
        let names = rows.iter().filter_map(|row| row.get(0)).filter(|name| self.wants(name));
        let work: Vec<(String, OfDatabase)> = names
            .map(|name| {
                let fresh = || self.namespaces.iter().map(|_| Memory::default()).collect();
                (name.to_owned(), kept.remove(name).unwrap_or_else(fresh))
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
