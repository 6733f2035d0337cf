//! rustls client configuration by `sslmode`, with libpq's meaning: no verification, chain only, or chain and name.
//! ring is named explicitly, so no process-wide provider is needed.

use crate::dsn::{SslMode, TlsOptions};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The configuration for a connection that uses TLS. The error names the file and what to do.
pub(crate) fn client_config(options: &TlsOptions) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let versions: Vec<&rustls::SupportedProtocolVersion> = [
        options.allow_tls12.then_some(&rustls::version::TLS12),
        options.allow_tls13.then_some(&rustls::version::TLS13),
    ]
    .into_iter()
    .flatten()
    .collect();
    let verifier = verifier(options, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| format!("TLS versions: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match client_cert(options)? {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("client certificate and key (sslcert, sslkey): {error}"))?,
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = options.sni;
    if options.direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(config)
}

/// What is verified: libpq turns `require` into `verify-ca` when a root file exists.
fn verifier(
    options: &TlsOptions,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if options.root_cert.as_deref() == Some(Path::new("system")) {
        let loaded = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(loaded.certs);
        if added == 0 {
            return Err("sslrootcert=system: the operating system has no trusted certificates \
                        (install ca-certificates or name a file)"
                .into());
        }
        return WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map(|verifier| verifier as Arc<dyn ServerCertVerifier>)
            .map_err(|error| format!("sslrootcert=system: {error}"));
    }
    let root_file = named_or_default(options.root_cert.as_ref(), options, "root.crt");
    let check = match (options.mode, &root_file) {
        (SslMode::VerifyFull, _) => Check::ChainAndName,
        (SslMode::VerifyCa, _) | (SslMode::Require, Some(_)) => Check::Chain,
        _ => Check::Nothing,
    };
    let mut trusted = Vec::new();
    let mut roots = RootCertStore::empty();
    if check != Check::Nothing {
        let Some(file) = root_file else {
            return Err(
                "no root certificate to verify the server with: set sslrootcert=FILE, sslrootcert=system, \
                        or write ~/.postgresql/root.crt"
                    .into(),
            );
        };
        trusted = certificates(&file, "sslrootcert")?;
        let (added, _) = roots.add_parsable_certificates(trusted.iter().cloned());
        if added == 0 {
            return Err(format!("sslrootcert {}: holds no usable certificate", file.display()));
        }
    }
    Ok(Arc::new(Verifier { check, roots, trusted, provider }))
}

/// The named file, else libpq's default one if it exists.
fn named_or_default(named: Option<&PathBuf>, options: &TlsOptions, name: &str) -> Option<PathBuf> {
    named
        .cloned()
        .or_else(|| options.default_dir.as_ref().map(|dir| dir.join(name)).filter(|file| file.exists()))
}

fn certificates(file: &Path, keyword: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{keyword} {}: {error}", file.display());
    let text = std::fs::read(file).map_err(|error| wrong(&error))?;
    let found = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(&error))?;
    if found.is_empty() { Err(wrong(&"holds no PEM certificate")) } else { Ok(found) }
}

type ClientCert = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client_cert(options: &TlsOptions) -> Result<Option<ClientCert>, String> {
    if !options.send_cert {
        return Ok(None);
    }
    let Some(cert) = named_or_default(options.cert.as_ref(), options, "postgresql.crt") else {
        return Ok(None);
    };
    let Some(key) = named_or_default(options.key.as_ref(), options, "postgresql.key") else {
        return Err(format!("sslcert {}: there is no key for it; set sslkey=FILE", cert.display()));
    };
    let chain = certificates(&cert, "sslcert")?;
    let text = std::fs::read(&key).map_err(|error| format!("sslkey {}: {error}", key.display()))?;
    if text.windows(9).any(|window| window == b"ENCRYPTED") {
        return Err(format!(
            "sslkey {}: the key is encrypted, which is not supported; decrypt it: openssl pkey -in KEY -out PLAIN",
            key.display()
        ));
    }
    let parsed = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| format!("sslkey {}: no usable PEM key: {error}", key.display()))?;
    Ok(Some((chain, parsed)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Nothing,
    Chain,
    ChainAndName,
}

#[derive(Debug)]
struct Verifier {
    check: Check,
    roots: RootCertStore,
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.check == Check::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        // A server's self-signed certificate used as its own root is common; webpki refuses a CA as a server.
        if !self.trusted.iter().any(|root| root == end_entity) {
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        }
        if self.check == Check::ChainAndName {
            verify_server_name(&parsed, server_name).map_err(explain_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// libpq falls back to the common name; rustls reads subjectAltName only, so an empty list gets its own words.
fn explain_name(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented })
            if presented.is_empty() =>
        {
            Error::General(format!(
                "the server's certificate has no subjectAltName, so it cannot be verified for {}; issue it with one \
                 or use sslmode=verify-ca",
                expected.to_str()
            ))
        }
        other => other,
    }
}
