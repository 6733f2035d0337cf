//! TLS to the server, with certificates made for the test, and the Unix socket.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use redis_exporter::address::{Address, Credentials, TlsFiles};
use redis_exporter::options::Options;
use testkit::redis::Redis;

use crate::live::{failed, reason, up};
use crate::support::{scrape, scraper, scraper_of};

/// A folder with `ca.crt`; `server.crt` for `localhost` and 127.0.0.1; `client.crt`; `other.crt`, which signed nothing.
struct Pki(tempfile::TempDir);

impl Pki {
    fn new() -> Pki {
        let pki = Pki(tempfile::tempdir().unwrap());
        testkit::user::give(pki.0.path()).unwrap();
        let ca = root("test root");
        pki.write("ca.crt", &ca.pem());
        pki.write("other.crt", &root("another root").pem());
        for (name, names) in [("server", &["localhost", "127.0.0.1"][..]), ("client", &[])] {
            let params =
                CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
            let key = KeyPair::generate().unwrap();
            pki.write(&format!("{name}.crt"), &params.unwrap().signed_by(&key, &ca).unwrap().pem());
            pki.write(&format!("{name}.key"), &key.serialize_pem());
        }
        pki
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        testkit::user::give(&self.path(name)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A server that speaks TLS on the port that is returned.
    async fn server(&self, clients: &str) -> (Redis, u16) {
        let port = testkit::free_port().unwrap();
        let show = |name: &str| self.path(name).display().to_string();
        let server = Redis::builder()
            .args(["--tls-port", &port.to_string(), "--tls-auth-clients", clients])
            .args(["--tls-cert-file", &show("server.crt"), "--tls-key-file", &show("server.key")])
            .args(["--tls-ca-cert-file", &show("ca.crt")])
            .start()
            .await
            .unwrap();
        (server, port)
    }
}

fn root(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What a scrape says: whether the server is up, and why not.
async fn seen(address: &str, tls: &TlsFiles) -> (Option<f64>, String) {
    let address = Address::parse(address, &Credentials::default(), tls).unwrap();
    let page = scrape(&scraper_of(address, Options::default())).await;
    (up(&page), reason(&page).unwrap_or_default().to_owned())
}

fn trust(ca: &Path) -> TlsFiles {
    TlsFiles { ca: Some(ca.to_owned()), ..TlsFiles::default() }
}

#[tokio::test]
async fn certificates_are_verified_unless_told_otherwise() {
    let pki = Pki::new();
    let (_server, port) = pki.server("no").await;
    let (good, bad) = ((Some(1.0), String::new()), (Some(0.0), "tls".to_owned()));
    for scheme in ["rediss", "valkeys"] {
        for host in ["localhost", "127.0.0.1"] {
            assert_eq!(seen(&format!("{scheme}://{host}:{port}"), &trust(&pki.path("ca.crt"))).await, good);
        }
    }
    let address = format!("rediss://localhost:{port}");
    assert_eq!(seen(&address, &trust(&pki.path("other.crt"))).await, bad);
    assert_eq!(seen(&address, &TlsFiles::default()).await, bad);
    let skip = TlsFiles { skip_verification: true, ..TlsFiles::default() };
    assert_eq!(seen(&address, &skip).await, good);
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let pki = Pki::new();
    let (server, port) = pki.server("yes").await;
    let address = format!("rediss://localhost:{port}");
    let with = TlsFiles {
        client: Some((pki.path("client.crt"), pki.path("client.key"))),
        ..trust(&pki.path("ca.crt"))
    };
    assert_eq!(seen(&address, &with).await, (Some(1.0), String::new()));
    assert_eq!(seen(&address, &trust(&pki.path("ca.crt"))).await, (Some(0.0), "tls".to_owned()));
    // TLS to a port that does not speak it.
    assert_eq!(seen(&format!("rediss://localhost:{}", server.port()), &with).await.0, Some(0.0));
}

#[tokio::test]
async fn a_unix_socket_is_a_target() {
    let folder = tempfile::tempdir().unwrap();
    testkit::user::give(folder.path()).unwrap();
    let socket = folder.path().join("redis.sock").display().to_string();
    let _server = Redis::builder().args(["--unixsocket", &socket]).start().await.unwrap();
    let scraper = scraper(&format!("unix://{socket}"), Options::default());
    for _ in 0..2 {
        let page = scrape(&scraper).await;
        assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
    }
}
