//! Collectors as data: which columns, under which names, since which version, from where.
//!
//! Most collectors are a [`Query::Columns`]: label columns, one value column a metric, and a FROM clause. The SELECT
//! is put together for the server's version, and every row becomes one row of the snapshot. Queries with the same FROM
//! clause are one statement ([`crate::read`]). A [`Query::Custom`] turns rows into samples itself, and so does a
//! [`Query::OfExtension`], for a server that has the extension.

use std::collections::BTreeMap;
use std::sync::Arc;

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Outcome, Spec};
use exposition::{Column, Desc, Shape, Snapshot, Table};
use futures_util::FutureExt;
use pg_client::Rows;

use crate::extension::OfExtension;
use crate::options::Compat;
use crate::progress::{self, Report};
use crate::read::{self, Found, Read, Wanted, at_once};
use crate::session::PgSession;

/// A collector of the PostgreSQL exporter.
pub struct PgCollector {
    /// What it says of itself.
    pub spec: Spec,
    /// Whose statistics it reads.
    pub scope: Scope,
    /// What makes it cost more.
    pub cost: Cost,
    /// Its statements. They leave together.
    pub queries: &'static [Query],
}

/// Whose statistics a collector reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The server's: the same from every database.
    Server,
    /// Those of one database: seen from inside it only.
    Database,
}

/// What a collector costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// The same few rows on every server.
    Low,
    /// A row for each of these.
    Grows(&'static str),
    /// More than that, and why.
    High(&'static str),
}

/// One statement, and what its result means.
pub enum Query {
    /// Every column is a label or a metric.
    Columns(Columns),
    /// The result needs a hand.
    Custom(Custom),
    /// The progress of a command.
    Report(Report),
    /// It reads what an extension brings.
    OfExtension(OfExtension),
}

/// A statement described by its columns.
pub struct Columns {
    /// First and last major version it is for.
    pub versions: Versions,
    /// Label columns: label name and SQL expression. NULL becomes the empty string.
    pub labels: &'static [(&'static str, &'static str)],
    /// Value columns. NULL means no sample.
    pub metrics: &'static [Metric],
    /// FROM, WHERE and what follows.
    pub from: &'static str,
    /// Joins behind it that add columns and no rows.
    pub joins: &'static [&'static str],
    /// Whether postgres_exporter puts the `server` label and constant labels on it.
    pub server_label: ServerLabel,
}

/// What is read, with its own way from rows to samples.
pub struct Custom {
    /// First and last major version it is for.
    pub versions: Versions,
    /// What is read.
    pub reads: &'static [&'static Read],
    /// From the rows of each read to samples.
    pub decode: fn(&[Found], &PgSession, &mut Snapshot),
    /// What it may put on the page; for the documentation.
    pub families: &'static [&'static Desc],
    /// Whether it shows sizes from the size lane.
    pub sizes: bool,
    /// Whether postgres_exporter puts the `server` label and constant labels on it.
    pub server_label: ServerLabel,
}

/// Which versions of postgres_exporter put `server` and constant labels on a family.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ServerLabel {
    /// None of them.
    Never,
    /// 0.19, not 0.20.
    Until0_19,
    /// All of them.
    Always,
}

impl ServerLabel {
    /// Whether a version of postgres_exporter puts them on it.
    pub(crate) fn applies(self, compat: Compat) -> bool {
        match self {
            ServerLabel::Never => false,
            ServerLabel::Until0_19 => compat == Compat::V0_19,
            ServerLabel::Always => true,
        }
    }
}

/// A range of major versions, both ends included.
#[derive(Clone, Copy)]
pub struct Versions(u32, u32);

impl Versions {
    /// Every supported version.
    pub const ALL: Versions = Versions(0, u32::MAX);

    /// From a version on.
    pub const fn since(major: u32) -> Versions {
        Versions(major, u32::MAX)
    }

    fn contains(self, major: u32) -> bool {
        (self.0..=self.1).contains(&major)
    }
}

/// What values become whose rows have the same labels. NULL counts for nothing.
#[derive(Clone, Copy)]
enum Combine {
    Sum,
    Min,
    Max,
}

impl Combine {
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Combine::Sum => a + b,
            Combine::Min => a.min(b),
            Combine::Max => a.max(b),
        }
    }
}

/// A metric and the SQL expression of its value.
pub struct Metric {
    desc: Desc,
    sql: &'static str,
    versions: Versions,
    /// What becomes of rows with the same labels, where there are such rows.
    combine: Option<Combine>,
    /// What 0.19 computes, where that is corrected.
    sql_before_0_20: Option<&'static str>,
    /// 0.19 wrote NaN where the value is unknown.
    nan_before_0_20: bool,
}

impl Metric {
    const fn new(desc: Desc, sql: &'static str) -> Metric {
        let (sql_before_0_20, nan_before_0_20) = (None, false);
        Metric { desc, sql, versions: Versions::ALL, combine: None, sql_before_0_20, nan_before_0_20 }
    }

    /// A counter.
    pub const fn counter(name: &'static str, sql: &'static str, help: &'static str) -> Metric {
        Metric::new(Desc::counter(name, help), sql)
    }

    /// A gauge.
    pub const fn gauge(name: &'static str, sql: &'static str, help: &'static str) -> Metric {
        Metric::new(Desc::gauge(name, help), sql)
    }

    /// A family without a type.
    pub const fn untyped(name: &'static str, sql: &'static str, help: &'static str) -> Metric {
        Metric::new(Desc::unknown(name, help), sql)
    }

    /// Only from a major version on.
    #[must_use]
    pub const fn since(mut self, major: u32) -> Metric {
        self.versions.0 = major;
        self
    }

    /// Only up to a major version.
    #[must_use]
    pub const fn until(mut self, major: u32) -> Metric {
        self.versions.1 = major;
        self
    }

    /// The sum over rows with the same labels.
    #[must_use]
    pub const fn sum(mut self) -> Metric {
        self.combine = Some(Combine::Sum);
        self
    }

    /// The least of rows with the same labels.
    #[must_use]
    pub const fn min(mut self) -> Metric {
        self.combine = Some(Combine::Min);
        self
    }

    /// The greatest of rows with the same labels.
    #[must_use]
    pub const fn max(mut self) -> Metric {
        self.combine = Some(Combine::Max);
        self
    }

    /// Written as NaN by 0.19 when unknown.
    #[must_use]
    pub const fn nan_before_0_20(mut self) -> Metric {
        self.nan_before_0_20 = true;
        self
    }

    /// Computed in another way by 0.19.
    #[must_use]
    pub const fn before_0_20(mut self, sql: &'static str) -> Metric {
        self.sql_before_0_20 = Some(sql);
        self
    }

    fn sql(&self, compat: Compat) -> &'static str {
        self.sql_before_0_20.filter(|_| compat == Compat::V0_19).unwrap_or(self.sql)
    }
}

impl Columns {
    fn metrics(&self, major: u32) -> impl Iterator<Item = &Metric> {
        self.metrics.iter().filter(move |metric| metric.versions.contains(major))
    }

    /// Labels, then metrics. Results come as text anyway; as a label, true is better than t.
    fn wanted(&self, major: u32, compat: Compat) -> Wanted {
        let labels = self.labels.iter().map(|(_, sql)| format!("({sql})::text"));
        let columns = labels.chain(self.metrics(major).map(|metric| metric.sql(compat).to_owned()));
        Wanted { columns: columns.collect(), from: self.from, joins: self.joins }
    }

    /// What its rows become.
    pub(crate) fn form(&self, major: u32, compat: Compat) -> Form {
        let labels: Vec<&str> = self.labels.iter().map(|(name, _)| *name).collect();
        let mut shape = Shape::new(&labels);
        let values = self.metrics(major).map(|metric| Value {
            column: shape.column(&metric.desc),
            nan: metric.nan_before_0_20 && compat == Compat::V0_19,
            combine: metric.combine,
        });
        Form { values: values.collect(), labels: labels.len(), shape: Arc::new(shape) }
    }
}

/// What the rows of a query of columns become.
pub(crate) struct Form {
    shape: Arc<Shape>,
    labels: usize,
    values: Vec<Value>,
}

/// A metric of a form.
struct Value {
    column: Column,
    /// Whether NULL is NaN.
    nan: bool,
    combine: Option<Combine>,
}

impl Form {
    /// `places` are the columns of the labels, then those of the metrics.
    fn decode(&self, rows: &Rows, places: &[usize], snapshot: &mut Snapshot) {
        let (label_places, places) = places.split_at(self.labels);
        let table = snapshot.table_of(&self.shape);
        if self.values.iter().any(|value| value.combine.is_some()) {
            return self.combine(rows, label_places, places, table);
        }
        let mut labels = vec![""; self.labels];
        for row in rows.iter() {
            for (label, place) in labels.iter_mut().zip(label_places) {
                *label = row.get(*place).unwrap_or_default();
            }
            let mut cells = table.row(&labels);
            for (value, place) in self.values.iter().zip(places) {
                cells.set_some(value.column, row.float(*place).or(value.nan.then_some(f64::NAN)));
            }
        }
    }

    /// Rows with the same labels become one.
    fn combine(&self, rows: &Rows, label_places: &[usize], places: &[usize], table: &mut Table) {
        let mut combined: BTreeMap<Vec<&str>, Vec<Option<f64>>> = BTreeMap::new();
        for row in rows.iter() {
            let labels = label_places.iter().map(|place| row.get(*place).unwrap_or_default()).collect();
            let sums = combined.entry(labels).or_insert_with(|| vec![None; self.values.len()]);
            for ((sum, value), place) in sums.iter_mut().zip(&self.values).zip(places) {
                let found = row.float(*place);
                *sum = match (*sum, found, value.combine) {
                    (Some(before), Some(found), Some(combine)) => Some(combine.of(before, found)),
                    (before, found, _) => before.or(found),
                };
            }
        }
        for (labels, values) in combined {
            let mut cells = table.row(&labels);
            for (value, found) in self.values.iter().zip(values) {
                cells.set_some(value.column, found);
            }
        }
    }
}

impl Query {
    fn versions(&self) -> Versions {
        match self {
            Query::Columns(columns) => columns.versions,
            Query::Custom(custom) => custom.versions,
            Query::Report(report) => report.versions,
            Query::OfExtension(_) => Versions::ALL,
        }
    }

    async fn run(&'static self, session: &PgSession) -> Result<Snapshot, CollectError> {
        let memory = session.memory();
        let mut snapshot = match self {
            Query::Columns(columns) => {
                let wanted = || columns.wanted(session.major(), session.options().compat);
                let statement = memory.plans().statement(columns, session.major(), wanted);
                let (rows, statement) = statement.run(session, wanted).await?;
                let form = memory.plans().form(columns, session.major());
                memory.snapshot(self, |snapshot| form.decode(&rows, &statement.places, snapshot))
            }
            Query::Custom(custom) => {
                let sizes = async {
                    if custom.sizes {
                        session.prepare_sizes().await;
                    }
                };
                let (found, ()) = tokio::join!(read::all(self.reads(), session), sizes);
                let found = found?;
                memory.snapshot(self, |snapshot| (custom.decode)(&found, session, snapshot))
            }
            Query::Report(report) => {
                let found = read::all(self.reads(), session).await?;
                memory.snapshot(self, |snapshot| report.decode(&found, session, snapshot))
            }
            // Boxed, for the others not to need as much room.
            Query::OfExtension(query) => return Box::pin(query.run(session)).await,
        };
        session.add_server_label(self.server_label(), &mut snapshot);
        Ok(snapshot)
    }

    /// What it wants of these places, which others may read, too.
    pub(crate) fn wanted(&self, places: impl Fn(&str) -> bool, major: u32, compat: Compat) -> Vec<Wanted> {
        let select = |read: &&Read| match read {
            Read::Select(select) if places(select.from) => Some(select.wanted()),
            _ => None,
        };
        match self {
            _ if !self.versions().contains(major) => Vec::new(),
            Query::Columns(columns) if places(columns.from) => vec![columns.wanted(major, compat)],
            _ => self.reads().iter().filter_map(select).collect(),
        }
    }

    pub(crate) fn reads(&self) -> &'static [&'static Read] {
        match self {
            Query::Custom(custom) => custom.reads,
            Query::Report(_) => progress::READS,
            Query::Columns(_) | Query::OfExtension(_) => &[],
        }
    }

    fn server_label(&self) -> ServerLabel {
        match self {
            Query::Columns(columns) => columns.server_label,
            Query::Custom(custom) => custom.server_label,
            Query::Report(_) | Query::OfExtension(_) => ServerLabel::Never,
        }
    }

    /// What it may put on the page; that of one major version, if one is named.
    pub fn families(&self, major: Option<u32>) -> Vec<Desc> {
        let applies = |versions: Versions| major.is_none_or(|major| versions.contains(major));
        if !applies(self.versions()) {
            return Vec::new();
        }
        match self {
            Query::Columns(columns) => {
                let metrics = columns.metrics.iter().filter(|metric| applies(metric.versions));
                metrics.map(|metric| metric.desc.clone()).collect()
            }
            Query::Custom(custom) => custom.families.iter().map(|desc| (*desc).clone()).collect(),
            Query::Report(report) => report.families(major),
            Query::OfExtension(query) => query.families.iter().map(|desc| (*desc).clone()).collect(),
        }
    }
}

/// Families that have the `server` label in 0.19 without being default metrics.
pub(crate) const SETTINGS: &str = "pg_settings_";

impl PgCollector {
    /// Whether all of it is what `--disable-default-metrics` leaves out: what has the `server` label, but settings.
    pub fn is_default_metric(&self, compat: Compat) -> bool {
        self.spec.name != "settings" && self.queries.iter().all(|query| query.server_label().applies(compat))
    }
}

impl Collector<PgSession> for &'static PgCollector {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn collect<'a>(&'a self, session: &'a PgSession) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        async move {
            // What the session's version is, is known only once it is open for sure.
            let applicable = self.queries.iter().filter(|query| query.versions().contains(session.major()));
            // Every reply is awaited, also when one is an error: giving up a statement would cancel whichever runs then.
            let parts = at_once(applicable.map(|query| query.run(session))).await;
            if parts.is_empty() {
                let message = format!("needs another version than {}", session.major());
                return Err(CollectError::new(Outcome::UnsupportedVersion, message));
            }
            let mut snapshot = Snapshot::new();
            for part in parts {
                snapshot.append(part?);
            }
            if self.scope == Scope::Database {
                session.add_database_label(&mut snapshot);
            }
            Ok(snapshot)
        }
        .boxed()
    }
}
