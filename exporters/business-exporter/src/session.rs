//! What queries run on: the kept connection, for the length of one pass.

use std::sync::atomic::{AtomicBool, Ordering};

use exporter_kit::collector::{CollectError, Outcome};
use pg_client::{ConnectError, ConnectErrorKind, Lease, Limits, QueryError, QueryErrorKind, Rows};
use tokio::sync::RwLock;
use tokio::time::Instant;

use crate::role::RoleRule;

/// The session of one pass.
pub struct Kept {
    /// An error after a reconnect that failed.
    lease: RwLock<Result<Lease, CollectError>>,
    deadline: Instant,
    role: RoleRule,
    answered: AtomicBool,
}

impl Kept {
    /// A lease until the deadline of the pass.
    ///
    /// # Errors
    /// When its role may not be used.
    pub async fn new(lease: Lease, deadline: Instant, role: RoleRule) -> Result<Kept, CollectError> {
        if !lease.is_reused() {
            role.enforce(&lease).await?;
        }
        Ok(Kept { lease: RwLock::new(Ok(lease)), deadline, role, answered: AtomicBool::new(false) })
    }

    /// When the pass ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Runs a statement. Statements of all queries are polled before any reply is awaited, so they leave in one write.
    /// A connection that was kept and turns out dead is replaced once.
    pub async fn query(&self, sql: &str, limits: &Limits) -> Result<Rows, CollectError> {
        let (result, reused) = {
            let lease = self.lease.read().await;
            let lease = lease.as_ref().map_err(Clone::clone)?;
            (lease.query(sql, limits).await, lease.is_reused())
        };
        let result = match result {
            Err(error) if error.kind == QueryErrorKind::Connection && reused => {
                self.renew().await;
                let lease = self.lease.read().await;
                lease.as_ref().map_err(Clone::clone)?.query(sql, limits).await
            }
            result => result,
        };
        // Only the server's own word proves that it is up, and a refusal is one, too.
        if result.as_ref().map_or_else(|error| error.sqlstate.is_some(), |_| true) {
            self.answered.store(true, Ordering::Relaxed);
        }
        result.map_err(|error| collect_error(&error))
    }

    /// The major release of the server; none when there is no connection any more.
    pub async fn major(&self) -> Option<u32> {
        self.lease.read().await.as_ref().ok().map(|lease| lease.version_num() / 10_000)
    }

    /// Whether the server answered anything in this pass.
    pub fn answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Replaces a kept connection that is dead. The first of the joined statements does it, the others find it done.
    async fn renew(&self) {
        let mut slot = self.lease.write().await;
        if slot.as_ref().is_ok_and(Lease::is_reused) {
            let replacing = Err(CollectError::new(Outcome::Connection, "the connection was lost"));
            if let Ok(lease) = std::mem::replace(&mut *slot, replacing) {
                *slot = match lease.renew(self.deadline).await {
                    Ok(lease) => self.role.enforce(&lease).await.map(|()| lease),
                    Err(error) => Err(connect_error(&error)),
                };
            }
        }
    }
}

/// Why there is no session, as the engine wants to hear it.
pub fn connect_error(error: &ConnectError) -> CollectError {
    let timeout = error.kind == ConnectErrorKind::Timeout;
    let outcome = if timeout { Outcome::Timeout } else { Outcome::Connection };
    CollectError::new(outcome, error.message.clone())
}

fn collect_error(error: &QueryError) -> CollectError {
    let outcome = match error.kind {
        QueryErrorKind::Timeout => Outcome::Timeout,
        QueryErrorKind::LockTimeout => Outcome::LockTimeout,
        QueryErrorKind::Permission => Outcome::Permission,
        QueryErrorKind::Connection => Outcome::Connection,
        QueryErrorKind::UndefinedObject | QueryErrorKind::FeatureNotSupported | QueryErrorKind::Other => {
            Outcome::Error
        }
    };
    CollectError::new(outcome, error.message.clone())
}
