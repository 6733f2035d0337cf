//! Runs one query and turns its rows into samples: in each scrape, or in the background with the last result kept.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Outcome, Spec};
use exposition::Snapshot;
use futures_util::FutureExt;
use pg_client::{Limits, Row, Rows};
use tokio::time::Instant;

use crate::definition::{
    Emission, FamilyDefinition, NullValue, QueryDefinition, Requirements, Role, Schedule, Values,
};
use crate::domain::{Admitted, NULL_LABEL};
use crate::durations::Durations;
use crate::role::RoleRule;
use crate::session::{Kept, connect_error};
use crate::target::Target;

/// How long a query in the background may wait for its connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long what the planner expected of a query is taken as still true.
const COST_INTERVAL: Duration = Duration::from_secs(300);

/// Start of the names of columns that say which rows are for an emission.
const WHEN: &str = "business_exporter_when_";

/// One query of the definition.
pub struct QueryCollector {
    spec: Spec,
    query: QueryDefinition,
    sql: String,
    /// What tells whether the query makes sense here.
    probe: Option<String>,
    rows: Mutex<Option<usize>>,
    /// What the planner expected last, and when.
    cost: Mutex<Option<(Instant, f64)>>,
    refreshed: Mutex<Refreshed>,
    /// Of its runs.
    pub durations: Durations,
}

/// What a query in the background came to.
#[derive(Default)]
struct Refreshed {
    /// Why the last run failed, if it did.
    error: Option<CollectError>,
    /// When the last run that did not fail ended, until when it may be shown, and what it gave.
    data: Option<(Instant, Instant, Snapshot)>,
}

impl QueryCollector {
    /// The collector of a query.
    pub fn new(query: QueryDefinition) -> QueryCollector {
        let name = interned(&query.name);
        // The parentheses make anything but one reading statement a syntax error, and the server stops at the limit:
        // a result that is too large is never made, nor sent.
        let limit = query.max_rows.saturating_add(1);
        let conditions: String = (0..)
            .zip(&query.emit)
            .filter_map(|(index, emission)| Some((index, emission.when.as_ref()?)))
            .map(|(index, when): (usize, _)| format!(", ({when}\n) AS {WHEN}{index}"))
            .collect();
        let sql = format!("SELECT *{conditions} FROM (\n{}\n) AS q LIMIT {limit}", query.sql);
        let spec = Spec { name, doc: "", default_enabled: true };
        let probe = probe(&query.requires);
        let (rows, cost, refreshed, durations) = Default::default();
        QueryCollector { spec, query, sql, probe, rows, cost, refreshed, durations }
    }

    /// Rows of the last result; none when the query failed before it had any.
    pub fn rows(&self) -> Option<usize> {
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When it runs in the background, if that is where it runs.
    pub fn schedule(&self) -> Option<&Schedule> {
        self.query.schedule.as_ref()
    }

    /// Runs it in the background, and keeps what it gave. Gives the pause until the next run.
    pub async fn run_in_background(&self, target: &Target, role: RoleRule) -> Duration {
        let started = Instant::now();
        let deadline = started + CONNECT_LIMIT + self.query.timeout;
        let run = async {
            let lease = target.lease_patiently(deadline).await.map_err(|error| connect_error(&error))?;
            self.run(&Kept::new(lease, deadline, role).await?).await
        };
        let result = run.await;
        self.durations.observe(started.elapsed());
        let pause = self.query.schedule.as_ref().map(Schedule::pause).unwrap_or_default();
        let mut refreshed = self.refreshed();
        match result {
            Ok(snapshot) => {
                let now = Instant::now();
                refreshed.data = Some((now, now + pause + self.query.hold_max, snapshot));
                refreshed.error = None;
            }
            Err(error) => refreshed.error = Some(error),
        }
        pause
    }

    /// The last result of a query in the background, unless it is too old.
    pub fn held(&self) -> Option<Snapshot> {
        let refreshed = self.refreshed();
        let (_, until, snapshot) = refreshed.data.as_ref()?;
        (Instant::now() <= *until).then(|| snapshot.clone())
    }

    /// Age of the last result of a query in the background.
    pub fn age(&self) -> Option<Duration> {
        self.refreshed().data.as_ref().map(|(at, ..)| at.elapsed())
    }

    fn refreshed(&self) -> MutexGuard<'_, Refreshed> {
        self.refreshed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last result; nothing before the first.
    fn kept(&self) -> Result<Snapshot, CollectError> {
        let refreshed = self.refreshed();
        match (&refreshed.error, &refreshed.data) {
            (Some(error), _) => Err(error.clone()),
            (None, Some((.., snapshot))) => Ok(snapshot.clone()),
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
        if !self.makes_sense(session, &limits).await? {
            return Ok(Snapshot::new());
        }
        self.check_cost(session, &limits).await?;
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
        for (index, emission) in self.query.emit.iter().enumerate() {
            let when = emission.when.as_ref().and_then(|_| rows.column(&format!("{WHEN}{index}")));
            self.emit(emission, when, &rows, &mut snapshot)?;
        }
        Ok(snapshot)
    }

    /// That the planner expects no more of the query than it may cost, now or not long ago.
    async fn check_cost(&self, session: &Kept, limits: &Limits) -> Result<(), CollectError> {
        let Some(max) = self.query.max_cost else { return Ok(()) };
        let known = *self.cost.lock().unwrap_or_else(PoisonError::into_inner);
        let cost = match known.filter(|(at, _)| at.elapsed() <= COST_INTERVAL) {
            Some((_, cost)) => cost,
            None => {
                let plan = session.query(&format!("EXPLAIN (FORMAT JSON) {}", self.sql), limits).await?;
                let plan = plan.first().and_then(|row| row.get(0)).unwrap_or_default();
                let plan: serde_json::Value = serde_json::from_str(plan).unwrap_or_default();
                let Some(cost) = plan[0]["Plan"]["Total Cost"].as_f64() else {
                    return Err(failure("the server's plan of the query has no total cost".to_owned()));
                };
                *self.cost.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), cost));
                cost
            }
        };
        match cost > max {
            true => Err(CollectError::new(
                Outcome::TooCostly,
                format!(
                    "the planner expects a cost of {cost:.0}, more than max_cost = {max}; \
                     see `check --connect` for the plan, or set max_cost of the query"
                ),
            )),
            false => Ok(()),
        }
    }

    /// Whether the query is to be run on this server.
    async fn makes_sense(&self, session: &Kept, limits: &Limits) -> Result<bool, CollectError> {
        let Requirements { min_version, max_version, role, extension, .. } = &self.query.requires;
        if let (true, Some(major)) = (min_version.or(*max_version).is_some(), session.major().await) {
            let fits =
                min_version.is_none_or(|min| major >= min) && max_version.is_none_or(|max| major <= max);
            if !fits {
                let message = format!("the query is not for PostgreSQL {major}");
                return Err(CollectError::new(Outcome::UnsupportedVersion, message));
            }
        }
        let Some(probe) = &self.probe else { return Ok(true) };
        let rows = session.query(probe, limits).await?;
        let says = |column| rows.first().and_then(|row| row.get(column)) == Some("t");
        if let (Some(extension), false) = (extension, says(1)) {
            let message = format!("the extension {extension} is not installed");
            return Err(CollectError::new(Outcome::MissingExtension, message));
        }
        Ok(role.is_none_or(|role| says(0) == (role == Role::Standby)) && says(2))
    }

    /// Adds what the rows give a family; `when` is the column that says which of them.
    fn emit(
        &self,
        emission: &Emission,
        when: Option<usize>,
        rows: &Rows,
        snapshot: &mut Snapshot,
    ) -> Result<(), CollectError> {
        let family = &emission.family;
        let column = |name: &String| find(family, rows, name);
        let sources = emission.labels.iter().map(|(label, name)| Ok((label.as_str(), column(name)?)));
        let sources = sources.collect::<Result<Vec<_>, CollectError>>()?;
        if let Values::Buckets { le, count, sum } = &emission.values {
            let columns = (column(le)?, column(count)?, sum.as_ref().map(column).transpose()?);
            return self.emit_histogram(emission, when, rows, &sources, columns, snapshot);
        }
        // One more label, with the values that it has.
        let (extra, values): (Option<&str>, Vec<Sample<'_>>) = match &emission.values {
            Values::Column(name) => (None, vec![(None, Some(column(name)?))]),
            Values::Pivot { label, columns } => {
                let columns = columns.iter().map(|name| Ok((Some(name.as_str()), Some(column(name)?))));
                (Some(label), columns.collect::<Result<_, CollectError>>()?)
            }
            Values::State(_) => {
                let states = family.states.iter().map(|state| (Some(state.as_str()), None));
                (Some(&family.desc.name), states.collect())
            }
            Values::Info | Values::Buckets { .. } => (None, vec![(None, None)]),
        };
        let state = match &emission.values {
            Values::State(name) => Some(column(name)?),
            _ => None,
        };
        let mut series = Series::default();
        if emission.init_zero() {
            for (value, _) in &values {
                for labels in product(emission) {
                    let fixed = emission.static_labels.iter().map(|(_, value)| Cow::Borrowed(value.as_str()));
                    let extra = value.map(Cow::Borrowed);
                    series.samples.insert(labels.into_iter().chain(fixed).chain(extra).collect(), None);
                }
            }
        }
        for row in chosen(rows, when) {
            let current = state.map(|state| row.get(state).unwrap_or(NULL_LABEL));
            if current.is_some_and(|current| family.states.iter().all(|known| known != current)) {
                family.rejections.count();
                continue;
            }
            for (of_extra, index) in &values {
                let value = match index {
                    Some(index) => self.value(row, *index, rows)?,
                    None => Some(f64::from(u8::from(current.is_none() || current == *of_extra))),
                };
                let Some(value) = value else { continue };
                let extra = extra.zip(*of_extra);
                series.add(emission, labels(emission, &sources, row).chain(extra), value);
            }
        }
        self.check_number(emission, series.samples.len())?;
        let names: Vec<&str> = names(emission, &sources).chain(extra).collect();
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

    /// A histogram whose buckets are rows. Rows of one bucket add up.
    fn emit_histogram(
        &self,
        emission: &Emission,
        when: Option<usize>,
        rows: &Rows,
        sources: &[(&str, usize)],
        (le, count, sum): (usize, usize, Option<usize>),
        snapshot: &mut Snapshot,
    ) -> Result<(), CollectError> {
        let family = &emission.family;
        let (name, bounds) = (&family.desc.name, &family.buckets);
        let empty = || (vec![0.0; bounds.len() + 1], 0.0);
        let mut histograms: BTreeMap<LabelValues<'_>, (Vec<f64>, f64)> = BTreeMap::new();
        if emission.init_zero() {
            for labels in product(emission) {
                let fixed = emission.static_labels.iter().map(|(_, value)| Cow::Borrowed(value.as_str()));
                histograms.insert(labels.into_iter().chain(fixed).collect(), empty());
            }
        }
        for row in chosen(rows, when) {
            let bound = match row.get(le) {
                None => f64::INFINITY,
                Some(_) => self.value(row, le, rows)?.unwrap_or(f64::INFINITY),
            };
            #[expect(clippy::float_cmp, reason = "a bound is one of those declared, or a mistake")]
            let bucket = bounds.iter().position(|known| *known == bound);
            let Some(bucket) = bucket.or((bound == f64::INFINITY).then_some(bounds.len())) else {
                return Err(failure(format!("{name}: {bound} is not among its buckets {bounds:?}")));
            };
            let Some(observed) = self.value(row, count, rows)? else { continue };
            let total = match sum {
                Some(sum) => self.value(row, sum, rows)?.unwrap_or_default(),
                None => 0.0,
            };
            if !(observed >= 0.0 && observed.is_finite()) {
                return Err(failure(format!("{name}: a bucket has {observed} observations")));
            }
            let Some((labels, _)) = admit(emission, labels(emission, sources, row)) else { continue };
            let (buckets, sum) = histograms.entry(labels).or_insert_with(empty);
            buckets[bucket] += observed;
            *sum += total;
        }
        self.check_number(emission, histograms.len())?;
        let names: Vec<&str> = names(emission, sources).collect();
        let table = snapshot.table(&names);
        let columns = table.histogram(&family.desc, bounds);
        for (labels, (buckets, total)) in &histograms {
            let labels: Vec<&str> = labels.iter().map(AsRef::as_ref).collect();
            let mut below = 0.0;
            let cumulative = buckets.iter().map(|count| {
                below += count;
                Some(below)
            });
            let cumulative: Vec<Option<f64>> = cumulative.collect();
            let [buckets @ .., count] = cumulative.as_slice() else { continue };
            let total = sum.map(|_| *total);
            table.row(&labels).histogram(&columns, buckets, count.unwrap_or_default(), total);
        }
        Ok(())
    }

    fn check_number(&self, emission: &Emission, series: usize) -> Result<(), CollectError> {
        let (name, max) = (&emission.family.desc.name, self.query.max_series);
        match series > max {
            true => {
                Err(failure(format!("{name}: more than max_series = {max} series; nothing of it is shown")))
            }
            false => Ok(()),
        }
    }

    /// The value of a cell; none when there is to be no sample.
    fn value(&self, row: Row<'_>, index: usize, rows: &Rows) -> Result<Option<f64>, CollectError> {
        let name = || rows.columns().nth(index).unwrap_or_default().to_owned();
        let Some(text) = row.get(index) else {
            return match self.query.null_value {
                NullValue::Skip => Ok(None),
                NullValue::Zero => Ok(Some(0.0)),
                NullValue::Error => {
                    Err(failure(format!("column {:?} is NULL; coalesce it, or set null_value", name())))
                }
            };
        };
        match row.float(index) {
            Some(value) => Ok(Some(value)),
            None => {
                let shown: String = text.chars().take(40).collect();
                let advice = "cast it, e.g. extract(epoch FROM …)";
                Err(failure(format!("column {:?} is not a number: {shown:?}; {advice}", name())))
            }
        }
    }
}

impl Collector<Kept> for QueryCollector {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn collect<'a>(&'a self, session: &'a Kept) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        match self.query.schedule {
            None => self.run(session).boxed(),
            Some(_) => std::future::ready(self.kept()).boxed(),
        }
    }
}

type LabelValues<'a> = Vec<Cow<'a, str>>;

/// What a row gives: a value of the one more label that the family may have, and the column of the number; without a
/// column it is 1, or 0 for a state that is not the current one.
type Sample<'a> = (Option<&'a str>, Option<usize>);

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
        let Some((admitted, folded)) = admit(emission, labels) else { return };
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

/// A label set as its domains have it, and whether some value of it became the one for others; none when it is rejected,
/// which is counted.
fn admit<'a>(
    emission: &'a Emission,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
) -> Option<(LabelValues<'a>, bool)> {
    let (mut admitted, mut folded) = (Vec::new(), false);
    for (label, value) in labels {
        let domain = emission.family.labels.get(label).map(|domain| domain.admit(value));
        match domain.unwrap_or(Admitted::As(Cow::Borrowed(value))) {
            Admitted::As(value) => admitted.push(value),
            Admitted::Folded(value) => {
                folded = true;
                admitted.push(value);
            }
            Admitted::Rejected => {
                emission.family.rejections.count();
                return None;
            }
        }
    }
    Some((admitted, folded))
}

/// The labels of a row: those from columns, then the fixed ones.
fn labels<'a>(
    emission: &'a Emission,
    sources: &'a [(&'a str, usize)],
    row: Row<'a>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let from_columns =
        sources.iter().map(move |(label, index)| (*label, row.get(*index).unwrap_or(NULL_LABEL)));
    from_columns.chain(emission.static_labels.iter().map(|(label, value)| (label.as_str(), value.as_str())))
}

/// Names of the labels, in the order of [`labels`].
fn names<'a>(emission: &'a Emission, sources: &'a [(&'a str, usize)]) -> impl Iterator<Item = &'a str> {
    let fixed = emission.static_labels.iter().map(|(label, _)| label.as_str());
    sources.iter().map(|(label, _)| *label).chain(fixed)
}

/// The rows of which a column says so; without one, all.
fn chosen(rows: &Rows, when: Option<usize>) -> impl Iterator<Item = Row<'_>> {
    rows.iter().filter(move |row| when.is_none_or(|column| row.get(column) == Some("t")))
}

/// The place of a column.
fn find(family: &FamilyDefinition, rows: &Rows, name: &String) -> Result<usize, CollectError> {
    rows.column(name).ok_or_else(|| {
        let columns: Vec<&str> = rows.columns().filter(|name| !name.starts_with(WHEN)).collect();
        failure(format!("{}: no column {name:?}; there are {columns:?}", family.desc.name))
    })
}

/// A name that stays in memory as long as the process runs, like those of collectors that are written in code.
fn interned(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    match names.get(name) {
        Some(known) => known,
        None => {
            let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
            names.insert(kept);
            kept
        }
    }
}

/// A statement that says whether the server is a standby, the extension is there, and the relation is.
fn probe(requires: &Requirements) -> Option<String> {
    let Requirements { role, extension, relation, .. } = requires;
    if role.is_none() && extension.is_none() && relation.is_none() {
        return None;
    }
    let extension = extension.as_ref().map_or("true".to_owned(), |name| {
        format!("EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = '{name}')")
    });
    let relation = relation.as_ref().and_then(|name| name.split_once('.')).map_or("true".to_owned(), |(schema, name)| {
        format!(
            "EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                     WHERE n.nspname = '{schema}' AND c.relname = '{name}')"
        )
    });
    Some(format!("SELECT pg_catalog.pg_is_in_recovery(), {extension}, {relation}"))
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
