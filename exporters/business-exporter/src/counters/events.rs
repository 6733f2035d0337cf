//! Counts the events of a definition in one database, in the way that the role can use, and shows the counters.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Outcome, Spec};
use exporter_kit::telemetry::log::Throttle;
use exposition::{Desc, Kind, Snapshot};
use futures_util::FutureExt;
use futures_util::future::join_all;
use pg_client::{Limits, Rows};
use tokio::time::Instant;

use super::checkpoint::{Checkpoint, Standing};
use super::ddl::{self, ERRORS, TRUNCATED};
use super::observations::REFUSED;
use super::publication::{Key, LINEAGE, Publication, REGRESSION, Reading};
use super::series::{Entry, Enums, Series};
use super::{mode, stock, whole};
use crate::definition::{Counters, Defaults, Definition, EventDefinition, FamilyDefinition, Mode};
use crate::session::Kept;

/// Its name where queries have theirs.
pub const NAME: &str = "events";

/// Why values start again at 0.
const REASONS: [&str; 3] = [REGRESSION, LINEAGE, "installed"];

/// How often the same problem of a table is logged at most.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

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
    "How the events of a family are counted: ledger, checkpoint, snapshot, or none when they are not. Always 1.",
);
const EXACT: Desc = Desc::gauge(
    "business_exporter_exact",
    "Whether a family is known to be counted exactly: its triggers are in place and as the definition has them, or, by checkpoint, every row that outlives a refresh was found.",
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

const TABLE_SUCCESS: Desc = Desc::gauge(
    "business_exporter_table_success",
    "Whether the rows of a table of events could be counted in the last scrape, by checkpoint or snapshot.",
);
const WATERMARK_AGE: Desc = Desc::gauge(
    "business_exporter_watermark_age_seconds",
    "Time since the watermark of a table moved last: a transaction that writes to it holds it back.",
);
const LATE: Desc = Desc::counter(
    "business_exporter_late_rows_total",
    "Rows of a table that came at or below its watermark, and were not counted: their ids were taken long before.",
);

/// The events of one database.
pub struct Events {
    spec: Spec,
    families: BTreeMap<String, Arc<FamilyDefinition>>,
    /// Names of the families of the definition, each with its events.
    events: BTreeMap<String, BTreeSet<String>>,
    /// Names of the families, each with its tables.
    tables: BTreeMap<String, BTreeSet<String>>,
    /// Families that are counted in a mode other than the ledger.
    counted: BTreeMap<Mode, BTreeSet<String>>,
    counters: Counters,
    limits: Defaults,
    sql: Statements,
    throttle: Throttle,
    state: Mutex<State>,
}

struct Statements {
    mode: String,
    fold: String,
    read: String,
    intact: String,
    /// Absent when no label has an enum.
    enums: Option<String>,
    /// Name and statement of each stock.
    stocks: Vec<(String, String)>,
    checkpoint: Checkpoint,
    /// Of mode snapshot, by table.
    whole: BTreeMap<String, String>,
}

struct State {
    /// What is used, and since when that is known.
    mode: Option<(Mode, Instant)>,
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
    tables: BTreeMap<String, Table>,
    memory: whole::Memory,
}

/// How counting a table went, by checkpoint or snapshot.
#[derive(Default)]
struct Table {
    /// When it succeeded last.
    counted: Option<Instant>,
    /// Why it did not the last time.
    problem: Option<String>,
    /// Age of the watermark.
    age: Option<f64>,
    late: f64,
}

impl Events {
    /// The events of a definition, if it has any. Nothing is read yet.
    pub fn new(definition: &Definition) -> Option<Arc<Events>> {
        if definition.events.is_empty() {
            return None;
        }
        let counters = definition.counters.clone();
        let mut events: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut tables: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut families = BTreeMap::new();
        let mut with_values = BTreeSet::new();
        for event in &definition.events {
            for emission in &event.emit {
                let name = emission.family.desc.name.to_string();
                events.entry(name.clone()).or_default().insert(event.name.clone());
                tables.entry(name.clone()).or_default().insert(event.source());
                if emission.value.is_some() {
                    with_values.insert(name.clone());
                }
                families.insert(name, Arc::clone(&emission.family));
            }
        }
        let counted = [Mode::Checkpoint, Mode::Snapshot].map(|mode| {
            let counts = |family: &&String| mode::counts(definition, mode, family);
            (mode, events.keys().filter(counts).cloned().collect())
        });
        let names = definition.events.iter().map(|event| event.name.clone());
        for own in [
            FamilyDefinition::own(ERRORS_DESC, "event", names),
            FamilyDefinition::own(REFUSED_DESC, "family", with_values),
            FamilyDefinition::own(
                TRUNCATED_DESC,
                "table",
                definition.events.iter().map(EventDefinition::source),
            ),
        ] {
            families.insert(own.desc.name.to_string(), Arc::new(own));
        }
        let state = State {
            mode: None,
            publication: Publication::new(counters.regress_grace.get(), counters.regress_max),
            folded: None,
            waiting: false,
            restart: None,
            shown: None,
            unfolded: 0.0,
            intact: BTreeMap::new(),
            compared: None,
            drift: BTreeMap::new(),
            tables: BTreeMap::new(),
            memory: whole::Memory::default(),
        };
        let spec = Spec { name: NAME, doc: "Counters of events", default_enabled: true };
        let counted = BTreeMap::from(counted);
        Some(Arc::new(Events {
            sql: Statements::new(definition, &counted[&Mode::Snapshot]),
            spec,
            families,
            events,
            tables,
            counted,
            counters,
            limits: definition.defaults,
            throttle: Throttle::new(LOG_INTERVAL),
            state: Mutex::new(state),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(&self, session: &Kept) -> Result<Snapshot, CollectError> {
        let now = Instant::now();
        let remaining = session.deadline().saturating_duration_since(now).mul_f32(0.9);
        let limits = Limits {
            statement_timeout: Some(self.limits.timeout.get().min(remaining)),
            lock_timeout: Some(self.limits.lock_timeout.get()),
            read_only: true,
            ..Limits::default()
        };
        let mode = self.mode(session, &limits, now).await?;
        let result = match mode {
            Mode::Snapshot => self.count(session, limits, now).await,
            Mode::Checkpoint => {
                let tables = self.look(session, &limits).await?;
                self.read(session, mode, limits, tables, now).await
            }
            Mode::Auto | Mode::Ledger => self.read(session, mode, limits, Vec::new(), now).await,
        };
        if result.as_ref().is_err_and(|error| matches!(error.outcome, Outcome::Error | Outcome::Permission)) {
            // What it stood on may be gone.
            self.state().mode = None;
        }
        result
    }

    /// How to count. A ledger stays; what is weaker is asked for again now and then, as the ledger may be installed.
    async fn mode(&self, session: &Kept, limits: &Limits, now: Instant) -> Result<Mode, CollectError> {
        if self.counters.mode != Mode::Auto {
            self.state().mode = Some((self.counters.mode, now));
            return Ok(self.counters.mode);
        }
        let interval = self.counters.fold_interval.get();
        match self.state().mode {
            Some((Mode::Ledger, _)) => return Ok(Mode::Ledger),
            Some((mode, at)) if now.saturating_duration_since(at) < interval => return Ok(mode),
            _ => {}
        }
        let mode = mode::strongest(&session.query(&self.sql.mode, limits).await?);
        let mut state = self.state();
        if state.mode.is_some_and(|(before, _)| before != mode) {
            // It was of what was used before.
            state.restart = None;
        }
        state.mode = Some((mode, now));
        Ok(mode)
    }

    /// Where tables stand, and who writes to each, in this order.
    async fn look(&self, session: &Kept, limits: &Limits) -> Result<Vec<(Standing, String)>, CollectError> {
        let sql = &self.sql.checkpoint;
        let (look, holders) =
            futures_util::join!(session.query(&sql.look, limits), session.query(&sql.holders, limits));
        let (look, holders) = (look.map_err(advise)?, holders?);
        let holders: BTreeMap<&str, &str> =
            holders.iter().filter_map(|row| Some((row.get(0)?, row.get(1)?))).collect();
        let standings = Checkpoint::standing(&look).into_iter();
        Ok(standings
            .map(|standing| {
                let holders = holders.get(standing.source.as_str()).copied().unwrap_or("{}").to_owned();
                (standing, holders)
            })
            .collect())
    }

    /// Counts what is new by checkpoint, folds if it is time, then reads what is counted, all in one write. Which
    /// replica does it does not matter; and if none folds, the values are the same.
    async fn read(
        &self,
        session: &Kept,
        mode: Mode,
        limits: Limits,
        tables: Vec<(Standing, String)>,
        now: Instant,
    ) -> Result<Snapshot, CollectError> {
        let writing = Limits { read_only: false, ..limits };
        let maybe = |sql: Option<String>, limits: Limits| async move {
            match sql {
                Some(sql) => Some(session.query(&sql, &limits).await),
                None => None,
            }
        };
        let ledger = mode == Mode::Ledger;
        let step = |(standing, holders): &(Standing, String)| {
            let sql = match standing.problem {
                None => self.sql.checkpoint.step(standing, holders),
                Some(_) => None,
            };
            maybe(sql, writing)
        };
        let steps = join_all(tables.iter().map(step));
        let audits = join_all(tables.iter().map(|(standing, _)| {
            let sound = standing.problem.is_none();
            maybe(self.sql.checkpoint.audit(standing).filter(|_| sound), writing)
        }));
        let compared = self.is_compared_before(now) || !ledger;
        let stocks = self.sql.stocks.iter().filter(|_| !compared);
        let stocks =
            join_all(stocks.map(|(name, sql)| async move { (name, session.query(sql, &limits).await) }));
        let (folded, steps, _, read, intact, enums, stocks) = futures_util::join!(
            maybe(self.due(now), writing),
            steps,
            // One that takes too long is made another time.
            audits,
            session.query(&self.sql.read, &limits),
            maybe(ledger.then(|| self.sql.intact.clone()), limits),
            maybe(self.sql.enums.clone(), limits),
            stocks
        );
        let read = read.map_err(advise)?;
        let intact = intact.transpose()?.unwrap_or_default();
        let enums = values_of_enums(&enums.transpose()?.unwrap_or_default());
        let text = |column| read.first().and_then(|row| row.get(column)).unwrap_or_default().to_owned();
        let entries = read.iter().filter_map(|row| Entry::parse(row, 3));
        let mut state = self.state();
        let (values, waiting) = self.values(entries, &enums, mode, None);
        let reading = Reading { epoch: text(0), reason: text(1), values };
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
        for ((standing, _), step) in tables.into_iter().zip(steps) {
            let failed = step.and_then(Result::err).map(|error| error.message);
            let table = state.tables.entry(standing.source).or_default();
            table.problem = standing.problem.or(failed);
            if table.problem.is_none() {
                table.counted = Some(now);
            }
            (table.age, table.late) = (standing.age, standing.late);
        }
        if state.publication.take(reading, now) {
            state.restart = state.publication.epoch().map(str::to_owned);
        }
        Ok(self.publish(&mut state, mode, now))
    }

    /// Counts whole tables, each at most once in a while.
    async fn count(&self, session: &Kept, limits: Limits, now: Instant) -> Result<Snapshot, CollectError> {
        let interval = self.counters.snapshot_interval.get();
        let due: Vec<(&String, &String)> = {
            let state = self.state();
            let fresh = |table: &&String| {
                let counted = state.memory.tables.get(*table);
                counted.is_some_and(|(at, _)| now.saturating_duration_since(*at) < interval)
            };
            self.sql.whole.iter().filter(|(table, _)| !fresh(table)).collect()
        };
        let enums = async {
            match &self.sql.enums {
                Some(sql) => session.query(sql, &limits).await,
                None => Ok(Rows::default()),
            }
        };
        let counts =
            join_all(due.iter().map(|(table, sql)| async { (*table, session.query(sql, &limits).await) }));
        let (server, enums, counts) =
            futures_util::join!(session.query(whole::SERVER, &limits), enums, counts);
        let (server, enums) = (server?, values_of_enums(&enums?));
        let server = server.first().and_then(|row| row.get(0)).unwrap_or_default().to_owned();
        let mut state = self.state();
        let State { memory, tables, .. } = &mut *state;
        for (name, rows) in counts {
            let table = tables.entry(name.clone()).or_default();
            match rows {
                Ok(rows) => {
                    (table.counted, table.problem) = (Some(now), None);
                    let entries = rows.iter().filter_map(|row| Entry::parse(row, 0)).collect();
                    memory.tables.insert(name.clone(), (now, entries));
                }
                Err(error) => table.problem = Some(error.message),
            }
        }
        let entries: Vec<Entry> =
            memory.tables.values().flat_map(|(_, entries)| entries.iter().cloned()).collect();
        let (values, _) = self.values(entries.into_iter(), &enums, Mode::Snapshot, Some(memory));
        let ended = state.restart.take().map(|_| REGRESSION);
        let reading = state.memory.reading(&server, ended, values);
        if state.publication.take(reading, now) {
            state.restart = state.publication.epoch().map(str::to_owned);
        }
        Ok(self.publish(&mut state, Mode::Snapshot, now))
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

    /// The entries by series. Entries come in the order in which their labels were met, so that every replica admits the
    /// same values to a label with a maximum; where there is no such order, the process remembers. Also whether some wait
    /// for a fold.
    fn values(
        &self,
        entries: impl Iterator<Item = Entry>,
        enums: &Enums,
        mode: Mode,
        mut memory: Option<&mut whole::Memory>,
    ) -> (BTreeMap<Key, Vec<f64>>, bool) {
        let mut series: BTreeMap<&str, Series<'_>> = self
            .families
            .iter()
            .filter(|(name, _)| self.is_counted(mode, name))
            .map(|(name, family)| {
                let seen = memory.as_mut().and_then(|memory| memory.seen.remove(name));
                (name.as_str(), Series::new(family, seen))
            })
            .collect();
        let max_series = self.counters.max_series;
        for entry in entries {
            if let Some(series) = series.get_mut(entry.family.as_str()) {
                series.add(&entry, enums, max_series);
            }
        }
        let (mut values, mut waiting) = (BTreeMap::new(), false);
        for (name, series) in series {
            waiting |= series.waiting;
            series.family.rejections.set(series.rejected);
            for (labels, sums) in series.values(enums, max_series) {
                values.insert((name.to_owned(), labels), sums);
            }
            if let Some(memory) = &mut memory {
                memory.seen.insert(name.to_owned(), series.seen);
            }
        }
        (values, waiting)
    }

    /// Whether a family is shown in a mode. The exporter's own are wherever they mean something.
    fn is_counted(&self, mode: Mode, family: &str) -> bool {
        match (self.counted.get(&mode), self.events.contains_key(family)) {
            (None, _) => true,
            (Some(counted), true) => counted.contains(family),
            (Some(_), false) => family == REFUSED,
        }
    }

    /// What is shown of the counters now, which is what is shown when they cannot be read the next time.
    fn publish(&self, state: &mut State, mode: Mode, now: Instant) -> Snapshot {
        let fresh = |family: &String| {
            let mut tables = self.tables.get(family).into_iter().flatten();
            mode == Mode::Ledger || tables.all(|table| self.is_fresh(state.tables.get(table), now))
        };
        let shown = |family: &String| self.is_counted(mode, family) && fresh(family);
        let snapshot = self.snapshot(state.publication.shown(), shown);
        state.shown = Some((now, snapshot.clone()));
        snapshot
    }

    /// Whether what is known of a table is not older than what may be shown.
    fn is_fresh(&self, table: Option<&Table>, now: Instant) -> bool {
        let counted = table.and_then(|table| table.counted);
        counted.is_some_and(|at| now.saturating_duration_since(at) <= self.counters.hold_max.get())
    }

    fn snapshot(&self, values: &BTreeMap<Key, Vec<f64>>, shown: impl Fn(&String) -> bool) -> Snapshot {
        let mut snapshot = Snapshot::new();
        for (name, family) in self.families.iter().filter(|(name, _)| shown(name)) {
            let labels: Vec<&str> = family.labels.keys().map(String::as_str).collect();
            let first = (name.clone(), Vec::new());
            let series = values.range(first..).take_while(|((family, _), _)| family == name);
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

    /// What could not be counted in the last pass, a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let problem =
            |(name, table): (&String, &Table)| Some(format!("events of {name}: {}", table.problem.as_ref()?));
        self.state().tables.iter().filter_map(problem).collect()
    }

    /// Adds what is to be said of the counters after a pass in which they were read, or were to be: when they were not,
    /// the last ones for a while, and afterwards none.
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
        let mode = state.mode.filter(|_| state.shown.is_some()).map(|(mode, _)| mode);
        if read && mode != Some(Mode::Snapshot) {
            page.sample(&UNFOLDED, state.unfolded);
        }
        if let Some((_, success)) = state.folded {
            page.sample(&FOLDED, flag(success));
        }
        let table = page.table(&["family", "mode"]);
        let column = table.column(&MODE);
        for family in self.events.keys() {
            let mode = mode.filter(|mode| self.is_counted(*mode, family)).map_or("none", Mode::as_str);
            table.row(&[family, mode]).set(column, 1.0);
        }
        let table = page.table(&["family"]);
        let [exact, held] = [&EXACT, &HELD].map(|desc| table.column(desc));
        for family in self.events.keys() {
            table
                .row(&[family])
                .set(exact, flag(mode.is_some_and(|mode| self.is_exact(&state, mode, family))))
                .set(held, state.publication.held(family));
        }
        let table = page.table(&["event"]);
        let column = table.column(&INTACT);
        for (event, intact) in &state.intact {
            table.row(&[event]).set(column, flag(*intact));
        }
        if mode != Some(Mode::Ledger) {
            self.finish_tables(&state, mode, page);
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

    fn finish_tables(&self, state: &State, mode: Option<Mode>, page: &mut Snapshot) {
        let columns = page.table(&["table"]);
        let [success, age, late] = [&TABLE_SUCCESS, &WATERMARK_AGE, &LATE].map(|desc| columns.column(desc));
        for (name, table) in &state.tables {
            let late_rows = (mode == Some(Mode::Checkpoint)).then_some(table.late);
            columns
                .row(&[name])
                .set(success, f64::from(u8::from(table.problem.is_none())))
                .set_some(age, table.age)
                .set_some(late, late_rows);
            if let Some(problem) = &table.problem
                && let Some(suppressed) = self.throttle.check(name)
            {
                tracing::warn!(
                    table = name,
                    error = problem,
                    suppressed,
                    "events of a table were not counted"
                );
            }
        }
    }

    fn is_exact(&self, state: &State, mode: Mode, family: &str) -> bool {
        let of = |names: &BTreeMap<String, BTreeSet<String>>, is_so: &dyn Fn(&String) -> bool| {
            names.get(family).is_some_and(|names| names.iter().all(is_so))
        };
        match mode {
            Mode::Auto | Mode::Snapshot => false,
            Mode::Ledger => of(&self.events, &|event| state.intact.get(event).copied().unwrap_or(false)),
            Mode::Checkpoint => {
                let sound = |table: &Table| table.problem.is_none() && table.late == 0.0;
                self.is_counted(mode, family)
                    && of(&self.tables, &|table| state.tables.get(table).is_some_and(sound))
            }
        }
    }
}

fn advise(mut error: CollectError) -> CollectError {
    if matches!(error.outcome, Outcome::Error | Outcome::Permission) {
        error.message += "; the owner of the tables installs the ledger: see `business-exporter ddl`";
    }
    error
}

/// The events as the scrape engine counts them.
pub struct EventsCollector(pub Arc<Events>);

impl Collector<Kept> for EventsCollector {
    fn spec(&self) -> &Spec {
        &self.0.spec
    }

    fn collect<'a>(&'a self, session: &'a Kept) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        self.0.run(session).boxed()
    }
}

impl Statements {
    fn new(definition: &Definition, whole: &BTreeSet<String>) -> Statements {
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
        Statements {
            mode: mode::statement(&definition.counters),
            fold: format!("SELECT {schema}.fold()"),
            read,
            intact,
            enums,
            stocks,
            checkpoint: Checkpoint::new(definition),
            whole: whole::statements(definition, &whole.iter().map(String::as_str).collect()),
        }
    }
}

/// The labels of each enum type by its name in the definition.
fn values_of_enums(rows: &Rows) -> Enums {
    let mut values = Enums::new();
    for row in rows.iter() {
        if let (Some(name), Some(label)) = (row.get(0), row.get(1)) {
            values.entry(name.to_owned()).or_default().insert(label.to_owned());
        }
    }
    values
}
