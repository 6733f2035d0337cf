//! The metrics of the pool and of every kind of statement, resolved once: a statement looks its labels up once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Status;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::Query;
use crate::metrics::{Metrics, QueryLabels};

/// The metrics of one kind of statement.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    queries: Counter,
    duration: Histogram,
    errors: Counter,
}

impl Meter {
    fn new(metrics: &Metrics, labels: &QueryLabels) -> Meter {
        Meter {
            queries: metrics.db_queries.get_or_create_owned(labels),
            duration: metrics.db_query_duration.get_or_create_owned(labels),
            errors: metrics.db_query_errors.get_or_create_owned(labels),
        }
    }

    pub(super) fn ran(&self, elapsed: Duration) {
        self.queries.inc();
        self.duration.observe(elapsed.as_secs_f64());
    }

    pub(super) fn failed(&self) {
        self.errors.inc();
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Meters {
    metrics: Arc<Metrics>,
    known: HashMap<QueryLabels, Meter>,
}

impl Meters {
    /// Creates the series of `queries` at 0.
    pub(super) fn new(metrics: Arc<Metrics>, queries: &[&Query]) -> Meters {
        let known = queries.iter().map(|query| query.labels());
        let known = known.map(|labels| (labels.clone(), Meter::new(&metrics, &labels))).collect();
        Meters { metrics, known }
    }

    pub(super) fn of(&self, query: &Query) -> Meter {
        let labels = query.labels();
        self.known.get(&labels).cloned().unwrap_or_else(|| Meter::new(&self.metrics, &labels))
    }

    pub(super) fn waited(&self, elapsed: Duration, got: bool) {
        self.metrics.db_pool_wait.observe(elapsed.as_secs_f64());
        if !got {
            self.metrics.db_connection_errors.inc();
        }
    }

    pub(super) fn report(&self, pool: &Status) {
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.db_pool_max_size.set(gauge(pool.max_size));
        self.metrics.db_pool_size.set(gauge(pool.size));
        self.metrics.db_pool_available.set(gauge(pool.available));
        self.metrics.db_pool_waiting.set(gauge(pool.waiting));
    }
}
