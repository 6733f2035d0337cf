//! The scrape engine: one pass over a target, whatever happens to the target and however many ask.
//!
//! * The deadline covers everything: opening the session, every reply. What came by then is served.
//! * Concurrent scrapes of one selection share one pass; passes over one target never overlap.
//! * Of large pages few live at once, as long as clients read them: a pass waits for those being sent, but not long.
//! * A pass runs in a task of its own: a client that goes away ends nothing and leaks nothing.
//! * A collector that fails, hangs or panics costs its own samples only.

use std::collections::{BTreeSet, HashMap};
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use exposition::{Layout, Snapshot, Template};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::collector::{CollectError, Collector, Outcome};
use crate::page::Page;
use crate::telemetry::log::Throttle;

/// How often the same failure is logged at most.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// How many large pages of a target there may be, one that is being made included, before the next pass waits.
const LARGE_PAGES: usize = 2;
/// The part of its time that a pass waits for a large page to be sent.
const WAIT: u32 = 4;

/// A target: how to open a session on it, and what to say about it.
pub trait Source: Send + Sync + 'static {
    /// What collectors read from, for the length of one pass.
    type Session: Send + Sync;

    /// The collectors that are switched on.
    fn collectors(&self) -> &[Box<dyn Collector<Self::Session>>];

    /// Opens the session of a pass: a kept connection, or a new one. The engine gives up at the deadline.
    fn open(&self, deadline: Instant) -> BoxFuture<'_, Result<Self::Session, CollectError>>;

    /// Takes the session back, and adds what is to be said of the pass: `up`, and each collector's outcome. The page is
    /// sealed; what is added must have names of its own. Must not wait for the target.
    fn finish(&self, pass: Pass<Self::Session>, page: &mut Snapshot);
}

/// What makes the pages of a path: a scraper of one target, or of several at once.
pub trait Pages: Send + Sync + 'static {
    /// Names of the collectors that are switched on.
    fn enabled(&self) -> Vec<&'static str>;

    /// A page, by the deadline.
    fn page(self: Arc<Self>, selection: Selection, deadline: Instant) -> BoxFuture<'static, Arc<Page>>;
}

impl<S: Source> Pages for Scraper<S> {
    fn enabled(&self) -> Vec<&'static str> {
        Scraper::enabled(self)
    }

    fn page(self: Arc<Self>, selection: Selection, deadline: Instant) -> BoxFuture<'static, Arc<Page>> {
        async move { self.scrape(selection, deadline).await }.boxed()
    }
}

/// What a pass came to.
pub struct Pass<S> {
    /// The session, or why there was none.
    pub session: Result<S, CollectError>,
    /// Every collector that was selected.
    pub collectors: Vec<Ran>,
    /// From the beginning of the pass to the end of its last collector.
    pub duration: Duration,
    /// Whether the pass was a full one: no filter was in the request.
    pub complete: bool,
}

/// How one collector ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Name of the collector.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// The text behind an outcome that is not `ok`.
    pub message: Option<String>,
    /// How long it took.
    pub duration: Duration,
}

/// Which of the collectors that are switched on a request wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selection(Option<BTreeSet<&'static str>>);

/// A filter that names what is not there.
#[derive(Debug, thiserror::Error)]
pub enum SelectionError {
    /// Both kinds of filter in one request.
    #[error("collect[] and exclude[] cannot be combined")]
    Combined,
    /// Not a collector, or one that is switched off.
    #[error("collector {0:?} is unknown or switched off")]
    Unknown(String),
}

impl Selection {
    /// Every collector that is switched on.
    pub const ALL: Selection = Selection(None);

    /// From the `collect[]` and `exclude[]` parameters of a request.
    pub fn from_filters(
        collect: &[String],
        exclude: &[String],
        enabled: &[&'static str],
    ) -> Result<Selection, SelectionError> {
        let find = |name: &String| {
            let known = enabled.iter().find(|known| *known == name).copied();
            known.ok_or_else(|| SelectionError::Unknown(name.clone()))
        };
        match (collect, exclude) {
            ([], []) => Ok(Selection::ALL),
            (names, []) => {
                names.iter().map(find).collect::<Result<_, _>>().map(|names| Selection(Some(names)))
            }
            ([], names) => {
                let excluded = names.iter().map(find).collect::<Result<BTreeSet<_>, _>>()?;
                let rest = enabled.iter().copied().filter(|name| !excluded.contains(name));
                Ok(Selection(Some(rest.collect())))
            }
            _ => Err(SelectionError::Combined),
        }
    }

    /// Whether a collector is wanted.
    pub fn contains(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|names| names.contains(name))
    }
}

/// The deadline of a request: the exporter's own timeout, or what Prometheus says it waits less what it takes to
/// encode and send, whichever is earlier.
///
/// `header` is the value of `X-Prometheus-Scrape-Timeout-Seconds`.
pub fn deadline(own: Duration, header: Option<&str>) -> Instant {
    let theirs = header
        .and_then(|text| text.parse::<f64>().ok())
        .filter(|seconds| seconds.is_finite() && *seconds > 0.0)
        .map(|seconds| Duration::from_secs_f64((seconds - (seconds * 0.1).min(0.5)).min(3600.0)));
    Instant::now() + theirs.map_or(own, |theirs| theirs.min(own))
}

/// A pass that runs.
#[derive(Clone)]
struct Flight {
    page: Shared<BoxFuture<'static, Arc<Page>>>,
    deadline: Instant,
}

/// What the next page has in common with the last one.
#[derive(Default)]
struct Known {
    /// The layout of what collectors returned.
    collected: Arc<Layout>,
    /// What was said of the pass.
    added: Template,
    /// The layout of everything.
    whole: Arc<Layout>,
}

type Decorate = Box<dyn Fn(&mut Snapshot) + Send + Sync>;

/// Runs passes over one target.
pub struct Scraper<S: Source> {
    source: S,
    decorate: Decorate,
    max_series: Option<usize>,
    flights: Mutex<HashMap<Selection, Flight>>,
    /// Held by the pass that runs.
    gate: tokio::sync::Mutex<Known>,
    /// A page lives until its slowest reader has it. Without a bound, many that ask again and again would each read another.
    places: Arc<Semaphore>,
    throttle: Throttle,
}

impl<S: Source> Scraper<S> {
    /// A scraper. `decorate` adds what is not the target's to a full page: the exporter's own metrics.
    pub fn new(source: S, decorate: impl Fn(&mut Snapshot) + Send + Sync + 'static) -> Arc<Scraper<S>> {
        Scraper::with_max_series(source, decorate, None)
    }

    /// A scraper that drops what a collector returned when it is more than `max_series`.
    pub fn with_max_series(
        source: S,
        decorate: impl Fn(&mut Snapshot) + Send + Sync + 'static,
        max_series: Option<usize>,
    ) -> Arc<Scraper<S>> {
        Arc::new(Scraper {
            source,
            decorate: Box::new(decorate),
            max_series,
            flights: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
            places: Arc::new(Semaphore::new(LARGE_PAGES)),
            throttle: Throttle::new(LOG_INTERVAL),
        })
    }

    /// The target.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Names of the collectors that are switched on.
    pub fn enabled(&self) -> Vec<&'static str> {
        self.source.collectors().iter().map(|collector| collector.spec().name).collect()
    }

    /// Number of passes that run or are being waited for.
    pub fn in_flight(&self) -> usize {
        self.flights().len()
    }

    /// Scrapes: joins the pass that is running for this selection, or starts one. Always returns by the deadline, with
    /// a page that says what is missing.
    pub async fn scrape(self: &Arc<Self>, selection: Selection, deadline: Instant) -> Arc<Page> {
        let flight = self.join(&selection, deadline);
        // A pass that ends no later than this request is worth waiting for to the last sample: it keeps its deadline.
        if flight.deadline <= deadline {
            return flight.page.await;
        }
        timeout_at(deadline, flight.page).await.unwrap_or_else(|_| self.late(&selection))
    }

    fn join(self: &Arc<Self>, selection: &Selection, deadline: Instant) -> Flight {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(selection) {
            return flight.clone();
        }
        let scraper = Arc::clone(self);
        let of_task = selection.clone();
        let task = tokio::spawn(async move {
            let landing = Landing { scraper: &scraper, selection: &of_task };
            let page = Arc::new(scraper.pass(&of_task, deadline).await);
            drop(landing);
            page
        });
        let scraper = Arc::clone(self);
        let of_flight = selection.clone();
        let page = async move {
            match task.await {
                Ok(page) => page,
                // `finish` or `decorate` panicked: the page can only say that.
                Err(error) => {
                    tracing::error!(%error, "the scrape task ended early");
                    scraper.late(&of_flight)
                }
            }
        };
        let flight = Flight { page: page.boxed().shared(), deadline };
        flights.insert(selection.clone(), flight.clone());
        flight
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Selection, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass(&self, selection: &Selection, deadline: Instant) -> Page {
        let started = Instant::now();
        // Readers that stall must not cost others their page: it is made without a place then.
        let patience = started + deadline.saturating_duration_since(started) / WAIT;
        let place = timeout_at(patience, Arc::clone(&self.places).acquire_owned()).await;
        let mut gate = timeout_at(deadline, self.gate.lock()).await;
        let session = match &gate {
            Ok(_) => timeout_at(deadline, self.source.open(deadline)).await.unwrap_or_else(|_| {
                Err(CollectError::new(Outcome::Timeout, "the server did not let us in before the deadline"))
            }),
            Err(_) => Err(CollectError::new(Outcome::Timeout, "another scrape used up the time of this one")),
        };
        let selected =
            self.source.collectors().iter().filter(|collector| selection.contains(collector.spec().name));
        let (mut page, collectors) = match &session {
            Ok(session) => {
                let collectors = selected.map(|collector| &**collector);
                run(collectors, session, deadline, self.max_series).await
            }
            Err(error) => {
                let collectors = selected.map(|collector| not_run(collector.spec().name, error));
                (Snapshot::new(), collectors.collect())
            }
        };
        let mut unknown = Known::default();
        let known = gate.as_deref_mut().unwrap_or(&mut unknown);
        page.seal_like(&mut known.collected);
        self.log_failures(&session, &collectors);
        let complete = *selection == Selection::ALL;
        page.follow(std::mem::take(&mut known.added));
        self.source.finish(Pass { session, collectors, duration: started.elapsed(), complete }, &mut page);
        (self.decorate)(&mut page);
        known.added = page.template();
        page.arrange(&mut known.whole);
        Page::with_place(page, place.ok().and_then(Result::ok))
    }

    /// Says once in a while what is wrong; the metrics say how often.
    fn log_failures(&self, session: &Result<S::Session, CollectError>, collectors: &[Ran]) {
        if let Err(error) = session
            && let Some(suppressed) = self.throttle.check("open")
        {
            tracing::warn!(outcome = error.outcome.as_str(), error = error.message, suppressed, "no session");
        }
        for ran in collectors {
            let Some(message) = ran.message.as_ref().filter(|_| ran.outcome.is_failure()) else { continue };
            if let Some(suppressed) = self.throttle.check(ran.name) {
                let (collector, outcome) = (ran.name, ran.outcome.as_str());
                tracing::warn!(collector, outcome, error = message, suppressed, "collector failed");
            }
        }
    }

    /// The page of a request whose deadline came before the pass it waited for was over.
    fn late(&self, selection: &Selection) -> Arc<Page> {
        let error =
            CollectError::new(Outcome::Timeout, "the scrape that was running took too long for this one");
        let selected = self.source.collectors().iter().map(|collector| collector.spec().name);
        let collectors =
            selected.filter(|name| selection.contains(name)).map(|name| not_run(name, &error)).collect();
        let mut page = Snapshot::new();
        let pass = Pass { session: Err(error), collectors, duration: Duration::ZERO, complete: false };
        self.source.finish(pass, &mut page);
        (self.decorate)(&mut page);
        Arc::new(Page::new(page))
    }
}

/// Takes a flight off the list when its task ends, also by a panic.
struct Landing<'a, S: Source> {
    scraper: &'a Scraper<S>,
    selection: &'a Selection,
}

impl<S: Source> Drop for Landing<'_, S> {
    fn drop(&mut self) {
        self.scraper.flights().remove(self.selection);
    }
}

/// Runs collectors at once, until the deadline. What they found is put together in their order.
async fn run<'a, S: 'a>(
    collectors: impl Iterator<Item = &'a dyn Collector<S>>,
    session: &'a S,
    deadline: Instant,
    max_series: Option<usize>,
) -> (Snapshot, Vec<Ran>) {
    let started = Instant::now();
    let start = |collector: &'a dyn Collector<S>| {
        (collector.spec().name, AssertUnwindSafe(collector.collect(session)).catch_unwind(), None)
    };
    let mut running: Vec<_> = collectors.map(start).collect();
    // Nearly all wait for the same reply: to look at each costs less than to keep apart who was woken.
    let all = poll_fn(|context| {
        let mut waiting = false;
        for (name, collecting, ended) in running.iter_mut().filter(|(_, _, ended)| ended.is_none()) {
            match collecting.poll_unpin(context) {
                Poll::Ready(result) => {
                    let result = result.unwrap_or_else(|panic| Err(panicked(&*panic)));
                    *ended = Some(ran(name, result, started.elapsed(), max_series));
                }
                Poll::Pending => waiting = true,
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    });
    // An error means that some are late.
    let _ = timeout_at(deadline, all).await;
    let late = |name| {
        let error = CollectError::new(Outcome::Timeout, "no reply before the deadline");
        ran(name, Err(error), started.elapsed(), max_series)
    };
    let (mut page, mut collectors) = (Snapshot::new(), Vec::with_capacity(running.len()));
    for (name, _, ended) in running {
        let (found, ran) = ended.unwrap_or_else(|| late(name));
        page.append(found);
        collectors.push(ran);
    }
    (page, collectors)
}

/// How a collector ended.
fn ran(
    name: &'static str,
    result: Result<Snapshot, CollectError>,
    duration: Duration,
    max_series: Option<usize>,
) -> (Snapshot, Ran) {
    let result = result.and_then(|snapshot| match max_series {
        Some(max) if snapshot.len() > max => {
            let message = format!("{} series, more than --max-series={max}", snapshot.len());
            Err(CollectError::new(Outcome::Error, message))
        }
        _ => Ok(snapshot),
    });
    match result {
        Ok(snapshot) => (snapshot, Ran { name, outcome: Outcome::Ok, message: None, duration }),
        Err(CollectError { outcome, message }) => {
            (Snapshot::new(), Ran { name, outcome, message: Some(message), duration })
        }
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> CollectError {
    CollectError::new(Outcome::Error, format!("panicked: {}", panic_text(panic)))
}

fn not_run(name: &'static str, error: &CollectError) -> Ran {
    let outcome = if error.outcome == Outcome::Timeout { Outcome::Timeout } else { Outcome::Connection };
    Ran { name, outcome, message: None, duration: Duration::ZERO }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests;
