//! The connection pool and the one way to run a statement: measured, with a deadline, and never leaving a half-used
//! connection in the pool.

mod meters;
pub mod migrate;
mod query;

use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Row, Statement};

use self::meters::Meters;
pub use self::query::{Operation, Query};
use crate::metrics::Metrics;

/// How long a request waits for a connection of the pool.
const POOL_WAIT: Duration = Duration::from_secs(3);
/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long the server works on one statement before it gives up.
const STATEMENT_TIMEOUT: &str = "-c statement_timeout=4s -c idle_in_transaction_session_timeout=30s";
/// How long an answer may take before the connection counts as hung; above the server's own limit.
const ANSWER: Duration = Duration::from_secs(5);

/// Why the database gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The server is away, overloaded or too slow: trying again later may help.
    #[error("database unavailable for {what}: {reason}")]
    Unavailable {
        /// What was being done.
        what: String,
        /// What went wrong.
        reason: String,
    },
    /// A constraint refused the change.
    #[error("{what} violates {constraint}")]
    Constraint {
        /// What was being done.
        what: String,
        /// The name of the constraint or unique index.
        constraint: String,
    },
    /// A defect: the statement or its result is not what the code expects.
    #[error("{what} failed: {reason}")]
    Failed {
        /// What was being done.
        what: String,
        /// What went wrong.
        reason: String,
    },
}

impl DbError {
    /// A statement that always gives a row gave none.
    pub(crate) fn no_row(query: &Query) -> DbError {
        DbError::Failed {
            what: format!("{} {}", query.operation.as_str(), query.table),
            reason: "it returned no row".to_owned(),
        }
    }

    /// Whether the change was refused by the constraint or unique index of this name.
    pub fn violates(&self, name: &str) -> bool {
        matches!(self, DbError::Constraint { constraint, .. } if constraint == name)
    }
}

/// Parameters of a statement.
pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The database as the stores see it.
#[derive(Clone, Debug)]
pub struct Db {
    pool: Pool,
    /// Nothing in a service that does not measure.
    meters: Option<Arc<Meters>>,
}

impl Db {
    /// A pool of at most `size` connections; opens none yet. With metrics, the series of `queries` are there from now on.
    ///
    /// # Errors
    /// If `url` is not a connection string.
    pub fn new(
        url: &str,
        size: usize,
        metrics: Option<Arc<Metrics>>,
        queries: &[&Query],
    ) -> Result<Db, DbError> {
        let mut config = parse_url(url)?;
        let options = config.get_options().map_or_else(
            || STATEMENT_TIMEOUT.to_owned(),
            // What the operator set comes last and wins.
            |theirs| format!("{STATEMENT_TIMEOUT} {theirs}"),
        );
        config.options(options).connect_timeout(CONNECT);
        let manager =
            Manager::from_config(config, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let pool = Pool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(POOL_WAIT))
            .create_timeout(Some(CONNECT))
            .recycle_timeout(Some(CONNECT))
            .build()
            .map_err(|error| DbError::Failed {
                what: "building the pool".to_owned(),
                reason: error.to_string(),
            })?;
        let meters = metrics.map(|metrics| Arc::new(Meters::new(metrics, queries)));
        Ok(Db { pool, meters })
    }

    /// A connection of the pool.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] if none is free in time or none can be opened.
    pub async fn connection(&self) -> Result<Connection, DbError> {
        let started = Instant::now();
        let object = self.pool.get().await;
        if let Some(meters) = &self.meters {
            meters.waited(started.elapsed(), object.is_ok());
        }
        let object = object.map_err(|error| {
            let reason = match error {
                PoolError::Backend(error) => describe(&error),
                other => other.to_string(),
            };
            DbError::Unavailable { what: "opening a connection".to_owned(), reason }
        })?;
        Ok(Connection { object: Some(object), unsettled: false, meters: self.meters.clone() })
    }

    /// A connection inside an open transaction; dropped without [`Transaction::commit`], nothing of it stays.
    ///
    /// # Errors
    /// As for [`Db::connection`].
    pub async fn begin(&self) -> Result<Transaction, DbError> {
        let mut connection = self.connection().await?;
        connection.batch("BEGIN").await?;
        connection.unsettled = true;
        Ok(Transaction(connection))
    }

    /// Answers whether the server answers.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] if it does not.
    pub async fn ping(&self) -> Result<(), DbError> {
        self.connection().await?.batch("SELECT 1").await
    }

    /// Brings the gauges of the pool up to date.
    pub fn report(&self) {
        if let Some(meters) = &self.meters {
            meters.report(&self.pool.status());
        }
    }

    /// Closes the pool: waiting requests fail, connections close when they come back.
    pub fn close(&self) {
        self.pool.close();
    }
}

/// A borrowed connection. If it is dropped while a statement runs or a transaction is open, it is closed instead of
/// going back, because the next user would get the rest of the answer, or the transaction.
#[derive(Debug)]
pub struct Connection {
    object: Option<Object>,
    unsettled: bool,
    meters: Option<Arc<Meters>>,
}

impl Connection {
    /// All rows of `query`.
    ///
    /// # Errors
    /// See [`DbError`].
    pub async fn rows(&mut self, query: &Query, params: Params<'_>) -> Result<Vec<Row>, DbError> {
        self.measured(query, async |client: &Object, statement: Statement| {
            client.query(&statement, params).await
        })
        .await
    }

    /// The only row of `query`, if there is one.
    ///
    /// # Errors
    /// See [`DbError`]; more than one row is a defect.
    pub async fn row(&mut self, query: &Query, params: Params<'_>) -> Result<Option<Row>, DbError> {
        self.measured(query, async |client: &Object, statement: Statement| {
            client.query_opt(&statement, params).await
        })
        .await
    }

    /// Runs `query` and answers how many rows it touched.
    ///
    /// # Errors
    /// See [`DbError`].
    pub async fn execute(&mut self, query: &Query, params: Params<'_>) -> Result<u64, DbError> {
        self.measured(query, async |client: &Object, statement: Statement| {
            client.execute(&statement, params).await
        })
        .await
    }

    async fn measured<T>(
        &mut self,
        query: &Query,
        run: impl AsyncFnOnce(&Object, Statement) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, DbError> {
        let what = || format!("{} {}", query.operation.as_str(), query.table);
        let was_unsettled = std::mem::replace(&mut self.unsettled, true);
        let client = self.client(&what)?;
        let started = Instant::now();
        let result =
            timeout(ANSWER, async { run(client, client.prepare_cached(query.sql).await?).await }).await;
        let meter = self.meters.as_ref().map(|meters| meters.of(query));
        if let Some(meter) = &meter {
            meter.ran(started.elapsed());
        }
        let error = match result {
            Ok(Ok(value)) => {
                self.unsettled = was_unsettled;
                return Ok(value);
            }
            Ok(Err(error)) => {
                self.unsettled = was_unsettled || error.is_closed();
                classify(what(), &error)
            }
            Err(_) => DbError::Unavailable { what: what(), reason: format!("no answer within {ANSWER:?}") },
        };
        if let Some(meter) = meter
            && !matches!(error, DbError::Constraint { .. })
        {
            meter.failed();
        }
        Err(error)
    }

    async fn batch(&mut self, sql: &'static str) -> Result<(), DbError> {
        let was_unsettled = std::mem::replace(&mut self.unsettled, true);
        match timeout(ANSWER, self.client(&|| sql.to_owned())?.batch_execute(sql)).await {
            Ok(Ok(())) => {
                self.unsettled = was_unsettled;
                Ok(())
            }
            Ok(Err(error)) => Err(classify(sql.to_owned(), &error)),
            Err(_) => Err(DbError::Unavailable {
                what: sql.to_owned(),
                reason: format!("no answer within {ANSWER:?}"),
            }),
        }
    }

    fn client(&self, what: &dyn Fn() -> String) -> Result<&Object, DbError> {
        self.object.as_ref().ok_or_else(|| DbError::Failed {
            what: what(),
            reason: "the connection was given back".to_owned(),
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.unsettled
            && let Some(object) = self.object.take()
        {
            drop(Object::take(object));
        }
    }
}

/// A connection with an open transaction.
#[derive(Debug)]
pub struct Transaction(Connection);

impl Transaction {
    /// Makes the changes last.
    ///
    /// # Errors
    /// See [`DbError`]; after [`DbError::Unavailable`] it is unknown whether they did.
    pub async fn commit(mut self) -> Result<(), DbError> {
        self.0.batch("COMMIT").await?;
        self.0.unsettled = false;
        Ok(())
    }

    /// Takes the changes back and keeps the connection for others.
    ///
    /// # Errors
    /// See [`DbError`]; the connection is closed then.
    pub async fn rollback(mut self) -> Result<(), DbError> {
        self.0.batch("ROLLBACK").await?;
        self.0.unsettled = false;
        Ok(())
    }
}

impl std::ops::Deref for Transaction {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl std::ops::DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

fn parse_url(url: &str) -> Result<tokio_postgres::Config, DbError> {
    url.parse().map_err(|error: tokio_postgres::Error| DbError::Failed {
        // The text of the URL stays out: it may hold a password.
        what: "reading the database URL".to_owned(),
        reason: describe(&error),
    })
}

/// The whole chain of causes; the error's own text is only "db error".
fn describe(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn classify(what: String, error: &tokio_postgres::Error) -> DbError {
    let reason = describe(error);
    let Some(db) = error.as_db_error() else {
        let lost = error.is_closed()
            || std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
        return if lost { DbError::Unavailable { what, reason } } else { DbError::Failed { what, reason } };
    };
    if let Some(constraint) = db.constraint().filter(|_| db.code().code().starts_with("23")) {
        return DbError::Constraint { what, constraint: constraint.to_owned() };
    }
    // Connection (08), resources (53), operator (57: shutdown, timeout), serialization and lock failures pass.
    let passes = ["08", "53", "57", "40"].iter().any(|class| db.code().code().starts_with(class))
        || *db.code() == SqlState::LOCK_NOT_AVAILABLE;
    // The server's detail may quote a row; its message does not.
    let reason = format!("{} (SQLSTATE {})", db.message(), db.code().code());
    if passes { DbError::Unavailable { what, reason } } else { DbError::Failed { what, reason } }
}
