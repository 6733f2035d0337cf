//! Calls to other services over HTTP: a deadline over everything, few tries with growing pauses, a circuit breaker.

pub mod breaker;
pub mod resolver;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{sleep, timeout};

use self::breaker::Breaker;
use self::resolver::{Reach, Resolver};

/// Bytes of an answer that are read.
const ANSWER_LIMIT: usize = 1024 * 1024;
/// How long an unused connection is kept; below what servers commonly keep theirs.
const IDLE: Duration = Duration::from_secs(20);

/// How much patience a service deserves.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Tries of one call.
    pub tries: u32,
    /// How long one try may take.
    pub each: Duration,
    /// How long all tries of a call may take, with their pauses.
    pub all: Duration,
    /// Pause before the second try; doubled before each further one.
    pub pause: Duration,
    /// When the service is left alone.
    pub breaker: breaker::Limits,
}

/// A whole answer with a status of success.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Body.
    pub body: Bytes,
}

/// Why there is no answer that is of use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing whole in time.
    #[error("no whole answer in time")]
    Timeout,
    /// Not reached, or the connection broke.
    #[error("not reached: {0}")]
    Connection(String),
    /// 429.
    #[error("it limits our requests (429)")]
    RateLimited,
    /// 5xx.
    #[error("it failed with {0}")]
    ServerError(u16),
    /// Any other status that is no success.
    #[error("it refused with {0}")]
    Refused(u16),
    /// Answered something that cannot be used.
    #[error("unusable answer: {0}")]
    InvalidAnswer(String),
    /// Left alone after failures.
    #[error("left alone after repeated failures")]
    CircuitOpen,
}

impl CallError {
    /// Every value of the label `error_type`.
    pub const KINDS: [&'static str; 7] = [
        "timeout",
        "connection",
        "rate_limited",
        "server_error",
        "client_error",
        "invalid_answer",
        "circuit_open",
    ];

    /// The label `error_type`.
    pub const fn kind(&self) -> &'static str {
        match self {
            CallError::Timeout => "timeout",
            CallError::Connection(_) => "connection",
            CallError::RateLimited => "rate_limited",
            CallError::ServerError(_) => "server_error",
            CallError::Refused(_) => "client_error",
            CallError::InvalidAnswer(_) => "invalid_answer",
            CallError::CircuitOpen => "circuit_open",
        }
    }

    /// Whether the service is in trouble; a refusal is an answer.
    const fn is_trouble(&self) -> bool {
        matches!(self, CallError::Timeout | CallError::Connection(_) | CallError::ServerError(_))
    }
}

/// A pool of connections to `http` and `https`, trusting the system's certificates.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    reach: Reach,
}

impl Http {
    /// Connects to what is in `reach`.
    ///
    /// # Errors
    /// If the TLS library cannot be set up.
    pub fn new(reach: Reach) -> Result<Http, rustls::Error> {
        let mut connector = HttpConnector::new_with_resolver(Resolver(reach));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let mut builder = Client::builder(TokioExecutor::new());
        let client = builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).build(connector);
        Ok(Http { client, reach })
    }

    /// Sends `request` once, within `limit`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn once(&self, request: &Request<Bytes>, limit: Duration) -> Result<Answer, CallError> {
        let answer = timeout(limit, self.exchange(request)).await;
        answer.unwrap_or(Err((CallError::Timeout, None))).map_err(|(error, _)| error)
    }

    /// One try; on failure with the pause that the service asks for.
    async fn exchange(&self, request: &Request<Bytes>) -> Result<Answer, (CallError, Option<Duration>)> {
        // The connector resolves names only.
        let literal =
            request.uri().host().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        if literal.is_some_and(|ip| !self.reach.allows(ip)) {
            return Err((CallError::Connection("an address that may not be reached".to_owned()), None));
        }
        let (parts, body) = request.clone().into_parts();
        let answer = self.client.request(Request::from_parts(parts, Full::new(body))).await;
        let (parts, body) =
            answer.map_err(|error| (CallError::Connection(chain(&error)), None))?.into_parts();
        let failure = match parts.status {
            StatusCode::TOO_MANY_REQUESTS => Some(CallError::RateLimited),
            status if status.is_server_error() => Some(CallError::ServerError(status.as_u16())),
            status if !status.is_success() => Some(CallError::Refused(status.as_u16())),
            _ => None,
        };
        if let Some(error) = failure {
            return Err((error, retry_after(&parts.headers)));
        }
        let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(|error| {
            let error = if error.is::<LengthLimitError>() {
                CallError::InvalidAnswer(format!("longer than {ANSWER_LIMIT} bytes"))
            } else {
                CallError::Connection(error.to_string())
            };
            (error, None)
        })?;
        Ok(Answer { status: parts.status, body: body.to_bytes() })
    }
}

fn tls() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// One service.
#[derive(Debug)]
pub struct Service {
    http: Http,
    patience: Patience,
    breaker: Breaker,
}

impl Service {
    /// Calls through `http`.
    pub fn new(http: Http, patience: Patience) -> Service {
        Service { http, patience, breaker: Breaker::new(patience.breaker) }
    }

    /// Sends `request`, again after trouble. The service must bear to get it more than once.
    ///
    /// # Errors
    /// See [`CallError`]: that of the last try.
    pub async fn call(&self, request: &Request<Bytes>) -> Result<Answer, CallError> {
        let deadline = Instant::now() + self.patience.all;
        let mut pause = self.patience.pause;
        let mut last = CallError::CircuitOpen;
        for left in (0..self.patience.tries).rev() {
            // Our own failures may have opened the circuit between two tries: what they were says more.
            let Some(pass) = self.breaker.enter(Instant::now()) else { return Err(last) };
            let limit = self.patience.each.min(deadline.saturating_duration_since(Instant::now()));
            let result = timeout(limit, self.http.exchange(request)).await;
            let (error, asked) = match result.unwrap_or_else(|_| Err((CallError::Timeout, None))) {
                Ok(answer) => {
                    pass.answered();
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            if error.is_trouble() {
                pass.failed(Instant::now());
            } else {
                pass.answered();
            }
            // Spread, so that those who failed together do not come back together.
            let wait = asked.unwrap_or_else(|| pause.mul_f64(0.5 + rand::random::<f64>()));
            let again = error.is_trouble() || error == CallError::RateLimited;
            // Compared, not added: a service may ask for more seconds than there are.
            if left == 0 || !again || wait >= deadline.saturating_duration_since(Instant::now()) {
                return Err(error);
            }
            sleep(wait).await;
            pause *= 2;
            last = error;
        }
        Err(last)
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// The whole chain of causes; hyper's own text is only "client error".
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
