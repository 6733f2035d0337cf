//! Runs one query and turns its rows into samples: in each scrape, or in the background with the last result kept.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Outcome, Spec};
use exposition::Snapshot;
use futures_util::FutureExt;
use pg_client::{Limits, Row, Rows, Warm};
use tokio::time::Instant;

use crate::definition::{Emission, NullValue, QueryDefinition, RoleCheck, Values};
use crate::domain::{Admitted, NULL_LABEL};
use crate::session::{Kept, check_role, connect_error};

/// How long a query in the background may wait for its connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// One query of the definition.
pub struct QueryCollector {
    spec: Spec,
    query: QueryDefinition,
    sql: String,
    rows: Mutex<Option<usize>>,
    refreshed: Mutex<Refreshed>,
}

/// What a query in the background came to.
#[derive(Default)]
struct Refreshed {
    /// Why the last run failed, if it did.
    error: Option<CollectError>,
    /// When the last run that did not fail ended, and what it gave.
    data: Option<(Instant, Snapshot)>,
    duration: Duration,
}

impl QueryCollector {
    /// The collector of a query. Its name stays in memory as long as the process runs, like those of collectors that
    /// are written in code; a definition is loaded once.
    pub fn new(query: QueryDefinition) -> QueryCollector {
        let name: &'static str = Box::leak(query.name.clone().into_boxed_str());
        // The parentheses make anything but one reading statement a syntax error, and the server stops at the limit:
        // a result that is too large is never made, nor sent.
        let limit = query.max_rows.saturating_add(1);
        let sql = format!("SELECT * FROM (\n{}\n) AS q LIMIT {limit}", query.sql);
        let spec = Spec { name, doc: "", default_enabled: true };
        QueryCollector { spec, query, sql, rows: Mutex::default(), refreshed: Mutex::default() }
    }

    /// Rows of the last result; none when the query failed before it had any.
    pub fn rows(&self) -> Option<usize> {
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pause between runs in the background, if that is where it runs.
    pub fn refresh(&self) -> Option<Duration> {
        self.query.refresh
    }

    /// Runs it in the background, and keeps what it gave.
    pub async fn run_in_background(&self, warm: &Warm, check: RoleCheck) {
        let started = Instant::now();
        let deadline = started + CONNECT_LIMIT + self.query.timeout;
        let run = async {
            let lease = warm.lease_patiently(deadline).await.map_err(|error| connect_error(&error))?;
            check_role(&lease, check)?;
            self.run(&Kept::new(lease, deadline)).await
        };
        let result = run.await;
        let mut refreshed = self.refreshed();
        refreshed.duration = started.elapsed();
        match result {
            Ok(snapshot) => {
                refreshed.data = Some((Instant::now(), snapshot));
                refreshed.error = None;
            }
            Err(error) => refreshed.error = Some(error),
        }
    }

    /// The last result of a query in the background, unless it is too old.
    pub fn held(&self) -> Option<Snapshot> {
        let refreshed = self.refreshed();
        let (at, snapshot) = refreshed.data.as_ref()?;
        (at.elapsed() <= self.query.hold_max + self.query.refresh?).then(|| snapshot.clone())
    }

    /// Age of the last result, and duration of the last run, of a query in the background.
    pub fn background(&self) -> Option<(Option<Duration>, Duration)> {
        self.query.refresh?;
        let refreshed = self.refreshed();
        Some((refreshed.data.as_ref().map(|(at, _)| at.elapsed()), refreshed.duration))
    }

    fn refreshed(&self) -> MutexGuard<'_, Refreshed> {
        self.refreshed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last result; nothing before the first.
    fn kept(&self) -> Result<Snapshot, CollectError> {
        let refreshed = self.refreshed();
        match (&refreshed.error, &refreshed.data) {
            (Some(error), _) => Err(error.clone()),
            (None, Some((_, snapshot))) => Ok(snapshot.clone()),
            (None, None) => Ok(Snapshot::new()),
        }
    }

    fn set_rows(&self, rows: Option<usize>) {
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }

    async fn run(&self, session: &Kept) -> Result<Snapshot, CollectError> {
        self.set_rows(None);
        // The server's limit ends a little before the deadline, so that its word for it still arrives.
        let remaining = session.deadline().saturating_duration_since(Instant::now()).mul_f32(0.9);
        let limits = Limits {
            statement_timeout: Some(self.query.timeout.min(remaining)),
            lock_timeout: Some(self.query.lock_timeout),
            read_only: true,
            ..Limits::default()
        };
        let rows = session.query(&self.sql, &limits).await.map_err(|mut error| {
            if matches!(error.outcome, Outcome::Timeout | Outcome::LockTimeout) {
                let QueryDefinition { timeout, lock_timeout, .. } = &self.query;
                error.message +=
                    &format!("; the query has timeout: {timeout:?}, lock_timeout: {lock_timeout:?}");
            }
            error
        })?;
        self.set_rows(Some(rows.len()));
        if rows.len() > self.query.max_rows {
            let message =
                format!("more than max_rows = {} rows; nothing of it is shown", self.query.max_rows);
            return Err(CollectError::new(Outcome::Error, message));
        }
        let mut snapshot = Snapshot::new();
        for emission in &self.query.emit {
            self.emit(emission, &rows, &mut snapshot)?;
        }
        Ok(snapshot)
    }

    fn emit(&self, emission: &Emission, rows: &Rows, snapshot: &mut Snapshot) -> Result<(), CollectError> {
        let family = &emission.family;
        let column = |name: &String| {
            rows.column(name).ok_or_else(|| {
                let columns: Vec<&str> = rows.columns().collect();
                failure(format!("{}: no column {name:?}; there are {columns:?}", family.desc.name))
            })
        };
        let (pivot, value_columns) = match &emission.values {
            Values::Column(name) => (None, std::slice::from_ref(name)),
            Values::Pivot { label, columns } => (Some(label), columns.as_slice()),
        };
        let sources = emission.labels.iter().map(|(label, name)| Ok((label, column(name)?)));
        let sources = sources.collect::<Result<Vec<_>, CollectError>>()?;
        let mut series = Series::default();
        if emission.init_zero() {
            for name in value_columns {
                for labels in product(emission) {
                    let fixed = emission.static_labels.iter().map(|(_, value)| Cow::Borrowed(value.as_str()));
                    let pivot = pivot.map(|_| Cow::Borrowed(name.as_str()));
                    series.samples.insert(labels.into_iter().chain(fixed).chain(pivot).collect(), None);
                }
            }
        }
        for name in value_columns {
            let index = column(name)?;
            for row in rows.iter() {
                let Some(value) = self.value(row, index, name)? else { continue };
                let from_columns = sources
                    .iter()
                    .map(|(label, index)| (label.as_str(), row.get(*index).unwrap_or(NULL_LABEL)));
                let fixed =
                    emission.static_labels.iter().map(|(label, value)| (label.as_str(), value.as_str()));
                let pivot = pivot.map(|label| (label.as_str(), name.as_str()));
                series.add(emission, from_columns.chain(fixed).chain(pivot), value);
            }
        }
        if series.samples.len() > self.query.max_series {
            let (name, max) = (&family.desc.name, self.query.max_series);
            return Err(failure(format!(
                "{name}: more than max_series = {max} series; nothing of it is shown"
            )));
        }
        let names: Vec<&str> = sources
            .iter()
            .map(|(label, _)| label.as_str())
            .chain(emission.static_labels.iter().map(|(label, _)| label.as_str()))
            .chain(pivot.map(String::as_str))
            .collect();
        let table = snapshot.table(&names);
        let sample = table.column(&family.desc);
        for (labels, value) in &series.samples {
            let labels: Vec<&str> = labels.iter().map(AsRef::as_ref).collect();
            table.row(&labels).set(sample, value.unwrap_or(0.0));
        }
        for labels in &series.repeated {
            // The page drops and counts it.
            let labels: Vec<&str> = labels.iter().map(AsRef::as_ref).collect();
            table.row(&labels).set(sample, 0.0);
        }
        Ok(())
    }

    /// The value of a cell; none when there is to be no sample.
    fn value(&self, row: Row<'_>, index: usize, name: &str) -> Result<Option<f64>, CollectError> {
        let Some(text) = row.get(index) else {
            return match self.query.null_value {
                NullValue::Skip => Ok(None),
                NullValue::Zero => Ok(Some(0.0)),
                NullValue::Error => {
                    Err(failure(format!("column {name:?} is NULL; coalesce it, or set null_value")))
                }
            };
        };
        match row.float(index) {
            Some(value) => Ok(Some(value)),
            None => {
                let shown: String = text.chars().take(40).collect();
                let advice = "cast it, e.g. extract(epoch FROM …)";
                Err(failure(format!("column {name:?} is not a number: {shown:?}; {advice}")))
            }
        }
    }
}

impl Collector<Kept> for QueryCollector {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn collect<'a>(&'a self, session: &'a Kept) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        match self.query.refresh {
            None => self.run(session).boxed(),
            Some(_) => std::future::ready(self.kept()).boxed(),
        }
    }
}

type LabelValues<'a> = Vec<Cow<'a, str>>;

/// The series of one family from one result. A value is absent where no row had it yet.
#[derive(Default)]
struct Series<'a> {
    samples: BTreeMap<LabelValues<'a>, Option<f64>>,
    repeated: Vec<LabelValues<'a>>,
}

impl<'a> Series<'a> {
    /// Adds a sample, if the domains of the labels take it. Values that were folded into one add up; a label set that
    /// comes twice is a mistake of the query, and the first stays.
    fn add(&mut self, emission: &'a Emission, labels: impl Iterator<Item = (&'a str, &'a str)>, value: f64) {
        let mut admitted = Vec::new();
        let mut folded = false;
        for (label, value) in labels {
            let domain = emission.family.labels.get(label).map(|domain| domain.admit(value));
            match domain.unwrap_or(Admitted::As(Cow::Borrowed(value))) {
                Admitted::As(value) => admitted.push(value),
                Admitted::Folded(value) => {
                    folded = true;
                    admitted.push(value);
                }
                Admitted::Rejected => return emission.family.rejections.count(),
            }
        }
        match self.samples.get_mut(&admitted) {
            Some(Some(sum)) if folded => *sum += value,
            Some(Some(_)) => self.repeated.push(admitted),
            Some(absent) => *absent = Some(value),
            None => {
                self.samples.insert(admitted, Some(value));
            }
        }
    }
}

/// Every combination of values that the labels from columns may have.
fn product(emission: &Emission) -> Vec<LabelValues<'_>> {
    let mut combinations = vec![Vec::new()];
    for (label, _) in &emission.labels {
        let closed = emission.family.labels.get(label).and_then(|label| label.domain().closed());
        let values = closed.unwrap_or_default();
        combinations = combinations
            .iter()
            .flat_map(|front: &LabelValues<'_>| {
                values.iter().map(|value| {
                    let mut labels = front.clone();
                    labels.push(Cow::Borrowed(*value));
                    labels
                })
            })
            .collect();
    }
    combinations
}

fn failure(message: String) -> CollectError {
    CollectError::new(Outcome::Error, message)
}
