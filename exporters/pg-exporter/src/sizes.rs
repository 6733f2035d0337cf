//! The size lane: disk space of databases and relations, on a connection of its own.
//!
//! Size functions walk files and take locks, so they must not hold up the statistics. A scrape reads the last result
//! and its age; when that is old, the scrape starts a refresh and does not wait for it, unless there is no result yet.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exporter_kit::collector::{CollectError, Outcome};
use exporter_kit::telemetry::log::Throttle;
use pg_client::{Limits, Rows, Warm};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::session::{collect_error, connect_error};

/// How long one lock may be waited for. Relations with an ACCESS EXCLUSIVE lock are left out beforehand; this covers
/// the race.
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// Kinds of size, as they are called in metrics.
const KINDS: [&str; 2] = ["database_sizes", "relation_sizes"];

const DATABASES: &str = "
    SELECT d.datname,
           CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT')
                  OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
                THEN pg_catalog.pg_database_size(d.oid) END
    FROM pg_catalog.pg_database d";

const RELATIONS: &str = "
    SELECT n.nspname, c.relname,
           CASE WHEN locked.relation IS NULL THEN pg_catalog.pg_indexes_size(c.oid) END,
           CASE WHEN locked.relation IS NULL THEN pg_catalog.pg_table_size(c.oid) END,
           locked.relation IS NOT NULL
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN (SELECT DISTINCT coalesce(i.indrelid, l.relation) AS relation
               FROM pg_catalog.pg_lock_status() l
               LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = l.relation
               WHERE l.mode = 'AccessExclusiveLock'
                 AND l.database = (SELECT oid FROM pg_catalog.pg_database
                                   WHERE datname = pg_catalog.current_database())) locked
           ON locked.relation IN (c.oid, nullif(c.reltoastrelid, 0))
    WHERE (c.relkind IN ('r', 't', 'm')
           OR c.relkind = 'p' AND pg_catalog.current_setting('server_version_num')::int >= 140000)
      AND n.nspname NOT IN ('pg_catalog', 'information_schema')
      AND n.nspname !~ '^pg_toast'";

/// Disk space of one relation.
#[derive(Clone, Debug)]
pub(crate) struct Relation {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) index_bytes: f64,
    pub(crate) table_bytes: f64,
}

/// A result and when it was read.
struct Dated<T> {
    value: Arc<T>,
    at: Instant,
}

impl<T> Dated<T> {
    fn now(value: T) -> Dated<T> {
        Dated { value: Arc::new(value), at: Instant::now() }
    }
}

#[derive(Default)]
struct Last {
    databases: Option<Dated<HashMap<String, f64>>>,
    relations: Option<Dated<Vec<Relation>>>,
    /// Relations of the last refresh that are left out because of a lock.
    locked: Option<usize>,
    /// How the last refresh ended, by kind of size.
    outcomes: [Option<Outcome>; 2],
    /// Set while a refresh runs; its receivers wake when it ends.
    running: Option<watch::Receiver<()>>,
    attempted: Option<Instant>,
}

/// The lane of one target.
pub(crate) struct Sizes {
    warm: Warm,
    max_age: Duration,
    /// How long a refresh may take.
    timeout: Duration,
    wanted: Wanted,
    last: Mutex<Last>,
    throttle: Throttle,
}

/// Which sizes any collector asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) databases: bool,
    pub(crate) relations: bool,
}

impl Sizes {
    pub(crate) fn new(warm: Warm, max_age: Duration, timeout: Duration, wanted: Wanted) -> Arc<Sizes> {
        let throttle = Throttle::new(Duration::from_secs(60));
        Arc::new(Sizes { warm, max_age, timeout, wanted, last: Mutex::default(), throttle })
    }

    /// Reads the sizes, unless the last attempt is younger than this.
    pub(crate) async fn refresh_after(&self, age: Duration) {
        let due = {
            let mut last = self.last();
            let due = last.attempted.is_none_or(|at| at.elapsed() >= age);
            if due {
                last.attempted = Some(Instant::now());
            }
            due
        };
        if due && self.wants_any() {
            self.refresh().await;
        }
    }

    fn wants_any(&self) -> bool {
        self.wanted.databases || self.wanted.relations
    }

    /// Sees to it that there are sizes: starts a refresh when the last one is too old. Waits for it, until the deadline,
    /// when there is no result yet or every scrape wants its own.
    pub(crate) async fn prepare(self: &Arc<Self>, deadline: Instant) {
        let Some((mut refresh, must_wait)) = self.start() else { return };
        if must_wait {
            // An error means that the refresh ended, too.
            let _ = timeout_at(deadline, refresh.changed()).await;
        }
    }

    /// The refresh that runs, if one is due, and whether to wait for it.
    fn start(self: &Arc<Self>) -> Option<(watch::Receiver<()>, bool)> {
        if !self.wants_any() {
            return None;
        }
        let mut last = self.last();
        let must_wait = self.max_age.is_zero() || last.attempted.is_none();
        if let Some(running) = &last.running {
            return Some((running.clone(), last.databases.is_none() && last.relations.is_none()));
        }
        if last.attempted.is_some_and(|at| at.elapsed() < self.max_age) {
            return None;
        }
        let (done, refresh) = watch::channel(());
        last.running = Some(refresh.clone());
        last.attempted = Some(Instant::now());
        let sizes = Arc::clone(self);
        tokio::spawn(async move {
            sizes.refresh().await;
            sizes.last().running = None;
            // Whoever waited may be gone.
            let _ = done.send(());
        });
        Some((refresh, must_wait))
    }

    async fn refresh(&self) {
        let deadline = Instant::now() + self.timeout;
        let limits = Limits {
            // A little less, so that the server's word for it still arrives.
            statement_timeout: Some(self.timeout.mul_f32(0.9)),
            lock_timeout: Some(LOCK_TIMEOUT),
            deadline: Some(deadline),
            ..Limits::default()
        };
        let lease = match self.warm.lease_patiently(deadline).await {
            Ok(lease) => lease,
            Err(error) => {
                let error = connect_error(&error);
                for (index, wanted) in [self.wanted.databases, self.wanted.relations].into_iter().enumerate()
                {
                    self.ended(index, wanted.then_some(Err(&error)));
                }
                return;
            }
        };
        let query = async |wanted: bool, sql: &str| match wanted {
            true => Some(lease.query(sql, &limits).await),
            false => None,
        };
        let (databases, relations) =
            tokio::join!(query(self.wanted.databases, DATABASES), query(self.wanted.relations, RELATIONS));
        let databases = databases.map(|result| result.map_err(|error| collect_error(&error)));
        let relations = relations.map(|result| result.map_err(|error| collect_error(&error)));
        self.ended(0, databases.as_ref().map(|result| result.as_ref().map(drop)));
        self.ended(1, relations.as_ref().map(|result| result.as_ref().map(drop)));
        let mut last = self.last();
        if let Some(Ok(rows)) = databases {
            last.databases = Some(Dated::now(database_sizes(&rows)));
        }
        if let Some(Ok(rows)) = relations {
            last.locked = Some(locked(&rows));
            last.relations = Some(Dated::now(relation_sizes(&rows)));
        }
    }

    /// Notes how the refresh of one kind of size ended, and says once in a while what was wrong.
    fn ended(&self, index: usize, result: Option<Result<(), &CollectError>>) {
        let outcome = result.map(|result| result.map_or_else(|error| error.outcome, |()| Outcome::Ok));
        self.last().outcomes[index] = outcome;
        if let Some(Err(error)) = result
            && let Some(suppressed) = self.throttle.check(KINDS[index])
        {
            let (data, outcome) = (KINDS[index], error.outcome.as_str());
            let database = self.warm.connector().dsn().dbname();
            tracing::warn!(
                data,
                database,
                outcome,
                error = error.message,
                suppressed,
                "cannot refresh sizes"
            );
        }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes by database.
    pub(crate) fn databases(&self) -> Option<Arc<HashMap<String, f64>>> {
        self.last().databases.as_ref().map(|sizes| Arc::clone(&sizes.value))
    }

    /// Bytes by relation.
    pub(crate) fn relations(&self) -> Option<Arc<Vec<Relation>>> {
        self.last().relations.as_ref().map(|sizes| Arc::clone(&sizes.value))
    }

    /// Relations that the last refresh left out because of a lock.
    pub(crate) fn locked(&self) -> Option<usize> {
        self.last().locked
    }

    /// By kind of size: how old it is, and how its last refresh ended.
    pub(crate) fn state(&self) -> [(&'static str, Option<Duration>, Option<Outcome>); 2] {
        let last = self.last();
        let ages = [
            last.databases.as_ref().map(|sizes| sizes.at.elapsed()),
            last.relations.as_ref().map(|sizes| sizes.at.elapsed()),
        ];
        [0, 1].map(|index| (KINDS[index], ages[index], last.outcomes[index]))
    }
}

fn database_sizes(rows: &Rows) -> HashMap<String, f64> {
    rows.iter().filter_map(|row| Some((row.get(0)?.to_owned(), row.float(1)?))).collect()
}

/// A lock on a table and one on its TOAST table are one relation left out.
fn locked(rows: &Rows) -> usize {
    let locked = rows.iter().filter(|row| row.get(4) == Some("t"));
    locked.map(|row| (row.get(0), row.get(1))).collect::<HashSet<_>>().len()
}

fn relation_sizes(rows: &Rows) -> Vec<Relation> {
    let relation = |row: pg_client::Row<'_>| {
        Some(Relation {
            schema: row.get(0)?.to_owned(),
            name: row.get(1)?.to_owned(),
            index_bytes: row.float(2)?,
            table_bytes: row.float(3)?,
        })
    };
    rows.iter().filter_map(relation).collect()
}
