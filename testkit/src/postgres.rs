//! A PostgreSQL server of its own for a test: `initdb` runs once a version into a template, each start copies it.
//!
//! Roles: the superuser `postgres` (trust, by socket and 127.0.0.1) and `exporter` with the password
//! `exporter-secret` (SCRAM, member of `pg_monitor`). Every other role logs in from 127.0.0.1 with SCRAM.

mod standby;
mod template;

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, error::SqlState};

use self::standby::Upstream;
use crate::{
    free_port,
    process::{POLL, Process, Stat, children},
    servers::{self, Installed},
    user::{self, Account},
};

/// Every major release that the tests know, oldest first.
pub const MAJORS: [u32; 6] = [13, 14, 15, 16, 17, 18];

/// Whether tests of every version run in full on this one: in CI the oldest and the newest, see [`crate::full`].
#[must_use]
pub fn in_full(major: u32) -> bool {
    crate::full() || Some(&major) == MAJORS.first() || Some(&major) == MAJORS.last()
}

/// The exporters' role.
pub const EXPORTER: &str = "exporter";
/// Its password.
pub const EXPORTER_PASSWORD: &str = "exporter-secret";

const START_LIMIT: Duration = Duration::from_secs(60);
const PAUSE_LIMIT: Duration = Duration::from_secs(10);
const PORT_ATTEMPTS: u32 = 5;

/// Settings that every test server has; those of the builder come later and win.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("password_encryption", "scram-sha-256"),
    // A standby starts from the template and streams everything since; it asks again soon after its upstream was away.
    ("wal_keep_size", "1GB"),
    ("wal_retrieve_retry_interval", "100ms"),
    ("log_line_prefix", "%m [%p] "),
];

const HBA: &[&str] = &[
    "local   all          all                      trust",
    "host    all          postgres  127.0.0.1/32   trust",
    "host    replication  postgres  127.0.0.1/32   trust",
    "host    all          all       127.0.0.1/32   scram-sha-256",
];

/// Which binaries to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// The machine's PostgreSQL, or Debian's where none is installed.
    #[default]
    System,
    /// Debian's, unpacked privately: what a machine without PostgreSQL gets.
    Debian,
    /// One of [`MAJORS`], from the cache of servers.
    Major(u32),
}

impl Version {
    async fn installed(self) -> Result<Installed> {
        match self {
            Self::System => servers::default_postgres().await,
            Self::Debian => servers::get("postgres-debian").await,
            Self::Major(major) => servers::get(&format!("postgres-{major}")).await,
        }
    }
}

/// What to start.
#[derive(Clone, Debug, Default)]
pub struct PostgresBuilder {
    version: Version,
    settings: Vec<(String, String)>,
    hba: Vec<String>,
    upstream: Option<Upstream>,
    data: Option<PathBuf>,
    log: Option<PathBuf>,
    port: Option<u16>,
    detached: bool,
}

impl PostgresBuilder {
    /// Which binaries to run.
    #[must_use]
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Sets a line of `postgresql.conf`.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Adds a line to `pg_hba.conf`, before the usual ones; the first added is matched first.
    #[must_use]
    pub fn hba(mut self, line: impl Into<String>) -> Self {
        self.hba.push(line.into());
        self
    }

    /// Loads libraries at start, as `pg_stat_statements`.
    #[must_use]
    pub fn preload(self, libraries: &str) -> Self {
        self.setting("shared_preload_libraries", libraries)
    }

    /// Runs on this port instead of a free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Keeps its data in this folder, which is used again if it holds a database, instead of in a temporary one.
    #[must_use]
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = Some(folder.into());
        self
    }

    /// Writes its log to this file instead of into the temporary folder.
    #[must_use]
    pub fn log(mut self, file: impl Into<PathBuf>) -> Self {
        self.log = Some(file.into());
        self
    }

    /// Lets it outlive us: see [`Postgres::leave`].
    #[must_use]
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// Starts it and waits until it takes connections.
    ///
    /// # Errors
    /// When the binaries cannot be had or the server does not come up; shows the end of its log.
    pub async fn start(self) -> Result<Postgres> {
        let installed = self.version.installed().await?;
        let template = {
            let installed = installed.clone();
            tokio::task::spawn_blocking(move || template::of(&installed))
                .await
                .context("initdb in the background")??
        };
        let folder = tempfile::Builder::new()
            .prefix("testkit-pg-")
            .tempdir()
            .context("creating a folder for a PostgreSQL server")?;
        if Account::unprivileged().is_some() && !folder.path().parent().is_none_or(user::traversable) {
            bail!(
                "{} is closed to the account that PostgreSQL runs as: set TMPDIR to a folder that is not",
                folder.path().display()
            );
        }
        user::give(folder.path()).context("giving the folder to the account of the server")?;
        let data = self.data.clone().unwrap_or_else(|| folder.path().join("data"));
        if !data.join("PG_VERSION").exists() {
            template::copy(&template, &data)?;
        }
        let log = self.log.clone().unwrap_or_else(|| folder.path().join("log"));
        let mut server =
            Postgres { settings: self, installed, process: None, port: 0, data, log, paused: false, folder };
        let attempts = if server.settings.port.is_some() { 1 } else { PORT_ATTEMPTS };
        for attempt in 1.. {
            server.port = match server.settings.port {
                Some(port) => port,
                None => free_port().context("looking for a free port")?,
            };
            server.write_config()?;
            match server.run().await {
                Ok(()) => break,
                Err(error)
                    if attempt < attempts && format!("{error:#}").contains("Address already in use") => {}
                Err(error) => return Err(error),
            }
        }
        Ok(server)
    }
}

/// A running server. Dropping it ends the server and removes its data.
#[derive(Debug)]
pub struct Postgres {
    // Fields drop in this order: the process ends before its folder goes.
    process: Option<Process>,
    settings: PostgresBuilder,
    installed: Installed,
    port: u16,
    data: PathBuf,
    log: PathBuf,
    paused: bool,
    folder: TempDir,
}

impl Postgres {
    /// Starts the default version with default settings.
    ///
    /// # Errors
    /// As [`PostgresBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// A server to configure.
    #[must_use]
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
    }

    /// Its port of 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// URI for the role `exporter` and the database `postgres`.
    #[must_use]
    pub fn dsn(&self) -> String {
        self.dsn_at(self.addr())
    }

    /// As [`Postgres::dsn`], by way of another address, say a proxy's.
    #[must_use]
    pub fn dsn_at(&self, addr: SocketAddr) -> String {
        format!("postgresql://{EXPORTER}:{EXPORTER_PASSWORD}@{addr}/postgres?sslmode=disable")
    }

    /// URI for the superuser and a database.
    #[must_use]
    pub fn admin_dsn(&self, database: &str) -> String {
        format!("postgresql://postgres@{}/{database}?sslmode=disable", self.addr())
    }

    /// The folder with its Unix socket, for `host=` of a DSN. A server with [`PostgresBuilder::data`] has no socket.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        self.folder.path()
    }

    /// Its data folder.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// The binaries it runs from.
    #[must_use]
    pub fn installed(&self) -> &Installed {
        &self.installed
    }

    /// All it has logged since it was last started.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Pid of the postmaster; `None` while it is stopped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// A connection of the superuser to the database `postgres`.
    ///
    /// # Errors
    /// When the server does not take it.
    pub async fn client(&self) -> Result<Client> {
        self.client_as("postgres", "", "postgres").await
    }

    /// A connection of `user` to `database`.
    ///
    /// # Errors
    /// When the server does not take it.
    pub async fn client_as(&self, user: &str, password: &str, database: &str) -> Result<Client> {
        connect(self.port, user, password, database)
            .await
            .with_context(|| format!("connecting to {} at {} as {user}", self.installed.name, self.addr()))
    }

    /// Runs statements as the superuser in the database `postgres`.
    ///
    /// # Errors
    /// When one fails.
    pub async fn sql(&self, statements: &str) -> Result<()> {
        self.client().await?.batch_execute(statements).await.with_context(|| format!("running {statements}"))
    }

    /// Asks one question as the superuser and gives the first column of the first row as text; `None` for NULL
    /// and for no row.
    ///
    /// # Errors
    /// When it fails.
    pub async fn psql(&self, query: &str) -> Result<Option<String>> {
        use tokio_postgres::SimpleQueryMessage;
        let client = self.client().await?;
        let answers = client.simple_query(query).await.with_context(|| format!("running {query}"))?;
        Ok(answers.iter().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten().map(str::to_owned),
            _ => None,
        }))
    }

    /// Ends the server (fast shutdown) and keeps its data and port for [`Postgres::restart`].
    ///
    /// # Errors
    /// When the kernel does not tell how it ended.
    pub fn stop(&mut self) -> Result<()> {
        self.end(Signal::SIGINT)
    }

    /// Starts it again on the same port with the same data, ending it first if it runs.
    ///
    /// # Errors
    /// As [`PostgresBuilder::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.run().await
    }

    /// Crashes the server and starts it again: sessions are cut, nothing is tidied up, and it recovers from its log.
    ///
    /// # Errors
    /// As [`PostgresBuilder::start`].
    pub async fn crash(&mut self) -> Result<()> {
        self.end(Signal::SIGQUIT)?;
        self.run().await
    }

    /// Freezes the postmaster and every backend, and returns when all of them stand still: connections stay open and
    /// nobody answers.
    ///
    /// # Errors
    /// When the server is not running, or something of it still runs after ten seconds.
    pub async fn pause(&mut self) -> Result<()> {
        self.pause_postmaster()?;
        let postmaster = self.pid().context("the server has no pid")?;
        let deadline = Instant::now() + PAUSE_LIMIT;
        // The signal is delivered some time after it was sent: until the postmaster stands, it may fork one more child.
        // A child that ended meanwhile stays a zombie, since its parent cannot wait for it.
        let stands = |pid: u32| Stat::of(pid).is_none_or(|stat| matches!(stat.state, 'T' | 'Z'));
        while !(stands(postmaster) && children(postmaster).into_iter().all(stands)) {
            ensure!(
                Instant::now() < deadline,
                "{} does not stand still after {PAUSE_LIMIT:?}",
                self.installed.name
            );
            self.signal_children(Signal::SIGSTOP);
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Freezes the postmaster alone: sessions go on, a new connection is accepted by the kernel and never answered.
    ///
    /// # Errors
    /// When the server is not running.
    pub fn pause_postmaster(&mut self) -> Result<()> {
        let name = &self.installed.name;
        self.process.as_mut().with_context(|| format!("{name} is stopped"))?.pause()?;
        self.paused = true;
        Ok(())
    }

    /// Lets everything run again.
    ///
    /// # Errors
    /// When the server is not running.
    pub fn resume(&mut self) -> Result<()> {
        let name = &self.installed.name;
        self.signal_children(Signal::SIGCONT);
        self.process.as_mut().with_context(|| format!("{name} is stopped"))?.resume()?;
        self.paused = false;
        Ok(())
    }

    /// Leaves a detached server running and gives its pid. Its data must be in a folder of its own, see
    /// [`PostgresBuilder::data`]: the temporary one goes with the guard.
    #[must_use]
    pub fn leave(mut self) -> Option<u32> {
        self.process.take().map(Process::leave)
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        self.paused = false;
        match self.process.take() {
            Some(mut process) => process.stop_by(signal).map(drop),
            None => Ok(()),
        }
    }

    fn signal_children(&self, signal: Signal) {
        for pid in self.pid().map(children).unwrap_or_default() {
            if let Ok(pid) = i32::try_from(pid) {
                // A backend may end at any moment.
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
    }

    fn write_config(&self) -> Result<()> {
        let mut conf = String::from("# Written by testkit; postgresql.conf includes it last.\n");
        let mut set = |name: &str, value: &str| {
            // Writing into a String cannot fail.
            let _ = writeln!(conf, "{name} = '{}'", value.replace('\'', "''"));
        };
        for (name, value) in SETTINGS {
            set(name, value);
        }
        set("port", &self.port.to_string());
        // A server with a folder of its own may outlive the temporary one: it has no socket.
        let sockets = match self.settings.data {
            Some(_) => String::new(),
            None => self.socket_dir().display().to_string(),
        };
        set("unix_socket_directories", &sockets);
        if let Some(upstream) = &self.settings.upstream {
            set(upstream.setting, &upstream.value);
        }
        for (name, value) in &self.settings.settings {
            set(name, value);
        }
        self.write("testkit.conf", &conf)?;
        let lines: Vec<&str> =
            self.settings.hba.iter().map(String::as_str).chain(HBA.iter().copied()).collect();
        self.write("pg_hba.conf", &(lines.join("\n") + "\n"))?;
        if self.settings.upstream.is_some() {
            self.write("standby.signal", "")?;
        }
        Ok(())
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.data.join(file);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        user::give(&path).with_context(|| format!("giving {} to the account of the server", path.display()))
    }

    async fn run(&mut self) -> Result<()> {
        let builder = self
            .installed
            .process(&self.installed.name, "postgres", &self.log)
            .arg("-D")
            .arg(&self.data)
            // Immediate shutdown: nobody needs the data any more, and the shared memory is still tidied up.
            .stop_signal(if self.settings.data.is_some() { Signal::SIGINT } else { Signal::SIGQUIT });
        let mut process =
            if self.settings.detached { builder.detached().spawn()? } else { builder.spawn()? };
        let port = self.port;
        process
            .wait_until("it to take connections", START_LIMIT, || async move {
                connect(port, "postgres", "", "postgres").await.ok().map(drop)
            })
            .await?;
        self.process = Some(process);
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.paused {
            self.signal_children(Signal::SIGCONT);
        }
    }
}

async fn connect(
    port: u16,
    user: &str,
    password: &str,
    database: &str,
) -> Result<Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user(user).dbname(database).application_name("testkit");
    config.connect_timeout(Duration::from_secs(5));
    if !password.is_empty() {
        config.password(password);
    }
    let (client, connection) = config.connect(NoTls).await?;
    // Ends with the client or with the server; both are the test's own doing.
    tokio::spawn(connection);
    Ok(client)
}

/// Whether an error of [`Postgres::sql`] and friends has this SQLSTATE.
#[must_use]
pub fn has_sqlstate(error: &anyhow::Error, state: &SqlState) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code) == Some(state)
    })
}
