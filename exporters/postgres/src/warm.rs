//! One session for a target. A lease hands it out to one user at a time, replaces it when it turns out closed, and
//! gives it back when it is still good and to be kept. Failed connects are backed off for background work only.

use crate::connect::{ConnectError, ConnectErrorKind, Connector, random};
use crate::session::Session;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// At most one session to one target. Clones share it.
#[derive(Clone)]
pub struct Warm {
    shared: Arc<Shared>,
}

struct Shared {
    connector: Connector,
    /// Whether the session outlives its lease.
    keep: bool,
    permit: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: Option<Arc<Session>>,
    /// Connects that failed in a row, the last error, and when background work may try again.
    failures: u32,
    last_error: Option<(ConnectError, Instant)>,
}

impl Warm {
    /// Nothing is opened yet.
    pub fn new(connector: Connector) -> Warm {
        Warm::with(connector, true)
    }

    /// Nothing is opened yet, and nothing will be kept: a session ends with its lease.
    pub fn fleeting(connector: Connector) -> Warm {
        Warm::with(connector, false)
    }

    fn with(connector: Connector, keep: bool) -> Warm {
        let shared = Shared { connector, keep, permit: Arc::new(Semaphore::new(1)), state: Mutex::default() };
        Warm { shared: Arc::new(shared) }
    }

    /// The target.
    pub fn connector(&self) -> &Connector {
        &self.shared.connector
    }

    /// For a scrape: the kept session, or a new one if there is none or it was closed. A scrape always tries once,
    /// whatever failed before, so that its answer is about now. Waits for another lease to end, until `deadline`.
    pub async fn lease(&self, deadline: Instant) -> Result<Lease, ConnectError> {
        let permit = timeout_at(deadline, Arc::clone(&self.shared.permit).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            let message =
                format!("the session to {} is still in use", self.shared.connector.dsn().server_label());
            return Err(ConnectError { kind: ConnectErrorKind::Timeout, message });
        };
        // The runtime reads the socket before it resumes this task, so that a server's goodbye is seen here.
        tokio::task::yield_now().await;
        let kept = self.shared.state().kept.take().filter(|session| session.is_healthy());
        let reused = kept.is_some();
        let session = match kept {
            Some(session) => session,
            None => Arc::new(self.shared.connect(deadline).await?),
        };
        Ok(Lease { session, reused, shared: Arc::clone(&self.shared), _permit: permit })
    }

    /// For background work: like [`Warm::lease`], but while failed connects are backed off (1 s doubling to 60 s,
    /// ± 20 %) the last error is returned at once.
    pub async fn lease_patiently(&self, deadline: Instant) -> Result<Lease, ConnectError> {
        if let Some((error, retry_at)) = &self.shared.state().last_error
            && Instant::now() < *retry_at
        {
            return Err(error.clone());
        }
        self.lease(deadline).await
    }

    /// Closes the kept session, e.g. at shutdown. One on lease is closed when its lease ends.
    pub fn close(&self) {
        self.shared.permit.close();
        self.shared.state().kept = None;
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self, deadline: Instant) -> Result<Session, ConnectError> {
        let result = self.connector.connect(deadline).await;
        let mut state = self.state();
        match &result {
            Ok(_) => (state.failures, state.last_error) = (0, None),
            Err(error) => {
                let retry_at = Instant::now() + backoff(state.failures, random());
                state.failures = state.failures.saturating_add(1);
                state.last_error = Some((error.clone(), retry_at));
            }
        }
        result
    }
}

/// Doubling from 1 s to 60 s, ± 20 % so that exporters do not return all at once.
fn backoff(failures: u32, random: u64) -> Duration {
    let base = FIRST_BACKOFF.saturating_mul(1 << failures.min(16)).min(LONGEST_BACKOFF);
    base.mul_f64(0.8 + 0.4 * (random % 1024) as f64 / 1024.0)
}

/// A session on loan; use it as a [`Session`].
pub struct Lease {
    session: Arc<Session>,
    reused: bool,
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// Whether the session was open before this lease. If its first query then ends with
    /// [`crate::QueryErrorKind::Connection`], the server may have restarted unseen: [`Lease::renew`] and ask again
    /// before calling the server down.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Closes this session and leases a new one. The old one goes first: a full server has no second one to give.
    pub async fn renew(self, deadline: Instant) -> Result<Lease, ConnectError> {
        let warm = Warm { shared: Arc::clone(&self.shared) };
        self.session.retire();
        drop(self);
        warm.lease(deadline).await
    }
}

impl Deref for Lease {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.shared.keep && self.session.is_healthy() && !self.shared.permit.is_closed() {
            self.shared.state().kept = Some(Arc::clone(&self.session));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_a_minute_with_jitter() {
        for (failures, seconds) in [(0, 1.0), (1, 2.0), (5, 32.0), (6, 60.0), (u32::MAX, 60.0)] {
            for random in [0, 511, 1023, u64::MAX] {
                let wait = backoff(failures, random).as_secs_f64();
                assert!((seconds * 0.8..=seconds * 1.2).contains(&wait), "{failures} {random}: {wait}");
            }
        }
    }
}
