//! Why a command got no answer: a bounded reason that can be a label, and the text for the log.

use std::fmt;
use std::io::{self, ErrorKind};

use exporter_kit::collector::{CollectError, Outcome};

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

    /// The reason behind an error of the socket or of TLS.
    pub fn of_io(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some();
        match error.kind() {
            _ if tls => Reason::Tls,
            ErrorKind::TimedOut => Reason::Timeout,
            ErrorKind::InvalidData => Reason::Protocol,
            _ => Reason::Refused,
        }
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

/// Why a command has no value.
#[derive(Debug, Clone)]
pub struct CommandError {
    /// The class of the failure.
    pub reason: Reason,
    /// What the server or the system said. Holds no secret.
    pub text: String,
    /// The connection ended before the reply came, so that a new one may help.
    pub lost: bool,
}

impl CommandError {
    /// What the server answered.
    pub fn answer(text: String) -> Self {
        Self { reason: Reason::of_reply(&text), text, lost: false }
    }

    /// How the connection ended.
    pub fn lost(error: &io::Error) -> Self {
        let text = match error.kind() {
            ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
            _ => error.to_string(),
        };
        Self { reason: Reason::of_io(error), text, lost: true }
    }

    /// The same, of a login that was refused. What the server says of it is not shown: one that does not know the command
    /// repeats its arguments.
    pub fn of_login(self) -> Self {
        match self.reason {
            Reason::Maxclients | Reason::Loading => self,
            _ if self.lost => self,
            _ => Self {
                reason: Reason::Auth,
                text: "the server refused user or password".to_owned(),
                lost: false,
            },
        }
    }

    /// The same as an error of what was being done.
    pub fn of(self, what: &'static str) -> ReplyError {
        ReplyError { reason: self.reason, what, text: self.text }
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
