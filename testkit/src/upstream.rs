//! An HTTP server that answers as the test says and remembers what it was sent: stands in for services of others.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet, time::Instant};

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answers with this status, these headers and this body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Takes the request and never answers.
    Hang,
    /// Takes the request and closes the connection.
    Close,
}

impl Reply {
    /// An answer without headers of its own.
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self::Answer(status, Vec::new(), body.into())
    }
}

/// A request that came in whole.
#[derive(Clone, Debug)]
pub struct Received {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Received {
    /// A header as text, if it is there.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).context("the body is not JSON")
    }
}

#[derive(Debug)]
struct State {
    next: VecDeque<Reply>,
    always: Reply,
    received: Vec<Received>,
}

/// A running server. Dropping it closes it and its connections.
#[derive(Debug)]
pub struct Upstream {
    url: String,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

impl Upstream {
    /// Listens on a free port of 127.0.0.1 and answers everything with `always`.
    ///
    /// # Errors
    /// When no socket can be opened.
    pub async fn start(always: Reply) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("opening a socket")?;
        let url = format!("http://{}", listener.local_addr().context("reading the socket's address")?);
        let state = Arc::new(Mutex::new(State { next: VecDeque::new(), always, received: Vec::new() }));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { url, state, _tasks: tasks })
    }

    /// `http://host:port`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Answers everything with this from now on.
    pub fn always(&self, reply: Reply) {
        lock(&self.state).always = reply;
    }

    /// Answers the next requests with these, one each.
    pub fn next(&self, replies: impl IntoIterator<Item = Reply>) {
        lock(&self.state).next.extend(replies);
    }

    /// Everything that came in so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.state).received.clone()
    }

    /// Waits until so many requests came in, and gives them.
    ///
    /// # Errors
    /// When they do not come within 30 s.
    pub async fn wait_for(&self, count: usize) -> Result<Vec<Received>> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let received = self.received();
            if received.len() >= count {
                return Ok(received);
            }
            if Instant::now() >= deadline {
                bail!("only {} of {count} requests came", received.len());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        let service = service_fn(move |request| answer(request, Arc::clone(&state)));
        connections.spawn(async move {
            // An error here is a client that left, or our own `Close`.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let path = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let reply = {
        let mut state = lock(&state);
        state.received.push(Received { method: parts.method, path, headers: parts.headers, body });
        state.next.pop_front().unwrap_or_else(|| state.always.clone())
    };
    match reply {
        Reply::Answer(status, headers, body) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(Full::new(body.into()))?)
        }
        Reply::Hang => {
            let never: Infallible = std::future::pending().await;
            match never {}
        }
        Reply::Close => Err("closed on purpose".into()),
    }
}
