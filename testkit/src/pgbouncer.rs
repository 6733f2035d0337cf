//! A pgbouncer of its own in front of a test's PostgreSQL.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{
    free_port,
    postgres::{EXPORTER, EXPORTER_PASSWORD, Postgres},
    process::Process,
    servers, user,
};

const START_LIMIT: Duration = Duration::from_secs(20);
const PORT_ATTEMPTS: u32 = 5;

/// A running pgbouncer. Dropping it ends it.
#[derive(Debug)]
pub struct PgBouncer {
    // Fields drop in this order: the process ends before its folder goes.
    _process: Process,
    _folder: TempDir,
    port: u16,
}

impl PgBouncer {
    /// Pools every database of `server`, with settings such as `("pool_mode", "transaction")`.
    /// Clients log in as `exporter` with its password.
    ///
    /// # Errors
    /// When it cannot be had or does not come up; shows the end of its log.
    pub async fn start(server: &Postgres, settings: &[(&str, &str)]) -> Result<Self> {
        let settings: String = settings.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        let installed = servers::get("pgbouncer").await?;
        let folder = tempfile::Builder::new()
            .prefix("testkit-pgbouncer-")
            .tempdir()
            .context("creating a folder for pgbouncer")?;
        user::give(folder.path()).context("giving the folder to the account of the server")?;
        let users = folder.path().join("users");
        fs::write(&users, format!("\"{EXPORTER}\" \"{EXPORTER_PASSWORD}\"\n"))
            .context("writing pgbouncer's users")?;
        let ini = folder.path().join("pgbouncer.ini");
        let mut attempt = 1;
        loop {
            let port = free_port().context("looking for a free port")?;
            let text = format!(
                "[databases]\n\
                 * = host=127.0.0.1 port={}\n\
                 [pgbouncer]\n\
                 listen_addr = 127.0.0.1\n\
                 listen_port = {port}\n\
                 unix_socket_dir =\n\
                 auth_type = scram-sha-256\n\
                 auth_file = {}\n\
                 admin_users = {EXPORTER}\n\
                 {settings}",
                server.port(),
                users.display(),
            );
            fs::write(&ini, text).context("writing pgbouncer's configuration")?;
            let mut process =
                installed.process("pgbouncer", "pgbouncer", folder.path().join("log")).arg(&ini).spawn()?;
            let addr = SocketAddr::from(([127, 0, 0, 1], port));
            match process.wait_for_port(addr, START_LIMIT).await {
                Ok(()) => return Ok(Self { _process: process, _folder: folder, port }),
                Err(error) if attempt < PORT_ATTEMPTS && process.log().contains("Address already in use") => {
                    drop(error);
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
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

    /// URI for the role `exporter` and a database; `pgbouncer` is the admin console.
    #[must_use]
    pub fn dsn(&self, database: &str) -> String {
        format!("postgresql://{EXPORTER}:{EXPORTER_PASSWORD}@{}/{database}?sslmode=disable", self.addr())
    }
}
