//! A server under test, and clients that speak HTTP/1.1 byte by byte.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use exporter_kit::http::{ListenAddress, ServeError, ServerConfig, bind};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Ends a test that hangs; nothing is asserted about how long anything takes.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .unwrap_or_else(|_| panic!("waited too long: {what}"))
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), ServeError>>,
}

/// Serves on a free port; the answer's body is what `answer` makes of the path.
pub(crate) async fn start<F, R>(mut config: ServerConfig, answer: F) -> Server
where
    F: Fn(String) -> R + Clone + Send + 'static,
    R: Future<Output = String> + Send + 'static,
{
    config.listen = vec!["127.0.0.1:0".parse::<ListenAddress>().unwrap()];
    let bound = bind(&config).await.unwrap();
    let address = bound.local_addrs()[0];
    let shutdown = CancellationToken::new();
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let answered = answer(request.uri().path().to_owned());
        async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(answered.await)))) }
    });
    let task = tokio::spawn(bound.serve(service, shutdown.clone()));
    Server { address, shutdown, task }
}

/// Serves each path as its own text.
pub(crate) async fn echo(config: ServerConfig) -> Server {
    start(config, |path| async move { path }).await
}

/// Sends a GET for `path` with more header lines, each ended by `\r\n`.
pub(crate) async fn send(stream: &mut (impl AsyncWrite + Unpin), path: &str, headers: &str) {
    let head = format!("GET {path} HTTP/1.1\r\nhost: test\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
}

/// One whole response: head and body as text; an error when the peer closed before its end.
pub(crate) async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Result<String, std::io::Error> {
    let mut bytes = Vec::new();
    let mut wanted = None;
    while wanted.is_none_or(|wanted| bytes.len() < wanted) {
        bytes.push(stream.read_u8().await?);
        if wanted.is_none() && bytes.ends_with(b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok())
                .unwrap_or(0);
            wanted = Some(bytes.len() + length);
        }
    }
    Ok(String::from_utf8(bytes).unwrap())
}

/// A GET and its response.
pub(crate) async fn get(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    path: &str,
    headers: &str,
) -> String {
    send(stream, path, headers).await;
    soon("a response", receive(stream)).await.unwrap()
}

/// Waits until the peer closes; what it sent before is given.
pub(crate) async fn closed(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is as good an end as a FIN.
    let _ = soon("the end of the connection", stream.read_to_end(&mut rest)).await;
    rest
}
