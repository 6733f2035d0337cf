//! A small HTTP/1.1 client for tests: one connection a request, a deadline over everything; and a kept connection for
//! measuring.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method, Request as HttpRequest, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A request being put together; only `http://` addresses.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    url: String,
    headers: Vec<(String, String)>,
    body: Bytes,
    pause: Duration,
    timeout: Duration,
}

/// Pieces in which a slow body is sent.
const PIECES: usize = 10;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body as it came, still compressed if it was.
    pub body: Bytes,
    /// Body as text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

impl Response {
    /// A header as text, if it is there.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not JSON: shows the body.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.text)
            .with_context(|| format!("not JSON (status {}): {}", self.status, self.text))
    }
}

/// `GET url`, within 10 s.
///
/// # Errors
/// As [`Request::send`].
pub async fn get(url: &str) -> Result<Response> {
    Request::new(Method::GET, url).send().await
}

/// `POST url` with a JSON body, within 10 s.
///
/// # Errors
/// As [`Request::send`].
pub async fn post(url: &str, body: &serde_json::Value) -> Result<Response> {
    Request::new(Method::POST, url).json(body).send().await
}

impl Request {
    /// A request without headers of its own and without a body.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            pause: Duration::ZERO,
            timeout: Duration::from_secs(10),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sends these bytes.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends JSON.
    #[must_use]
    pub fn json(self, body: &serde_json::Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Sends the body piece by piece in so much time, as a client on a bad line does.
    #[must_use]
    pub fn slowly(mut self, time: Duration) -> Self {
        self.pause = time / PIECES as u32;
        self
    }

    /// How long everything may take: connecting, sending, the whole answer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends it and reads the whole answer.
    ///
    /// # Errors
    /// When it cannot be sent or the answer is not whole in time. A status of 4xx or 5xx is no error.
    pub async fn send(self) -> Result<Response> {
        let (what, timeout) = (format!("{} {}", self.method, self.url), self.timeout);
        match tokio::time::timeout(timeout, self.exchange()).await {
            Ok(result) => result.with_context(|| what),
            Err(_) => Err(anyhow!("{what}: no whole answer within {timeout:?}")),
        }
    }

    async fn exchange(self) -> Result<Response> {
        let uri: Uri = self.url.parse().context("not a URL")?;
        if uri.scheme_str() != Some("http") {
            bail!("only http:// is spoken here");
        }
        let authority = uri.authority().context("no host in the URL")?.clone();
        let stream = TcpStream::connect((
            authority.host().trim_matches(['[', ']']),
            authority.port_u16().unwrap_or(80),
        ))
        .await
        .context("connecting")?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.context("starting HTTP")?;
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut request =
            HttpRequest::builder().method(self.method).uri(path).header(header::HOST, authority.as_str());
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let body = if self.pause.is_zero() {
            Full::new(self.body).boxed_unsync()
        } else {
            request = request.header(header::CONTENT_LENGTH, self.body.len());
            pieces(self.body, self.pause).boxed_unsync()
        };
        let request = request.body(body).context("building the request")?;
        let exchange = async {
            let response = sender.send_request(request).await.context("sending the request")?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.context("reading the body")?.to_bytes();
            anyhow::Ok((parts, body))
        };
        tokio::pin!(exchange, connection);
        // Driven here and not in a task: giving up on the request closes the connection.
        let (parts, body) = tokio::select! {
            answer = &mut exchange => answer?,
            ended = &mut connection => {
                ended.context("the connection failed")?;
                exchange.await?
            }
        };
        let text = String::from_utf8_lossy(&body).into_owned();
        Ok(Response { status: parts.status, headers: parts.headers, body, text })
    }
}

/// A body that comes in pieces, with a pause before each.
fn pieces(mut body: Bytes, pause: Duration) -> impl Body<Data = Bytes, Error = Infallible> + Send {
    let size = body.len().div_ceil(PIECES).max(1);
    let mut pieces = Vec::new();
    while !body.is_empty() {
        pieces.push(body.split_to(size.min(body.len())));
    }
    StreamBody::new(stream::iter(pieces).then(move |piece| async move {
        tokio::time::sleep(pause).await;
        Ok(Frame::data(piece))
    }))
}

/// A connection that is kept for many requests.
#[derive(Debug)]
pub struct Kept {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Kept {
    /// Connects.
    ///
    /// # Errors
    /// When nothing listens there.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.context("starting HTTP")?;
        // Ends when the sender is dropped or the server closes; then the next request fails.
        tokio::spawn(connection);
        Ok(Self { sender, host: address.to_string() })
    }

    /// `GET path`: the status and the whole body.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn get(&mut self, path: &str) -> Result<(StatusCode, Bytes)> {
        let request = HttpRequest::builder().uri(path).header(header::HOST, &self.host);
        let request = request.body(Full::default()).context("building the request")?;
        let exchange = async {
            self.sender.ready().await.context("the connection was closed")?;
            let response = self.sender.send_request(request).await.context("sending the request")?;
            let status = response.status();
            anyhow::Ok((status, response.into_body().collect().await.context("reading the body")?.to_bytes()))
        };
        exchange.await.with_context(|| format!("GET http://{}{path}", self.host))
    }
}
