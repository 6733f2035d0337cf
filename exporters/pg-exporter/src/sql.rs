//! Collectors as data: which columns, under which names, since which version, from where.
//!
//! Most collectors are a [`Query::Columns`]: label columns, one value column a metric, and a FROM clause. The SELECT
//! is put together for the server's version, and every row becomes one row of the snapshot. Queries with the same FROM
//! clause are one statement. A [`Query::Custom`] brings its own SQL and turns the rows into samples itself, and so does a
//! [`Query::OfExtension`], for a server that has the extension.

use std::sync::Arc;

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Outcome, Spec};
use exposition::{Column, Desc, Shape, Snapshot};
use futures_util::FutureExt;
use futures_util::future::join_all;
use pg_client::Rows;

use crate::extension::OfExtension;
use crate::options::Compat;
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
    /// FROM, WHERE and what follows; may be empty.
    pub from: &'static str,
    /// Whether postgres_exporter puts the `server` label and constant labels on it.
    pub server_label: ServerLabel,
}

/// A statement with its own way from rows to samples.
pub struct Custom {
    /// First and last major version it is for.
    pub versions: Versions,
    /// The statement, the same on every scrape.
    pub sql: fn(&PgSession) -> String,
    /// Whether other queries have the same statement, which is then asked for once a scrape.
    pub shared: bool,
    /// From rows to samples.
    pub decode: fn(&Rows, &PgSession, &mut Snapshot),
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

/// A metric and the SQL expression of its value.
pub struct Metric {
    desc: Desc,
    sql: &'static str,
    versions: Versions,
    /// What 0.19 computes, where that is corrected.
    sql_before_0_20: Option<&'static str>,
    /// 0.19 wrote NaN where the value is unknown.
    nan_before_0_20: bool,
}

impl Metric {
    const fn new(desc: Desc, sql: &'static str) -> Metric {
        Metric { desc, sql, versions: Versions::ALL, sql_before_0_20: None, nan_before_0_20: false }
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

    /// What is selected: labels, then metrics. Results come as text anyway; as a label, true is better than t.
    fn expressions(&self, major: u32, compat: Compat) -> impl Iterator<Item = String> {
        let labels = self.labels.iter().map(|(_, sql)| format!("({sql})::text"));
        labels.chain(self.metrics(major).map(move |metric| metric.sql(compat).to_owned()))
    }

    /// The statement of this query and of those in `collectors` that read from the same place.
    pub(crate) fn statement(
        &self,
        collectors: &[&'static PgCollector],
        major: u32,
        compat: Compat,
    ) -> Statement {
        let queries = collectors.iter().flat_map(|collector| collector.queries);
        let others = queries.filter_map(|query| match query {
            Query::Columns(other) if other.from == self.from && other.versions.contains(major) => Some(other),
            _ => None,
        });
        let mut selected: Vec<String> = Vec::new();
        let mut queries = 0;
        for query in others {
            queries += 1;
            for expression in query.expressions(major, compat) {
                if !selected.contains(&expression) {
                    selected.push(expression);
                }
            }
        }
        let place = |wanted| selected.iter().position(|expression| *expression == wanted);
        let places: Vec<usize> = self.expressions(major, compat).filter_map(place).collect();
        let (labels, values) = places.split_at(self.labels.len());
        let names: Vec<&str> = self.labels.iter().map(|(name, _)| *name).collect();
        let mut shape = Shape::new(&names);
        let values = self.metrics(major).zip(values).map(|(metric, place)| Value {
            place: *place,
            column: shape.column(&metric.desc),
            nan: metric.nan_before_0_20 && compat == Compat::V0_19,
        });
        Statement {
            sql: format!("SELECT {} {}", selected.join(", "), self.from).into(),
            labels: labels.to_vec(),
            values: values.collect(),
            shape: Arc::new(shape),
            shared: queries > 1,
        }
    }
}

/// A statement that one [`Columns`] query, or several, put together.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) sql: Arc<str>,
    /// Which columns of the result are the query's labels.
    labels: Vec<usize>,
    values: Vec<Value>,
    /// Of the table that the result becomes.
    shape: Arc<Shape>,
    /// Whether other queries put together the same text.
    shared: bool,
}

/// A metric of a statement.
#[derive(Debug)]
struct Value {
    /// Which column of the result it is.
    place: usize,
    column: Column,
    /// Whether NULL is NaN.
    nan: bool,
}

impl Statement {
    fn decode(&self, rows: &Rows, snapshot: &mut Snapshot) {
        let table = snapshot.table_of(&self.shape);
        let mut labels = vec![""; self.labels.len()];
        for row in rows.iter() {
            for (label, place) in labels.iter_mut().zip(&self.labels) {
                *label = row.get(*place).unwrap_or_default();
            }
            let mut cells = table.row(&labels);
            for Value { place, column, nan } in &self.values {
                cells.set_some(*column, row.float(*place).or(nan.then_some(f64::NAN)));
            }
        }
    }
}

impl Query {
    fn versions(&self) -> Versions {
        match self {
            Query::Columns(columns) => columns.versions,
            Query::Custom(custom) => custom.versions,
            Query::OfExtension(_) => Versions::ALL,
        }
    }

    async fn run(&'static self, session: &PgSession) -> Result<Snapshot, CollectError> {
        let mut snapshot = Snapshot::new();
        match self {
            Query::Columns(columns) => {
                let statement = session.memory().statement(columns, session);
                let rows = session.query_fixed(&statement.sql, statement.shared).await?;
                statement.decode(&rows, &mut snapshot);
            }
            Query::Custom(custom) => {
                let sql = (custom.sql)(session);
                let sizes = async {
                    if custom.sizes {
                        session.prepare_sizes().await;
                    }
                };
                let (rows, ()) = tokio::join!(session.query_fixed(&sql, custom.shared), sizes);
                (custom.decode)(&*rows?, session, &mut snapshot);
            }
            Query::OfExtension(query) => return query.run(session).await,
        }
        session.add_server_label(self.server_label(), &mut snapshot);
        Ok(snapshot)
    }

    fn server_label(&self) -> ServerLabel {
        match self {
            Query::Columns(columns) => columns.server_label,
            Query::Custom(custom) => custom.server_label,
            Query::OfExtension(_) => ServerLabel::Never,
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
            let applicable: Vec<&Query> =
                self.queries.iter().filter(|query| query.versions().contains(session.major())).collect();
            if applicable.is_empty() {
                let message = format!("needs another version than {}", session.major());
                return Err(CollectError::new(Outcome::UnsupportedVersion, message));
            }
            let mut snapshot = Snapshot::new();
            // Every reply is awaited, also when one is an error: giving up a statement would cancel whichever runs then.
            for part in join_all(applicable.into_iter().map(|query| query.run(session))).await {
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
