//! The database as the scrape engine sees it, and what the exporter says of itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Spec};
use exporter_kit::scrape::{Pass, Ran, Source};
use exposition::{Desc, Snapshot};
use futures_util::FutureExt;
use pg_client::{Connector, Warm};
use tokio::time::Instant;

use crate::background;
use crate::collector::QueryCollector;
use crate::counters::events::{self, Events, EventsCollector};
use crate::definition::{Definition, FamilyDefinition, RoleCheck};
use crate::session::{Kept, check_role, connect_error};

const UP: Desc = Desc::gauge("business_exporter_up", "Whether the database answered in the last scrape.");
const DURATION: Desc =
    Desc::gauge("business_exporter_query_duration_seconds", "Duration of a query in the last scrape.");
const SUCCESS: Desc =
    Desc::gauge("business_exporter_query_success", "Whether a query succeeded in the last scrape.");
const OUTCOME: Desc = Desc::gauge(
    "business_exporter_query_outcome",
    "How a query ended in the last scrape: ok, timeout, lock_timeout, permission, connection or error. Always 1.",
);
const ROWS: Desc = Desc::gauge("business_exporter_query_rows", "Rows of a query's last result.");
const DATA_AGE: Desc = Desc::gauge(
    "business_exporter_query_data_age_seconds",
    "Age of the result that is shown of a query in the background.",
);
const REJECTED: Desc = Desc::counter(
    "business_exporter_label_rejected_total",
    "Samples that were not shown because a label's value is not among those of the definition.",
);
const DUPLICATES: Desc = Desc::counter(
    "business_exporter_duplicate_samples_dropped_total",
    "Samples that were not shown because the page had a series with the same labels.",
);
const CONFIG: Desc = Desc::info(
    "business_exporter_config_info",
    "The definition that is loaded, by the beginning of its SHA-256. Always 1.",
);

/// A database and the queries on it.
pub struct Queries {
    database: String,
    warm: Warm,
    role_check: RoleCheck,
    collectors: Vec<Box<dyn Collector<Kept>>>,
    queries: Vec<Arc<QueryCollector>>,
    events: Option<Arc<Events>>,
    families: BTreeMap<String, Arc<FamilyDefinition>>,
    hash: String,
    duplicates: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Queries {
    /// Nothing is opened yet.
    pub fn new(connector: Connector, definition: Definition) -> Queries {
        let events = Events::new(&definition);
        let Definition { database, queries, families, hash, .. } = definition;
        let queries: Vec<_> = queries.into_iter().map(|query| Arc::new(QueryCollector::new(query))).collect();
        let collectors = events
            .iter()
            .map(|events| Box::new(EventsCollector(Arc::clone(events))) as Box<dyn Collector<Kept>>)
            .chain(queries.iter().map(|query| Box::new(Shared(Arc::clone(query))) as Box<_>))
            .collect();
        let (warm, duplicates) = (Warm::new(connector), AtomicU64::new(0));
        let failures = Mutex::default();
        let role_check = database.role_check;
        Queries {
            database: database.name,
            role_check,
            warm,
            collectors,
            queries,
            events,
            families,
            hash,
            duplicates,
            failures,
        }
    }

    /// Runs the queries that have a refresh beside the scrapes, on a second connection, as long as the runtime lives.
    pub fn start_background(&self) {
        let queries: Vec<_> =
            self.queries.iter().filter(|query| query.refresh().is_some()).cloned().collect();
        if !queries.is_empty() {
            let warm = Warm::new(self.warm.connector().clone());
            tokio::spawn(background::run(queries, warm, self.role_check));
        }
    }

    /// What failed in the last pass, a sentence each.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
            let lease = self.warm.lease(deadline).await.map_err(|error| connect_error(&error))?;
            check_role(&lease, self.role_check)?;
            Ok(Kept::new(lease, deadline))
        }
        .boxed()
    }

    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    fn finish(&self, pass: Pass<Kept>, page: &mut Snapshot) {
        // A kept connection proves nothing: the server must have answered on it. Without queries it was not asked.
        let query = |name| self.queries.iter().find(|query| query.spec().name == name);
        let asked =
            pass.collectors.iter().any(|ran| query(ran.name).is_none_or(|query| query.refresh().is_none()));
        let up = pass.session.as_ref().is_ok_and(|session| !asked || session.answered());
        let duplicates = self.duplicates.fetch_add(page.duplicates(), Ordering::Relaxed) + page.duplicates();
        let failures = match &pass.session {
            Err(error) => vec![error.message.clone()],
            Ok(_) => {
                let failed = pass.collectors.iter().filter(|ran| ran.outcome.is_failure());
                let message =
                    |ran: &Ran| ran.message.clone().unwrap_or_else(|| ran.outcome.as_str().to_owned());
                failed.map(|ran| format!("query {:?}: {}", ran.name, message(ran))).collect()
            }
        };
        let problems = self.events.iter().flat_map(|events| events.problems());
        let failures = failures.into_iter().chain(problems).collect();
        *self.failures.lock().unwrap_or_else(PoisonError::into_inner) = failures;
        let ran = pass.collectors.iter().find(|ran| ran.name == events::NAME);
        if let (Some(events), Some(ran)) = (&self.events, ran) {
            events.finish(!ran.outcome.is_failure(), page);
        }
        for ran in pass.collectors.iter().filter(|ran| ran.outcome.is_failure()) {
            if let Some(held) = query(ran.name).and_then(|query| query.held()) {
                page.append(held);
            }
        }
        let flag = |condition: bool| f64::from(u8::from(condition));
        let table = page.table(&["database"]);
        let column = table.column(&UP);
        table.row(&[&self.database]).set(column, flag(up));
        let table = page.table(&["query"]);
        let [duration, success, rows, data_age] =
            [&DURATION, &SUCCESS, &ROWS, &DATA_AGE].map(|desc| table.column(desc));
        for ran in &pass.collectors {
            let found = query(ran.name);
            let count = found.and_then(|query| query.rows()).filter(|_| !ran.outcome.is_failure());
            let background = found.and_then(|query| query.background());
            let took = background.map_or(ran.duration, |(_, duration)| duration);
            table
                .row(&[ran.name])
                .set(duration, took.as_secs_f64())
                .set(success, flag(!ran.outcome.is_failure()))
                .set_some(rows, count.map(|count| count as f64))
                .set_some(data_age, background.and_then(|(age, _)| age).map(|age| age.as_secs_f64()));
        }
        let table = page.table(&["query", "outcome"]);
        let outcome = table.column(&OUTCOME);
        for ran in &pass.collectors {
            table.row(&[ran.name, ran.outcome.as_str()]).set(outcome, 1.0);
        }
        let table = page.table(&["family"]);
        let rejected = table.column(&REJECTED);
        for (name, family) in &self.families {
            table.row(&[name]).set(rejected, family.rejections.get() as f64);
        }
        page.sample(&DUPLICATES, duplicates as f64);
        let table = page.table(&["hash"]);
        let config = table.column(&CONFIG);
        table.row(&[&self.hash]).set(config, 1.0);
    }
}
