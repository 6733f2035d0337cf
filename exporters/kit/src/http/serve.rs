//! The accept loop and one connection's life: limits, TLS, web configuration, graceful shutdown.

use std::convert::Infallible;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, info, warn};

use super::{Bound, Limits, ServeError};
use crate::telemetry::log::Throttle;
use crate::telemetry::traffic;
use crate::web_config::Live;

/// Pause after a failed accept: out of file descriptors, nothing else helps than connections that end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How often the same trouble is logged at most.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The client's address, put into the extensions of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// What every connection shares.
struct Shared {
    limits: Limits,
    web: Live,
    /// Ends keep-alive: running requests finish, nothing new starts.
    shutdown: CancellationToken,
    /// Ends everything: the drain's deadline has passed.
    kill: CancellationToken,
}

impl Bound {
    /// Serves until `shutdown`; then stops listening at once, lets running requests finish within
    /// `limits.drain`, and closes what is left.
    ///
    /// The service gets each request that the web configuration admits.
    ///
    /// # Errors
    /// None today: trouble with single connections is logged, the server goes on.
    pub async fn serve<S, B>(self, service: S, shutdown: CancellationToken) -> Result<(), ServeError>
    where
        S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Self { listeners, limits, web } = self;
        let drain = limits.drain;
        let slots = Arc::new(Semaphore::new(limits.max_connections));
        let kill = CancellationToken::new();
        let shared = Arc::new(Shared { limits, web, shutdown: shutdown.clone(), kill: kill.clone() });
        let connections = TaskTracker::new();

        let throttle = Throttle::new(LOG_INTERVAL);
        loop {
            let next = async { (free_slot(&slots, &throttle).await, accept(&listeners).await) };
            let (slot, accepted) = tokio::select! {
                next = next => next,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(handle(Arc::clone(&shared), service.clone(), stream, peer, slot));
                }
                // The client left while it waited in the backlog.
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    if let Some(suppressed) = throttle.check("accept") {
                        warn!(%error, suppressed, "cannot accept connections; raise the limit of open files if it is reached");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }

        drop(listeners);
        connections.close();
        if tokio::time::timeout(drain, connections.wait()).await.is_err() {
            info!(connections = connections.len(), "closing connections that did not finish in time");
            kill.cancel();
            connections.wait().await;
        }
        Ok(())
    }
}

/// Waits for a free place among the open connections; says so when none is free.
async fn free_slot(slots: &Arc<Semaphore>, throttle: &Throttle) -> Option<OwnedSemaphorePermit> {
    if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
        return Some(slot);
    }
    if let Some(suppressed) = throttle.check("full") {
        warn!(suppressed, "all connections are in use, new clients wait");
    }
    // The semaphore is never closed, so this is always Some.
    Arc::clone(slots).acquire_owned().await.ok()
}

/// The next connection of any listener.
async fn accept(listeners: &[TcpListener]) -> Result<(TcpStream, SocketAddr), Error> {
    std::future::poll_fn(|context| {
        for listener in listeners {
            let ready = listener.poll_accept(context);
            if ready.is_ready() {
                return ready;
            }
        }
        std::task::Poll::Pending
    })
    .await
}

async fn handle<S, B>(
    shared: Arc<Shared>,
    service: S,
    stream: TcpStream,
    peer: SocketAddr,
    slot: Option<OwnedSemaphorePermit>,
) where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let _slot = slot;
    // Both only make the connection better; a socket that refuses them still serves.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(shared.limits.stalled_write));

    let stream = traffic::counted(stream);

    let deadline = tokio::time::Instant::now() + shared.limits.first_request;
    let Some(tls) = shared.web.current().tls.clone() else {
        return converse(&shared, service, stream, peer, deadline).await;
    };
    let handshake = tokio_rustls::TlsAcceptor::from(tls).accept(stream);
    let stream = tokio::select! {
        result = tokio::time::timeout_at(deadline, handshake) => result,
        () = shared.shutdown.cancelled() => return,
    };
    match stream {
        Ok(Ok(stream)) => converse(&shared, service, stream, peer, deadline).await,
        Ok(Err(error)) => debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => debug!(%peer, "TLS handshake took too long"),
    }
}

/// Speaks HTTP/1.1 on one connection until it ends, idles too long, or the server shuts down.
async fn converse<S, B, T>(
    shared: &Arc<Shared>,
    service: S,
    io: T,
    peer: SocketAddr,
    deadline: tokio::time::Instant,
) where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let asked = &AtomicBool::new(false);
    // The closure owns the service: shared by reference it would have to be Sync.
    let service = service_fn(move |mut request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(PeerAddr(peer));
        respond(Arc::clone(shared), service.clone(), request)
    });
    // Not hyper-util's `auto`: it waits for ever for a client that sends nothing or half of the h2 preface.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.idle)
        .max_headers(shared.limits.max_headers)
        .max_header_size(shared.limits.max_header_bytes)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let mut first = pin!(tokio::time::sleep_until(deadline));
    let (mut waiting, mut draining) = (true, false);
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    debug!(%peer, %error, "connection ended early");
                }
                return;
            }
            // hyper's header timeout is the idle limit too, hence long; the first request has to come sooner.
            () = first.as_mut(), if waiting => {
                waiting = false;
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
            }
            () = shared.shutdown.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = shared.kill.cancelled() => return,
        }
    }
}

/// One request: admitted or refused by the web configuration, then the service; both get its headers.
async fn respond<S, B>(
    shared: Arc<Shared>,
    service: S,
    request: Request<Incoming>,
) -> Result<Response<Either<Full<Bytes>, B>>, Infallible>
where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
{
    let web = shared.web.current();
    let mut response = match web.admit(request.headers()).await {
        Ok(()) => service.oneshot(request).await?.map(Either::Right),
        Err(refusal) => refusal.map(Either::Left),
    };
    for (name, value) in &web.headers {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    Ok(response)
}
