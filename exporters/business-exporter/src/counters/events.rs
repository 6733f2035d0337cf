//! Reads the ledger that the triggers of [`super::ddl`] fill, folds it, and shows its counters.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Outcome, Spec};
use exposition::{Desc, Kind, Snapshot};
use futures_util::FutureExt;
use futures_util::future::join_all;
use pg_client::{Limits, Row, Rows};
use tokio::time::Instant;

use super::ddl::{self, ERRORS, REFUSED, TRUNCATED};
use super::publication::{Key, Publication, Reading};
use super::stock;
use crate::definition::{Counters, Defaults, Definition, FamilyDefinition, Init};
use crate::domain::{Admitted, Domain};
use crate::session::Kept;

/// Its name where queries have theirs.
pub const NAME: &str = "ledger";

/// Why a ledger starts again at 0.
const REASONS: [&str; 3] = [REGRESSION, "lineage", "installed"];
const REGRESSION: &str = "regression";

const ERRORS_DESC: Desc =
    Desc::counter(ERRORS, "Statements whose event was not counted, because an expression failed.");
const REFUSED_DESC: Desc =
    Desc::counter(REFUSED, "Values of events that were not counted: negative, or endless.");
const TRUNCATED_DESC: Desc = Desc::counter(
    TRUNCATED,
    "Times that a table of events was emptied by TRUNCATE, which is no event of its rows.",
);

const MODE: Desc = Desc::gauge(
    "business_exporter_counter_mode",
    "Where the events of a family are counted: ledger, or none when that cannot be read. Always 1.",
);
const EXACT: Desc = Desc::gauge(
    "business_exporter_exact",
    "Whether every event of a family is counted: its triggers are in place and as the definition has them.",
);
const INTACT: Desc = Desc::gauge(
    "business_exporter_ledger_intact",
    "Whether the trigger of an event is in place, enabled, and as the definition has it.",
);
const UNFOLDED: Desc =
    Desc::gauge("business_exporter_ledger_unfolded_rows", "Rows that wait to be folded into totals.");
const FOLDED: Desc = Desc::gauge(
    "business_exporter_ledger_fold_success",
    "Whether the last attempt to fold the ledger succeeded.",
);
const AGE: Desc = Desc::gauge("business_exporter_ledger_age_seconds", "Age of the counters that are shown.");
const DRIFT: Desc = Desc::gauge(
    "business_exporter_ledger_drift_rows",
    "Rows of a table beyond those that its counters explain, by the value of a column, when last compared.",
);
const HELD: Desc = Desc::gauge(
    "business_exporter_held",
    "How far the database's value of a family is below the one that is shown.",
);
const RESTARTS: Desc = Desc::counter(
    "business_exporter_ledger_restarts_total",
    "Times that the ledger started again at 0 while this process ran.",
);

/// The ledger of one database.
pub struct Ledger {
    spec: Spec,
    families: BTreeMap<String, Arc<FamilyDefinition>>,
    /// Names of the families of the definition, each with its events.
    events: BTreeMap<String, BTreeSet<String>>,
    counters: Counters,
    limits: Defaults,
    sql: Statements,
    state: Mutex<State>,
}

struct Statements {
    fold: String,
    read: String,
    intact: String,
    /// Absent when no label has an enum.
    enums: Option<String>,
    /// Name and statement of each stock.
    stocks: Vec<(String, String)>,
}

struct State {
    publication: Publication,
    /// When the ledger was folded last, and whether that succeeded.
    folded: Option<(Instant, bool)>,
    /// Whether a label value waits to be folded before it is shown.
    waiting: bool,
    /// The epoch that is to end.
    restart: Option<String>,
    /// What was shown last.
    shown: Option<(Instant, Snapshot)>,
    unfolded: f64,
    intact: BTreeMap<String, bool>,
    /// When stocks were compared last, and by how much which value of which stock is off.
    compared: Option<Instant>,
    drift: BTreeMap<(String, String), f64>,
}

impl Ledger {
    /// The ledger of a definition, if it has events. Nothing is read yet.
    pub fn new(definition: &Definition) -> Option<Arc<Ledger>> {
        if definition.events.is_empty() {
            return None;
        }
        let counters = definition.counters.clone();
        let mut events: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut families = BTreeMap::new();
        let mut with_values = BTreeSet::new();
        for event in &definition.events {
            for emission in &event.emit {
                let name = emission.family.desc.name.to_string();
                events.entry(name.clone()).or_default().insert(event.name.clone());
                if emission.value.is_some() {
                    with_values.insert(name.clone());
                }
                families.insert(name, Arc::clone(&emission.family));
            }
        }
        let names = definition.events.iter().map(|event| event.name.clone());
        let tables = definition.events.iter().map(|event| format!("{}.{}", event.table.0, event.table.1));
        for own in [
            FamilyDefinition::own(ERRORS_DESC, "event", names),
            FamilyDefinition::own(REFUSED_DESC, "family", with_values),
            FamilyDefinition::own(TRUNCATED_DESC, "table", tables),
        ] {
            families.insert(own.desc.name.to_string(), Arc::new(own));
        }
        let state = State {
            publication: Publication::new(counters.regress_grace.get(), counters.regress_max),
            folded: None,
            waiting: false,
            restart: None,
            shown: None,
            unfolded: 0.0,
            intact: BTreeMap::new(),
            compared: None,
            drift: BTreeMap::new(),
        };
        let spec = Spec { name: NAME, doc: "Counters of events", default_enabled: true };
        let (sql, limits, state) = (Statements::new(definition), definition.defaults, Mutex::new(state));
        Some(Arc::new(Ledger { spec, families, events, counters, limits, sql, state }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds if it is time, then reads, all in one write. Which replica folds does not matter, and if none does, the
    /// values are the same.
    async fn run(&self, session: &Kept) -> Result<Snapshot, CollectError> {
        let now = Instant::now();
        let remaining = session.deadline().saturating_duration_since(now).mul_f32(0.9);
        let limits = Limits {
            statement_timeout: Some(self.limits.timeout.get().min(remaining)),
            lock_timeout: Some(self.limits.lock_timeout.get()),
            read_only: true,
            ..Limits::default()
        };
        let write = self.due(now);
        let writing = Limits { read_only: false, ..limits };
        let fold = async {
            match &write {
                Some(sql) => Some(session.query(sql, &writing).await),
                None => None,
            }
        };
        let enums = async {
            match &self.sql.enums {
                Some(sql) => session.query(sql, &limits).await,
                None => Ok(Rows::default()),
            }
        };
        let compared = self.is_compared_before(now);
        let stocks = self.sql.stocks.iter().filter(|_| !compared);
        let stocks =
            join_all(stocks.map(|(name, sql)| async move { (name, session.query(sql, &limits).await) }));
        let (folded, read, intact, enums, stocks) = futures_util::join!(
            fold,
            session.query(&self.sql.read, &limits),
            session.query(&self.sql.intact, &limits),
            enums,
            stocks
        );
        let read = read.map_err(|mut error| {
            if matches!(error.outcome, Outcome::Error | Outcome::Permission) {
                error.message += "; the owner of the tables installs the ledger: see `business-exporter ddl`";
            }
            error
        })?;
        let (intact, enums) = (intact?, enums?);
        let (reading, waiting) = self.reading(&read, &values_of_enums(&enums));
        let mut state = self.state();
        if let Some(folded) = folded {
            state.folded = Some((now, folded.is_ok()));
            state.restart = None;
        }
        state.waiting = waiting;
        state.unfolded = read.first().and_then(|row| row.float(2)).unwrap_or_default();
        state.intact =
            intact.iter().filter_map(|row| Some((row.get(0)?.to_owned(), row.get(1)? == "true"))).collect();
        for (stock, rows) in stocks {
            state.compared = Some(now);
            // A table that is too large to be read in time keeps what was found last.
            let Ok(rows) = rows else { continue };
            state.drift.retain(|(name, _), _| name != stock);
            let off =
                rows.iter().filter_map(|row| Some(((stock.clone(), row.get(0)?.to_owned()), row.float(3)?)));
            state.drift.extend(off);
        }
        if state.publication.take(reading, now) {
            state.restart = state.publication.epoch().map(str::to_owned);
        }
        let snapshot = self.snapshot(state.publication.shown());
        state.shown = Some((now, snapshot.clone()));
        Ok(snapshot)
    }

    /// Whether stocks were compared not long ago.
    fn is_compared_before(&self, now: Instant) -> bool {
        let interval = self.counters.reconcile_interval.get();
        self.state().compared.is_some_and(|at| now.saturating_duration_since(at) < interval)
    }

    /// What is to be written now, if anything.
    fn due(&self, now: Instant) -> Option<String> {
        let state = self.state();
        let recent = |at: Instant| now.saturating_duration_since(at) < self.counters.fold_interval.get();
        let schema = self.counters.schema();
        let write = match &state.restart {
            // The epoch is the server's own text, checked to be harmless by the cast.
            Some(epoch) => format!("SELECT {schema}.restart('{}', '{REGRESSION}')", epoch.replace('\'', "")),
            None if !state.waiting && state.folded.is_some_and(|(at, _)| recent(at)) => return None,
            None => self.sql.fold.clone(),
        };
        Some(format!("SET LOCAL transaction_read_only = off; {write}"))
    }

    /// The rows by series, with labels as their domains have them. Rows come in the order in which the ledger met their
    /// labels, so that every replica admits the same values to a label with a maximum. Also whether some wait for a fold.
    fn reading(&self, rows: &Rows, enums: &BTreeMap<String, BTreeSet<String>>) -> (Reading, bool) {
        let text = |column| rows.first().and_then(|row| row.get(column)).unwrap_or_default().to_owned();
        let (epoch, reason) = (text(0), text(1));
        let mut sums: BTreeMap<&str, FamilySums<'_>> =
            self.families.iter().map(|(name, family)| (name.as_str(), FamilySums::new(family))).collect();
        for row in rows.iter() {
            let Some(sums) = row.get(3).and_then(|family| sums.get_mut(family)) else { continue };
            sums.add(row, enums, self.counters.max_series);
        }
        let (mut values, mut waiting) = (BTreeMap::new(), false);
        for (name, sums) in sums {
            waiting |= sums.waiting;
            sums.family.rejections.set(sums.rejected);
            let zeros = zeros(sums.family, enums, self.counters.max_series);
            for labels in zeros {
                values.insert((name.to_owned(), labels), Sum::default().values(sums.family));
            }
            for (labels, sum) in sums.series {
                values.insert((name.to_owned(), labels), sum.values(sums.family));
            }
        }
        (Reading { epoch, reason, values }, waiting)
    }

    fn snapshot(&self, shown: &BTreeMap<Key, Vec<f64>>) -> Snapshot {
        let mut snapshot = Snapshot::new();
        for (name, family) in &self.families {
            let labels: Vec<&str> = family.labels.keys().map(String::as_str).collect();
            let first = (name.clone(), Vec::new());
            let series = shown.range(first..).take_while(|((family, _), _)| family == name);
            let table = snapshot.table(&labels);
            if family.desc.kind == Kind::Histogram {
                let columns = table.histogram(&family.desc, &family.buckets);
                for ((_, labels), values) in series {
                    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
                    let [buckets @ .., sum, count] = values.as_slice() else { continue };
                    let buckets: Vec<Option<f64>> = buckets.iter().copied().map(Some).collect();
                    table.row(&labels).histogram(&columns, &buckets, *count, Some(*sum));
                }
            } else {
                let column = table.column(&family.desc);
                for ((_, labels), values) in series {
                    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
                    table.row(&labels).set_some(column, values.first().copied());
                }
            }
        }
        snapshot
    }

    /// Adds what is to be said of the ledger after a pass in which it was read, or was to be: when it was not, the last
    /// counters for a while, and afterwards none.
    pub fn finish(&self, read: bool, page: &mut Snapshot) {
        let (state, now) = (self.state(), Instant::now());
        let age = state.shown.as_ref().map(|(at, _)| now.saturating_duration_since(*at));
        if let Some((_, shown)) = &state.shown
            && !read
            && age.is_some_and(|age| age <= self.counters.hold_max.get())
        {
            page.append(shown.clone());
        }
        let flag = |condition: bool| f64::from(u8::from(condition));
        if let Some(age) = age {
            page.sample(&AGE, age.as_secs_f64());
        }
        if read {
            page.sample(&UNFOLDED, state.unfolded);
        }
        if let Some((_, success)) = state.folded {
            page.sample(&FOLDED, flag(success));
        }
        let table = page.table(&["family", "mode"]);
        let mode = table.column(&MODE);
        for family in self.events.keys() {
            table.row(&[family, if state.shown.is_some() { NAME } else { "none" }]).set(mode, 1.0);
        }
        let table = page.table(&["family"]);
        let [exact, held] = [&EXACT, &HELD].map(|desc| table.column(desc));
        for (family, events) in &self.events {
            let intact = |event| state.intact.get(event).copied().unwrap_or(false);
            table
                .row(&[family])
                .set(exact, flag(events.iter().all(intact)))
                .set(held, state.publication.held(family));
        }
        let table = page.table(&["event"]);
        let column = table.column(&INTACT);
        for (event, intact) in &state.intact {
            table.row(&[event]).set(column, flag(*intact));
        }
        let table = page.table(&["stock", "value"]);
        let column = table.column(&DRIFT);
        for ((stock, value), rows) in &state.drift {
            table.row(&[stock, value]).set(column, *rows);
        }
        let table = page.table(&["reason"]);
        let column = table.column(&RESTARTS);
        for reason in REASONS {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            table.row(&[reason]).set(column, state.publication.resets(reason) as f64);
        }
    }
}

/// The ledger as the scrape engine runs it.
pub struct LedgerCollector(pub Arc<Ledger>);

impl Collector<Kept> for LedgerCollector {
    fn spec(&self) -> &Spec {
        &self.0.spec
    }

    fn collect<'a>(&'a self, session: &'a Kept) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        self.0.run(session).boxed()
    }
}

impl Statements {
    fn new(definition: &Definition) -> Statements {
        let schema = definition.counters.schema();
        let read = format!(
            "SELECT l.epoch, l.reason, (SELECT count(*) FROM {schema}.delta), \
                    v.family, pg_catalog.to_json(v.labels), v.le, v.n, v.s, v.position \
             FROM {schema}.ledger AS l LEFT JOIN ( \
                 SELECT family, labels, le, sum(n) AS n, min(position) AS position, \
                        sum(sum(s)) OVER (PARTITION BY family, labels) AS s \
                 FROM (SELECT family, labels, le, n - n_before AS n, s - s_before AS s, position FROM {schema}.total \
                       UNION ALL SELECT family, labels, le, n, s, NULL FROM {schema}.delta) AS parts \
                 GROUP BY family, labels, le) AS v ON true \
             ORDER BY v.position NULLS LAST, v.family, v.labels, v.le"
        );
        let mut triggers = String::new();
        for (index, trigger) in ddl::triggers(definition).iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let (event, table, name, hash) =
                (&trigger.event.name, &trigger.table, &trigger.name, trigger.hash());
            // Writing into a String cannot fail.
            let _ = write!(triggers, "{comma}('{event}', '{table}', '{name}', '{hash}')");
        }
        let intact = format!(
            "SELECT e.event, (p.oid IS NOT NULL)::text \
             FROM (VALUES {triggers}) AS e (event, relation, name, hash) \
             LEFT JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = pg_catalog.to_regclass(e.relation) \
                  AND t.tgname = e.name AND t.tgenabled = 'A' \
             LEFT JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid AND p.prosecdef AND e.hash = \
                  pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(p.prosrc, 'UTF8')), 'hex')"
        );
        let emissions = definition.events.iter().flat_map(|event| &event.emit);
        let labels = emissions.flat_map(|emission| emission.family.labels.values());
        let types: BTreeSet<&str> = labels.filter_map(|label| label.domain().enum_type.as_deref()).collect();
        let enums = (!types.is_empty()).then(|| {
            let types: Vec<String> = types.iter().map(|name| format!("('{name}')")).collect();
            format!(
                "SELECT e.name, v.enumlabel FROM (VALUES {}) AS e (name) \
                 JOIN pg_catalog.pg_enum AS v ON v.enumtypid = pg_catalog.to_regtype(e.name)",
                types.join(", ")
            )
        });
        let stocks = definition.stocks.iter();
        let stocks = stocks.map(|one| (stock::name(one), stock::reconcile(schema, one))).collect();
        Statements { fold: format!("SELECT {schema}.fold()"), read, intact, enums, stocks }
    }
}

/// The labels of each enum type by its name in the definition.
fn values_of_enums(rows: &Rows) -> BTreeMap<String, BTreeSet<String>> {
    let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows.iter() {
        if let (Some(name), Some(label)) = (row.get(0), row.get(1)) {
            values.entry(name.to_owned()).or_default().insert(label.to_owned());
        }
    }
    values
}

/// What the rows of one family add up to.
struct FamilySums<'a> {
    family: &'a FamilyDefinition,
    series: BTreeMap<Vec<String>, Sum>,
    /// Values that labels with a maximum have, by label.
    seen: Vec<BTreeSet<String>>,
    /// Labels in the ledger whose sum was added: the server adds it up exactly, whatever the bounds are.
    added: BTreeSet<Vec<String>>,
    rejected: u64,
    waiting: bool,
}

/// One series, or one histogram: observations by upper bound, and their sum.
#[derive(Default)]
struct Sum {
    observations: Vec<(f64, f64)>,
    sum: f64,
}

impl<'a> FamilySums<'a> {
    fn new(family: &'a FamilyDefinition) -> FamilySums<'a> {
        let seen = vec![BTreeSet::new(); family.labels.len()];
        FamilySums {
            family,
            series: BTreeMap::new(),
            seen,
            added: BTreeSet::new(),
            rejected: 0,
            waiting: false,
        }
    }

    fn add(&mut self, row: Row<'_>, enums: &BTreeMap<String, BTreeSet<String>>, max_series: usize) {
        let labels: Option<Vec<String>> = row.get(4).and_then(|text| serde_json::from_str(text).ok());
        let (Some(labels), Some(le), Some(n), Some(s)) = (labels, row.float(5), row.float(6), row.float(7))
        else {
            return;
        };
        let folded = row.get(8).is_some();
        match self.admit(&labels, folded, enums) {
            Place::Series(place) if self.series.len() < max_series || self.series.contains_key(&place) => {
                let sum = self.series.entry(place).or_default();
                sum.observations.push((le, n));
                if self.added.insert(labels) {
                    sum.sum += s;
                }
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count, at least 0"
            )]
            Place::Series(_) | Place::Nowhere => self.rejected += n as u64,
            Place::Later => self.waiting = true,
        }
    }

    fn admit(
        &mut self,
        labels: &[String],
        folded: bool,
        enums: &BTreeMap<String, BTreeSet<String>>,
    ) -> Place {
        if labels.len() != self.family.labels.len() {
            // The definition had other labels when these were counted.
            return Place::Nowhere;
        }
        let mut admitted = Vec::with_capacity(labels.len());
        for ((value, label), seen) in labels.iter().zip(self.family.labels.values()).zip(&mut self.seen) {
            let domain = label.domain();
            let inside = match domain {
                Domain { values: Some(values), .. } => values.contains(value),
                Domain { enum_type: Some(name), .. } => {
                    enums.get(name).is_some_and(|values| values.contains(value))
                }
                Domain { max: Some(max), .. } if !seen.contains(value) && seen.len() < *max => {
                    if !folded {
                        // Whether it is among the first ones is settled when it is folded.
                        return Place::Later;
                    }
                    seen.insert(value.clone());
                    true
                }
                Domain { max: Some(_), .. } => seen.contains(value),
                _ => true,
            };
            match domain.place(value, inside) {
                Admitted::As(value) | Admitted::Folded(value) => admitted.push(Cow::into_owned(value)),
                Admitted::Rejected => return Place::Nowhere,
            }
        }
        Place::Series(admitted)
    }
}

/// Where a row of the ledger belongs.
enum Place {
    Series(Vec<String>),
    Later,
    Nowhere,
}

impl Sum {
    /// The values that are shown, see [`Reading`].
    fn values(&self, family: &FamilyDefinition) -> Vec<f64> {
        if family.desc.kind != Kind::Histogram {
            return vec![self.sum];
        }
        let below =
            |bound: f64| self.observations.iter().filter(|(le, _)| *le <= bound).map(|(_, n)| n).sum();
        let buckets = family.buckets.iter().map(|bound| below(*bound));
        buckets.chain([self.sum, below(f64::INFINITY)]).collect()
    }
}

/// The label sets that are there from the start.
fn zeros(
    family: &FamilyDefinition,
    enums: &BTreeMap<String, BTreeSet<String>>,
    max_series: usize,
) -> Vec<Vec<String>> {
    if family.init == Some(Init::Observed) {
        return Vec::new();
    }
    let mut sets = vec![Vec::new()];
    for label in family.labels.values() {
        let domain = label.domain();
        let values: Vec<String> = match (domain.closed(), &domain.enum_type) {
            (Some(values), _) => values.into_iter().map(str::to_owned).collect(),
            (None, Some(name)) => {
                enums.get(name).into_iter().flatten().chain(&domain.other).cloned().collect()
            }
            (None, None) => return Vec::new(),
        };
        if sets.len().saturating_mul(values.len()) > max_series {
            return Vec::new();
        }
        sets = sets
            .iter()
            .flat_map(|front: &Vec<String>| {
                values.iter().map(|value| front.iter().cloned().chain([value.clone()]).collect::<Vec<_>>())
            })
            .collect();
    }
    sets
}
