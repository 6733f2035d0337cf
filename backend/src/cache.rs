//! Redis as the service sees it: one shared connection, every answer within a limit, and a connection that broke or
//! hangs is replaced. (redis's own `ConnectionManager` keeps a connection that only times out.)

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, IntoConnectionInfo, Pipeline, RedisResult};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(1);
/// After a failed connect, everybody is refused at once for this long instead of queueing for the next one.
const PAUSE: Duration = Duration::from_millis(200);

/// Why Redis gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The URL is none.
    #[error("reading the redis URL: {0}")]
    Url(String),
    /// Redis is away, too slow, or refuses.
    #[error("redis unavailable for {what}: {reason}")]
    Unavailable {
        /// What was being done.
        what: &'static str,
        /// What went wrong.
        reason: String,
    },
}

/// The shared connection. Clones share it.
#[derive(Clone)]
pub struct Cache(Arc<Shared>);

struct Shared {
    client: Client,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    connection: Option<MultiplexedConnection>,
    /// Tells a connection from its successors, so that late failures discard only their own.
    generation: u64,
    failed: Option<(Instant, String)>,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client's own text holds the password.
        f.write_str("Cache(..)")
    }
}

impl Cache {
    /// Connects when first used.
    ///
    /// # Errors
    /// If `url` is not a Redis URL.
    pub fn new(url: &str) -> Result<Cache, CacheError> {
        let refuse = |error: redis::RedisError| CacheError::Url(error.to_string());
        let info = url.into_connection_info().map_err(refuse)?;
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = Client::open(info).map_err(refuse)?;
        Ok(Cache(Arc::new(Shared { client, slot: Mutex::default() })))
    }

    /// Runs commands and reads their replies. They must bear being repeated: when the connection turns out to be
    /// broken, as after a restart of the server, they are sent once more on a new one.
    ///
    /// # Errors
    /// [`CacheError::Unavailable`], within some 3 s.
    pub async fn run<T: FromRedisValue>(
        &self,
        what: &'static str,
        commands: &Pipeline,
    ) -> Result<T, CacheError> {
        let mut repeated = false;
        loop {
            let (mut connection, generation) = self.connection(what).await?;
            let reason = match timeout(ANSWER, commands.query_async(&mut connection)).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(error)) if !error.is_io_error() && !error.is_unrecoverable_error() => {
                    return Err(CacheError::Unavailable { what, reason: error.to_string() });
                }
                Ok(Err(error)) if error.is_connection_dropped() && !repeated => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {ANSWER:?}")),
            };
            self.discard(generation).await;
            if let Some(reason) = reason {
                return Err(CacheError::Unavailable { what, reason });
            }
            repeated = true;
        }
    }

    /// Answers whether Redis answers.
    ///
    /// # Errors
    /// [`CacheError::Unavailable`] if it does not.
    pub async fn ping(&self) -> Result<(), CacheError> {
        let mut ping = redis::pipe();
        ping.cmd("PING").ignore();
        self.run("ping", &ping).await
    }

    async fn connection(&self, what: &'static str) -> Result<(MultiplexedConnection, u64), CacheError> {
        let mut slot = self.0.slot.lock().await;
        if let Some(connection) = &slot.connection {
            return Ok((connection.clone(), slot.generation));
        }
        if let Some((at, reason)) = &slot.failed
            && at.elapsed() < PAUSE
        {
            return Err(CacheError::Unavailable { what, reason: reason.clone() });
        }
        match self.0.connect().await {
            Ok(connection) => {
                slot.generation += 1;
                slot.connection = Some(connection.clone());
                slot.failed = None;
                Ok((connection, slot.generation))
            }
            Err(error) => {
                let reason = error.to_string();
                slot.failed = Some((Instant::now(), reason.clone()));
                Err(CacheError::Unavailable { what, reason })
            }
        }
    }

    async fn discard(&self, generation: u64) {
        let mut slot = self.0.slot.lock().await;
        if slot.generation == generation {
            slot.connection = None;
        }
    }
}

impl Shared {
    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        timeout(2 * CONNECT, connecting)
            .await
            .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    }
}
