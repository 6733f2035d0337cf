//! `sslmode` against a server with TLS: what is encrypted, what is verified, what falls back; client certificates
//! and channel binding.

use crate::{ask, connect, refusal, until_count};
use anyhow::{Context, Result};
use pg_client::{ConnectErrorKind, Limits};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use testkit::postgres::{EXPORTER_PASSWORD, Postgres, PostgresBuilder};
use tokio::time::Instant;

/// A folder with: `ca.crt`; `server.crt` for `localhost` and 127.0.0.1; `other.crt`, a root that signed nothing;
/// `client.crt` for the role exporter.
struct Pki {
    folder: TempDir,
}

impl Pki {
    fn new() -> Result<Pki> {
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let pki = Pki { folder };
        let ca = root("test root")?;
        pki.write("ca.crt", &ca.pem())?;
        pki.write("other.crt", &root("another root")?.pem())?;
        for (name, subject, names) in [
            ("server", "db", vec!["localhost".to_owned(), "127.0.0.1".to_owned()]),
            ("client", "exporter", vec![]),
        ] {
            let mut params = CertificateParams::new(names)?;
            params.distinguished_name.push(DnType::CommonName, subject);
            let key = KeyPair::generate()?;
            pki.write(&format!("{name}.crt"), &params.signed_by(&key, &ca)?.pem())?;
            pki.write(&format!("{name}.key"), &key.serialize_pem())?;
        }
        // The server reads its own key as its own account.
        testkit::user::give(&pki.path("server.key"))?;
        Ok(pki)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn show(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        std::fs::write(&path, text)?;
        let mode = if name.ends_with(".key") { 0o600 } else { 0o644 };
        Ok(std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?)
    }

    fn server(&self) -> PostgresBuilder {
        Postgres::builder()
            .setting("ssl", "on")
            .setting("ssl_cert_file", self.show("server.crt"))
            .setting("ssl_key_file", self.show("server.key"))
            .setting("ssl_ca_file", self.show("ca.crt"))
    }
}

fn root(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(vec![])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn at(server: &Postgres, host: &str, more: &str) -> String {
    format!(
        "host={host} hostaddr=127.0.0.1 port={} user=exporter password={EXPORTER_PASSWORD} dbname=postgres {more}",
        server.port()
    )
}

const ENCRYPTED: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

async fn encrypted(text: &str) -> Result<bool> {
    let session = connect(text).await.with_context(|| text.to_owned())?;
    Ok(ask(&session, ENCRYPTED).await?.as_deref() == Some("t"))
}

#[tokio::test]
async fn modes_on_a_server_that_takes_both() -> Result<()> {
    let pki = Pki::new()?;
    let server = pki.server().start().await?;
    for (mode, tls) in [("disable", false), ("allow", false), ("prefer", true), ("require", true)] {
        assert_eq!(
            encrypted(&at(&server, "unrelated.name", &format!("sslmode={mode}"))).await?,
            tls,
            "{mode}"
        );
    }
    assert!(
        encrypted(&at(&server, "unrelated.name", "sslmode=require ssl_min_protocol_version=TLSv1.3")).await?
    );
    assert!(
        encrypted(&at(&server, "unrelated.name", "sslmode=require ssl_max_protocol_version=TLSv1.2")).await?
    );
    Ok(())
}

#[tokio::test]
async fn modes_on_servers_that_take_one() -> Result<()> {
    let pki = Pki::new()?;
    let only_tls = pki.server().hba("hostnossl all exporter 127.0.0.1/32 reject").start().await?;
    for (mode, works) in [("disable", false), ("allow", true), ("prefer", true), ("require", true)] {
        let text = at(&only_tls, "localhost", &format!("sslmode={mode}"));
        if works {
            assert!(encrypted(&text).await?, "{mode}");
        } else {
            assert_eq!(refusal(&text).await?.kind, ConnectErrorKind::Auth);
        }
    }
    let only_plain = pki.server().hba("hostssl all exporter 127.0.0.1/32 reject").start().await?;
    for (mode, works) in [("disable", true), ("allow", true), ("prefer", true), ("require", false)] {
        let text = at(&only_plain, "localhost", &format!("sslmode={mode}"));
        if works {
            assert!(!encrypted(&text).await?, "{mode}");
        } else {
            assert_eq!(refusal(&text).await?.kind, ConnectErrorKind::Auth);
        }
    }
    let without_tls = Postgres::start().await?;
    assert!(!encrypted(&at(&without_tls, "localhost", "sslmode=prefer")).await?);
    let error = refusal(&at(&without_tls, "localhost", "sslmode=require")).await?;
    assert_eq!(error.kind, ConnectErrorKind::Tls);
    Ok(())
}

#[tokio::test]
async fn roots_and_names_are_verified() -> Result<()> {
    let pki = Pki::new()?;
    let server = pki.server().start().await?;
    let (ca, other, own) = (pki.show("ca.crt"), pki.show("other.crt"), pki.show("server.crt"));
    for (host, mode, root, works) in [
        ("localhost", "verify-full", &ca, true),
        ("127.0.0.1", "verify-full", &ca, true),
        ("unrelated.name", "verify-full", &ca, false),
        ("localhost", "verify-full", &other, false),
        ("unrelated.name", "verify-ca", &ca, true),
        ("localhost", "verify-ca", &other, false),
        // A root file makes require verify the chain, as in libpq.
        ("unrelated.name", "require", &ca, true),
        ("localhost", "require", &other, false),
        // The server's own certificate as its root.
        ("localhost", "verify-full", &own, true),
        ("unrelated.name", "verify-full", &own, false),
        ("localhost", "verify-full", &"system".to_owned(), false),
    ] {
        let text = at(&server, host, &format!("sslmode={mode} sslrootcert={root}"));
        if works {
            assert!(encrypted(&text).await?, "{text}");
        } else {
            assert_eq!(refusal(&text).await?.kind, ConnectErrorKind::Tls, "{text}");
        }
    }
    for (more, part) in [
        ("sslmode=verify-full".to_owned(), "set sslrootcert"),
        ("sslmode=verify-ca sslrootcert=/nowhere/ca.crt".to_owned(), "/nowhere/ca.crt"),
        (format!("sslmode=require sslrootcert={}", pki.show("server.key")), "no PEM certificate"),
    ] {
        let error = refusal(&at(&server, "localhost", &more)).await?;
        assert_eq!(error.kind, ConnectErrorKind::Config, "{more}");
        assert!(error.message.contains(part), "{more}: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn client_certificates() -> Result<()> {
    let pki = Pki::new()?;
    let server = pki.server().hba("hostssl all exporter 127.0.0.1/32 cert").start().await?;
    let with = |cert: &str, key: &Path| {
        at(
            &server,
            "localhost",
            &format!("sslmode=require sslcert={} sslkey={}", pki.show(cert), key.display()),
        )
    };
    assert!(encrypted(&with("client.crt", &pki.path("client.key"))).await?);
    let error = refusal(&at(&server, "localhost", "sslmode=require")).await?;
    assert_eq!(error.kind, ConnectErrorKind::Auth, "{error}");
    pki.write(
        "encrypted.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )?;
    let error = refusal(&with("client.crt", &pki.path("encrypted.key"))).await?;
    assert!(error.kind == ConnectErrorKind::Config && error.message.contains("decrypt it"), "{error}");
    let error = refusal(&with("client.crt", &pki.path("ca.crt"))).await?;
    assert!(error.kind == ConnectErrorKind::Config && error.message.contains("sslkey"), "{error}");
    Ok(())
}

#[tokio::test]
async fn channel_binding() -> Result<()> {
    let pki = Pki::new()?;
    let server = pki.server().start().await?;
    for binding in ["disable", "prefer", "require"] {
        assert!(
            encrypted(&at(&server, "localhost", &format!("sslmode=require channel_binding={binding}")))
                .await?
        );
    }
    let plain = refusal(&at(&server, "localhost", "sslmode=disable channel_binding=require")).await?;
    assert_eq!(plain.kind, ConnectErrorKind::Auth, "{plain}");
    let wrong =
        refusal(&at(&server, "localhost", "sslmode=require channel_binding=require password=s3cret")).await?;
    assert_eq!(wrong.kind, ConnectErrorKind::Auth);
    assert!(wrong.message.contains("28P01") && !wrong.message.contains("s3cret"), "{wrong}");
    Ok(())
}

#[tokio::test]
async fn a_cancel_request_goes_by_tls_too() -> Result<()> {
    let pki = Pki::new()?;
    let server = pki.server().hba("hostnossl all exporter 127.0.0.1/32 reject").start().await?;
    let session = connect(&at(&server, "localhost", "sslmode=require")).await?;
    let deadline = Instant::now() + Duration::from_millis(50);
    let limits = Limits { deadline: Some(deadline), ..Limits::default() };
    assert!(session.query("SELECT pg_sleep(600)", &limits).await.is_err());
    // The session's socket stays open, so that only the CancelRequest can end the statement.
    let running = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'exporter' AND state = 'active'";
    until_count(&server, running, "0").await
}
