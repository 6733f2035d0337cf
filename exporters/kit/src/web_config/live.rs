//! The settings in force: built once, rebuilt when a file changes, kept when the new ones are broken.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use tracing::{error, info};

use super::auth::Users;
use super::rate::Limiter;
use super::{Settings, WebConfigError, tls};
use crate::config;

/// One version of the settings, ready for use.
#[derive(Debug)]
pub struct Active {
    /// For each new connection; none for plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// For each response, errors included.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    users: Option<Users>,
    challenge: HeaderValue,
    limiter: Option<Limiter>,
}

impl Active {
    fn new(settings: &Settings) -> Result<Self, WebConfigError> {
        let challenge = settings.realm.as_ref().map_or_else(
            || Ok(HeaderValue::from_static("Basic")),
            |realm| HeaderValue::try_from(format!("Basic realm={:?}", realm.as_str())),
        );
        Ok(Self {
            tls: settings.tls_server_config.as_ref().map(tls::server_config).transpose()?,
            headers: settings.http_server_config.headers()?,
            users: Users::new(&settings.basic_auth_users, &settings.plain_users)?,
            challenge: challenge
                .map_err(|_| WebConfigError::Header("the realm has an unprintable character".to_owned()))?,
            limiter: settings.rate_limit.as_ref().and_then(Limiter::new),
        })
    }

    /// Lets a request through, or gives the answer that refuses it: 429 above the rate limit, 401 without
    /// a right login.
    ///
    /// # Errors
    /// The refusal.
    pub async fn admit(&self, headers: &HeaderMap) -> Result<(), Response<Full<Bytes>>> {
        if self.limiter.as_ref().is_some_and(|limiter| !limiter.allow()) {
            return Err(refusal(StatusCode::TOO_MANY_REQUESTS));
        }
        match &self.users {
            Some(users) if !users.admit(headers).await => {
                let mut response = refusal(StatusCode::UNAUTHORIZED);
                response.headers_mut().insert(WWW_AUTHENTICATE, self.challenge.clone());
                Err(response)
            }
            _ => Ok(()),
        }
    }

    /// bcrypt comparisons so far: equal for every refused login, whether or not the user exists.
    pub fn comparisons(&self) -> u64 {
        self.users.as_ref().map_or(0, Users::comparisons)
    }
}

fn refusal(status: StatusCode) -> Response<Full<Bytes>> {
    let text = format!("{}\n", status.canonical_reason().unwrap_or_default());
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The settings in force, and the watch over their files.
#[derive(Debug)]
pub struct Live {
    active: ArcSwap<Active>,
    source: Source,
    interval: Duration,
    watch: Mutex<Watch>,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Settings(Box<Settings>),
}

#[derive(Debug)]
struct Watch {
    checked: Instant,
    files: Vec<(PathBuf, Stamp)>,
}

/// What changes when a file does: also an equal-sized rename within one tick of the clock (inode).
type Stamp = Option<(SystemTime, u64, u64)>;

fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let metadata: Metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

impl Source {
    /// Reads and builds; the files are given also when that fails, so that their repair is seen.
    fn build(&self) -> (Result<Active, WebConfigError>, Vec<(PathBuf, Stamp)>) {
        let stamped = |files: Vec<PathBuf>| {
            files.into_iter().map(|file| (file.clone(), stamp(&file))).collect::<Vec<_>>()
        };
        match self {
            Self::Settings(settings) => {
                // Stamps first: a change while reading is then seen at the next check.
                let files = stamped(settings.files());
                (Active::new(settings), files)
            }
            Self::File(path) => {
                let mut files = stamped(vec![path.clone()]);
                match config::load_or_empty::<Settings>(path) {
                    Err(error) => (Err(error.into()), files),
                    Ok(mut settings) => {
                        settings.anchor(path);
                        files.extend(stamped(settings.files()));
                        let inside = |cause| WebConfigError::In {
                            path: path.display().to_string(),
                            cause: Box::new(cause),
                        };
                        (Active::new(&settings).map_err(inside), files)
                    }
                }
            }
        }
    }
}

impl Live {
    /// Builds the settings of the file or of the flags; plain open HTTP when there are neither.
    /// `interval` is how often files are checked at most.
    ///
    /// # Errors
    /// [`WebConfigError`] for unusable settings, or when both are given.
    pub fn new(
        file: Option<&Path>,
        settings: Option<&Settings>,
        interval: Duration,
    ) -> Result<Self, WebConfigError> {
        let source = match (file, settings) {
            (Some(_), Some(_)) => {
                return Err(WebConfigError::Conflict(
                    "TLS and users come from the file or from flags, not from both; drop one".to_owned(),
                ));
            }
            (Some(file), None) => Source::File(file.to_owned()),
            (None, settings) => Source::Settings(Box::new(settings.cloned().unwrap_or_default())),
        };
        let (built, files) = source.build();
        Ok(Self {
            active: ArcSwap::from_pointee(built?),
            source,
            interval,
            watch: Mutex::new(Watch { checked: Instant::now(), files }),
        })
    }

    /// The settings in force, reread first if a file changed. New TLS settings count for new connections,
    /// the rest for new requests; while the new files are broken the old settings stay.
    pub fn current(&self) -> Arc<Active> {
        self.refresh();
        self.active.load_full()
    }

    fn refresh(&self) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if watch.files.is_empty() || watch.checked.elapsed() < self.interval {
            return;
        }
        watch.checked = Instant::now();
        let stamps: Vec<_> = watch.files.iter().map(|(path, _)| (path.clone(), stamp(path))).collect();
        if stamps == watch.files {
            return;
        }
        let (built, files) = self.source.build();
        match built {
            Ok(active) => {
                watch.files = files;
                self.active.store(Arc::new(active));
                info!("web configuration reloaded");
            }
            Err(error) => {
                // Keep watching the certificates too: one of them may be what gets repaired.
                watch.files = stamps;
                for (path, known) in files {
                    if !watch.files.iter().any(|(watched, _)| *watched == path) {
                        watch.files.push((path, known));
                    }
                }
                error!(%error, "web configuration not reloaded, the old one stays");
            }
        }
    }
}
