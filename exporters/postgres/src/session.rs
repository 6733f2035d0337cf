//! One logged-in connection: the client, the task that drives its socket, and what the server said at start.
//! A query that is given up (deadline or dropped future) cancels the statement and marks the session broken.

use crate::batch::Batch;
use crate::connect::{OWN_MARK, SessionLimits, describe};
use crate::dsn::{Host, TargetSessionAttrs};
use crate::query::{self, Limits, QueryError, QueryErrorKind, Rows};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::{Client, Connection, Error, NoTls, config::Config};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long a CancelRequest may take; it runs in the background after the answer was given up.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// How this session's connection is made, so that its CancelRequest is made alike.
#[derive(Clone, Default)]
pub(crate) enum Tls {
    #[default]
    Plain,
    Rustls(MakeRustlsConnect),
}

/// A logged-in connection. Queries may run concurrently: they leave together and are answered in order.
pub struct Session {
    client: Arc<Client>,
    task: JoinHandle<()>,
    tls: Tls,
    host: String,
    broken: AtomicBool,
    /// Replies may still be outstanding, so the socket must be cut instead of closed politely.
    cut: AtomicBool,
    /// Whether a server process of our own is at the other end.
    own: AtomicBool,
    batch: Arc<Batch>,
    greeting: Greeting,
}

/// ParameterStatus values sent at login.
struct Greeting {
    server_version: String,
    version_num: u32,
    is_superuser: Option<bool>,
    in_hot_standby: Option<bool>,
    default_read_only: Option<bool>,
    server_encoding: Option<String>,
}

impl Session {
    pub(crate) async fn open(config: &Config, tls: Tls, host: &Host) -> Result<Session, Error> {
        let (client, task, greeting) = match tls.clone() {
            Tls::Plain => start(config.connect(NoTls).await?),
            Tls::Rustls(tls) => start(config.connect(tls).await?),
        };
        let host = host.to_string();
        let [broken, cut, own] = [false, false, false].map(AtomicBool::new);
        let client = Arc::new(client);
        let batch = Batch::new(Arc::clone(&client));
        Ok(Session { client, task, tls, host, broken, cut, own, batch, greeting })
    }

    /// Runs one statement as text, in its own implicit transaction. Futures joined on one session leave in one write
    /// and cost one round trip; the error of one does not touch the others.
    ///
    /// When `limits.deadline` passes, or the future is dropped before its reply came, the statement is cancelled and
    /// the session must be replaced ([`Session::is_healthy`] is false).
    pub async fn query(&self, sql: &str, limits: &Limits) -> Result<Rows, QueryError> {
        if !self.is_healthy() {
            return Err(QueryError::connection(format!("the connection to {} is closed", self.host)));
        }
        let text = limits.prefix(sql);
        let result = self.watched(query::run(&self.client, &text, limits.max_rows), limits.deadline).await;
        if result.as_ref().is_ok_and(Rows::is_truncated) {
            self.cut.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Runs a statement; one that is always the same (`prepare`) is parsed and planned once a session. Limits are the
    /// connector's. Only for a session that [is our own](Session::is_own), and only for what can run in a transaction.
    ///
    /// Futures joined on one session leave in one message, cost one round trip and one transaction; the error of one
    /// does not touch the others.
    pub async fn query_own(&self, sql: &str, prepare: bool) -> Result<Rows, QueryError> {
        if !self.is_healthy() {
            return Err(QueryError::connection(format!("the connection to {} is closed", self.host)));
        }
        let reply = self.batch.ask(sql, prepare);
        let lost = || Err(QueryError::connection(format!("the connection to {} was given up", self.host)));
        self.watched(async { reply.await.unwrap_or_else(|_| lost()) }, None).await
    }

    /// Awaits a reply; when it is given up, the session is.
    async fn watched(
        &self,
        reply: impl Future<Output = Result<Rows, QueryError>>,
        deadline: Option<Instant>,
    ) -> Result<Rows, QueryError> {
        let pending = Pending { session: self, answered: false };
        let result = match deadline {
            Some(deadline) => {
                timeout_at(deadline, reply).await.map_err(|_| QueryError::deadline(&self.host))?
            }
            None => reply.await,
        };
        pending.answered();
        if result.as_ref().is_err_and(|error| error.kind == QueryErrorKind::Connection) {
            self.retire();
        }
        result
    }

    /// Finds out whether a server process of our own is at the other end: it alone has the mark that was given at
    /// login. If so, sets the limits, in the same statement.
    pub(crate) async fn claim(&self, mark: u64, limits: SessionLimits) {
        let SessionLimits { statement_timeout, lock_timeout } = limits;
        let sql = format!(
            "SELECT pg_catalog.set_config('statement_timeout', '{}', false),
                    pg_catalog.set_config('lock_timeout', '{}', false)
             WHERE pg_catalog.current_setting('{OWN_MARK}', true) = '{mark}'",
            statement_timeout.as_millis().max(1),
            lock_timeout.as_millis().max(1),
        );
        let own = self.query(&sql, &Limits::default()).await.is_ok_and(|rows| !rows.is_empty());
        self.own.store(own, Ordering::Relaxed);
    }

    /// Whether a server process of our own is at the other end and has the connector's limits: no pooler is in between,
    /// statements may be prepared and need not carry limits.
    pub fn is_own(&self) -> bool {
        self.own.load(Ordering::Relaxed)
    }

    /// Whether further queries make sense.
    pub fn is_healthy(&self) -> bool {
        !self.broken.load(Ordering::Relaxed) && !self.client.is_closed()
    }

    /// Makes the session unfit for further use: no lease is given on it again.
    pub fn retire(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// `host:port` that this session is connected to.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The server's version as in `server_version_num`: 150018, or 90624; 0 when it cannot be read.
    pub fn version_num(&self) -> u32 {
        self.greeting.version_num
    }

    /// The server's version as it says it: `15.18 (Debian 15.18-1)`.
    pub fn server_version(&self) -> &str {
        &self.greeting.server_version
    }

    /// Whether the role is a superuser.
    pub fn is_superuser(&self) -> Option<bool> {
        self.greeting.is_superuser
    }

    /// Whether the server was in recovery at login (PostgreSQL 14 and later); a promotion changes it.
    pub fn was_in_recovery(&self) -> Option<bool> {
        self.greeting.in_hot_standby
    }

    /// The database's encoding; through a pooler, the pool's.
    pub fn server_encoding(&self) -> Option<&str> {
        self.greeting.server_encoding.as_deref()
    }

    /// Whether the server is of the wanted kind. Before PostgreSQL 14 the greeting does not tell: one round trip.
    pub(crate) async fn matches(&self, target: TargetSessionAttrs) -> Result<bool, QueryError> {
        let greeting = &self.greeting;
        let (recovery, read_only) = match (target, greeting.in_hot_standby, greeting.default_read_only) {
            (TargetSessionAttrs::Any | TargetSessionAttrs::PreferStandby, ..) => return Ok(true),
            (_, Some(standby), Some(read_only)) => (standby, standby || read_only),
            _ => {
                let sql = "SELECT pg_catalog.pg_is_in_recovery(), \
                           pg_catalog.current_setting('transaction_read_only') = 'on'";
                let rows = self.query(sql, &Limits::default()).await?;
                let flag = |i| rows.first().and_then(|row| row.get(i)) == Some("t");
                (flag(0), flag(1))
            }
        };
        Ok(match target {
            TargetSessionAttrs::Any | TargetSessionAttrs::PreferStandby => true,
            TargetSessionAttrs::ReadWrite => !read_only,
            TargetSessionAttrs::ReadOnly => read_only,
            TargetSessionAttrs::Primary => !recovery,
            TargetSessionAttrs::Standby => recovery,
        })
    }

    /// Gives the session up with statements outstanding: marks it broken and asks the server, once and in the
    /// background, to cancel what runs.
    fn abandon(&self) {
        self.cut.store(true, Ordering::Relaxed);
        if self.broken.swap(true, Ordering::Relaxed) || self.client.is_closed() {
            return;
        }
        // Outside a runtime the statement_timeout has to do.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (token, tls, host) = (self.client.cancel_token(), self.tls.clone(), self.host.clone());
        runtime.spawn(async move {
            let sent = timeout(CANCEL_TIMEOUT, async {
                match tls {
                    Tls::Plain => token.cancel_query(NoTls).await,
                    Tls::Rustls(tls) => token.cancel_query(tls).await,
                }
            });
            match sent.await {
                Ok(Ok(())) => tracing::debug!(%host, "cancelled a statement that was given up"),
                Ok(Err(error)) => {
                    tracing::debug!(%host, error = describe(&error), "cannot cancel a statement");
                }
                Err(_) => tracing::debug!(%host, "cannot cancel a statement: the server does not answer"),
            }
        });
    }
}

/// Dropping the client makes the task say goodbye and end; with replies outstanding it would wait for them.
impl Drop for Session {
    fn drop(&mut self) {
        if self.cut.load(Ordering::Relaxed) || self.broken.load(Ordering::Relaxed) {
            self.task.abort();
        }
    }
}

/// A statement on its way; dropped unanswered, it gives the session up.
struct Pending<'a> {
    session: &'a Session,
    answered: bool,
}

impl Pending<'_> {
    fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.session.abandon();
        }
    }
}

fn start<S, T>((client, connection): (Client, Connection<S, T>)) -> (Client, JoinHandle<()>, Greeting)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let flag = |name| connection.parameter(name).map(|value| value == "on");
    let server_version = connection.parameter("server_version").unwrap_or_default().to_owned();
    let greeting = Greeting {
        version_num: version_num(&server_version),
        is_superuser: flag("is_superuser"),
        in_hot_standby: flag("in_hot_standby"),
        default_read_only: flag("default_transaction_read_only"),
        server_encoding: connection.parameter("server_encoding").map(str::to_owned),
        server_version,
    };
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = describe(&error), "connection ended");
        }
    });
    (client, task, greeting)
}

/// `server_version_num` from `server_version`: `15.18 (Debian …)`, `17beta1`, EnterpriseDB's `15.3.0`, `9.6.24`.
fn version_num(text: &str) -> u32 {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let mut parts = text[..end].split('.').map(|part| part.parse::<u32>().unwrap_or(0).min(9999));
    let mut part = || parts.next().unwrap_or(0);
    match (part(), part(), part()) {
        (major @ 10.., minor, _) => major * 10_000 + minor,
        (major, minor, patch) => major * 10_000 + minor * 100 + patch,
    }
}

#[cfg(test)]
mod tests {
    use super::version_num;
    use proptest::prelude::*;

    #[test]
    fn versions() {
        for (text, num) in [
            ("15.18 (Debian 15.18-0+deb12u1)", 150_018),
            ("17beta1", 170_000),
            ("18rc1", 180_000),
            ("15.3.0", 150_003),
            ("16.1 - Percona Distribution", 160_001),
            ("9.6.24", 90_624),
            ("", 0),
            ("devel", 0),
        ] {
            assert_eq!(version_num(text), num, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_version(text in any::<String>()) {
            version_num(&text);
        }

        #[test]
        fn many_digits_do_not_overflow(text in "[0-9.]{0,40}") {
            version_num(&text);
        }
    }
}
