//! Why a command got no answer: a bounded reason that can be a label, and the text for the log.

use std::error::Error as _;
use std::fmt;
use std::io;

use exporter_kit::collector::{CollectError, Outcome};
use redis::{ErrorKind, RedisError};

/// The closed set of reasons a target, or one command, failed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing listens there, it is unreachable, or the connection was closed before the answer.
    Refused,
    /// The host name did not resolve.
    Dns,
    /// The TLS handshake failed.
    Tls,
    /// A password is missing or wrong.
    Auth,
    /// The user may not run the command.
    Noperm,
    /// The server is loading its data.
    Loading,
    /// A script blocks the server.
    Busy,
    /// A replica without its master refuses stale answers.
    Masterdown,
    /// The server has no room for another client.
    Maxclients,
    /// The deadline passed first.
    Timeout,
    /// The server does not know the command.
    UnknownCommand,
    /// Any other answer that was not expected.
    Protocol,
}

impl Reason {
    /// The value of a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Refused => "refused",
            Reason::Dns => "dns",
            Reason::Tls => "tls",
            Reason::Auth => "auth",
            Reason::Noperm => "noperm",
            Reason::Loading => "loading",
            Reason::Busy => "busy",
            Reason::Masterdown => "masterdown",
            Reason::Maxclients => "maxclients",
            Reason::Timeout => "timeout",
            Reason::UnknownCommand | Reason::Protocol => "protocol",
        }
    }

    /// Whether asking again soon gets the same refusal and only raises the server's error counters.
    pub fn is_lasting(self) -> bool {
        matches!(self, Reason::Noperm | Reason::UnknownCommand)
    }

    /// The reason behind an error line of the server, such as `NOAUTH Authentication required.`
    fn of_reply(text: &str) -> Self {
        let lower = text.to_ascii_lowercase();
        if lower.contains("max number of clients") {
            return Reason::Maxclients;
        }
        if lower.contains("unknown command") || lower.contains("unknown subcommand") {
            return Reason::UnknownCommand;
        }
        match text.split([' ', ':']).next().unwrap_or_default().trim_start_matches('-') {
            "NOAUTH" | "WRONGPASS" => Reason::Auth,
            "NOPERM" => Reason::Noperm,
            "LOADING" => Reason::Loading,
            "BUSY" => Reason::Busy,
            "MASTERDOWN" => Reason::Masterdown,
            // 6.2 calls a subcommand it lacks a syntax error, with this hint.
            "ERR" if lower.contains("try") && lower.contains("help") => Reason::UnknownCommand,
            _ => Reason::Protocol,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A command, or the connection for it, that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}: {text}")]
pub struct ReplyError {
    /// The class of the failure.
    pub reason: Reason,
    /// What was being done: the command, or `connecting`.
    pub what: &'static str,
    /// What the server or the system said. Holds no secret.
    pub text: String,
}

impl ReplyError {
    /// The deadline passed while `what` was being done.
    pub fn timeout(what: &'static str) -> Self {
        Self { reason: Reason::Timeout, what, text: "no answer within the deadline of the scrape".to_owned() }
    }

    /// An answer of another shape than the command has.
    pub fn unexpected(what: &'static str) -> Self {
        Self { reason: Reason::Protocol, what, text: "the reply has an unexpected shape".to_owned() }
    }

    /// Whether the server answered; else the connection was lost or the time ran out.
    pub fn is_answer(&self) -> bool {
        !matches!(self.reason, Reason::Refused | Reason::Dns | Reason::Tls | Reason::Timeout)
    }

    /// Classifies an error of the client library that came while `what` was being done.
    pub fn new(what: &'static str, error: &RedisError) -> Self {
        let text = match (error.code(), error.detail()) {
            (Some(code), Some(detail)) if !detail.starts_with(code) => format!("{code} {detail}"),
            (_, Some(detail)) => detail.to_owned(),
            (Some(code), None) => code.to_owned(),
            (None, None) => error.to_string(),
        };
        let reason = match error.kind() {
            _ if error.is_timeout() => Reason::Timeout,
            ErrorKind::AuthenticationFailed => match Reason::of_reply(&text) {
                Reason::Maxclients => Reason::Maxclients,
                Reason::Loading => Reason::Loading,
                _ => Reason::Auth,
            },
            ErrorKind::Io | ErrorKind::InvalidClientConfig => io_reason(error),
            _ => Reason::of_reply(&text),
        };
        Self { reason, what, text }
    }
}

impl From<ReplyError> for CollectError {
    fn from(error: ReplyError) -> Self {
        let outcome = match error.reason {
            Reason::Timeout => Outcome::Timeout,
            Reason::Noperm => Outcome::Permission,
            Reason::UnknownCommand => Outcome::UnsupportedVersion,
            Reason::Refused | Reason::Dns | Reason::Tls | Reason::Auth | Reason::Maxclients => {
                Outcome::Connection
            }
            Reason::Loading | Reason::Busy | Reason::Masterdown | Reason::Protocol => Outcome::Error,
        };
        CollectError::new(outcome, error.to_string())
    }
}

/// The reason behind an error of the socket, the resolver or the TLS layer.
fn io_reason(error: &RedisError) -> Reason {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.downcast_ref::<rustls::Error>().is_some() {
            return Reason::Tls;
        }
        // io::Error hides what it wraps from source(); get_ref shows it.
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            if io.get_ref().is_some_and(|inner| inner.downcast_ref::<rustls::Error>().is_some()) {
                return Reason::Tls;
            }
            if io.kind() == io::ErrorKind::TimedOut {
                return Reason::Timeout;
            }
        }
        source = cause.source();
    }
    let text = error.to_string().to_ascii_lowercase();
    if text.contains("lookup address")
        || text.contains("name resolution")
        || text.contains("no address found")
    {
        Reason::Dns
    } else if text.contains("certificate") || text.contains("tls") {
        Reason::Tls
    } else if error.kind() == ErrorKind::Io {
        Reason::Refused
    } else {
        Reason::Protocol
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("NOAUTH Authentication required.", Reason::Auth)]
    #[case("WRONGPASS invalid username-password pair", Reason::Auth)]
    #[case("NOPERM this user has no permissions to run the 'config' command", Reason::Noperm)]
    #[case("LOADING Redis is loading the dataset in memory", Reason::Loading)]
    #[case("BUSY Redis is busy running a script", Reason::Busy)]
    #[case("MASTERDOWN Link with MASTER is down", Reason::Masterdown)]
    #[case("ERR max number of clients reached", Reason::Maxclients)]
    #[case("ERR unknown command `LATENCY`, with args beginning with: `LATEST`", Reason::UnknownCommand)]
    #[case(
        "ERR Unknown subcommand or wrong number of arguments for 'HISTOGRAM'. Try LATENCY HELP.",
        Reason::UnknownCommand
    )]
    #[case("ERR DB index is out of range", Reason::Protocol)]
    fn server_errors_have_a_reason(#[case] text: &str, #[case] reason: Reason) {
        assert_eq!(Reason::of_reply(text), reason);
    }
}
