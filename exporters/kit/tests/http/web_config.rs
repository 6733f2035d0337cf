//! The web-config file against real connections: TLS, client certificates, reload, users, headers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::common::{Server, closed, echo, get, receive, send, soon};
use exporter_kit::http::{ServerConfig, bind};
use exporter_kit::web_config::{Settings, check};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A certificate authority that lives for one test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key, both PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A folder with a server's certificate, its key, the authority, and `web.yml` with this text.
pub(crate) fn folder(authority: &Authority, yaml: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = authority.issue("localhost");
    write(folder.path(), &[("server.crt", &certificate), ("server.key", &key), ("ca.crt", &authority.pem)]);
    write(folder.path(), &[("web.yml", yaml)]);
    folder
}

/// Replaces files as rotation does, by rename: a server that looks meanwhile sees the old or the new one.
fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let fresh = folder.join(format!("{name}.new"));
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, folder.join(name)).unwrap();
    }
}

pub(crate) async fn serve(folder: &TempDir) -> Server {
    let mut config =
        ServerConfig { web_config_file: Some(folder.path().join("web.yml")), ..ServerConfig::default() };
    config.limits.reload_check = Duration::ZERO;
    echo(config).await
}

/// A TLS connection that trusts `authority`, with a certificate of our own if given.
async fn connect(
    server: &Server,
    authority: &Authority,
    identity: Option<&(String, String)>,
) -> Result<TlsStream<TcpStream>, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    soon("the handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

/// Whether a request over such a connection is answered. In TLS 1.3 the refusal of a client's certificate
/// comes after the client's handshake.
async fn answered(server: &Server, authority: &Authority, identity: Option<&(String, String)>) -> bool {
    use tokio::io::AsyncWriteExt;
    let Ok(mut stream) = connect(server, authority, identity).await else { return false };
    if stream.write_all(b"GET /tls HTTP/1.1\r\nhost: x\r\n\r\n").await.is_err() {
        return false;
    }
    soon("an answer or the end", receive(&mut stream)).await.is_ok_and(|response| response.ends_with("/tls"))
}

pub(crate) const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

#[tokio::test]
async fn tls_serves_with_paths_relative_to_the_file() {
    let authority = Authority::new();
    let server = serve(&folder(&authority, TLS)).await;
    assert!(answered(&server, &authority, None).await);
    assert!(!answered(&server, &Authority::new(), None).await, "a stranger's server was trusted");
}

#[tokio::test]
async fn a_plain_client_of_a_tls_server_is_closed() {
    let server = serve(&folder(&Authority::new(), TLS)).await;
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    send(&mut plain, "/", "").await;
    assert!(!closed(&mut plain).await.starts_with(b"HTTP"));
}

#[tokio::test]
async fn client_certificates_are_asked_for_as_configured() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (ours, theirs) = (authority.issue("scraper"), stranger.issue("scraper"));
    // Mode; is no certificate let in, a stranger's, ours?
    for (mode, ca, none, foreign, own) in [
        ("NoClientCert", "", true, true, true),
        ("RequestClientCert", "", true, true, true),
        ("RequireAnyClientCert", "", false, true, true),
        ("VerifyClientCertIfGiven", "ca.crt", true, false, true),
        ("RequireAndVerifyClientCert", "ca.crt", false, false, true),
    ] {
        let ca = if ca.is_empty() { String::new() } else { format!("  client_ca_file: {ca}\n") };
        let server = serve(&folder(&authority, &format!("{TLS}  client_auth_type: {mode}\n{ca}"))).await;
        assert_eq!(answered(&server, &authority, None).await, none, "{mode} without a certificate");
        assert_eq!(answered(&server, &authority, Some(&theirs)).await, foreign, "{mode} with a stranger's");
        assert_eq!(answered(&server, &authority, Some(&ours)).await, own, "{mode} with ours");
    }
}

#[tokio::test]
async fn only_allowed_names_get_in() {
    let authority = Authority::new();
    let yaml = format!(
        "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n  client_allowed_sans: [scraper, 10.0.0.1]\n"
    );
    let server = serve(&folder(&authority, &yaml)).await;
    assert!(answered(&server, &authority, Some(&authority.issue("scraper"))).await);
    assert!(answered(&server, &authority, Some(&authority.issue("10.0.0.1"))).await);
    assert!(!answered(&server, &authority, Some(&authority.issue("scraper.example"))).await);
    assert!(!answered(&server, &authority, Some(&authority.issue("10.0.0.2"))).await);
}

#[tokio::test]
async fn a_rotated_certificate_is_used_without_restart_and_a_broken_one_is_not() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = folder(&old, TLS);
    let server = serve(&files).await;
    let mut kept = connect(&server, &old, None).await.unwrap();
    assert!(get(&mut kept, "/before", "").await.ends_with("/before"));

    let (certificate, key) = new.issue("localhost");
    // Half of the pair: the old one stays.
    write(files.path(), &[("server.crt", &certificate)]);
    assert!(answered(&server, &old, None).await);
    write(files.path(), &[("server.crt", "broken")]);
    assert!(answered(&server, &old, None).await);
    std::fs::remove_file(files.path().join("server.crt")).unwrap();
    assert!(answered(&server, &old, None).await);

    write(files.path(), &[("server.key", &key), ("server.crt", &certificate)]);
    assert!(answered(&server, &new, None).await);
    assert!(!answered(&server, &old, None).await, "the old certificate is still in use");
    assert!(get(&mut kept, "/after", "").await.ends_with("/after"), "an open connection was cut");
}

#[tokio::test]
async fn a_broken_file_keeps_the_old_settings_until_it_is_repaired() {
    let files = folder(&Authority::new(), "http_server_config: {headers: {X-Frame-Options: deny}}\n");
    let server = serve(&files).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    assert!(get(&mut client, "/", "").await.contains("x-frame-options: deny"));
    write(files.path(), &[("web.yml", "http_server_config: {heaers: {}}\n")]);
    assert!(get(&mut client, "/", "").await.contains("x-frame-options: deny"));
    write(files.path(), &[("web.yml", "http_server_config: {headers: {X-Frame-Options: sameorigin}}\n")]);
    assert!(get(&mut client, "/", "").await.contains("x-frame-options: sameorigin"));
}

#[tokio::test]
async fn users_log_in_and_every_answer_has_the_headers() {
    let hash = bcrypt::hash("scrape", 4).unwrap();
    let yaml = format!(
        "basic_auth_users:\n  prometheus: {hash}\nhttp_server_config:\n  headers:\n    X-Content-Type-Options: nosniff\n    Strict-Transport-Security: max-age=1\n"
    );
    let files = folder(&Authority::new(), &yaml);
    let server = serve(&files).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    // prometheus:scrape, prometheus:wrong, nobody:scrape, nothing.
    for (login, status) in [
        ("authorization: Basic cHJvbWV0aGV1czpzY3JhcGU=\r\n", 200),
        ("authorization: Basic cHJvbWV0aGV1czp3cm9uZw==\r\n", 401),
        ("authorization: Basic bm9ib2R5OnNjcmFwZQ==\r\n", 401),
        ("", 401),
    ] {
        let response = get(&mut client, "/metrics", login).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{login}{response}");
        assert_eq!(response.contains("www-authenticate: Basic\r\n"), status == 401, "{response}");
        assert!(response.contains("x-content-type-options: nosniff\r\n"), "{response}");
        assert!(response.contains("strict-transport-security: max-age=1\r\n"), "{response}");
    }
    // A removed user is out with the next request.
    write(files.path(), &[("web.yml", &yaml.replace("prometheus:", "grafana:"))]);
    let response = get(&mut client, "/", "authorization: Basic cHJvbWV0aGV1czpzY3JhcGU=\r\n").await;
    assert!(response.starts_with("HTTP/1.1 401"), "{response}");
}

#[tokio::test]
async fn settings_from_flags_do_the_same() {
    let settings = Settings {
        plain_users: [("exporter".to_owned(), "secret".parse().unwrap())].into(),
        realm: Some("redis-exporter, charset=UTF-8".to_owned()),
        ..Settings::default()
    };
    let server = echo(ServerConfig { web_settings: Some(settings), ..ServerConfig::default() }).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let refused = get(&mut client, "/", "").await;
    assert!(
        refused.contains("www-authenticate: Basic realm=\"redis-exporter, charset=UTF-8\"\r\n"),
        "{refused}"
    );
    let login = "authorization: Basic ZXhwb3J0ZXI6c2VjcmV0\r\n";
    assert!(get(&mut client, "/", login).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn requests_above_the_rate_are_refused() {
    let server = serve(&folder(&Authority::new(), "rate_limit: {interval: 1h, burst: 2}\n")).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    for status in [200, 200, 429, 429] {
        let response = get(&mut client, "/", "").await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{response}");
    }
}

#[test]
fn a_wrong_file_is_refused_with_place_cause_and_fix() {
    let authority = Authority::new();
    let both = format!("{TLS}  cert: x\n");
    let tls = |line: &str| format!("{TLS}  {line}\n");
    for (yaml, expected) in [
        ("tls_server_conf: {}\n".to_owned(), vec!["web.yml:1:1", "tls_server_conf", "tls_server_config"]),
        (tls("cert_fil: x"), vec!["web.yml:4:3", "cert_fil"]),
        (both, vec!["cert_file and cert exclude each other"]),
        ("tls_server_config: {}\n".to_owned(), vec!["no certificate; set cert_file or cert"]),
        (
            "tls_server_config: {cert_file: no.crt, key_file: no.key}\n".to_owned(),
            vec!["the certificate", "no.crt", "No such file"],
        ),
        (
            "tls_server_config: {cert_file: server.key, key_file: server.key}\n".to_owned(),
            vec!["server.key", "no PEM certificate"],
        ),
        (tls("min_version: TLS10"), vec!["web.yml:4:", "TLS10", "use TLS12 or TLS13"]),
        (tls("min_version: TLS13\n  max_version: TLS12"), vec!["min_version is above max_version"]),
        (
            tls("cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]"),
            vec!["web.yml:4:", "TLS_RSA_WITH_AES_128_CBC_SHA", "CBC"],
        ),
        (tls("cipher_suites: [TLS_X]"), vec!["TLS_X is unknown"]),
        (tls("curve_preferences: [CurveP521]"), vec!["CurveP521", "CurveP256"]),
        (tls("client_auth_type: Always"), vec!["web.yml:4:", "RequireAndVerifyClientCert"]),
        (tls("client_auth_type: RequireAndVerifyClientCert"), vec!["needs client_ca_file"]),
        (tls("client_ca_file: ca.crt"), vec!["need a client_auth_type"]),
        ("basic_auth_users: {alice: open-sesame}\n".to_owned(), vec!["\"alice\"", "bcrypt"]),
        ("http_server_config: {headers: {X-Evil: 1}}\n".to_owned(), vec!["\"X-Evil\" cannot be set"]),
        ("http_server_config: {headers: {X-Frame-Options: no}}\n".to_owned(), vec!["deny or sameorigin"]),
        ("rate_limit: {interval: often}\n".to_owned(), vec!["interval: often", "such as 250ms"]),
    ] {
        let files = folder(&authority, &yaml);
        let message = check(&files.path().join("web.yml")).unwrap_err().to_string();
        for part in expected {
            assert!(message.contains(part), "{part:?} is missing for {yaml}: {message}");
        }
        assert!(!message.contains("open-sesame"), "{message}");
    }
}

#[test]
fn files_that_exporter_toolkit_takes_are_taken() {
    let authority = Authority::new();
    // What `htpasswd` writes.
    let hash = bcrypt::hash_with_result("x", 4).unwrap().format_for_version(bcrypt::Version::TwoY);
    for yaml in [
        "",
        "# only a comment\n",
        &format!(
            "{TLS}  client_auth_type: RequestClientCert\n  min_version: TLS12\n  max_version: TLS13\n  prefer_server_cipher_suites: false\n  cipher_suites:\n  - TLS_AES_128_GCM_SHA256\n  - TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305\n  curve_preferences: [CurveP256, X25519]\nhttp_server_config:\n  http2: true\nbasic_auth_users:\n  a: {hash}\nrate_limit:\n  interval: 1s\n  burst: 10\n"
        ),
    ] {
        let files = folder(&authority, yaml);
        check(&files.path().join("web.yml")).unwrap();
    }
}

#[tokio::test]
async fn file_and_flags_exclude_each_other() {
    let files = folder(&Authority::new(), "");
    let config = ServerConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        web_config_file: Some(files.path().join("web.yml")),
        web_settings: Some(Settings::default()),
        ..ServerConfig::default()
    };
    assert!(bind(&config).await.unwrap_err().to_string().contains("not from both"));
}
