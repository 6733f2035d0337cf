//! `healthcheck`: what an image without curl asks itself.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::http::ServerConfig;
use crate::tls::AnyCertificate;
use crate::web_config::Live;

/// Less than what Docker and Kubernetes are told to wait.
const LIMIT: Duration = Duration::from_secs(3);

/// Asks the process that serves with this configuration on this machine for `path`. It is well when it answers 200, or asks
/// who we are: nobody gives a health check a password or a client certificate.
///
/// # Errors
/// Nobody answers, or with another status.
pub async fn healthcheck(server: &ServerConfig, path: &str) -> anyhow::Result<()> {
    let asked = tokio::time::timeout(LIMIT, ask(server, path)).await;
    asked.map_err(|_| anyhow!("no answer within {LIMIT:?}"))?
}

async fn ask(server: &ServerConfig, path: &str) -> anyhow::Result<()> {
    let address =
        server.listen.first().context("nothing listens on an address: there is nothing to ask")?.local();
    let stream =
        TcpStream::connect(&address).await.with_context(|| format!("cannot connect to {address}"))?;
    let web = Live::new(server.web_config_file.as_deref(), server.web_settings.as_ref(), Duration::ZERO)?;
    let answer = if web.current().tls.is_some() {
        // The name is of no use to a verifier that takes any.
        let name = ServerName::try_from("localhost").context("naming this machine")?;
        match TlsConnector::from(Arc::new(client()?)).connect(name, stream).await {
            Ok(stream) => status(stream, path).await,
            Err(error) => Err(error),
        }
    } else {
        status(stream, path).await
    };
    match answer {
        Ok(200 | 401) => Ok(()),
        Ok(status) => bail!("{address}{path} answers {status}"),
        Err(error) if wants_certificate(&error) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{address}{path} does not answer")),
    }
}

/// Whether the server ended the handshake because we showed no certificate.
fn wants_certificate(error: &std::io::Error) -> bool {
    use rustls::{AlertDescription, Error};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    // TLS 1.2 has no alert of its own for this.
    let alerts = [AlertDescription::CertificateRequired, AlertDescription::HandshakeFailure];
    matches!(inner, Some(Error::AlertReceived(alert)) if alerts.contains(alert))
}

/// The status of the answer to a request without a body.
async fn status(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> std::io::Result<u16> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    // "HTTP/1.1 200"
    let mut line = [0; 12];
    stream.read_exact(&mut line).await?;
    let status =
        std::str::from_utf8(&line).ok().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.parse().ok());
    status.ok_or_else(|| std::io::Error::other("the answer is not HTTP/1.1"))
}

fn client() -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    // The peer is this machine, and it is told nothing.
    let verifier = Arc::new(AnyCertificate::new(&provider));
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}
