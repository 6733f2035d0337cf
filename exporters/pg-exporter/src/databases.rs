//! The lane of the other databases: `--databases=all`.
//!
//! Statistics of tables, indexes, functions and sequences are seen from inside their database only. A scrape shows what
//! was last read there, and how old it is. When that is too old, the scrape starts a round over the databases, the
//! oldest first and few at a time, and does not wait for it unless there is nothing at all yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Outcome, Spec};
use exporter_kit::telemetry::log::Throttle;
use exposition::{Desc, Snapshot};
use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt, stream};
use pg_client::{Connector, Warm};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::options::{DatabaseNames, Options};
use crate::plans::Plans;
use crate::session::{LOCK_TIMEOUT, Memory, PgSession, connect_error};
use crate::sizes::{Sizes, Wanted};
use crate::sql::PgCollector;

/// How long a session in another database lasts at most. DROP DATABASE waits 5 s for those that are there, and lets no
/// new one in meanwhile.
const SESSION: Duration = Duration::from_secs(4);

const OTHERS: &str = "
    SELECT datname::text, pg_catalog.has_database_privilege(oid, 'CONNECT')::text
    FROM pg_catalog.pg_database
    WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2
      AND datname <> pg_catalog.current_database()
    ORDER BY datname";

const OUTCOME: Desc = Desc::gauge(
    "pg_exporter_database_collector_outcome",
    "How a collector ended in another database when that was last read, as in pg_exporter_collector_outcome. Always 1.",
);
const AGE: Desc = Desc::gauge(
    "pg_exporter_database_data_age_seconds",
    "Age of what was last read in another database with --databases=all.",
);

/// Another database of the server.
pub(crate) struct Other {
    pub(crate) name: String,
    pub(crate) may_connect: bool,
}

/// The other databases that are wanted and that anybody could connect to.
pub(crate) async fn others(session: &PgSession, names: &DatabaseNames) -> Result<Vec<Other>, CollectError> {
    let rows = session.query(OTHERS, true).await?;
    let other = |row: pg_client::Row<'_>| {
        Some(Other { name: row.get(0)?.to_owned(), may_connect: row.get(1) == Some("true") })
    };
    Ok(rows.iter().filter_map(other).filter(|other| names.want(&other.name)).collect())
}

/// The lane of one server.
pub(crate) struct Databases {
    spec: Spec,
    connector: Connector,
    options: Arc<Options>,
    collectors: Vec<&'static PgCollector>,
    plans: Arc<Plans>,
    state: Mutex<State>,
    throttle: Throttle,
}

#[derive(Default)]
struct State {
    databases: BTreeMap<String, Database>,
    /// Its sender lives as long as the last round runs.
    round: Option<watch::Receiver<()>>,
}

/// What is kept of a database.
struct Database {
    sizes: Arc<Sizes>,
    read: Option<Arc<Read>>,
}

/// What collectors found, by their names.
type Results = Vec<(&'static str, Result<Snapshot, CollectError>)>;

/// What was read in a database.
struct Read {
    at: Instant,
    snapshot: Snapshot,
    /// How each collector ended.
    outcomes: Vec<(&'static str, Result<(), CollectError>)>,
}

impl Databases {
    /// Nothing is opened yet.
    pub(crate) fn new(
        connector: Connector,
        options: Arc<Options>,
        collectors: Vec<&'static PgCollector>,
    ) -> Databases {
        let doc = "The collectors of a database, in the other databases.";
        let spec = Spec { name: "databases", doc, default_enabled: true };
        let throttle = Throttle::new(Duration::from_secs(60));
        let plans = Plans::of(&collectors, options.compat);
        Databases { spec, connector, options, collectors, plans, state: Mutex::default(), throttle }
    }

    async fn run(self: &Arc<Self>, session: &PgSession) -> Result<Snapshot, CollectError> {
        let remaining = session.deadline().saturating_duration_since(Instant::now());
        let patience = Instant::now() + remaining.mul_f32(0.8);
        let others = others(session, &self.options.names).await?;
        if let Some((mut round, must_wait)) = self.start(others)
            && must_wait
        {
            // An error means that the round ended, too.
            let _ = timeout_at(patience, round.changed()).await;
        }
        Ok(self.page())
    }

    /// The round that runs, if anything is due, and whether to wait for it.
    fn start(self: &Arc<Self>, others: Vec<Other>) -> Option<(watch::Receiver<()>, bool)> {
        let mut state = self.state();
        // Databases that are gone are forgotten.
        state.databases.retain(|name, _| others.iter().any(|other| other.name == *name));
        for other in &others {
            if !state.databases.contains_key(&other.name) {
                state.databases.insert(other.name.clone(), self.unread(&other.name));
            }
        }
        let refresh = self.options.databases.refresh.get();
        let must_wait = refresh.is_zero() || state.databases.values().all(|database| database.read.is_none());
        if let Some(round) = state.round.as_ref().filter(|round| round.has_changed().is_ok()) {
            return Some((round.clone(), must_wait));
        }
        let read_at = |other: &Other| Some(state.databases.get(&other.name)?.read.as_ref()?.at);
        let mut due: Vec<_> = others.into_iter().map(|other| (read_at(&other), other)).collect();
        due.retain(|(at, _)| at.is_none_or(|at| at.elapsed() >= refresh));
        due.sort_by_key(|(at, _)| *at);
        if due.is_empty() {
            return None;
        }
        let (running, round) = watch::channel(());
        state.round = Some(round.clone());
        let lane = Arc::clone(self);
        tokio::spawn(async move {
            let reads = stream::iter(due.into_iter().map(|(_, other)| other));
            reads.for_each_concurrent(lane.options.databases.sessions.get(), |other| lane.read(other)).await;
            drop(running);
        });
        Some((round, must_wait))
    }

    fn unread(&self, name: &str) -> Database {
        let relations = self.collectors.iter().any(|collector| collector.spec.name == "stat_user_tables");
        let warm = Warm::fleeting(self.connector.with_dbname(name));
        // They are read in a round, never because a scrape finds them too old.
        let sizes = Sizes::new(warm, Duration::MAX, SESSION, Wanted { databases: false, relations });
        Database { sizes, read: None }
    }

    /// Reads one database, and keeps what was there.
    async fn read(&self, other: Other) {
        let sizes = self.state().databases.get(&other.name).map(|database| Arc::clone(&database.sizes));
        // Without one, it is gone since the round began.
        let Some(sizes) = sizes else { return };
        let results = if other.may_connect {
            // In a session of their own: they may take all of its time.
            sizes.refresh_after(self.options.size_refresh).await;
            self.collect(&other.name, Arc::clone(&sizes)).await
        } else {
            Err(CollectError::new(Outcome::Permission, "the role may not connect: GRANT CONNECT ON DATABASE"))
        };
        let results = results.unwrap_or_else(|error| {
            let failed = |collector: &&PgCollector| (collector.spec.name, Err(error.clone()));
            self.collectors.iter().map(failed).collect()
        });
        let mut snapshot = Snapshot::new();
        let mut outcomes = Vec::with_capacity(results.len());
        for (collector, result) in results {
            let result = result.map(|part| snapshot.append(part));
            if let Err(error) = &result {
                self.log(&other.name, collector, error);
            }
            outcomes.push((collector, result));
        }
        for (data, _, ended) in sizes.state() {
            let failed = |ended| CollectError::new(ended, "sizes were not read; the log has the reason");
            let result = ended.map(|ended| if ended == Outcome::Ok { Ok(()) } else { Err(failed(ended)) });
            outcomes.extend(result.map(|result| (data, result)));
        }
        let read = Arc::new(Read { at: Instant::now(), snapshot, outcomes });
        if let Some(database) = self.state().databases.get_mut(&other.name) {
            database.read = Some(read);
        }
    }

    /// What each collector found in a session of its own length.
    async fn collect(&self, name: &str, sizes: Arc<Sizes>) -> Result<Results, CollectError> {
        let deadline = Instant::now() + SESSION;
        let limit = self.options.statement_timeout.min(SESSION.mul_f32(0.9));
        let connector = self.connector.with_dbname(name).with_session_limits(limit, LOCK_TIMEOUT);
        let warm = Warm::fleeting(connector);
        let lease = warm.lease(deadline).await.map_err(|error| connect_error(&error))?;
        let (dsn, options) = (warm.connector().dsn(), Arc::clone(&self.options));
        let memory = Arc::new(Memory::new(Arc::clone(&self.plans)));
        let session = PgSession::new(lease, dsn, deadline, options, memory, sizes);
        let late = |_| Err(CollectError::new(Outcome::Timeout, "no reply within the time of a session"));
        let run = async |collector: &&'static PgCollector| {
            let result = timeout_at(deadline, collector.collect(&session)).await.unwrap_or_else(late);
            (collector.spec.name, result)
        };
        Ok(join_all(self.collectors.iter().map(run)).await)
    }

    /// Says once in a while what is wrong in a database.
    fn log(&self, database: &str, collector: &str, error: &CollectError) {
        if error.outcome.is_failure()
            && let Some(suppressed) = self.throttle.check(database)
        {
            let outcome = error.outcome.as_str();
            tracing::warn!(
                database,
                collector,
                outcome,
                error = error.message,
                suppressed,
                "cannot read a database"
            );
        }
    }

    /// What was last read, how that ended, and how old it is.
    fn page(&self) -> Snapshot {
        let reads = self.reads();
        let mut page = Snapshot::new();
        for (_, read) in &reads {
            page.append(read.snapshot.clone());
        }
        let table = page.table(&["datname", "collector", "outcome"]);
        let outcome = table.column(&OUTCOME);
        for (name, read) in &reads {
            for (collector, result) in &read.outcomes {
                let ended = result.as_ref().map_or_else(|error| error.outcome, |()| Outcome::Ok);
                table.row(&[name, collector, ended.as_str()]).set(outcome, 1.0);
            }
        }
        let table = page.table(&["datname"]);
        let age = table.column(&AGE);
        for (name, read) in &reads {
            table.row(&[name]).set(age, read.at.elapsed().as_secs_f64());
        }
        page
    }

    /// What went wrong in which database, in which collector.
    pub(crate) fn failures(&self) -> Vec<(String, &'static str, CollectError)> {
        let of_database = |(name, read): (String, Arc<Read>)| {
            let errors = read.outcomes.iter().filter_map(|(collector, result)| {
                let error = result.as_ref().err().filter(|error| error.outcome.is_failure())?;
                Some((name.clone(), *collector, error.clone()))
            });
            errors.collect::<Vec<_>>()
        };
        self.reads().into_iter().flat_map(of_database).collect()
    }

    fn reads(&self) -> Vec<(String, Arc<Read>)> {
        let state = self.state();
        let read = |(name, database): (&String, &Database)| Some((name.clone(), database.read.clone()?));
        state.databases.iter().filter_map(read).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector<PgSession> for Arc<Databases> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn collect<'a>(&'a self, session: &'a PgSession) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        self.run(session).boxed()
    }
}
