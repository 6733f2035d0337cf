//! Opening a [`Session`]: hosts in order, each with a share of the deadline that covers name lookup, TCP, TLS and
//! login; TLS fallbacks as libpq's; errors sorted into a closed set.

use crate::dsn::{ChannelBinding, Dsn, Host, SslMode, TargetSessionAttrs};
use crate::session::{Session, Tls};
use crate::tls;
use std::error::Error as StdError;
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::config;
use tokio_postgres::error::{Error, SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A setting that only a server process of our own has: poolers refuse or drop it.
pub(crate) const OWN_MARK: &str = "pg_client.own";
const DEFAULT_APPLICATION_NAME: &str = "pg-exporter";

/// Why no session could be opened; a bounded set, fit for a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectErrorKind {
    /// A certificate or key file cannot be used.
    Config,
    /// The host name was not found.
    Dns,
    /// Nothing listens there.
    Refused,
    /// Another network error, or the server closed the connection.
    Network,
    /// TLS is impossible or the certificate was not accepted.
    Tls,
    /// Login refused: password, role or pg_hba.conf.
    Auth,
    /// The server has no free connection (53300).
    TooManyConnections,
    /// The server starts, stops or recovers (57P03).
    StartingUp,
    /// The deadline passed.
    Timeout,
    /// No server of the wanted role (`target_session_attrs`).
    WrongRole,
    /// The server refused for another reason, e.g. an unknown database or setting.
    Rejected,
    /// What answers does not speak the protocol.
    Protocol,
}

impl ConnectErrorKind {
    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            ConnectErrorKind::Config => "config",
            ConnectErrorKind::Dns => "dns",
            ConnectErrorKind::Refused => "refused",
            ConnectErrorKind::Network => "network",
            ConnectErrorKind::Tls => "tls",
            ConnectErrorKind::Auth => "auth",
            ConnectErrorKind::TooManyConnections => "too_many_connections",
            ConnectErrorKind::StartingUp => "starting_up",
            ConnectErrorKind::Timeout => "timeout",
            ConnectErrorKind::WrongRole => "wrong_role",
            ConnectErrorKind::Rejected => "rejected",
            ConnectErrorKind::Protocol => "protocol",
        }
    }

    /// What to do about it.
    const fn advice(self) -> &'static str {
        match self {
            ConnectErrorKind::Config => "check sslrootcert, sslcert and sslkey",
            ConnectErrorKind::Dns => "check the host name",
            ConnectErrorKind::Refused => "is the server running and listening there?",
            ConnectErrorKind::Network => "check network, firewall and the server's log",
            ConnectErrorKind::Tls => "check sslmode and the certificates",
            ConnectErrorKind::Auth => "check user, password and pg_hba.conf",
            ConnectErrorKind::TooManyConnections => "raise max_connections or free connections",
            ConnectErrorKind::StartingUp => "wait until the server is up",
            ConnectErrorKind::Timeout => "is the server reachable and responsive?",
            ConnectErrorKind::WrongRole => "check target_session_attrs and the list of hosts",
            ConnectErrorKind::Rejected => "check database and settings in the connection string",
            ConnectErrorKind::Protocol => "is this a PostgreSQL server?",
        }
    }
}

/// No session: kind and text, which names `host:port` and what to do and holds no secret.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ConnectError {
    /// The kind; with several hosts, of the last one tried.
    pub kind: ConnectErrorKind,
    /// One sentence for each host tried.
    pub message: String,
}

/// Gives the current password, e.g. from a file that is rotated. Asked at each connect.
pub type PasswordSource = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Opens sessions to one target. Password, password file and certificates are read at each connect, so that rotated
/// ones are picked up.
#[derive(Clone)]
pub struct Connector {
    dsn: Dsn,
    password: Option<PasswordSource>,
    application_name: String,
    session_limits: Option<SessionLimits>,
}

/// Limits that a session of our own has from login on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionLimits {
    pub(crate) statement_timeout: Duration,
    pub(crate) lock_timeout: Duration,
}

impl Connector {
    /// For a DSN; `application_name` defaults to `pg-exporter`.
    pub fn new(dsn: Dsn) -> Connector {
        let application_name = dsn.application_name().unwrap_or(DEFAULT_APPLICATION_NAME).to_owned();
        Connector { dsn, password: None, application_name, session_limits: None }
    }

    /// Asks `source` for the password at each connect; the DSN's is used when it gives none.
    #[must_use]
    pub fn with_password_source(mut self, source: PasswordSource) -> Connector {
        self.password = Some(source);
        self
    }

    /// Sets the name shown in pg_stat_activity unless the DSN sets one.
    #[must_use]
    pub fn with_application_name(mut self, name: &str) -> Connector {
        if self.dsn.application_name().is_none() {
            name.clone_into(&mut self.application_name);
        }
        self
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_dbname(&self, dbname: &str) -> Connector {
        Connector { dsn: self.dsn.with_dbname(dbname), ..self.clone() }
    }

    /// Sets these limits once a session, so that statements need not carry them, and lets sessions prepare statements.
    /// Where a pooler is in between, neither happens: see [`Session::is_own`].
    #[must_use]
    pub fn with_session_limits(mut self, statement_timeout: Duration, lock_timeout: Duration) -> Connector {
        self.session_limits = Some(SessionLimits { statement_timeout, lock_timeout });
        self
    }

    /// The target.
    pub fn dsn(&self) -> &Dsn {
        &self.dsn
    }

    /// Opens a session before `deadline`. Each remaining host gets an equal share of the remaining time, at most
    /// `connect_timeout`, so that a dead first host leaves time for the second.
    pub async fn connect(&self, deadline: Instant) -> Result<Session, ConnectError> {
        let tls = self.tls().map_err(|message| self.failed(ConnectErrorKind::Config, &message))?;
        let mut hosts: Vec<&Host> = self.dsn.hosts.iter().collect();
        if self.dsn.shuffle_hosts {
            hosts.sort_by_cached_key(|_| random());
        }
        let passes: &[TargetSessionAttrs] = match self.dsn.target {
            TargetSessionAttrs::PreferStandby => &[TargetSessionAttrs::Standby, TargetSessionAttrs::Any],
            _ => std::slice::from_ref(&self.dsn.target),
        };
        let mut left = u32::try_from(hosts.len() * passes.len()).unwrap_or(u32::MAX);
        let mut errors: Vec<ConnectError> = Vec::new();
        for target in passes {
            for host in &hosts {
                let deadline = share(deadline, left, self.dsn.connect_timeout);
                left -= 1;
                match self.connect_host(host, *target, tls.as_ref(), deadline).await {
                    Ok(session) => return Ok(session),
                    Err(error) => errors.push(error),
                }
            }
        }
        let kind = errors.last().map_or(ConnectErrorKind::Config, |error| error.kind);
        let mut messages: Vec<String> = errors.into_iter().map(|error| error.message).collect();
        messages.dedup();
        Err(ConnectError { kind, message: messages.join("; ") })
    }

    fn tls(&self) -> Result<Option<MakeRustlsConnect>, String> {
        if self.dsn.tls.mode == SslMode::Disable || self.dsn.hosts.iter().all(Host::is_unix) {
            return Ok(None);
        }
        tls::client_config(&self.dsn.tls).map(|config| Some(MakeRustlsConnect::new(config)))
    }

    async fn connect_host(
        &self,
        host: &Host,
        target: TargetSessionAttrs,
        tls: Option<&MakeRustlsConnect>,
        deadline: Instant,
    ) -> Result<Session, ConnectError> {
        let addresses = match host.address {
            _ if host.is_unix() => vec![None],
            Some(address) => vec![Some(address)],
            None => {
                let looked_up =
                    timeout_at(deadline, tokio::net::lookup_host((host.name.as_str(), host.port))).await;
                match looked_up {
                    Err(_) => {
                        return Err(on(
                            host,
                            ConnectErrorKind::Timeout,
                            "no answer from name lookup in time",
                        ));
                    }
                    Ok(Err(error)) => return Err(on(host, ConnectErrorKind::Dns, &error.to_string())),
                    Ok(Ok(found)) => {
                        let mut found: Vec<Option<IpAddr>> =
                            found.map(|address| Some(address.ip())).collect();
                        if self.dsn.shuffle_hosts {
                            found.sort_by_cached_key(|_| random());
                        }
                        found
                    }
                }
            }
        };
        let mut last = on(host, ConnectErrorKind::Dns, "the name has no address");
        let count = addresses.len();
        for (i, address) in addresses.into_iter().enumerate() {
            let deadline = share(deadline, u32::try_from(count - i).unwrap_or(u32::MAX), None);
            match timeout_at(deadline, self.connect_address(host, address, tls)).await {
                Err(_) => last = on(host, ConnectErrorKind::Timeout, "no session within the time allowed"),
                Ok(Err(error)) => {
                    let (kind, text) = classify(&error);
                    last = on(host, kind, &text);
                    // Another address of the same server will not know the password better.
                    if kind == ConnectErrorKind::Auth {
                        break;
                    }
                }
                Ok(Ok(session)) => match timeout_at(deadline, session.matches(target)).await {
                    Ok(Ok(true)) => return Ok(session),
                    Ok(Ok(false)) => {
                        last = on(host, ConnectErrorKind::WrongRole, "not the wanted kind of server");
                    }
                    Ok(Err(error)) => last = on(host, ConnectErrorKind::Network, &error.message),
                    Err(_) => {
                        last = on(host, ConnectErrorKind::Timeout, "no session within the time allowed");
                    }
                },
            }
        }
        Err(last)
    }

    /// One address, with libpq's TLS fallbacks. A wrong password is not retried without TLS: libpq would then send
    /// it in the clear.
    async fn connect_address(
        &self,
        host: &Host,
        address: Option<IpAddr>,
        tls: Option<&MakeRustlsConnect>,
    ) -> Result<Session, Error> {
        let mode = if host.is_unix() { SslMode::Disable } else { self.dsn.tls.mode };
        let encrypted = tls.map(|tls| Tls::Rustls(tls.clone())).unwrap_or_default();
        let attempt = async |mode, tls: Tls| {
            let Some(limits) = self.session_limits else {
                return self.attempt(host, address, mode, tls, None).await;
            };
            let mark = random();
            match self.attempt(host, address, mode, tls.clone(), Some(mark)).await {
                Ok(session) => {
                    session.claim(mark, limits).await;
                    Ok(session)
                }
                Err(error) if refuses_options(&error) => self.attempt(host, address, mode, tls, None).await,
                Err(error) => Err(error),
            }
        };
        match mode {
            SslMode::Disable => attempt(config::SslMode::Disable, Tls::Plain).await,
            SslMode::Allow => match attempt(config::SslMode::Disable, Tls::Plain).await {
                Err(error) if refused_by_hba(&error) => attempt(config::SslMode::Require, encrypted).await,
                other => other,
            },
            SslMode::Prefer => match attempt(config::SslMode::Prefer, encrypted).await {
                Err(error) if refused_by_hba(&error) || is_tls(&error) => {
                    attempt(config::SslMode::Disable, Tls::Plain).await
                }
                other => other,
            },
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                attempt(config::SslMode::Require, encrypted).await
            }
        }
    }

    async fn attempt(
        &self,
        host: &Host,
        address: Option<IpAddr>,
        mode: config::SslMode,
        tls: Tls,
        mark: Option<u64>,
    ) -> Result<Session, Error> {
        let dsn = &self.dsn;
        let mut config = config::Config::new();
        if host.is_unix() {
            config.host_path(&host.name);
        } else {
            config.host(&host.name);
        }
        if let Some(address) = address {
            config.hostaddr(address);
        }
        config.port(host.port).user(&dsn.user).dbname(&dsn.dbname).application_name(&self.application_name);
        let given = self.password.as_ref().and_then(|source| source());
        if let Some(password) = given.or_else(|| dsn.password_for(host).map(|password| password.0)) {
            config.password(password);
        }
        let mark = mark.map(|mark| format!("-c {OWN_MARK}={mark}"));
        let options: Vec<&str> = mark.iter().chain(&dsn.options).map(String::as_str).collect();
        if !options.is_empty() {
            config.options(options.join(" "));
        }
        config.ssl_mode(mode).channel_binding(match dsn.channel_binding {
            ChannelBinding::Disable => config::ChannelBinding::Disable,
            ChannelBinding::Prefer => config::ChannelBinding::Prefer,
            ChannelBinding::Require => config::ChannelBinding::Require,
        });
        if dsn.tls.direct {
            config.ssl_negotiation(config::SslNegotiation::Direct);
        }
        config.keepalives(dsn.tcp.keepalives);
        if let Some(idle) = dsn.tcp.idle {
            config.keepalives_idle(idle);
        }
        if let Some(interval) = dsn.tcp.interval {
            config.keepalives_interval(interval);
        }
        if let Some(count) = dsn.tcp.count {
            config.keepalives_retries(count);
        }
        if let Some(timeout) = dsn.tcp.user_timeout {
            config.tcp_user_timeout(timeout);
        }
        Session::open(&config, tls, host).await
    }

    fn failed(&self, kind: ConnectErrorKind, message: &str) -> ConnectError {
        ConnectError { kind, message: format!("cannot connect to {}: {message}", self.dsn.server_label()) }
    }
}

/// A pooler that does not know the startup packet's `options`.
fn refuses_options(error: &Error) -> bool {
    error.as_db_error().is_some_and(|db| {
        *db.code() == SqlState::PROTOCOL_VIOLATION || db.message().contains("unsupported startup parameter")
    })
}

/// An equal share of the time left, at most `limit`.
fn share(deadline: Instant, parts: u32, limit: Option<Duration>) -> Instant {
    let now = Instant::now();
    let part = deadline.saturating_duration_since(now) / parts.max(1);
    now + limit.map_or(part, |limit| part.min(limit))
}

/// A random number; the standard library seeds its hasher from the operating system.
pub(crate) fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

fn on(host: &Host, kind: ConnectErrorKind, text: &str) -> ConnectError {
    ConnectError { kind, message: format!("cannot connect to {host}: {text} ({})", kind.advice()) }
}

/// pg_hba.conf has no line for this connection: with or without TLS may make the difference.
fn refused_by_hba(error: &Error) -> bool {
    error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

fn is_tls(error: &Error) -> bool {
    // tokio-postgres keeps the kind to itself; its text is the only sign of a refused or failed handshake.
    error.to_string().starts_with("error performing TLS handshake")
        || source::<rustls::Error>(error).is_some()
}

/// The first cause of a type, looking inside `io::Error`, which hides its payload from `source()`.
fn source<T: StdError + 'static>(error: &Error) -> Option<&T> {
    let mut next: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = inside.map(|error| error as &(dyn StdError + 'static)).or_else(|| error.source());
    }
    None
}

fn classify(error: &Error) -> (ConnectErrorKind, String) {
    use std::io::ErrorKind;
    if let Some(db) = error.as_db_error() {
        let kind = match db.code().code() {
            "28000" | "28P01" => ConnectErrorKind::Auth,
            "53300" => ConnectErrorKind::TooManyConnections,
            "57P03" | "57P01" | "57P02" => ConnectErrorKind::StartingUp,
            "08P01" | "0A000" => ConnectErrorKind::Protocol,
            _ => ConnectErrorKind::Rejected,
        };
        return (kind, format!("{} [{}]", db.message(), db.code().code()));
    }
    let text = describe(error);
    let outer = error.to_string();
    let kind = if is_tls(error) {
        ConnectErrorKind::Tls
    } else if let Some(io) = source::<std::io::Error>(error) {
        match io.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => ConnectErrorKind::Refused,
            ErrorKind::TimedOut => ConnectErrorKind::Timeout,
            ErrorKind::InvalidData | ErrorKind::InvalidInput => ConnectErrorKind::Protocol,
            _ => ConnectErrorKind::Network,
        }
    } else if outer.starts_with("authentication error") || outer.starts_with("invalid configuration") {
        ConnectErrorKind::Auth
    } else if error.is_closed() {
        ConnectErrorKind::Network
    } else {
        ConnectErrorKind::Protocol
    };
    (kind, text)
}

/// The error with its causes; tokio-postgres' own text is only the outermost.
pub(crate) fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
