//! How to get into a database: its secrets, which may change while we run.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use exporter_kit::config::Secret;
use pg_client::{ConnectError, ConnectErrorKind, Connector, Dsn, Lease, Session, Warm};
use tokio::time::Instant;

use crate::definition::Database;

/// One connection to a database.
pub struct Target {
    secrets: Secrets,
    state: Mutex<State>,
}

#[derive(Clone)]
struct Secrets {
    dsn: Secret,
    password: Option<Secret>,
}

/// What the secrets were when they were read last.
#[derive(Clone, PartialEq)]
struct Read {
    dsn: String,
    password: Option<String>,
}

#[derive(Clone)]
struct State {
    read: Read,
    warm: Warm,
}

impl Target {
    /// Nothing is opened yet.
    ///
    /// # Errors
    /// When a secret cannot be read, or makes no connection string.
    pub fn new(database: &Database) -> anyhow::Result<Target> {
        let secrets = Secrets { dsn: database.dsn.clone(), password: database.password.clone() };
        let state = secrets.read()?.state()?;
        tracing::info!(
            database = database.name,
            server = %state.warm.connector().dsn().redacted(),
            "querying"
        );
        Ok(Target { secrets, state: Mutex::new(state) })
    }

    /// Another connection to the same database.
    #[must_use]
    pub fn another(&self) -> Target {
        let State { read, warm } = self.state();
        let warm = Warm::new(warm.connector().clone());
        Target { secrets: self.secrets.clone(), state: Mutex::new(State { read, warm }) }
    }

    fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens a session that is not kept.
    ///
    /// # Errors
    /// When the server does not let us in.
    pub async fn connect(&self, deadline: Instant) -> Result<Session, ConnectError> {
        self.state().warm.connector().connect(deadline).await
    }

    /// For a scrape, see [`Warm::lease`]. When the server refuses the secrets, and they are others by now, once more.
    ///
    /// # Errors
    /// When the server does not let us in.
    pub async fn lease(&self, deadline: Instant) -> Result<Lease, ConnectError> {
        let result = self.state().warm.lease(deadline).await;
        self.again(result, deadline).await
    }

    /// For background work, see [`Warm::lease_patiently`].
    ///
    /// # Errors
    /// When the server does not let us in.
    pub async fn lease_patiently(&self, deadline: Instant) -> Result<Lease, ConnectError> {
        let result = self.state().warm.lease_patiently(deadline).await;
        self.again(result, deadline).await
    }

    async fn again(
        &self,
        result: Result<Lease, ConnectError>,
        deadline: Instant,
    ) -> Result<Lease, ConnectError> {
        let Err(error) = result else { return result };
        if error.kind != ConnectErrorKind::Auth {
            return Err(error);
        }
        let secrets = self.secrets.clone();
        // A file may be on a slow disk, and a program takes its time.
        let read = tokio::task::spawn_blocking(move || secrets.read()).await;
        let state = match read {
            Ok(Ok(read)) if read != self.state().read => read.state(),
            Ok(Ok(_)) => return Err(error),
            Ok(Err(problem)) => Err(problem),
            Err(problem) => Err(problem.into()),
        };
        match state {
            Ok(state) => {
                let warm = state.warm.clone();
                *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
                warm.lease(deadline).await
            }
            Err(problem) => {
                Err(ConnectError { kind: error.kind, message: format!("{}; {problem:#}", error.message) })
            }
        }
    }
}

impl Secrets {
    fn read(&self) -> anyhow::Result<Read> {
        let password = self.password.as_ref().map(Secret::reveal).transpose()?;
        Ok(Read { dsn: self.dsn.reveal()?, password })
    }
}

impl Read {
    fn state(self) -> anyhow::Result<State> {
        let dsn = Dsn::parse(&self.dsn).context("cannot use the connection string of the database")?;
        let connector = Connector::new(dsn).with_application_name("business-exporter");
        let connector = match self.password.clone() {
            Some(password) => connector.with_password_source(Arc::new(move || Some(password.clone()))),
            None => connector,
        };
        Ok(State { read: self, warm: Warm::new(connector) })
    }
}
