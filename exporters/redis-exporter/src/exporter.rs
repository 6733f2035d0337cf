//! The target as a source of the scrape engine, and what is said of each scrape: `redis_up`, the reason when it is
//! down, durations, and how each collector ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Outcome};
use exporter_kit::scrape::{Pass, Ran, Source};
use exporter_kit::telemetry::log::Throttle;
use exposition::{Column, Kind, Shape, Snapshot, SummaryColumns};
use tokio::time::Instant;

use crate::collectors::{self, ping};
use crate::connection::Target;
use crate::error::{Reason, ReplyError};
use crate::kept::Kept;
use crate::names;
use crate::options::Options;
use crate::sampler::Sampler;
use crate::session::Session;

/// How often the same loss is logged at most.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// One target and its collectors.
pub struct Exporter {
    /// `None` when there is no address: then only the exporter's own families are served.
    target: Option<Arc<Target>>,
    options: Arc<Options>,
    collectors: Vec<Box<dyn Collector<Session>>>,
    sampler: Option<Arc<Sampler>>,
    families: Families,
    state: Mutex<State>,
    /// For what the engine does not log: the loss of a part of a collector's samples.
    throttle: Throttle,
    request_errors: Arc<AtomicU64>,
}

/// What is counted or remembered over scrapes.
#[derive(Default)]
struct State {
    scrapes: u64,
    seconds: f64,
    /// Why the last attempt to connect failed.
    failure: Option<ReplyError>,
    /// The role in the last INFO.
    role: String,
}

/// Each table with its columns.
struct Families {
    /// Of the scrape, with the role label.
    scrape: Arc<Shape>,
    last_duration: Column,
    up: Column,
    key_groups: Column,
    error: Arc<Shape>,
    last_error: Column,
    /// Of the exporter, without it.
    exporter: Arc<Shape>,
    connect_time: Column,
    ping_time: Option<Column>,
    scrapes: Column,
    request_errors: Column,
    scrape_duration: SummaryColumns,
    connections: Column,
    durations: Arc<Shape>,
    collector_duration: Column,
    outcomes: Arc<Shape>,
    outcome: Column,
    /// The table of the outcomes, which seldom are others than in the last scrape.
    ended: Kept<Vec<(&'static str, Outcome)>, Snapshot>,
}

impl Families {
    fn new(options: &Options) -> Self {
        let [mut scrape, mut exporter] = [(); 2].map(|()| Shape::new(&[]));
        let (mut error, mut durations) = (Shape::new(&["err"]), Shape::new(&["collector"]));
        let mut outcomes = Shape::new(&["collector", "outcome"]);
        let gauge = |shape: &mut Shape, family, help| shape.column(&options.gauge(family, help));
        let counter = |shape: &mut Shape, family, help| shape.column(&options.counter(family, help));
        Self {
            last_duration: gauge(
                &mut scrape,
                "exporter_last_scrape_duration_seconds",
                "How long this scrape took.",
            ),
            up: gauge(&mut scrape, "up", "Whether the server answered INFO in this scrape."),
            key_groups: gauge(
                &mut scrape,
                "last_key_groups_scrape_duration_milliseconds",
                "How long counting keys by group took in this scrape; 0 when it is off or done in the background.",
            ),
            last_error: gauge(
                &mut error,
                "exporter_last_scrape_error",
                "Whether this scrape failed, and the reason.",
            ),
            connect_time: gauge(
                &mut exporter,
                "exporter_last_scrape_connect_time_seconds",
                "How long connecting took in this scrape; 0 when the connection was kept.",
            ),
            ping_time: options.features.ping.then(|| {
                let help = "How long PING took in this scrape.";
                gauge(&mut exporter, "exporter_last_scrape_ping_time_seconds", help)
            }),
            scrapes: counter(&mut exporter, "exporter_scrapes_total", "Scrapes of the target."),
            request_errors: counter(
                &mut exporter,
                "target_scrape_request_errors_total",
                "Invalid requests to /scrape.",
            ),
            scrape_duration: exporter.summary(
                &options.desc(
                    Kind::Summary,
                    "exporter_scrape_duration_seconds",
                    "How long scrapes of the target took.",
                ),
                &[],
            ),
            connections: counter(
                &mut exporter,
                "exporter_connections_opened_total",
                "Connections made to the target.",
            ),
            collector_duration: gauge(
                &mut durations,
                "exporter_collector_duration_seconds",
                "How long a collector took in this scrape.",
            ),
            outcome: gauge(
                &mut outcomes,
                "exporter_collector_outcome",
                "How a collector ended in this scrape, as a label.",
            ),
            scrape: Arc::new(scrape),
            error: Arc::new(error),
            exporter: Arc::new(exporter),
            durations: Arc::new(durations),
            outcomes: Arc::new(outcomes),
            ended: Kept::default(),
        }
    }

    fn ended(&self, outcomes: &[(&'static str, Outcome)]) -> Snapshot {
        let mut page = Snapshot::new();
        let table = page.table_of(&self.outcomes);
        for (collector, outcome) in outcomes {
            table.row(&[collector, outcome.as_str()]).set(self.outcome, 1.0);
        }
        page
    }
}

impl Exporter {
    /// An exporter of one target, with every collector that is switched on.
    ///
    /// # Errors
    /// An option that cannot be used.
    pub fn new(target: Option<Arc<Target>>, options: Arc<Options>) -> anyhow::Result<Self> {
        let sampler = target.as_ref().and_then(|target| Sampler::new(target, &options));
        let collectors = collectors::enabled(&options, sampler.as_ref())?;
        let families = Families::new(&options);
        Ok(Self {
            target,
            options,
            collectors,
            sampler,
            families,
            state: Mutex::default(),
            throttle: Throttle::new(LOG_INTERVAL),
            request_errors: Arc::default(),
        })
    }

    /// Shows this count of requests to `/scrape` that were refused.
    #[must_use]
    pub fn with_request_errors(mut self, count: Arc<AtomicU64>) -> Self {
        self.request_errors = count;
        self
    }

    /// The background work that somebody must run for this target, if any.
    pub fn sampler(&self) -> Option<Arc<Sampler>> {
        self.sampler.clone()
    }

    /// Why the pass says nothing of the server; `None` when INFO was answered.
    fn failure(pass: &Pass<Session>, state: &State) -> Option<ReplyError> {
        match &pass.session {
            Ok(session) => match session.facts() {
                Some(Ok(_)) => None,
                Some(Err(error)) => Some(error.clone()),
                None => Some(ReplyError::timeout("INFO ALL")),
            },
            Err(error) if error.outcome == Outcome::Timeout => {
                Some(ReplyError { reason: Reason::Timeout, what: "scraping", text: error.message.clone() })
            }
            Err(_) => state.failure.clone(),
        }
    }

    /// Families about this scrape of the server. They get the role label, as the server's own do.
    fn about_scrape(&self, pass: &Pass<Session>, failure: Option<&ReplyError>, page: &mut Snapshot) {
        let families = &self.families;
        let groups = duration(pass, "key_groups").unwrap_or_default();
        let up = self.target.is_some().then(|| f64::from(u8::from(failure.is_none())));
        page.table_of(&families.scrape)
            .row(&[])
            .set(families.last_duration, pass.duration.as_secs_f64())
            .set_some(families.up, up)
            .set(families.key_groups, groups.as_millis() as f64);
        if self.target.is_some() {
            let reason = failure.map_or("", |error| error.reason.as_str());
            let failed = f64::from(u8::from(failure.is_some()));
            page.table_of(&families.error).row(&[reason]).set(families.last_error, failed);
        }
    }

    /// Families about the exporter, which never get the role label.
    fn about_exporter(
        &self,
        pass: &Pass<Session>,
        state: &State,
        notes: &[(&str, ReplyError)],
        page: &mut Snapshot,
    ) {
        let families = &self.families;
        let corrected = !self.options.compat_1_86();
        let connect_time = pass.session.as_ref().map_or(Duration::ZERO, Session::connect_time);
        let connections = self.target.as_ref().map(|target| target.connections_made() as f64);
        let mut row = page.table_of(&families.exporter).row(&[]);
        row.set(families.connect_time, connect_time.as_secs_f64())
            .set(families.scrapes, state.scrapes as f64)
            .set(families.request_errors, self.request_errors.load(Ordering::Relaxed) as f64)
            .summary(&families.scrape_duration, &[], Some(state.scrapes as f64), Some(state.seconds))
            .set_some(families.connections, connections.filter(|_| corrected));
        if let Some(column) = families.ping_time {
            row.set_some(column, duration(pass, ping::SPEC.name).map(|took| took.as_secs_f64()));
        }
        if corrected {
            let table = page.table_of(&families.durations);
            for ran in &pass.collectors {
                table.row(&[ran.name]).set(families.collector_duration, ran.duration.as_secs_f64());
            }
            let outcomes: Vec<_> =
                pass.collectors.iter().map(|ran| (ran.name, outcome(ran, notes))).collect();
            page.append(families.ended.get(&outcomes, || families.ended(&outcomes)));
        }
    }
}

/// How long a collector took that ended well.
fn duration(pass: &Pass<Session>, name: &str) -> Option<Duration> {
    let ran = pass.collectors.iter().find(|ran| ran.name == name && ran.outcome == Outcome::Ok);
    ran.map(|ran| ran.duration)
}

/// How a collector ended: one that lost a part of its samples did not end well.
fn outcome(ran: &Ran, notes: &[(&str, ReplyError)]) -> Outcome {
    let note = notes.iter().find(|(name, _)| *name == ran.name);
    note.map_or(ran.outcome, |(_, error)| CollectError::from(error.clone()).outcome)
}

/// What this binary is, under the peer's name and labels.
pub fn build_info(options: &Options) -> Snapshot {
    let desc = options.gauge("exporter_build_info", "What the exporter was built from; the value is 1.");
    let mut page = Snapshot::new();
    let table = page.table(&["version", "commit_sha", "build_date", "golang_version"]);
    let column = table.column(&desc);
    table.row(&[env!("CARGO_PKG_VERSION")]).set(column, 1.0);
    page
}

impl Source for Exporter {
    type Session = Session;

    fn collectors(&self) -> &[Box<dyn Collector<Session>>] {
        &self.collectors
    }

    fn open(&self, deadline: Instant) -> BoxFuture<'_, Result<Session, CollectError>> {
        Box::pin(async move {
            let Some(target) = &self.target else {
                return Err(CollectError::new(Outcome::Connection, "there is no target"));
            };
            let session = Session::open(Arc::clone(target), deadline).await;
            session.map_err(|error| {
                self.state.lock().unwrap_or_else(PoisonError::into_inner).failure = Some(error.clone());
                error.into()
            })
        })
    }

    fn finish(&self, pass: Pass<Session>, page: &mut Snapshot) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.scrapes += 1;
        state.seconds += pass.duration.as_secs_f64();
        let failure = Self::failure(&pass, &state);
        let mut notes = Vec::new();
        if let (Ok(session), Some(target)) = (&pass.session, &self.target) {
            notes = session.notes();
            if session.is_stuck() {
                target.give_up();
            }
            if let Some(Ok(facts)) = session.facts() {
                facts.info.get("role").unwrap_or_default().clone_into(&mut state.role);
            }
        }
        self.about_scrape(&pass, failure.as_ref(), page);
        if self.options.append_role {
            page.add_labels(&[("instance_role", &state.role)]);
        }
        self.about_exporter(&pass, &state, &notes, page);
        self.options.names.apply(names::CLEAN, &self.options.namespace, page);
        for (collector, error) in &notes {
            if let Some(suppressed) = self.throttle.check(collector) {
                let outcome = CollectError::from(error.clone()).outcome.as_str();
                tracing::warn!(collector, outcome, %error, suppressed, "a part is missing");
            }
        }
    }
}
