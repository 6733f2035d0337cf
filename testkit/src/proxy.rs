//! A TCP proxy between a client and a server that misbehaves on demand and counts what passes.
//!
//! It runs on a thread of its own, so that a busy test cannot slow it down and [`FaultProxy::set`] holds at once.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc as std_mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    time::Instant,
};

/// How the proxy treats connections. A new mode holds for open connections too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything passes.
    Pass,
    /// Everything passes later: a round trip takes this much longer, half of it in each direction.
    Delay(Duration),
    /// Connections are accepted, bytes of either side vanish. A connection that lost bytes stays dead afterwards.
    Hang,
    /// Connections are reset.
    Reset,
    /// Nothing listens: connections are refused, open ones closed.
    Refuse,
    /// A connection is closed after this many more bytes from the server.
    CutAfter(u64),
}

#[derive(Debug, Default)]
struct Counters {
    round_trips: AtomicU64,
    opened: AtomicU64,
    open: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
}

/// A running proxy. Dropping it closes its connections.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    counters: Arc<Counters>,
    orders: mpsc::UnboundedSender<(Mode, std_mpsc::Sender<()>)>,
}

impl FaultProxy {
    /// Listens on a free port of 127.0.0.1 and passes everything on to `upstream`.
    ///
    /// # Errors
    /// When no socket can be opened.
    pub fn start(upstream: SocketAddr) -> Result<Self> {
        let counters = Arc::new(Counters::default());
        let (orders, received) = mpsc::unbounded_channel();
        let (ready, addr) = std_mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the fault proxy's runtime")?;
        let shared = Arc::clone(&counters);
        thread::spawn(move || {
            runtime.block_on(async {
                match listen(SocketAddr::from(([127, 0, 0, 1], 0))) {
                    Ok((listener, addr)) => {
                        let _ = ready.send(Ok(addr));
                        accept(listener, addr, upstream, shared, received).await;
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        });
        let addr = addr.recv().context("the fault proxy's thread ended")??;
        Ok(Self { addr, counters, orders })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port of 127.0.0.1 where clients connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Changes the mode; it holds when this returns.
    pub fn set(&self, mode: Mode) {
        let (done, wait) = std_mpsc::channel();
        // The proxy's thread lives until `orders` is dropped with us.
        if self.orders.send((mode, done)).is_ok() {
            let _ = wait.recv();
        }
    }

    /// Round trips so far: a burst of the client that opens a connection or follows bytes of the server is one.
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        self.counters.round_trips.load(SeqCst)
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections_opened(&self) -> u64 {
        self.counters.opened.load(SeqCst)
    }

    /// Connections that are open now.
    #[must_use]
    pub fn connections_open(&self) -> u64 {
        self.counters.open.load(SeqCst)
    }

    /// Bytes received from clients so far.
    #[must_use]
    pub fn bytes_to_server(&self) -> u64 {
        self.counters.to_server.load(SeqCst)
    }

    /// Bytes received from the server so far.
    #[must_use]
    pub fn bytes_to_client(&self) -> u64 {
        self.counters.to_client.load(SeqCst)
    }
}

/// The mode and how often it was set: setting the same mode again starts it anew.
#[derive(Clone, Copy, Debug)]
struct Order {
    mode: Mode,
    number: u64,
}

fn bind(addr: SocketAddr) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4().context("opening the fault proxy's socket")?;
    socket.set_reuseaddr(true).context("setting SO_REUSEADDR")?;
    socket.bind(addr).with_context(|| format!("binding the fault proxy to {addr}"))?;
    Ok(socket)
}

fn listen(addr: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let listener = bind(addr)?.listen(1024).context("listening")?;
    let addr = listener.local_addr().context("asking for the fault proxy's port")?;
    Ok((listener, addr))
}

async fn accept(
    listener: TcpListener,
    addr: SocketAddr,
    upstream: SocketAddr,
    counters: Arc<Counters>,
    mut orders: mpsc::UnboundedReceiver<(Mode, std_mpsc::Sender<()>)>,
) {
    let (mode, watched) = watch::channel(Order { mode: Mode::Pass, number: 0 });
    let mut listener = Some(listener);
    // While refusing, a bound socket that does not listen keeps the port ours.
    let mut reserved = None;
    loop {
        let incoming = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            order = orders.recv() => {
                // All guards are gone; dropping the runtime closes the connections.
                let Some((new, done)) = order else { return };
                if new == Mode::Refuse {
                    listener = None;
                    reserved = bind(addr).ok();
                } else if listener.is_none() {
                    let socket = match reserved.take() {
                        Some(socket) => Ok(socket),
                        None => bind(addr),
                    };
                    listener = socket.ok().and_then(|socket| socket.listen(1024).ok());
                }
                mode.send_modify(|order| *order = Order { mode: new, number: order.number + 1 });
                // Connections act on it when they run next, which is before this task runs again.
                tokio::task::yield_now().await;
                let _ = done.send(());
            }
            accepted = incoming => {
                let Ok((client, _)) = accepted else { continue };
                counters.opened.fetch_add(1, SeqCst);
                counters.open.fetch_add(1, SeqCst);
                let (counters, watched) = (Arc::clone(&counters), watched.clone());
                tokio::spawn(async move {
                    connection(client, upstream, &counters, watched).await;
                    counters.open.fetch_sub(1, SeqCst);
                });
            }
        }
    }
}

/// How a connection comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Reset,
}

/// Serves one client until either side closes or the mode ends it.
async fn connection(
    mut client: TcpStream,
    upstream: SocketAddr,
    counters: &Counters,
    mut orders: watch::Receiver<Order>,
) {
    let mode = orders.borrow_and_update().mode;
    let end = match mode {
        Mode::Reset => End::Reset,
        Mode::Refuse => End::Close,
        Mode::Hang => tokio::select! {
            () = swallow(&mut client) => End::Close,
            end = ordered_end(orders) => end,
        },
        Mode::Pass | Mode::Delay(_) | Mode::CutAfter(_) => match TcpStream::connect(upstream).await {
            Ok(server) => relay(&mut client, server, counters, orders).await,
            // Too late to refuse.
            Err(_) => End::Reset,
        },
    };
    if end == End::Reset {
        let _ = client.set_zero_linger();
    }
}

/// Reads and forgets until the client closes.
async fn swallow(client: &mut TcpStream) {
    let mut bytes = [0; 4096];
    while matches!(client.read(&mut bytes).await, Ok(1..)) {}
}

/// Waits for a mode that ends open connections.
async fn ordered_end(mut orders: watch::Receiver<Order>) -> End {
    loop {
        if orders.changed().await.is_err() {
            return End::Close;
        }
        match orders.borrow_and_update().mode {
            Mode::Reset => return End::Reset,
            Mode::Refuse => return End::Close,
            Mode::Pass | Mode::Delay(_) | Mode::Hang | Mode::CutAfter(_) => {}
        }
    }
}

async fn relay(
    client: &mut TcpStream,
    mut server: TcpStream,
    counters: &Counters,
    orders: watch::Receiver<Order>,
) -> End {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let state = State { counters, orders: orders.clone(), server_spoke: true.into(), dead: false.into() };
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    // A client that closed is gone, and a server that closed has nothing more to say: no half-open connections.
    tokio::select! {
        () = state.copy(From::Client, from_client, to_server) => End::Close,
        () = state.copy(From::Server, from_server, to_client) => End::Close,
        end = ordered_end(orders) => end,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Client,
    Server,
}

/// What both directions of a connection share.
struct State<'a> {
    counters: &'a Counters,
    orders: watch::Receiver<Order>,
    server_spoke: AtomicBool,
    /// Bytes were lost: what comes later would be out of step.
    dead: AtomicBool,
}

impl State<'_> {
    /// Copies one direction until its end of stream, or until it is cut.
    async fn copy(&self, from: From, reader: ReadHalf<'_>, writer: WriteHalf<'_>) {
        let (queue, chunks) = mpsc::unbounded_channel();
        // The writer ends when the reader has dropped the queue and everything in it is written.
        tokio::join!(self.read(from, reader, queue), write(writer, chunks));
    }

    async fn read(
        &self,
        from: From,
        mut reader: ReadHalf<'_>,
        queue: mpsc::UnboundedSender<(Instant, Bytes)>,
    ) {
        let mut cut = None;
        loop {
            let mut bytes = BytesMut::with_capacity(64 * 1024);
            if !matches!(reader.read_buf(&mut bytes).await, Ok(1..)) {
                return;
            }
            self.count(from, bytes.len());
            let order = *self.orders.borrow();
            let delay = match order.mode {
                Mode::Delay(round_trip) => round_trip / 2,
                Mode::Hang => {
                    self.dead.store(true, SeqCst);
                    Duration::ZERO
                }
                _ => Duration::ZERO,
            };
            if self.dead.load(SeqCst) {
                continue;
            }
            if let (Mode::CutAfter(allowed), From::Server) = (order.mode, from) {
                let left = match cut {
                    Some((number, left)) if number == order.number => left,
                    _ => allowed,
                };
                let length = bytes.len() as u64;
                if length >= left {
                    bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                    let _ = queue.send((Instant::now(), bytes.freeze()));
                    return;
                }
                cut = Some((order.number, left - length));
            }
            if queue.send((Instant::now() + delay, bytes.freeze())).is_err() {
                return;
            }
        }
    }

    fn count(&self, from: From, bytes: usize) {
        let counters = self.counters;
        match from {
            From::Client => {
                counters.to_server.fetch_add(bytes as u64, SeqCst);
                if self.server_spoke.swap(false, SeqCst) {
                    counters.round_trips.fetch_add(1, SeqCst);
                }
            }
            From::Server => {
                counters.to_client.fetch_add(bytes as u64, SeqCst);
                self.server_spoke.store(true, SeqCst);
            }
        }
    }
}

/// Writes each chunk when it is due.
async fn write(mut writer: WriteHalf<'_>, mut chunks: mpsc::UnboundedReceiver<(Instant, Bytes)>) {
    while let Some((due, bytes)) = chunks.recv().await {
        tokio::time::sleep_until(due).await;
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
