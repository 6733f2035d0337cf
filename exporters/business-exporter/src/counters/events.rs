//! Counts the events of a definition in one database, in the way that the role can use, and shows the counters.

mod show;
mod statements;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Outcome, Spec};
use exporter_kit::telemetry::log::Throttle;
use exposition::{Desc, Snapshot};
use futures_util::FutureExt;
use futures_util::future::join_all;
use pg_client::{Limits, Rows};
use tokio::time::Instant;

use self::statements::{Statements, values_of_enums};
use super::checkpoint::{Checkpoint, Standing};
use super::ddl::{ERRORS, TRUNCATED};
use super::observations::REFUSED;
use super::publication::{Key, Publication, REGRESSION, Reading};
use super::series::{Entry, Enums, Series};
use super::{mode, whole};
use crate::definition::{Counters, Defaults, Definition, EventDefinition, FamilyDefinition, Mode};
use crate::session::Kept;

/// Its name where queries have theirs.
pub const NAME: &str = "events";

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

/// The events of one database.
pub struct Events {
    spec: Spec,
    database: String,
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
    /// When late rows were last looked for, whether that succeeded or not.
    audit: Option<Instant>,
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
            database: definition.database.name.clone(),
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

    /// Goes on where an older definition of the same database's events is, with the families that are still the same.
    pub fn inherit(&self, older: &Events) {
        let same = |name: &str| match (self.families.get(name), older.families.get(name)) {
            (Some(new), Some(old)) => {
                new.desc.kind == old.desc.kind
                    && new.buckets == old.buckets
                    && new.labels.keys().eq(old.labels.keys())
            }
            _ => false,
        };
        let before = older.state();
        let mut state = self.state();
        state.publication.inherit(&before.publication, same);
        state.memory.inherit(&before.memory, same);
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
        let audits = join_all(self.audits(&tables, now).into_iter().map(|sql| maybe(Some(sql), writing)));
        let compared = self.is_compared_before(now) || !ledger;
        let stocks = self.sql.stocks.iter().filter(|_| !compared);
        let stocks =
            join_all(stocks.map(|(name, sql)| async move { (name, session.query(sql, &limits).await) }));
        let (folded, steps, _, read, intact, enums, stocks) = futures_util::join!(
            maybe(self.due(now), writing),
            steps,
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

    /// What looks for late rows. A table that is too large to be read in time is not read again at once: that would cost
    /// the whole limit each time.
    fn audits(&self, tables: &[(Standing, String)], now: Instant) -> Vec<String> {
        let interval = self.counters.reconcile_interval.get();
        let mut state = self.state();
        let sound = tables.iter().map(|(standing, _)| standing).filter(|standing| standing.problem.is_none());
        let due = sound.filter_map(|standing| {
            let sql = self.sql.checkpoint.audit(standing)?;
            let table = state.tables.entry(standing.source.clone()).or_default();
            let tried = table.audit.is_some_and(|at| now.saturating_duration_since(at) < interval);
            (!tried).then(|| {
                table.audit = Some(now);
                sql
            })
        });
        due.collect()
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
