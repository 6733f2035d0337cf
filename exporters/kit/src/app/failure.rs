//! Errors that end the process, and the exit code each means.

use std::process::ExitCode;

/// An error at the edge, and whose fault it is.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    /// The configuration cannot work; trying again will not help. Exit code 64.
    pub fn misconfigured(error: impl Into<anyhow::Error>) -> Failure {
        Failure { code: 64, error: error.into() }
    }

    /// The surroundings are at fault: a port in use, a server that is gone. Exit code 1.
    pub fn failed(error: impl Into<anyhow::Error>) -> Failure {
        Failure { code: 1, error: error.into() }
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

/// Says whose fault an error is.
pub trait OrFailure<T> {
    /// See [`Failure::misconfigured`].
    fn or_misconfigured(self) -> Result<T, Failure>;
    /// See [`Failure::failed`].
    fn or_failed(self) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrFailure<T> for Result<T, E> {
    fn or_misconfigured(self) -> Result<T, Failure> {
        self.map_err(Failure::misconfigured)
    }

    fn or_failed(self) -> Result<T, Failure> {
        self.map_err(Failure::failed)
    }
}

/// The end of `main`: one line on stderr for an error, and its code.
#[expect(
    clippy::print_stderr,
    reason = "an error before or without a logger is for the person who started us"
)]
pub fn exit(name: &str, result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{name}: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
