//! The HTTP/1.1 server of the exporters and of the backend: listening, limits, TLS and
//! authentication from a web-config file, graceful shutdown.

mod listen;
mod serve;

pub use listen::{Bound, ListenAddress, bind};
pub use serve::PeerAddr;

use std::path::PathBuf;
use std::time::Duration;

use crate::web_config::{Settings, WebConfigError};

/// What to listen on and how to treat the clients.
///
/// HTTP/1.1 only: scrapers ask for one page over one kept connection, and `http2: true` of a
/// web-config file is accepted without effect.
#[derive(Debug, Clone, Default)]
pub struct ServerConfig {
    /// Addresses to listen on; may only be empty with `systemd_socket`.
    pub listen: Vec<ListenAddress>,
    /// Take the sockets that systemd passes (`LISTEN_FDS`) instead of `listen`.
    pub systemd_socket: bool,
    /// `--web.config.file`: TLS, users, headers and rate limit, reread when it changes.
    pub web_config_file: Option<PathBuf>,
    /// The same settings from flags; excludes `web_config_file`.
    pub web_settings: Option<Settings>,
    /// Limits on what one client and all clients may hold.
    pub limits: Limits,
}

/// Limits on what clients may hold.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections at a time; more wait in the kernel's backlog.
    pub max_connections: usize,
    /// Time from accept to the end of the first request's head, TLS handshake included.
    pub first_request: Duration,
    /// Time a kept connection may be idle, and a later request's head may take. Longer than any usual
    /// scrape interval (1 m), or each scrape would pay for a new connection.
    pub idle: Duration,
    /// Time the peer may leave sent bytes unacknowledged (`TCP_USER_TIMEOUT`): frees a connection whose
    /// client stopped reading its page.
    pub stalled_write: Duration,
    /// Header lines a request; more is answered 431.
    pub max_headers: usize,
    /// Bytes of a request's head; more is answered 431.
    pub max_header_bytes: usize,
    /// Time running requests get to finish after shutdown.
    pub drain: Duration,
    /// How often files of the web configuration are checked for change at most.
    pub reload_check: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 512,
            first_request: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            stalled_write: Duration::from_secs(30),
            max_headers: 100,
            max_header_bytes: 32 * 1024,
            drain: Duration::from_secs(10),
            reload_check: Duration::from_secs(1),
        }
    }
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address is not `host:port` or `:port`.
    #[error("cannot use {text:?} as a listen address: {problem}; write host:port, [ipv6]:port or :port")]
    Address {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The operating system refused the address.
    #[error("cannot listen on {address}: {cause}; {advice}")]
    Bind {
        /// The address as given.
        address: String,
        /// The operating system's reason.
        cause: std::io::Error,
        /// What to do.
        advice: String,
    },
    /// Neither an address nor a systemd socket was given.
    #[error("nothing to listen on: name at least one listen address")]
    NoAddress,
    /// `systemd_socket` is on and systemd passed no usable socket.
    #[error(
        "cannot use the systemd socket: {0}; start through a .socket unit with ListenStream=, or drop --web.systemd-socket"
    )]
    SystemdSocket(String),
    /// The web configuration is not usable.
    #[error(transparent)]
    WebConfig(#[from] WebConfigError),
}
