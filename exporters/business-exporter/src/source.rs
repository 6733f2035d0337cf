//! A database as the scrape engine sees it, and what the exporter says of it.

use std::sync::{Arc, Mutex, PoisonError};

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Spec};
use exporter_kit::scrape::{Pass, Ran, Source};
use exposition::{Desc, Snapshot};
use futures_util::FutureExt;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::background;
use crate::collector::QueryCollector;
use crate::counters::events::{self, Events, EventsCollector};
use crate::definition::Definition;
use crate::durations::{self, Durations};
use crate::role::RoleRule;
use crate::session::{Kept, connect_error};
use crate::target::Target;

const UP: Desc = Desc::gauge("business_exporter_up", "Whether the database answered in the last scrape.");
const SUCCESS: Desc =
    Desc::gauge("business_exporter_query_success", "Whether a query succeeded in the last scrape.");
const OUTCOME: Desc = Desc::gauge(
    "business_exporter_query_outcome",
    "How a query ended in the last scrape: ok, timeout, lock_timeout, permission, connection, too_costly or error. Always 1.",
);
const ROWS: Desc = Desc::gauge("business_exporter_query_rows", "Rows of a query's last result.");
const DATA_AGE: Desc = Desc::gauge(
    "business_exporter_query_data_age_seconds",
    "Age of the result that is shown of a query in the background.",
);
/// A database and the queries on it.
pub struct Queries {
    database: String,
    target: Target,
    role: RoleRule,
    collectors: Vec<Box<dyn Collector<Kept>>>,
    queries: Vec<Arc<QueryCollector>>,
    events: Option<Arc<Events>>,
    /// Of the counting of events.
    durations: Durations,
    failures: Mutex<Vec<String>>,
    background: Mutex<Option<AbortHandle>>,
}

impl Queries {
    /// Nothing is opened yet.
    pub fn new(target: Target, definition: Definition) -> Queries {
        let (events, role) = (Events::new(&definition), RoleRule::new(&definition));
        let Definition { database, queries, .. } = definition;
        let queries: Vec<_> = queries.into_iter().map(|query| Arc::new(QueryCollector::new(query))).collect();
        let collectors = events
            .iter()
            .map(|events| Box::new(EventsCollector(Arc::clone(events))) as Box<dyn Collector<Kept>>)
            .chain(queries.iter().map(|query| Box::new(Shared(Arc::clone(query))) as Box<_>))
            .collect();
        let (failures, background, durations) = Default::default();
        let database = database.name;
        Queries { database, target, role, collectors, queries, events, durations, failures, background }
    }

    /// Name of the database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Runs the queries that have a refresh beside the scrapes, on a second connection, as long as this is there.
    pub fn start_background(&self) {
        let queries: Vec<_> =
            self.queries.iter().filter(|query| query.schedule().is_some()).cloned().collect();
        if !queries.is_empty() {
            let task = tokio::spawn(background::run(queries, self.target.another(), self.role.clone()));
            *self.background.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
        }
    }

    /// Goes on where the queries of an older definition are: what was shown of counters does not step down.
    pub fn inherit(&self, older: &Queries) {
        if let (Some(events), Some(older)) = (&self.events, &older.events) {
            events.inherit(older);
        }
        self.durations.inherit(&older.durations);
        for query in &self.queries {
            let same = |older: &&Arc<QueryCollector>| older.spec().name == query.spec().name;
            if let Some(older) = older.queries.iter().find(same) {
                query.durations.inherit(&older.durations);
            }
        }
    }

    /// What failed in the last pass, a sentence each.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Queries {
    fn drop(&mut self) {
        if let Some(task) = self.background.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// A query that the source asks for its rows, too.
struct Shared(Arc<QueryCollector>);

impl Collector<Kept> for Shared {
    fn spec(&self) -> &Spec {
        self.0.spec()
    }

    fn collect<'a>(&'a self, session: &'a Kept) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        self.0.collect(session)
    }
}

impl Source for Queries {
    type Session = Kept;

    fn collectors(&self) -> &[Box<dyn Collector<Kept>>] {
        &self.collectors
    }

    fn open(&self, deadline: Instant) -> BoxFuture<'_, Result<Kept, CollectError>> {
        async move {
            let lease = self.target.lease(deadline).await.map_err(|error| connect_error(&error))?;
            Kept::new(lease, deadline, self.role.clone()).await
        }
        .boxed()
    }

    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    fn finish(&self, pass: Pass<Kept>, page: &mut Snapshot) {
        // A kept connection proves nothing: the server must have answered on it. Without queries it was not asked.
        let query = |name| self.queries.iter().find(|query| query.spec().name == name);
        let asked =
            pass.collectors.iter().any(|ran| query(ran.name).is_none_or(|query| query.schedule().is_none()));
        let up = pass.session.as_ref().is_ok_and(|session| !asked || session.answered());
        let failures = match &pass.session {
            Err(error) => vec![error.message.clone()],
            Ok(_) => {
                let failed = pass.collectors.iter().filter(|ran| ran.outcome.is_failure());
                let message =
                    |ran: &Ran| ran.message.clone().unwrap_or_else(|| ran.outcome.as_str().to_owned());
                failed.map(|ran| format!("query {:?}: {}", ran.name, message(ran))).collect()
            }
        };
        let mut own = Snapshot::new();
        let problems = self.events.iter().flat_map(|events| events.problems());
        let failures = failures.into_iter().chain(problems).collect();
        *self.failures.lock().unwrap_or_else(PoisonError::into_inner) = failures;
        let ran = pass.collectors.iter().find(|ran| ran.name == events::NAME);
        if let (Some(events), Some(ran)) = (&self.events, ran) {
            events.finish(!ran.outcome.is_failure(), page, &mut own);
        }
        for ran in pass.collectors.iter().filter(|ran| ran.outcome.is_failure()) {
            if let Some(held) = query(ran.name).and_then(|query| query.held()) {
                page.append(held);
            }
        }
        let flag = |condition: bool| f64::from(u8::from(condition));
        own.sample(&UP, flag(up));
        let table = own.table(&["query"]);
        let [success, rows, data_age] = [&SUCCESS, &ROWS, &DATA_AGE].map(|desc| table.column(desc));
        let columns = table.histogram(&durations::DESC, &durations::BOUNDS);
        for ran in &pass.collectors {
            let found = query(ran.name);
            let count = found.and_then(|query| query.rows()).filter(|_| !ran.outcome.is_failure());
            let in_background = found.is_some_and(|query| query.schedule().is_some());
            let durations = found.map_or(&self.durations, |query| &query.durations);
            // One in the background is observed when it runs.
            if pass.session.is_ok() && !in_background {
                durations.observe(ran.duration);
            }
            let mut row = table.row(&[ran.name]);
            row.set(success, flag(!ran.outcome.is_failure()))
                .set_some(rows, count.map(|count| count as f64))
                .set_some(data_age, found.and_then(|query| query.age()).map(|age| age.as_secs_f64()));
            durations.show(&mut row, &columns);
        }
        let table = own.table(&["query", "outcome"]);
        let outcome = table.column(&OUTCOME);
        for ran in &pass.collectors {
            table.row(&[ran.name, ran.outcome.as_str()]).set(outcome, 1.0);
        }
        own.add_labels(&[("database", &self.database)]);
        page.append(own);
    }
}
