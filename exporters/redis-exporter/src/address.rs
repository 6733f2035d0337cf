//! Where the target is and who we are there: the URL forms, the credentials and their precedence, TLS files.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use exporter_kit::tls::AnyCertificate;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// What is wrong with an address or with the files it needs. Never shows a password.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Not one of the URL forms.
    #[error(
        "target {0:?}: not an address of a Redis server; use host:port, redis://, rediss://, valkey://, valkeys:// or unix:///path"
    )]
    Form(String),
    /// A part of the URL is invalid.
    #[error("target {address:?}: {cause}")]
    Part {
        /// The address without its password.
        address: String,
        /// What the parser says.
        cause: String,
    },
    /// TLS cannot be used at all.
    #[error("TLS: {0}")]
    Tls(String),
    /// A file cannot be read.
    #[error("{what} {path:?}: {cause}")]
    File {
        /// What the file is for.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why it cannot be used.
        cause: String,
    },
}

/// Files for TLS to the target. They are read again for each connection, so that they can be replaced.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// Certificates to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Certificate and key to show.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Trust any certificate.
    pub skip_verification: bool,
    /// Name that the server's certificate must hold, instead of the host's.
    pub server_name: Option<String>,
}

impl TlsFiles {
    /// What they say, read anew. `insecure` trusts any certificate.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(crate) fn config(&self, insecure: bool) -> Result<ClientConfig, AddressError> {
        let provider = Arc::new(ring::default_provider());
        let any = Arc::new(AnyCertificate::new(&provider));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::DEFAULT_VERSIONS)
            .map_err(|error| AddressError::Tls(error.to_string()))?;
        let builder = if insecure {
            builder.dangerous().with_custom_certificate_verifier(any)
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let Some((certificate, key)) = &self.client else { return Ok(builder.with_no_client_auth()) };
        let chain = certificates("TLS client certificate", certificate)?;
        let fail = |cause: String| AddressError::File { what: "TLS client key", path: key.clone(), cause };
        let text = fs::read(key).map_err(|error| fail(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| fail(error.to_string()))?;
        builder.with_client_auth_cert(chain, key).map_err(|error| fail(error.to_string()))
    }

    /// Those of the file, else those of the system.
    fn roots(&self) -> Result<RootCertStore, AddressError> {
        let trusted = match &self.ca {
            Some(path) => certificates("TLS CA file", path)?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(trusted);
        match &self.ca {
            Some(path) if added == 0 => Err(AddressError::File {
                what: "TLS CA file",
                path: path.clone(),
                cause: "holds no certificate that can be used".to_owned(),
            }),
            _ => Ok(roots),
        }
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, AddressError> {
    let fail = |cause: String| AddressError::File { what, path: path.to_owned(), cause };
    let text = fs::read(path).map_err(|error| fail(error.to_string()))?;
    CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fail(error.to_string()))
}

/// Credentials from flags and the environment; those in a URL win over both.
#[derive(Clone, Default)]
pub struct Credentials {
    /// User for AUTH.
    pub user: Option<String>,
    /// Password for AUTH, for every target that the password file does not name.
    pub password: Option<String>,
    /// Address to password, from the password file.
    pub by_address: HashMap<String, String>,
}

impl Credentials {
    /// Reads a password file: one JSON object, address to password.
    pub fn read_file(&mut self, path: &Path) -> Result<(), AddressError> {
        let fail = |cause: String| AddressError::File { what: "password file", path: path.to_owned(), cause };
        let text = fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        // The parser's own message may quote the file, so only the place is shown.
        let place = |error: serde_json::Error| {
            fail(format!("not a JSON object of texts, at line {} column {}", error.line(), error.column()))
        };
        self.by_address = serde_json::from_str(&text).map_err(place)?;
        Ok(())
    }
}

/// A target that can be connected to.
#[derive(Clone)]
pub struct Address {
    info: ConnectionInfo,
    tls: TlsFiles,
    shown: String,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Address {
    /// Reads an address. A URL's own user and password win over the password file, and that over the one password
    /// for all. A user alone in a URL is a password, as redis_exporter has it, unless a password comes from elsewhere.
    pub fn parse(text: &str, credentials: &Credentials, tls: &TlsFiles) -> Result<Self, AddressError> {
        let mut url = if text.contains("://") { text.to_owned() } else { format!("redis://{text}") };
        let shown = without_password(&url);
        if tls.skip_verification
            && (url.starts_with("rediss:") || url.starts_with("valkeys:"))
            && !url.contains('#')
        {
            url.push_str("#insecure");
        }
        if redis::parse_redis_url(&url).is_none() {
            return Err(AddressError::Form(shown));
        }
        let info = url
            .as_str()
            .into_connection_info()
            .map_err(|error| AddressError::Part { address: shown.clone(), cause: error.to_string() })?;
        let mut settings = info.redis_settings().clone().set_skip_set_lib_name();
        let in_url = (settings.username().map(str::to_owned), settings.password().map(str::to_owned));
        if in_url.1.is_none() {
            let key = key(&url, credentials.user.as_deref());
            let known = credentials.by_address.get(&key).or(credentials.password.as_ref());
            let user = in_url.0.as_ref().or(credentials.user.as_ref());
            match (known, user) {
                (Some(password), user) => {
                    if let Some(user) = user {
                        settings = settings.set_username(user);
                    }
                    if !password.is_empty() {
                        settings = settings.set_password(password);
                    }
                }
                (None, Some(alone)) if in_url.0.is_some() => {
                    let (database, protocol) = (settings.db(), settings.protocol());
                    settings = redis::RedisConnectionInfo::default()
                        .set_skip_set_lib_name()
                        .set_db(database)
                        .set_protocol(protocol)
                        .set_password(alone);
                }
                _ => {}
            }
        }
        let address = Self { info: info.set_redis_settings(settings), tls: tls.clone(), shown };
        address.check_files()?;
        Ok(address)
    }

    /// The same login and TLS at another place.
    ///
    /// # Errors
    /// A file for TLS that cannot be used.
    pub fn at(&self, host: &str, port: u16) -> Result<Self, AddressError> {
        let mut addr = self.info.addr().clone();
        match &mut addr {
            ConnectionAddr::TcpTls { host: other, port: number, .. } => {
                (*other, *number) = (host.to_owned(), port);
            }
            other => *other = ConnectionAddr::Tcp(host.to_owned(), port),
        }
        let info = self.info.clone().set_addr(addr);
        let mut address = Self { info, tls: self.tls.clone(), shown: String::new() };
        let scheme = if address.is_tls() { "rediss" } else { "redis" };
        address.shown = format!("{scheme}://{}", address.host_and_port());
        address.check_files()?;
        Ok(address)
    }

    /// `host:port`, or the path of a socket.
    pub fn host_and_port(&self) -> String {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                format!("{}:{port}", bracketed(host))
            }
            ConnectionAddr::Unix(path) => path.display().to_string(),
            _ => self.shown.clone(),
        }
    }

    /// Number of the database that connections begin in.
    pub fn database(&self) -> i64 {
        self.info.redis_settings().db()
    }

    /// Whether connections are encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self.info.addr(), ConnectionAddr::TcpTls { .. })
    }

    /// Where to connect to.
    pub(crate) fn place(&self) -> &ConnectionAddr {
        self.info.addr()
    }

    /// User, password, database and protocol.
    pub(crate) fn login(&self) -> &RedisConnectionInfo {
        self.info.redis_settings()
    }

    /// What TLS to the server needs.
    pub(crate) fn tls_files(&self) -> &TlsFiles {
        &self.tls
    }

    /// Whether connecting would fail for a file.
    fn check_files(&self) -> Result<(), AddressError> {
        match self.info.addr() {
            ConnectionAddr::TcpTls { insecure, .. } => self.tls.config(*insecure).map(drop),
            _ => Ok(()),
        }
    }
}

/// A host as it stands before a port.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

/// The key of an address in a password file: `scheme://[user@]host:port`, without a password.
fn key(url: &str, user: Option<&str>) -> String {
    let bare = without_password(url).replace(":***@", "@");
    match (bare.split_once("://"), user) {
        (Some((scheme, rest)), Some(user)) if !rest.contains('@') => format!("{scheme}://{user}@{rest}"),
        _ => bare,
    }
}

/// The address with `***` for its password, and without its query, where Unix sockets have theirs.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    match rest.rsplit_once('@') {
        Some((login, host)) => match login.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:***@{host}"),
            None => format!("{scheme}://***@{host}"),
        },
        None => format!("{scheme}://{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn parse(text: &str, credentials: &Credentials) -> Address {
        Address::parse(text, credentials, &TlsFiles::default()).unwrap()
    }

    fn login(address: &Address) -> (Option<&str>, Option<&str>, i64) {
        let settings = address.info.redis_settings();
        (settings.username(), settings.password(), settings.db())
    }

    #[rstest]
    #[case("localhost:1", None, None, 0)]
    #[case("redis://localhost:1/3", None, None, 3)]
    #[case("valkey://u:p@localhost", Some("u"), Some("p"), 0)]
    #[case("redis://:p@localhost", None, Some("p"), 0)]
    #[case("redis://p@localhost/2", None, Some("p"), 2)]
    #[case("unix:///run/redis.sock", None, None, 0)]
    fn every_form_of_address_is_read(
        #[case] text: &str,
        #[case] user: Option<&str>,
        #[case] password: Option<&str>,
        #[case] database: i64,
    ) {
        assert_eq!(login(&parse(text, &Credentials::default())), (user, password, database));
    }

    #[test]
    fn the_url_wins_over_the_file_and_the_file_over_the_one_password() {
        let mut credentials =
            Credentials { user: None, password: Some("all".into()), ..Credentials::default() };
        credentials.by_address.insert("redis://host:1".into(), "file".into());
        credentials.by_address.insert("redis://open:1".into(), String::new());
        assert_eq!(login(&parse("redis://:url@host:1", &credentials)).1, Some("url"));
        assert_eq!(login(&parse("host:1", &credentials)).1, Some("file"));
        assert_eq!(login(&parse("open:1", &credentials)).1, None);
        assert_eq!(login(&parse("other:1", &credentials)).1, Some("all"));
        credentials.user = Some("me".into());
        credentials.by_address.insert("redis://me@host:1".into(), "mine".into());
        assert_eq!(login(&parse("host:1", &credentials)), (Some("me"), Some("mine"), 0));
    }

    #[rstest]
    #[case("http://host:1", "not an address of a Redis server")]
    #[case("redis://u:s3cret@host:1/x", "Invalid database number")]
    fn a_wrong_address_is_named_without_its_password(#[case] text: &str, #[case] expected: &str) {
        let error =
            Address::parse(text, &Credentials::default(), &TlsFiles::default()).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn another_place_keeps_the_login_and_the_encryption() {
        for (seed, shown) in
            [("redis://u:s3cret@seed:1", "redis://[::1]:7"), ("rediss://u:s3cret@seed:1", "rediss://[::1]:7")]
        {
            let address = parse(seed, &Credentials::default()).at("::1", 7).unwrap();
            assert_eq!(
                (address.to_string().as_str(), login(&address)),
                (shown, (Some("u"), Some("s3cret"), 0))
            );
        }
    }

    #[test]
    fn an_address_never_shows_its_password() {
        let shown = format!("{0} {0:?}", parse("redis://u:s3cret@host:1/2", &Credentials::default()));
        assert_eq!(shown, "redis://u:***@host:1/2 redis://u:***@host:1/2");
    }
}
