//! `--config.file`: postgres_exporter's `auth_modules`, and the targets that `/probe` may reach. Nothing is allowed that
//! is not written there, and a module's credentials go only to targets that name it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use exporter_kit::config::{ConfigError, Secret, load_or_empty};
use exporter_kit::targets::glob;
use pg_client::dsn::{self, Host};
use pg_client::{Connector, Dsn, DsnError, Environment};
use serde::Deserialize;

use crate::cli::APPLICATION_NAME;

/// Keywords of a connection string that a request may choose. Others would choose another host, or files of ours.
const REQUESTED: &[&str] =
    &["host", "port", "dbname", "user", "password", "sslmode", "application_name", "connect_timeout"];

/// Variables that hold for every target: the user's name, and files that say themselves whom they are for.
const ENVIRONMENT: &[&str] =
    &["USER", "HOME", "PGPASSFILE", "PGSSLMODE", "PGSSLROOTCERT", "PGSSLMINPROTOCOLVERSION"];

/// The file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Who we are, by the name that a request has in `auth_module`.
    pub auth_modules: BTreeMap<String, AuthModule>,
    /// What may be reached; the first entry that fits counts.
    pub targets: Vec<Target>,
}

/// Credentials and further options of a connection string.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthModule {
    /// The kind; there is one.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// User and password.
    pub userpass: UserPass,
    /// Keywords of a connection string. They win over those of the target.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// The kind of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// User and password.
    UserPass,
}

/// User and password. Without a password, the password file is asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserPass {
    /// The role.
    pub username: String,
    /// Its password: text, `{file: path}` or `{env: NAME}`.
    #[serde(default)]
    pub password: Option<Secret>,
}

/// Servers that may be reached.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// `host[:port]` or a socket's folder, where `*` stands for any text; the port is 5432 if left out.
    #[serde(rename = "match")]
    pub patterns: Vec<String>,
    /// The modules that may be used there. `/sd` lists the first one.
    #[serde(default)]
    pub auth_modules: Vec<String>,
    /// Labels that `/sd` gives them.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Why a request is not answered with a page.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The request makes no sense.
    #[error("{0}")]
    Bad(String),
    /// It is not allowed.
    #[error("{0}")]
    NotAllowed(String),
}

impl From<DsnError> for Refusal {
    fn from(error: DsnError) -> Refusal {
        Refusal::Bad(format!("the target is no connection string: {error}"))
    }
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// A file that is not of this form, or names a module that is not in it.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let config: Config = load_or_empty(path)?;
        config.check().map_err(|message| ConfigError::Parse {
            name: path.display().to_string(),
            line: 0,
            column: 0,
            message,
        })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        for (name, module) in &self.auth_modules {
            if module.userpass.username.is_empty() {
                return Err(format!("auth_modules.{name}.userpass.username: is empty"));
            }
            if let Some(option) = module.options.keys().find(|option| !dsn::is_keyword(option)) {
                // A server parameter is legal, too; what cannot be one is a mistake.
                if !option.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
                    return Err(format!(
                        "auth_modules.{name}.options: {option:?} is no keyword of a connection string"
                    ));
                }
            }
        }
        let used = self.targets.iter().flat_map(|target| &target.auth_modules);
        match used.into_iter().find(|name| !self.auth_modules.contains_key(*name)) {
            Some(name) => Err(format!("targets: there is no module {name:?} in auth_modules")),
            None => Ok(()),
        }
    }

    /// How to reach a target with a module.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn connector(
        &self,
        target: &str,
        module: Option<&str>,
        environment: &Environment,
    ) -> Result<Connector, Refusal> {
        let mut keywords = dsn::keywords(&as_connection_string(target))?;
        if let Some(other) = keywords.keys().find(|name| !REQUESTED.contains(&name.as_str())) {
            let message = format!(
                "a target may not choose {other:?}; write it under options of an auth_module ({})",
                REQUESTED.join(", ")
            );
            return Err(Refusal::Bad(message));
        }
        // Without a host, libpq would take one of ours.
        if keywords.get("host").is_none_or(String::is_empty) {
            return Err(Refusal::Bad("the target names no host".to_owned()));
        }
        let module = match module {
            None => None,
            Some(name) => match self.auth_modules.get(name) {
                Some(module) => Some((name, module)),
                None => return Err(Refusal::Bad(format!("there is no auth_module {name:?}"))),
            },
        };
        // What the operator wrote about the way there decides about the place, too.
        keywords.extend(module.iter().flat_map(|(_, module)| module.options.clone()));
        if let Some((_, module)) = module {
            keywords.insert("user".to_owned(), module.userpass.username.clone());
        }
        let mut parsed = Dsn::from_keywords(keywords, &environment_for_all(environment))?;
        for host in parsed.hosts() {
            self.allow(host, module.map(|(name, _)| name))?;
        }
        let Some((_, AuthModule { userpass, .. })) = module else {
            return Ok(Connector::new(parsed).with_application_name(APPLICATION_NAME));
        };
        parsed = parsed.with_credentials(&userpass.username, None);
        let connector = Connector::new(parsed).with_application_name(APPLICATION_NAME);
        Ok(match userpass.password.clone() {
            Some(password) => connector.with_password_source(Arc::new(move || password.reveal().ok())),
            None => connector,
        })
    }

    fn allow(&self, host: &Host, module: Option<&str>) -> Result<(), Refusal> {
        let target =
            self.targets.iter().find(|target| target.patterns.iter().any(|pattern| fits(pattern, host)));
        let Some(target) = target else {
            let message =
                format!("target {host} is not allowed; name it under targets in the file of --config.file");
            return Err(Refusal::NotAllowed(message));
        };
        match module.filter(|name| target.auth_modules.iter().all(|allowed| allowed != name)) {
            None => Ok(()),
            Some(name) => {
                let message =
                    format!("auth_module {name:?} is not allowed for {host}; name it at that target");
                Err(Refusal::NotAllowed(message))
            }
        }
    }

    /// Targets that are written out, each with its entry.
    pub fn listed(&self) -> impl Iterator<Item = (&str, &Target)> {
        self.targets.iter().flat_map(|target| {
            let written_out = target.patterns.iter().filter(|pattern| !pattern.contains('*'));
            written_out.map(move |pattern| (pattern.as_str(), target))
        })
    }
}

/// A target as a URI or as `key=value`: what is neither is a URI without its scheme.
fn as_connection_string(target: &str) -> String {
    let is_uri = ["postgresql://", "postgres://"].iter().any(|scheme| target.starts_with(scheme));
    let special = target.find(['=', ':', '/', '?', '@', '[', ',']);
    let is_keywords = special.is_some_and(|at| target[at..].starts_with('='));
    if is_uri || is_keywords { target.to_owned() } else { format!("postgresql://{target}") }
}

/// What of the environment concerns targets that somebody else names: no password, no host.
fn environment_for_all(environment: &Environment) -> Environment {
    Environment::new(ENVIRONMENT.iter().filter_map(|name| Some((*name, environment.var(name)?))))
}

/// Whether a pattern fits the host that is connected to.
fn fits(pattern: &str, host: &Host) -> bool {
    let name = host.name.to_ascii_lowercase();
    if host.is_unix() != pattern.starts_with(['/', '@']) {
        return false;
    }
    let (wanted, port) = match pattern.rsplit_once(':') {
        Some((wanted, port)) if !port.contains(']') => (wanted, port),
        _ => (pattern, "5432"),
    };
    let wanted = wanted.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    glob(&wanted, &name) && glob(port, &host.port.to_string())
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
