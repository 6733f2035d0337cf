//! What the page says of the events: the counters as they are published, and how the counting goes.

use std::collections::{BTreeMap, BTreeSet};

use exposition::{Desc, Kind, Snapshot};
use tokio::time::Instant;

use super::{Events, State, Table};
use crate::counters::publication::{Key, LINEAGE, REGRESSION};
use crate::definition::Mode;

/// Why values start again at 0.
const REASONS: [&str; 3] = [REGRESSION, LINEAGE, "installed"];

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

impl Events {
    /// What is shown of the counters now, which is what is shown when they cannot be read the next time.
    pub(super) fn publish(&self, state: &mut State, mode: Mode, now: Instant) -> Snapshot {
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
        let (mut snapshot, mut own) = (Snapshot::new(), Snapshot::new());
        for (name, family) in self.families.iter().filter(|(name, _)| shown(name)) {
            let snapshot = if self.events.contains_key(name) { &mut snapshot } else { &mut own };
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
        own.add_labels(&[("database", &self.database)]);
        snapshot.append(own);
        snapshot
    }

    /// What could not be counted in the last pass, a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let problem =
            |(name, table): (&String, &Table)| Some(format!("events of {name}: {}", table.problem.as_ref()?));
        self.state().tables.iter().filter_map(problem).collect()
    }

    /// Adds what is to be said after a pass in which the counters were read, or were to be. When they were not, the page
    /// gets the last ones for a while, and afterwards none.
    pub fn finish(&self, read: bool, page: &mut Snapshot, own: &mut Snapshot) {
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
            own.sample(&AGE, age.as_secs_f64());
        }
        let mode = state.mode.filter(|_| state.shown.is_some()).map(|(mode, _)| mode);
        if read && mode != Some(Mode::Snapshot) {
            own.sample(&UNFOLDED, state.unfolded);
        }
        if let Some((_, success)) = state.folded {
            own.sample(&FOLDED, flag(success));
        }
        let table = own.table(&["family", "mode"]);
        let column = table.column(&MODE);
        for family in self.events.keys() {
            let mode = mode.filter(|mode| self.is_counted(*mode, family)).map_or("none", Mode::as_str);
            table.row(&[family, mode]).set(column, 1.0);
        }
        let table = own.table(&["family"]);
        let [exact, held] = [&EXACT, &HELD].map(|desc| table.column(desc));
        for family in self.events.keys() {
            table
                .row(&[family])
                .set(exact, flag(mode.is_some_and(|mode| self.is_exact(&state, mode, family))))
                .set(held, state.publication.held(family));
        }
        let table = own.table(&["event"]);
        let column = table.column(&INTACT);
        for (event, intact) in &state.intact {
            table.row(&[event]).set(column, flag(*intact));
        }
        if mode != Some(Mode::Ledger) {
            self.finish_tables(&state, mode, own);
        }
        let table = own.table(&["stock", "value"]);
        let column = table.column(&DRIFT);
        for ((stock, value), rows) in &state.drift {
            table.row(&[stock, value]).set(column, *rows);
        }
        let table = own.table(&["reason"]);
        let column = table.column(&RESTARTS);
        for reason in REASONS {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            table.row(&[reason]).set(column, state.publication.resets(reason) as f64);
        }
    }

    fn finish_tables(&self, state: &State, mode: Option<Mode>, own: &mut Snapshot) {
        let columns = own.table(&["table"]);
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
