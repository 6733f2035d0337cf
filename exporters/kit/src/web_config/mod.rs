//! The web-config file of Prometheus' exporter-toolkit: TLS, client certificates, basic auth, response
//! headers and a rate limit, reread when the file or a certificate changes.

mod auth;
mod live;
mod rate;
mod tls;

pub use auth::AuthError;
pub use live::{Active, Live};
pub use tls::{CipherSuite, ClientAuth, Curve, TlsVersion};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::{HeaderName, HeaderValue};
use serde::Deserialize;

use crate::config::{ConfigError, GoDuration, Secret};

/// The settings, as the file spells them. Flags of an exporter without such a file (redis_exporter's
/// `-tls-server-*` and `-basic-auth-*`) build the same value by hand.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// TLS; plain HTTP without it.
    pub tls_server_config: Option<TlsSettings>,
    /// Response headers.
    pub http_server_config: HttpSettings,
    /// User to bcrypt hash; everyone is let in when there is none.
    pub basic_auth_users: BTreeMap<String, Secret>,
    /// Requests in a time.
    pub rate_limit: Option<RateLimit>,
    /// User to plain password: only from flags, the file knows hashes only.
    #[serde(skip)]
    pub plain_users: BTreeMap<String, Secret>,
    /// Realm of the 401 answer; none as exporter-toolkit does.
    #[serde(skip)]
    pub realm: Option<String>,
}

/// `tls_server_config`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSettings {
    /// PEM file with the server's certificate chain.
    pub cert_file: Option<PathBuf>,
    /// PEM file with its key.
    pub key_file: Option<PathBuf>,
    /// The chain itself, instead of `cert_file`.
    pub cert: Option<String>,
    /// The key itself, instead of `key_file`.
    pub key: Option<Secret>,
    /// What is asked of clients.
    pub client_auth_type: ClientAuth,
    /// PEM file with the authorities that sign client certificates.
    pub client_ca_file: Option<PathBuf>,
    /// The authorities themselves, instead of `client_ca_file`.
    pub client_ca: Option<String>,
    /// Names (DNS, IP address, e-mail, URI) of which the client's certificate must hold one; empty for any.
    pub client_allowed_sans: Vec<String>,
    /// Oldest version to speak, TLS12 by default.
    pub min_version: Option<TlsVersion>,
    /// Newest version to speak, TLS13 by default.
    pub max_version: Option<TlsVersion>,
    /// TLS 1.2 suites to allow, all by default; as in Go, TLS 1.3 suites are not selectable.
    pub cipher_suites: Vec<CipherSuite>,
    /// Choose the suite by the server's order, the default.
    pub prefer_server_cipher_suites: Option<bool>,
    /// Key-exchange groups, best first; X25519, P-256, P-384 by default.
    pub curve_preferences: Vec<Curve>,
}

/// `http_server_config`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Accepted and without effect: the server speaks HTTP/1.1.
    pub http2: Option<bool>,
    /// Headers of every response.
    pub headers: BTreeMap<String, String>,
}

/// `rate_limit`: a token bucket over all requests; above it the answer is 429.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimit {
    /// Time in which one request becomes free; 0 switches the limit off.
    pub interval: GoDuration,
    /// Requests that may come at once.
    pub burst: u32,
}

/// Why the settings are not usable.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// The file cannot be read or is not such a file.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// Settings that a file holds and that are not usable.
    #[error("{path}: {cause}")]
    In {
        /// The file.
        path: String,
        /// What is wrong; part of the message, so no source.
        cause: Box<WebConfigError>,
    },
    /// Settings that contradict each other.
    #[error("{0}")]
    Conflict(String),
    /// A certificate, key or authority file that cannot be used.
    #[error("cannot use {what} {origin}: {cause}")]
    Pem {
        /// "the certificate", "the key" or "the client authorities".
        what: &'static str,
        /// The file or the inline field.
        origin: String,
        /// Why, never the content.
        cause: String,
    },
    /// A header that must not be set, or not to this value.
    #[error("{0}")]
    Header(String),
    /// A user's hash is not bcrypt.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

/// Checks a web-config file at start, certificates and hashes included.
///
/// # Errors
/// [`WebConfigError`], naming the file, the place in it, the cause and what to do.
pub fn check(path: &Path) -> Result<(), WebConfigError> {
    Live::new(Some(path), None, std::time::Duration::ZERO).map(drop)
}

/// Headers that may be set, with the values allowed; exporter-toolkit's table.
const HEADERS: &[(&str, &[&str])] = &[
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

impl HttpSettings {
    fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, WebConfigError> {
        self.headers
            .iter()
            .map(|(name, value)| {
                let Some((_, allowed)) = HEADERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
                else {
                    let known: Vec<_> = HEADERS.iter().map(|(known, _)| *known).collect();
                    return Err(WebConfigError::Header(format!(
                        "header {name:?} cannot be set; use one of {}",
                        known.join(", ")
                    )));
                };
                if !allowed.is_empty() && !allowed.iter().any(|one| one.eq_ignore_ascii_case(value)) {
                    return Err(WebConfigError::Header(format!(
                        "header {name} cannot be {value:?}; use {}",
                        allowed.join(" or ")
                    )));
                }
                let bad = |_| WebConfigError::Header(format!("header {name} has an unprintable value"));
                Ok((
                    HeaderName::from_bytes(name.as_bytes()).map_err(|e| bad(e.to_string()))?,
                    HeaderValue::from_str(value).map_err(|e| bad(e.to_string()))?,
                ))
            })
            .collect()
    }
}

impl Settings {
    /// Makes relative paths relative to the file's folder, as exporter-toolkit does.
    fn anchor(&mut self, file: &Path) {
        let Some(folder) = file.parent() else { return };
        let Some(tls) = &mut self.tls_server_config else { return };
        for path in [&mut tls.cert_file, &mut tls.key_file, &mut tls.client_ca_file].into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }

    /// The files whose change means a reload.
    fn files(&self) -> Vec<PathBuf> {
        self.tls_server_config
            .iter()
            .flat_map(|tls| [&tls.cert_file, &tls.key_file, &tls.client_ca_file])
            .flatten()
            .cloned()
            .collect()
    }
}
