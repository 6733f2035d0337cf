//! The TLS part: Go's names for versions, suites and curves as tables, certificates, client certificates.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    SupportedCipherSuite, SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use serde::Deserialize;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::{TlsSettings, WebConfigError};

/// `client_auth_type`, Go's `ClientAuthType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum ClientAuth {
    /// No certificate is asked for.
    #[default]
    #[serde(rename = "", alias = "NoClientCert")]
    NoClientCert,
    /// One is asked for; none, or any, will do.
    RequestClientCert,
    /// Any certificate will do, whoever signed it.
    RequireAnyClientCert,
    /// None will do, but one given must be signed by a client authority.
    VerifyClientCertIfGiven,
    /// One signed by a client authority is needed.
    RequireAndVerifyClientCert,
}

/// `min_version` and `max_version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl std::str::FromStr for TlsVersion {
    type Err = String;

    /// `TLS12` (web-config file) or `TLS1.2` (redis_exporter's flag).
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "TLS12" | "TLS1.2" => Ok(Self::Tls12),
            "TLS13" | "TLS1.3" => Ok(Self::Tls13),
            "TLS10" | "TLS1.0" | "TLS11" | "TLS1.1" => {
                Err(format!("{text} is broken and not supported; use TLS12 or TLS13"))
            }
            _ => Err(format!("unknown TLS version {text:?}; use TLS12 or TLS13")),
        }
    }
}

impl TryFrom<String> for TlsVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

use ring::cipher_suite as suite;

/// Go's names of what we have; the last two pairs are Go's older and IANA's spelling.
static SUITES: &[(&str, SupportedCipherSuite)] = &[
    ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", suite::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// One of `cipher_suites`, by Go's name.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct CipherSuite(SupportedCipherSuite);

impl TryFrom<String> for CipherSuite {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some((_, suite)) = SUITES.iter().find(|(name, _)| *name == text) {
            return Ok(Self(*suite));
        }
        let why = if text.contains("_CBC_") || text.contains("_RC4_") || text.starts_with("TLS_RSA_") {
            "is weak (CBC, RC4, or no forward secrecy) and not supported"
        } else {
            "is unknown"
        };
        let names: Vec<_> = SUITES.iter().map(|(name, _)| *name).collect();
        Err(format!("cipher suite {text} {why}; use some of {}", names.join(", ")))
    }
}

/// Go's names of the key-exchange groups we have.
static CURVES: &[(&str, &dyn SupportedKxGroup)] = &[
    ("X25519", ring::kx_group::X25519),
    ("CurveP256", ring::kx_group::SECP256R1),
    ("CurveP384", ring::kx_group::SECP384R1),
];

/// One of `curve_preferences`, by Go's name.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct Curve(&'static dyn SupportedKxGroup);

impl TryFrom<String> for Curve {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        CURVES.iter().find(|(name, _)| *name == text).map(|(_, group)| Self(*group)).ok_or_else(|| {
            let names: Vec<_> = CURVES.iter().map(|(name, _)| *name).collect();
            format!("curve {text} is not supported; use some of {}", names.join(", "))
        })
    }
}

/// Builds the settings of rustls, reading certificates and keys.
///
/// # Errors
/// [`WebConfigError`] for files that cannot be used and for settings that contradict each other.
pub(super) fn server_config(settings: &TlsSettings) -> Result<Arc<ServerConfig>, WebConfigError> {
    let conflict = |text: &str| WebConfigError::Conflict(format!("tls_server_config: {text}"));
    let chain_pem = pem(
        "the certificate",
        ("cert_file", settings.cert_file.as_deref()),
        ("cert", settings.cert.clone()),
    )?
    .ok_or_else(|| conflict("no certificate; set cert_file or cert"))?;
    let inline_key = settings.key.as_ref().map(crate::config::Secret::reveal).transpose()?;
    let key_pem = pem("the key", ("key_file", settings.key_file.as_deref()), ("key", inline_key))?
        .ok_or_else(|| conflict("no key; set key_file or key"))?;
    let chain = certificates(&chain_pem)?;
    let key = PrivateKeyDer::from_pem_slice(&key_pem.text).map_err(|error| key_pem.error(error))?;

    let (oldest, newest) = (
        settings.min_version.unwrap_or(TlsVersion::Tls12),
        settings.max_version.unwrap_or(TlsVersion::Tls13),
    );
    let versions: Vec<&'static SupportedProtocolVersion> =
        [(TlsVersion::Tls12, &rustls::version::TLS12), (TlsVersion::Tls13, &rustls::version::TLS13)]
            .into_iter()
            .filter(|(version, _)| (oldest..=newest).contains(version))
            .map(|(_, version)| version)
            .collect();
    if versions.is_empty() {
        return Err(conflict("min_version is above max_version; swap them"));
    }

    let mut provider = ring::default_provider();
    if !settings.cipher_suites.is_empty() {
        let is_13 = |suite: &SupportedCipherSuite| suite.tls13().is_some();
        let chosen = settings.cipher_suites.iter().map(|suite| suite.0).filter(|suite| !is_13(suite));
        provider.cipher_suites = provider.cipher_suites.into_iter().filter(is_13).chain(chosen).collect();
    }
    if !settings.curve_preferences.is_empty() {
        provider.kx_groups = settings.curve_preferences.iter().map(|curve| curve.0).collect();
    }
    let provider = Arc::new(provider);
    let wrong = |error: rustls::Error| WebConfigError::Conflict(format!("tls_server_config: {error}"));
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(wrong)?;
    let builder = match client_verifier(settings, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| chain_pem.error(error))?;
    config.ignore_client_order = settings.prefer_server_cipher_suites.unwrap_or(true);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// PEM text and where it is from.
struct Pem {
    what: &'static str,
    origin: String,
    text: Vec<u8>,
}

impl Pem {
    fn error(&self, cause: impl std::fmt::Display) -> WebConfigError {
        WebConfigError::Pem { what: self.what, origin: self.origin.clone(), cause: cause.to_string() }
    }
}

fn pem(
    what: &'static str,
    (file_field, file): (&str, Option<&Path>),
    (text_field, text): (&str, Option<String>),
) -> Result<Option<Pem>, WebConfigError> {
    match (file, text) {
        (Some(_), Some(_)) => Err(WebConfigError::Conflict(format!(
            "tls_server_config: {file_field} and {text_field} exclude each other; drop one"
        ))),
        (None, None) => Ok(None),
        (None, Some(text)) => {
            Ok(Some(Pem { what, origin: format!("in {text_field}"), text: text.into_bytes() }))
        }
        (Some(file), None) => {
            let mut pem = Pem { what, origin: file.display().to_string(), text: Vec::new() };
            pem.text = std::fs::read(file).map_err(|error| pem.error(error))?;
            Ok(Some(pem))
        }
    }
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, WebConfigError> {
    let chain = CertificateDer::pem_slice_iter(&pem.text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| pem.error(error))?;
    if chain.is_empty() { Err(pem.error("it holds no PEM certificate")) } else { Ok(chain) }
}

fn client_verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, WebConfigError> {
    let conflict = |text: &str| WebConfigError::Conflict(format!("tls_server_config: {text}"));
    let authorities = pem(
        "the client authorities",
        ("client_ca_file", settings.client_ca_file.as_deref()),
        ("client_ca", settings.client_ca.clone()),
    )?;
    let mode = settings.client_auth_type;
    let verified =
        matches!(mode, ClientAuth::VerifyClientCertIfGiven | ClientAuth::RequireAndVerifyClientCert);
    let mandatory = matches!(mode, ClientAuth::RequireAnyClientCert | ClientAuth::RequireAndVerifyClientCert);
    if mode == ClientAuth::NoClientCert {
        if authorities.is_some() || !settings.client_allowed_sans.is_empty() {
            return Err(conflict(
                "client_ca_file, client_ca and client_allowed_sans need a client_auth_type; set RequireAndVerifyClientCert",
            ));
        }
        return Ok(None);
    }
    let chain = match (verified, authorities) {
        (false, _) => None,
        (true, None) => return Err(conflict("client_auth_type needs client_ca_file or client_ca")),
        (true, Some(pem)) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(&pem)? {
                roots.add(authority).map_err(|error| pem.error(error))?;
            }
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            let builder = if mandatory { builder } else { builder.allow_unauthenticated() };
            Some(builder.build().map_err(|error| pem.error(error))?)
        }
    };
    Ok(Some(Arc::new(Verifier {
        chain,
        mandatory,
        allowed: settings.client_allowed_sans.clone(),
        provider: Arc::clone(provider),
    })))
}

/// What Go's modes ask of a client's certificate, and `client_allowed_sans`.
#[derive(Debug)]
struct Verifier {
    /// Checks who signed it; none where any signer will do.
    chain: Option<Arc<dyn ClientCertVerifier>>,
    mandatory: bool,
    allowed: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.as_ref().map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if let Some(chain) = &self.chain {
            chain.verify_client_cert(certificate, intermediates, now)?;
        }
        if !self.allowed.is_empty() && !names(certificate)?.iter().any(|name| self.allowed.contains(name)) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate's alternative names as text, compared exactly as exporter-toolkit does.
fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, rustls::Error> {
    let bad = |_| rustls::Error::from(CertificateError::BadEncoding);
    let certificate = x509_cert::Certificate::from_der(certificate).map_err(bad)?;
    let Some((_, names)) = certificate.tbs_certificate.get::<SubjectAltName>().map_err(bad)? else {
        return Ok(Vec::new());
    };
    Ok(names
        .0
        .into_iter()
        .filter_map(|name| match name {
            GeneralName::DnsName(name)
            | GeneralName::Rfc822Name(name)
            | GeneralName::UniformResourceIdentifier(name) => Some(name.to_string()),
            GeneralName::IpAddress(octets) => {
                let octets = octets.as_bytes();
                let v4 = <[u8; 4]>::try_from(octets).map(std::net::IpAddr::from);
                let v6 = <[u8; 16]>::try_from(octets).map(std::net::IpAddr::from);
                v4.or(v6).ok().map(|ip| ip.to_string())
            }
            _ => None,
        })
        .collect())
}
