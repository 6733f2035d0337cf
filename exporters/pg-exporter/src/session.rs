//! What collectors read from: the kept connection, for the length of one pass.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exporter_kit::collector::{CollectError, Outcome};
use exposition::{Snapshot, Template};
use foldhash::fast::RandomState;
use pg_client::{ConnectError, ConnectErrorKind, Dsn, Lease, Limits, QueryError, QueryErrorKind, Rows};
use tokio::sync::{OnceCell, RwLock};
use tokio::time::Instant;

use crate::collectors::stat_statements;
use crate::extension::Extension;
use crate::options::{Options, WhichDatabases};
use crate::plans::Plans;
use crate::sizes::Sizes;
use crate::sql::{Query, SETTINGS, ServerLabel};

/// How long a statement of a scrape waits for a lock. Statistics functions need none; what does is a catalogue under
/// an ACCESS EXCLUSIVE lock, and that is worth an error rather than a wait.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_millis(250);

/// What a statement that several queries ask for came to.
type Reply = Result<Arc<Rows>, CollectError>;

/// The session of one pass.
pub struct PgSession {
    /// An error after a reconnect that failed.
    lease: RwLock<Result<Lease, CollectError>>,
    major: u32,
    server_label: String,
    database: String,
    deadline: Instant,
    options: Arc<Options>,
    memory: Arc<Memory>,
    /// Whether the server answered anything in this pass.
    answered: AtomicBool,
    /// Replies to statements that several queries may ask for, by address.
    shared: Mutex<HashMap<usize, Arc<OnceCell<Reply>>, RandomState>>,
    /// Sizes of databases and relations, from their own lane.
    pub(crate) sizes: Arc<Sizes>,
}

/// What is remembered from one scrape to the next.
pub(crate) struct Memory {
    /// Results that need not be read again, with the key that tells so.
    results: Mutex<HashMap<&'static str, (String, Arc<Snapshot>)>>,
    /// Where extensions are.
    extensions: Mutex<HashMap<&'static str, Extension>>,
    /// What is shown of pg_stat_statements.
    statements: Mutex<stat_statements::Kept>,
    /// What was made of the rows of queries last, by the address of the query.
    templates: Mutex<HashMap<usize, Template, RandomState>>,
    plans: Arc<Plans>,
}

impl Memory {
    /// Of a target with these plans.
    pub(crate) fn new(plans: Arc<Plans>) -> Memory {
        Memory {
            results: Mutex::default(),
            extensions: Mutex::default(),
            statements: Mutex::default(),
            templates: Mutex::default(),
            plans,
        }
    }

    /// What was kept under a name, with its key.
    pub(crate) fn get(&self, name: &'static str) -> Option<(String, Arc<Snapshot>)> {
        locked(&self.results).get(name).cloned()
    }

    /// Keeps a result.
    pub(crate) fn put(&self, name: &'static str, key: String, snapshot: Snapshot) {
        locked(&self.results).insert(name, (key, Arc::new(snapshot)));
    }

    /// What is shown of pg_stat_statements.
    pub(crate) fn statements(&self) -> MutexGuard<'_, stat_statements::Kept> {
        locked(&self.statements)
    }

    /// What collectors ask.
    pub(crate) fn plans(&self) -> &Plans {
        &self.plans
    }

    /// What is made of the rows of a query. Most of it is as it was last.
    pub(crate) fn snapshot(&self, query: &'static Query, fill: impl FnOnce(&mut Snapshot)) -> Snapshot {
        let key = std::ptr::from_ref(query).addr();
        let mut snapshot = Snapshot::new();
        snapshot.follow(locked(&self.templates).get_mut(&key).map(std::mem::take).unwrap_or_default());
        fill(&mut snapshot);
        locked(&self.templates).insert(key, snapshot.template());
        snapshot
    }

    /// Where an extension was found.
    pub(crate) fn extension(&self, name: &'static str) -> Option<Extension> {
        locked(&self.extensions).get(name).cloned()
    }

    /// Keeps where an extension was found.
    pub(crate) fn put_extension(&self, name: &'static str, extension: Extension) {
        locked(&self.extensions).insert(name, extension);
    }

    /// Forgets where an extension was.
    pub(crate) fn forget_extension(&self, name: &'static str) {
        locked(&self.extensions).remove(name);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PgSession {
    pub(crate) fn new(
        lease: Lease,
        dsn: &Dsn,
        deadline: Instant,
        options: Arc<Options>,
        memory: Arc<Memory>,
        sizes: Arc<Sizes>,
    ) -> PgSession {
        let major = lease.version_num() / 10_000;
        let answered = AtomicBool::new(false);
        PgSession {
            lease: RwLock::new(Ok(lease)),
            major,
            server_label: dsn.server_label(),
            database: dsn.dbname().to_owned(),
            deadline,
            options,
            memory,
            answered,
            shared: Mutex::default(),
            sizes,
        }
    }

    /// The server's major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// What the user chose.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// When the scrape must be over.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Runs a statement. Statements of all collectors are polled before any reply is awaited, so they leave in one
    /// write. A connection that was kept and turns out dead is replaced once.
    ///
    /// A statement that is `fixed`, the same on every scrape, is prepared once a session.
    pub(crate) async fn query(&self, sql: &str, fixed: bool) -> Result<Rows, CollectError> {
        let limits = self.limits();
        let run = async |lease: &Lease| match lease.is_own() {
            true => lease.query_own(sql, fixed).await,
            // Boxed, like all that is rare: many of these futures are moved on every scrape.
            false => Box::pin(lease.query(sql, &limits)).await,
        };
        let (result, reused) = {
            let lease = self.lease.read().await;
            let lease = lease.as_ref().map_err(Clone::clone)?;
            (run(lease).await, lease.is_reused())
        };
        let result = match result {
            Err(error) if error.kind == QueryErrorKind::Connection && reused => {
                let again = async || {
                    self.renew().await;
                    let lease = self.lease.read().await;
                    Ok(run(lease.as_ref().map_err(Clone::clone)?).await)
                };
                Box::pin(again()).await?
            }
            result => result,
        };
        if !result.as_ref().is_err_and(|error| error.kind == QueryErrorKind::Connection) {
            self.answered.store(true, Ordering::Relaxed);
        }
        result.map_err(|error| collect_error(&error))
    }

    /// Runs a statement that is the same on every scrape: once in this pass for all who know it by this address.
    pub(crate) async fn query_shared(&self, address: usize, sql: &str) -> Reply {
        let reply = Arc::clone(locked(&self.shared).entry(address).or_default());
        reply.get_or_init(async || self.query(sql, true).await.map(Arc::new)).await.clone()
    }

    /// Whether the server answered anything in this pass.
    pub(crate) fn answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Replaces a kept connection that is dead. The first of the joined statements does it, the others find it done.
    async fn renew(&self) {
        let mut slot = self.lease.write().await;
        if slot.as_ref().is_ok_and(Lease::is_reused) {
            let replacing = Err(CollectError::new(Outcome::Connection, "the connection was lost"));
            if let Ok(lease) = std::mem::replace(&mut *slot, replacing) {
                *slot = lease.renew(self.deadline).await.map_err(|error| connect_error(&error));
            }
        }
    }

    fn limits(&self) -> Limits {
        // The server's own limit is the guard against work that nobody waits for any more; it ends a little before
        // the deadline, so that the server's word for it still arrives.
        Limits {
            statement_timeout: Some(self.deadline.saturating_duration_since(Instant::now()).mul_f32(0.9)),
            lock_timeout: Some(LOCK_TIMEOUT),
            ..Limits::default()
        }
    }

    /// Puts `server` and constant labels on what has them in the chosen version of postgres_exporter, and the prefix of
    /// names, unless all of it is left out.
    pub(crate) fn add_server_label(&self, has: ServerLabel, snapshot: &mut Snapshot) {
        if !has.applies(self.options.compat) {
            return;
        }
        let default_metric = |name: &str| !name.starts_with(SETTINGS);
        snapshot.retain(|name| !(default_metric(name) && self.options.leaves_out(name)));
        snapshot.rename(|name| {
            // Its name is fixed in postgres_exporter, too.
            let prefixed = default_metric(name) && name != "pg_static";
            prefixed.then(|| self.options.prefixed(name)).flatten()
        });
        self.add_labels_of_server(snapshot);
    }

    /// Puts `server` and constant labels on everything.
    pub(crate) fn add_labels_of_server(&self, snapshot: &mut Snapshot) {
        let constant =
            self.options.constant_labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let labels: Vec<_> = [("server", self.server_label.as_str())].into_iter().chain(constant).collect();
        snapshot.add_labels(&labels);
    }

    /// Tells what is one database's from that of others, where there are others. Most series say it themselves.
    pub(crate) fn add_database_label(&self, snapshot: &mut Snapshot) {
        if self.options.databases.which == WhichDatabases::All {
            snapshot.add_labels(&[("datname", &self.database)]);
        }
    }

    /// `host:port` of the target.
    pub(crate) fn server_label(&self) -> &str {
        &self.server_label
    }

    /// Sees to it that there are sizes, and leaves time for the rest of the scrape.
    pub(crate) async fn prepare_sizes(&self) {
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        self.sizes.prepare(Instant::now() + remaining.mul_f32(0.8)).await;
    }
}

/// Why there is no session, as the engine wants to hear it.
pub(crate) fn connect_error(error: &ConnectError) -> CollectError {
    let outcome =
        if error.kind == ConnectErrorKind::Timeout { Outcome::Timeout } else { Outcome::Connection };
    CollectError::new(outcome, error.message.clone())
}

pub(crate) fn collect_error(error: &QueryError) -> CollectError {
    let outcome = match error.kind {
        QueryErrorKind::Timeout => Outcome::Timeout,
        QueryErrorKind::LockTimeout => Outcome::LockTimeout,
        QueryErrorKind::Permission => Outcome::Permission,
        QueryErrorKind::FeatureNotSupported => Outcome::UnsupportedVersion,
        QueryErrorKind::Connection => Outcome::Connection,
        QueryErrorKind::UndefinedObject | QueryErrorKind::Other => Outcome::Error,
    };
    CollectError::new(outcome, error.message.clone())
}
