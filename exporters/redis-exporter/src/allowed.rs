//! Which servers `/scrape` may reach, and who we are there. A password goes only to a host it was given for.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use exporter_kit::config::{ConfigError, Secret, load_or_empty};
use exporter_kit::targets::glob;
use redis::{ConnectionAddr, IntoConnectionInfo};
use serde::Deserialize;

use crate::address::{Address, AddressError, Credentials, TlsFiles, bracketed};

/// The file of targets.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// The first one that fits a target counts.
    pub targets: Vec<Rule>,
}

/// Servers and the credentials for them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// `[scheme://]host[:port]` or `unix:///path`, where `*` stands for any text and the port is 6379 if left out.
    /// With `rediss://` only encrypted connections are allowed.
    #[serde(rename = "match")]
    pub patterns: Vec<String>,
    /// User for AUTH.
    #[serde(default)]
    pub user: Option<String>,
    /// Password for AUTH.
    #[serde(default)]
    pub password: Option<Secret>,
    /// TLS, instead of what the flags say.
    #[serde(default)]
    pub tls: Option<RuleTls>,
    /// Labels that `/sd` gives them.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// TLS to the servers of a rule.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleTls {
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Certificate to show; goes with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// Name that the server's certificate must hold, instead of the host's.
    pub server_name: Option<String>,
    /// Trust any certificate.
    pub insecure_skip_verify: bool,
}

/// Why a target is not scraped.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No rule allows it.
    #[error("target {0:?} is not allowed; name it in the file of --targets.file")]
    NotAllowed(String),
    /// It is no address.
    #[error("{0}")]
    Address(#[from] AddressError),
    /// The rule's password cannot be read.
    #[error("{0}")]
    Secret(#[from] ConfigError),
}

/// Everything that decides about targets.
#[derive(Clone, Default)]
pub struct Allowed {
    rules: Vec<Rule>,
    /// The target of `/metrics`, which is allowed with its own credentials.
    own: Option<(Place, Credentials)>,
    /// The password file: what it names is allowed, with the password that stands there.
    by_address: HashMap<String, String>,
    user: Option<String>,
    tls: TlsFiles,
}

/// Where a target is, without anything that could be written in more than one way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    tls: bool,
    /// Host in lower case, or the path of a socket.
    host: String,
    /// 0 for a socket.
    port: u16,
    user: Option<String>,
}

impl Place {
    /// Reads a target as the connection will: what is compared is what is connected to. A password, a database and
    /// options are dropped: they are the operator's to choose.
    fn parse(target: &str) -> Result<Self, AddressError> {
        let url = if target.contains("://") { target.to_owned() } else { format!("redis://{target}") };
        let wrong = || AddressError::Form("***".to_owned());
        let info = url.as_str().into_connection_info().map_err(|_| wrong())?;
        let settings = info.redis_settings();
        let user = settings.username().map(str::to_owned).filter(|user| !user.is_empty());
        let (tls, host, port) = match info.addr() {
            ConnectionAddr::Tcp(host, port) => (false, host.to_ascii_lowercase(), *port),
            ConnectionAddr::TcpTls { host, port, .. } => (true, host.to_ascii_lowercase(), *port),
            ConnectionAddr::Unix(path) => (false, path.display().to_string(), 0),
            _ => return Err(wrong()),
        };
        Ok(Self { tls, host, port, user })
    }

    /// The address to connect to.
    fn url(&self) -> String {
        match (self.port, self.tls) {
            (0, _) => format!("unix://{}", self.host),
            (port, false) => format!("redis://{}:{port}", bracketed(&self.host)),
            (port, true) => format!("rediss://{}:{port}", bracketed(&self.host)),
        }
    }

    fn is_at(&self, other: &Self) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }
}

/// Whether a rule's pattern fits.
fn fits(pattern: &str, place: &Place) -> bool {
    if let Some(path) = pattern.strip_prefix("unix://") {
        return place.port == 0 && glob(path, &place.host);
    }
    let (scheme, rest) = pattern.split_once("://").unwrap_or(("", pattern));
    let scheme_fits = match scheme {
        "" => true,
        "rediss" | "valkeys" => place.tls,
        "redis" | "valkey" => !place.tls,
        _ => false,
    };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (rest, "6379"),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let own = place.host.trim_start_matches('[').trim_end_matches(']');
    place.port != 0 && scheme_fits && glob(&host, own) && glob(port, &place.port.to_string())
}

impl Allowed {
    /// Reads the file of targets, if there is one. `own` is the target of `/metrics`.
    ///
    /// # Errors
    /// A file that is not of this form.
    pub fn new(
        file: Option<&Path>,
        own: &str,
        credentials: &Credentials,
        tls: &TlsFiles,
    ) -> Result<Self, ConfigError> {
        let rules = file.map(load_or_empty::<Rules>).transpose()?.unwrap_or_default();
        Ok(Self {
            rules: rules.targets,
            own: Place::parse(own).ok().map(|place| (place, credentials.clone())),
            by_address: credentials.by_address.clone(),
            user: credentials.user.clone(),
            tls: tls.clone(),
        })
    }

    /// The address of a target, with the credentials that were configured for it.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn address(&self, target: &str) -> Result<Address, Refusal> {
        let place = Place::parse(target)?;
        let (credentials, tls) = if let Some(by_rule) = self.by_rule(&place)? {
            by_rule
        } else if let Some(credentials) = self.in_password_file(target, &place) {
            (credentials, self.tls.clone())
        } else if let Some((_, credentials)) = self.own.as_ref().filter(|(own, _)| own.is_at(&place)) {
            (credentials.clone(), self.tls.clone())
        } else {
            return Err(Refusal::NotAllowed(place.url()));
        };
        Ok(Address::parse(&place.url(), &credentials, &tls)?)
    }

    /// The credentials and TLS of the first rule that fits a target; `None` when none does.
    ///
    /// # Errors
    /// [`Refusal`], except that of a target that is not allowed.
    pub fn rule_for(&self, target: &str) -> Result<Option<(Credentials, TlsFiles)>, Refusal> {
        Ok(self.by_rule(&Place::parse(target)?)?)
    }

    fn by_rule(&self, place: &Place) -> Result<Option<(Credentials, TlsFiles)>, ConfigError> {
        let fitting = |rule: &&Rule| rule.patterns.iter().any(|pattern| fits(pattern, place));
        let Some(rule) = self.rules.iter().find(fitting) else { return Ok(None) };
        let password = rule.password.as_ref().map(Secret::reveal).transpose()?;
        let user = rule.user.clone().or_else(|| place.user.clone().filter(|_| password.is_some()));
        let tls = rule.tls.as_ref().map_or_else(|| self.tls.clone(), RuleTls::files);
        Ok(Some((Credentials { user, password, ..Credentials::default() }, tls)))
    }

    /// Targets that are written out in the file, each with its labels.
    pub fn listed(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, String>)> {
        self.rules.iter().flat_map(|rule| {
            let written_out = rule.patterns.iter().filter(|pattern| !pattern.contains('*'));
            written_out.map(|pattern| (pattern.as_str(), &rule.labels))
        })
    }

    /// What the password file says of a target: its keys are URIs with the user and without the password.
    fn in_password_file(&self, target: &str, place: &Place) -> Option<Credentials> {
        let user = self.user.clone().or_else(|| place.user.clone());
        let url = if target.contains("://") { target.to_owned() } else { format!("redis://{target}") };
        let (scheme, rest) = url.split_once("://")?;
        let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        let login = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let password = self.by_address.get(&format!("{scheme}://{login}{rest}"))?;
        // The key was found by its text: it must also mean the place that is connected to.
        let meant = Place::parse(&format!("{scheme}://{rest}")).ok()?;
        meant.is_at(place).then(|| Credentials {
            user,
            password: Some(password.clone()),
            ..Credentials::default()
        })
    }
}

impl RuleTls {
    fn files(&self) -> TlsFiles {
        TlsFiles {
            ca: self.ca_file.clone(),
            client: self.cert_file.clone().zip(self.key_file.clone()),
            skip_verification: self.insecure_skip_verify,
            server_name: self.server_name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("db-*.example:6379", "redis://DB-1.example", true)]
    #[case("db-*.example", "db-1.example:6380", false)]
    #[case("db-*.example:*", "db-1.example:6380", true)]
    #[case("rediss://*:*", "redis://a:1", false)]
    #[case("rediss://*:*", "valkeys://a:1", true)]
    #[case("good", "redis://good@evil", false)]
    #[case("good", "redis://evil#good", false)]
    #[case("good", "redis://evil/?x=good", false)]
    #[case("*.example", "evil.example.org", false)]
    #[case("unix:///run/*.sock", "unix:///run/a.sock", true)]
    #[case("*:*", "unix:///run/a.sock", false)]
    #[case("[::1]:*", "redis://[::1]:7", true)]
    fn a_pattern_fits_the_place_that_is_connected_to(
        #[case] pattern: &str,
        #[case] target: &str,
        #[case] expected: bool,
    ) {
        assert_eq!(fits(pattern, &Place::parse(target).unwrap()), expected);
    }

    #[test]
    fn nothing_is_allowed_by_default_but_the_own_target_and_the_password_file() {
        let mut credentials = Credentials { password: Some("s3cret".into()), ..Credentials::default() };
        credentials.by_address.insert("redis://listed:1".into(), "theirs".into());
        let allowed = Allowed::new(None, "redis://own:1", &credentials, &TlsFiles::default()).unwrap();
        assert!(allowed.address("own:1").is_ok() && allowed.address("redis://listed:1").is_ok());
        for target in ["own:2", "other:1", "rediss://own:1", "redis://:x@listed:2", "unix:///x"] {
            let error = allowed.address(target).map(|_| ()).unwrap_err();
            assert!(matches!(error, Refusal::NotAllowed(_)), "{target}: {error}");
            assert!(!error.to_string().contains("s3cret"));
        }
    }
}
