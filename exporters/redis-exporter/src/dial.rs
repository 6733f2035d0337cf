//! Opens the connection to an address: names are resolved and TLS is negotiated; nothing is said yet.

use std::io;
use std::sync::Arc;

use exporter_kit::telemetry::traffic::{Counted, counted};
use futures_util::future::select_ok;
use redis::ConnectionAddr;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_rustls::TlsConnector;

use crate::address::Address;
use crate::error::{CommandError, Reason};
use crate::pipe::Pipe;

/// Connects; the caller limits how long that may take.
pub(crate) async fn connect(address: &Address) -> Result<Pipe, CommandError> {
    match address.place() {
        ConnectionAddr::Tcp(host, port) => Ok(Pipe::new(tcp(host, *port).await?)),
        ConnectionAddr::TcpTls { host, port, insecure, .. } => {
            let tls = address.tls_files();
            let config = tls.config(*insecure).map_err(|error| failure(Reason::Tls, error.to_string()))?;
            let name = tls.server_name.as_ref().unwrap_or(host).clone();
            encrypted(tcp(host, *port).await?, name, config).await
        }
        ConnectionAddr::Unix(path) => {
            let stream = UnixStream::connect(path).await;
            stream.map(Pipe::new).map_err(|error| CommandError::lost(&error))
        }
        _ => Err(failure(Reason::Protocol, format!("{address}: unknown kind of address"))),
    }
}

/// Of several addresses that a name has, the first that answers is taken.
async fn tcp(host: &str, port: u16) -> Result<Counted<TcpStream>, CommandError> {
    let found = lookup_host((host, port)).await.map_err(|error| failure(Reason::Dns, error.to_string()))?;
    let attempts: Vec<_> = found.map(|address| Box::pin(TcpStream::connect(address))).collect();
    if attempts.is_empty() {
        return Err(failure(Reason::Dns, format!("{host:?} has no address")));
    }
    let connected: io::Result<_> = async {
        let (stream, _) = select_ok(attempts).await?;
        // Else a batch waits until the one before is acknowledged.
        stream.set_nodelay(true)?;
        Ok(counted(stream))
    }
    .await;
    connected.map_err(|error| CommandError::lost(&error))
}

/// The server's certificate must hold this name.
async fn encrypted(
    stream: Counted<TcpStream>,
    name: String,
    config: ClientConfig,
) -> Result<Pipe, CommandError> {
    let name = ServerName::try_from(name).map_err(|error| failure(Reason::Tls, error.to_string()))?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    stream.map(Pipe::new).map_err(|error| CommandError::lost(&error))
}

fn failure(reason: Reason, text: String) -> CommandError {
    CommandError { reason, text, lost: true }
}
