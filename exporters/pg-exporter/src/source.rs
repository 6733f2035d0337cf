//! The target of the exporter: one kept connection, the size lane beside it, and what is said about a pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use exporter_kit::collector::{BoxFuture, CollectError, Collector};
use exporter_kit::scrape::{Pass, Source};
use exposition::{Desc, Snapshot};
use futures_util::FutureExt;
use pg_client::{Connector, Warm};
use tokio::time::Instant;

use crate::databases::Databases;
use crate::names;
use crate::options::{Options, WhichDatabases};
use crate::plans::Plans;
use crate::session::{LOCK_TIMEOUT, Memory, PgSession, connect_error};
use crate::sizes::{Sizes, Wanted};
use crate::sql::{PgCollector, Scope};

const UP: Desc =
    Desc::gauge("pg_up", "Whether the last scrape was able to connect to the server and got a reply.");
const DURATION: Desc = Desc::gauge(
    "pg_exporter_last_scrape_duration_seconds",
    "Duration of the last scrape of metrics from PostgreSQL.",
);
const ERROR: Desc = Desc::gauge(
    "pg_exporter_last_scrape_error",
    "Whether the last scrape of metrics from PostgreSQL resulted in an error (1 for error, 0 for success).",
);
const SCRAPES: Desc =
    Desc::counter("pg_exporter_scrapes_total", "Total number of times PostgreSQL was scraped.");
const COLLECTOR_DURATION: Desc =
    Desc::gauge("pg_scrape_collector_duration_seconds", "Duration of a collector in the last scrape.");
const COLLECTOR_SUCCESS: Desc =
    Desc::gauge("pg_scrape_collector_success", "Whether a collector succeeded in the last scrape.");
const COLLECTOR_OUTCOME: Desc = Desc::gauge(
    "pg_exporter_collector_outcome",
    "How a collector, or the last refresh of sizes, ended: ok, timeout, lock_timeout, permission, missing_extension, \
     unsupported_version, connection or error. Always 1.",
);
const DATA_AGE: Desc =
    Desc::gauge("pg_exporter_data_age_seconds", "Age of data that is not read on every scrape.");
const LOCKED: Desc = Desc::gauge(
    "pg_exporter_locked_relations",
    "Number of relations without a size because of an ACCESS EXCLUSIVE lock, held or waited for, when sizes were refreshed.",
);
const DUPLICATES: Desc = Desc::counter(
    "pg_exporter_duplicate_samples_dropped_total",
    "Samples dropped because the page had a series with the same labels.",
);

/// How long a refresh of sizes may take. Nobody waits for it, but it must end.
const SIZES_TIMEOUT: Duration = Duration::from_secs(60);

/// One PostgreSQL server.
pub struct PgSource {
    warm: Warm,
    sizes: Arc<Sizes>,
    options: Arc<Options>,
    memory: Arc<Memory>,
    /// Of `--databases=all`.
    databases: Option<Arc<Databases>>,
    collectors: Vec<Box<dyn Collector<PgSession>>>,
    scrapes: AtomicU64,
    duplicates: AtomicU64,
}

impl PgSource {
    /// A target with the collectors that are switched on. Nothing is opened yet.
    pub fn new(connector: Connector, options: Options, enabled: &[&'static PgCollector]) -> PgSource {
        let has = |name: &str| enabled.iter().any(|collector| collector.spec.name == name);
        let wanted = Wanted { databases: has("database"), relations: has("stat_user_tables") };
        let plans = Plans::of(enabled, options.compat);
        let options = Arc::new(options);
        let mut collectors: Vec<Box<dyn Collector<PgSession>>> =
            enabled.iter().map(|collector| Box::new(*collector) as Box<_>).collect();
        let of_database = enabled
            .iter()
            .copied()
            .filter(|collector| collector.scope == Scope::Database)
            .collect::<Vec<_>>();
        let everywhere = options.databases.which == WhichDatabases::All && !of_database.is_empty();
        let databases = everywhere
            .then(|| Arc::new(Databases::new(connector.clone(), Arc::clone(&options), of_database)));
        if let Some(databases) = &databases {
            collectors.push(Box::new(Arc::clone(databases)));
        }
        PgSource {
            sizes: Sizes::new(Warm::new(connector.clone()), options.size_refresh, SIZES_TIMEOUT, wanted),
            warm: Warm::new(connector.with_session_limits(options.statement_timeout, LOCK_TIMEOUT)),
            options,
            memory: Arc::new(Memory::new(plans)),
            databases,
            collectors,
            scrapes: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
        }
    }
}

impl PgSource {
    /// The same target with further collectors. They come first on the page: where a series of theirs has the name and
    /// labels of another, theirs stays.
    #[must_use]
    pub fn with_queries(mut self, queries: Vec<Box<dyn Collector<PgSession>>>) -> PgSource {
        self.collectors.splice(0..0, queries);
        self
    }

    /// What is read in other databases, with `--databases=all`.
    pub(crate) fn databases(&self) -> Option<&Databases> {
        self.databases.as_deref()
    }

    /// `host:port` of the target.
    pub(crate) fn server_label(&self) -> String {
        self.warm.connector().dsn().server_label()
    }
}

impl Source for PgSource {
    type Session = PgSession;

    fn collectors(&self) -> &[Box<dyn Collector<PgSession>>] {
        &self.collectors
    }

    fn open(&self, deadline: Instant) -> BoxFuture<'_, Result<PgSession, CollectError>> {
        async move {
            let lease = self.warm.lease(deadline).await.map_err(|error| connect_error(&error))?;
            Ok(PgSession::new(
                lease,
                self.warm.connector().dsn(),
                deadline,
                Arc::clone(&self.options),
                Arc::clone(&self.memory),
                Arc::clone(&self.sizes),
            ))
        }
        .boxed()
    }

    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    fn finish(&self, pass: Pass<PgSession>, page: &mut Snapshot) {
        // A kept connection proves nothing: the server must have answered on it.
        let up = pass.session.as_ref().is_ok_and(PgSession::answered);
        let failed = !up || pass.collectors.iter().any(|ran| ran.outcome.is_failure());
        let scrapes = self.scrapes.fetch_add(1, Ordering::Relaxed) + 1;
        let duplicates = self.duplicates.fetch_add(page.duplicates(), Ordering::Relaxed) + page.duplicates();
        let flag = |condition: bool| f64::from(u8::from(condition));
        let mut own = Snapshot::new();
        own.sample(&UP, flag(up));
        own.sample(&DURATION, pass.duration.as_secs_f64());
        own.sample(&ERROR, flag(failed));
        own.sample(&SCRAPES, scrapes as f64);
        let constant = self.options.constant_labels.iter();
        own.add_labels(&constant.map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>());
        page.append(own);
        page.sample(&DUPLICATES, duplicates as f64);
        let table = page.table(&["collector"]);
        let (duration, success) = (table.column(&COLLECTOR_DURATION), table.column(&COLLECTOR_SUCCESS));
        for ran in &pass.collectors {
            table
                .row(&[self.options.compat.collector(ran.name)])
                .set(duration, ran.duration.as_secs_f64())
                .set(success, flag(!ran.outcome.is_failure()));
        }
        let table = page.table(&["collector", "outcome"]);
        let outcome = table.column(&COLLECTOR_OUTCOME);
        for ran in &pass.collectors {
            table.row(&[ran.name, ran.outcome.as_str()]).set(outcome, 1.0);
        }
        let sizes = self.sizes.state();
        for (data, _, ended) in sizes {
            if let Some(ended) = ended {
                table.row(&[data, ended.as_str()]).set(outcome, 1.0);
            }
        }
        if let Some(locked) = self.sizes.locked() {
            page.sample(&LOCKED, locked as f64);
        }
        let table = page.table(&["data"]);
        let age = table.column(&DATA_AGE);
        for (data, duration, _) in sizes {
            if let Some(duration) = duration {
                table.row(&[data]).set(age, duration.as_secs_f64());
            }
        }
        self.options.family_names.apply(names::CLEAN, "pg", page);
    }
}
