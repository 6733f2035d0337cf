//! The connection string: what libpq accepts, resolved to one value. Precedence as in libpq: the string itself, then
//! the service file, then `PG*` variables, then defaults. Parsing does no I/O but reading a named service file.
//! See "Connection Strings" and "Parameter Key Words" in the PostgreSQL manual.

mod env;
mod host;
pub mod keyword;
mod options;
pub mod passfile;
mod service;
mod table;
mod uri;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use env::Environment;
pub use host::Host;
pub use options::{ChannelBinding, SslMode, TargetSessionAttrs, TlsOptions};

/// Keyword to value, as written by the user and merged by precedence.
type Params = BTreeMap<String, String>;

/// Why a connection string cannot be used. The text never holds a value that might be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DsnError(String);

impl DsnError {
    fn new(message: impl Into<String>) -> DsnError {
        DsnError(message.into())
    }
}

/// A password; `Debug` prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Password(pub(crate) String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Everything needed to connect, except the content of the password file, which is read at each connect so that a
/// rotated password is picked up.
///
/// ```
/// use pg_client::{Dsn, Environment};
/// let dsn = Dsn::parse_in("postgres://bob:secret@db1:5433/shop", &Environment::default())?;
/// assert_eq!(dsn.server_label(), "db1:5433");
/// assert_eq!(dsn.to_string(), "host=db1 port=5433 user=bob dbname=shop password=***");
/// # Ok::<(), pg_client::DsnError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Dsn {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: String,
    pub(crate) dbname: String,
    pub(crate) password: Option<Password>,
    pub(crate) passfile: Option<PathBuf>,
    pub(crate) application_name: Option<String>,
    /// `options` as written, then one `-c name=value` for each server parameter given as a keyword.
    pub(crate) options: Option<String>,
    pub(crate) tls: TlsOptions,
    pub(crate) channel_binding: ChannelBinding,
    pub(crate) target: TargetSessionAttrs,
    pub(crate) shuffle_hosts: bool,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) tcp: options::TcpOptions,
    /// What was written, without the password: the source of `Display`.
    shown: Params,
}

/// The keywords that a URI or `key=value` string gives, before anything is completed or checked.
pub fn keywords(text: &str) -> Result<BTreeMap<String, String>, DsnError> {
    if uri::is_uri(text) { uri::parse(text) } else { keyword::parse(text) }
}

/// Whether libpq knows this keyword.
pub fn is_keyword(name: &str) -> bool {
    name == "service" || table::KEYWORDS.iter().any(|keyword| keyword.name == name)
}

impl Dsn {
    /// Parses a URI (`postgres://…`, `postgresql://…`) or `key=value` string, completed from the environment of this
    /// process. An empty string is a valid DSN: everything comes from the environment and defaults.
    pub fn parse(text: &str) -> Result<Dsn, DsnError> {
        Dsn::parse_in(text, &Environment::of_process())
    }

    /// The DSN that the environment alone describes, as `psql` without arguments.
    pub fn from_env(environment: &Environment) -> Result<Dsn, DsnError> {
        Dsn::parse_in("", environment)
    }

    /// Parses with an explicit environment.
    pub fn parse_in(text: &str, environment: &Environment) -> Result<Dsn, DsnError> {
        Dsn::from_keywords(keywords(text)?, environment)
    }

    /// From keywords and their values, such as [`keywords`] gives.
    pub fn from_keywords(
        mut params: BTreeMap<String, String>,
        environment: &Environment,
    ) -> Result<Dsn, DsnError> {
        service::complete(&mut params, environment)?;
        env::complete(&mut params, environment);
        Dsn::from_params(params, environment)
    }

    fn from_params(mut params: Params, environment: &Environment) -> Result<Dsn, DsnError> {
        let mut shown = params.clone();
        if shown.contains_key("password") {
            shown.insert("password".into(), "***".into());
        }
        if shown.contains_key("sslpassword") {
            shown.insert("sslpassword".into(), "***".into());
        }
        for name in ["oauth_client_secret", "scram_client_key", "scram_server_key"] {
            shown.remove(name);
        }
        let run_time = options::split_run_time(&mut params)?;
        let mut take = |name: &str| params.remove(name).filter(|value| !value.is_empty());

        let hosts = host::resolve(take("host"), take("hostaddr"), take("port"))?;
        let user = take("user").or_else(|| environment.os_user()).ok_or_else(|| {
            DsnError::new("no user: name one in the connection string (user=…) or in PGUSER")
        })?;
        let dbname = take("dbname").unwrap_or_else(|| user.clone());
        let home = environment.home();
        let passfile =
            take("passfile").map(PathBuf::from).or_else(|| home.as_ref().map(|home| home.join(".pgpass")));
        Ok(Dsn {
            hosts,
            dbname,
            password: take("password").map(Password),
            passfile,
            application_name: take("application_name").or_else(|| take("fallback_application_name")),
            options: options::join(take("options"), &run_time),
            tls: TlsOptions::take(&mut take, home)?,
            channel_binding: ChannelBinding::take(&mut take)?,
            target: TargetSessionAttrs::take(&mut take)?,
            shuffle_hosts: options::shuffle(&mut take)?,
            connect_timeout: options::connect_timeout(&mut take)?,
            tcp: options::TcpOptions::take(&mut take)?,
            user,
            shown,
        })
    }

    /// The hosts in the order in which they are tried; never empty.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The role to log in as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database to connect to.
    pub fn dbname(&self) -> &str {
        &self.dbname
    }

    /// `application_name` or `fallback_application_name`, when given.
    pub fn application_name(&self) -> Option<&str> {
        self.application_name.as_deref()
    }

    /// TLS settings.
    pub fn tls(&self) -> &TlsOptions {
        &self.tls
    }

    /// `host:port` of the first host, as postgres_exporter's `server` label: `/run/pg:15401` for a socket folder.
    pub fn server_label(&self) -> String {
        self.hosts.first().map(Host::to_string).unwrap_or_default()
    }

    /// The connection string as `key=value` without secrets; what `Display` prints.
    pub fn redacted(&self) -> String {
        self.to_string()
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_dbname(&self, dbname: &str) -> Dsn {
        let mut dsn = self.clone();
        dsn.dbname = dbname.to_owned();
        dsn.shown.insert("dbname".into(), dbname.to_owned());
        dsn
    }

    /// The same server, another login. Without a password the password file is asked.
    #[must_use]
    pub fn with_credentials(&self, user: &str, password: Option<&str>) -> Dsn {
        let mut dsn = self.clone();
        dsn.user = user.to_owned();
        dsn.shown.insert("user".into(), user.to_owned());
        dsn.password = password.map(|password| Password(password.to_owned()));
        match password {
            Some(_) => dsn.shown.insert("password".into(), "***".into()),
            None => dsn.shown.remove("password"),
        };
        dsn
    }

    /// The password for one host: the given one, else the password file's. `None` is no password.
    pub(crate) fn password_for(&self, host: &Host) -> Option<Password> {
        self.password.clone().or_else(|| {
            passfile::read(
                self.passfile.as_deref()?,
                &host.passfile_name(),
                host.port,
                &self.dbname,
                &self.user,
            )
            .map(Password)
        })
    }

    /// The password file that is asked when no password was given.
    pub fn passfile(&self) -> Option<&Path> {
        self.passfile.as_deref()
    }
}

impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FIRST: [&str; 4] = ["host", "port", "user", "dbname"];
        let first = FIRST.iter().filter_map(|name| self.shown.get_key_value(*name));
        let rest = self.shown.iter().filter(|(name, _)| !FIRST.contains(&name.as_str()));
        f.write_str(&keyword::format(first.chain(rest)))
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dsn({self})")
    }
}

#[cfg(test)]
mod tests;
