//! What a collector is: a description of itself, and a function from a session to a snapshot.

use exposition::Snapshot;
pub use futures_util::future::BoxFuture;

/// What a collector says of itself. Flags, `--help`, documentation and self-metrics come from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Name in flags, filters and metrics.
    pub name: &'static str,
    /// One sentence: what it reads, what for.
    pub doc: &'static str,
    /// Whether it runs unless switched off.
    pub default_enabled: bool,
}

/// One unit of collection over a session `S`: a connection that is open for the length of one pass.
///
/// A collector never logs, never spawns, never keeps the session, and knows nothing of HTTP. All collectors of a pass
/// are polled together before anything is awaited, so the requests they start with leave in one write.
pub trait Collector<S>: Send + Sync {
    /// What it says of itself.
    fn spec(&self) -> &Spec;

    /// Collects. What it found before an error is lost, so errors are for what makes all of it useless.
    fn collect<'a>(&'a self, session: &'a S) -> BoxFuture<'a, Result<Snapshot, CollectError>>;
}

/// How a collector ended. A closed set: it is a label value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Everything is there.
    Ok,
    /// The deadline of the scrape passed.
    Timeout,
    /// A lock was not granted in time.
    LockTimeout,
    /// The role may not read this.
    Permission,
    /// The extension it reads is not installed: not a failure.
    MissingExtension,
    /// This server version does not have what it reads: not a failure.
    UnsupportedVersion,
    /// There is no connection to the server, or it broke.
    Connection,
    /// The server expects it to cost more than it may, so that it was not run.
    TooCostly,
    /// Anything else.
    Error,
}

impl Outcome {
    /// All of them, in the order of the documentation.
    pub const ALL: [Outcome; 9] = [
        Outcome::Ok,
        Outcome::Timeout,
        Outcome::LockTimeout,
        Outcome::Permission,
        Outcome::MissingExtension,
        Outcome::UnsupportedVersion,
        Outcome::Connection,
        Outcome::TooCostly,
        Outcome::Error,
    ];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Timeout => "timeout",
            Outcome::LockTimeout => "lock_timeout",
            Outcome::Permission => "permission",
            Outcome::MissingExtension => "missing_extension",
            Outcome::UnsupportedVersion => "unsupported_version",
            Outcome::Connection => "connection",
            Outcome::TooCostly => "too_costly",
            Outcome::Error => "error",
        }
    }

    /// Whether something that should be there is missing.
    pub const fn is_failure(self) -> bool {
        !matches!(self, Outcome::Ok | Outcome::MissingExtension | Outcome::UnsupportedVersion)
    }
}

/// Why a collector has nothing to show.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct CollectError {
    /// The class, a label value.
    pub outcome: Outcome,
    /// What was being done, to what, and the cause; for the log only. Never holds a secret.
    pub message: String,
}

impl CollectError {
    /// An error of a class.
    pub fn new(outcome: Outcome, message: impl Into<String>) -> CollectError {
        CollectError { outcome, message: message.into() }
    }
}
