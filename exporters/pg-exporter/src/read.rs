//! Statements that queries have in common. Beginning and ending a statement costs the server more than most of them take to
//! run, so what is selected from one place is one statement, whoever selects it.
//!
//! Where the server refuses such a statement, each query asks for its own part by itself: a missing privilege on one thing
//! costs what needs it and nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use exporter_kit::collector::{CollectError, Outcome};
use foldhash::fast::RandomState;
use futures_util::FutureExt;
use futures_util::future::{Either, JoinAll, Map, join_all};
use pg_client::{Row, Rows};

use crate::options::Compat;
use crate::session::PgSession;
use crate::sql::{PgCollector, Query};

/// One row: for functions, and for functions that return one row as joins.
pub(crate) const ONE_ROW: &str = "FROM (SELECT 1) one";
/// Every database.
pub(crate) const DATABASES: &str = "FROM pg_catalog.pg_database d";
/// Every replication slot.
pub(crate) const SLOTS: &str = "FROM pg_catalog.pg_get_replication_slots() s";
/// Every standby. WAL senders come first: the view pg_stat_replication reads all sessions, also where there is no standby.
pub(crate) const STANDBYS: &str = "FROM pg_catalog.pg_stat_get_wal_senders() w
     CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(w.pid) a";

/// Names of databases, by OID.
pub(crate) static DATABASE_NAMES: Read =
    Read::Select(Select { columns: &["(d.oid)::text", "(d.datname)::text"], from: DATABASES, joins: &[] });

/// What a query reads to decode it itself.
pub enum Read {
    /// Columns of a place that others may select from, too.
    Select(Select),
    /// A statement, for a major version. Queries with the same `static` share it.
    Statement(fn(u32) -> String),
    /// What the rows of the reads before it make necessary, if anything: another round trip to the server.
    Then(fn(&[Found], &PgSession) -> Option<String>),
}

/// Part of a statement.
pub struct Select {
    /// SQL expressions.
    pub columns: &'static [&'static str],
    /// FROM, WHERE and what follows.
    pub from: &'static str,
    /// Joins behind it that add columns and no rows.
    pub joins: &'static [&'static str],
}

/// The columns that a query wants of a place.
pub(crate) struct Wanted {
    pub(crate) columns: Vec<String>,
    pub(crate) from: &'static str,
    pub(crate) joins: &'static [&'static str],
}

impl Select {
    pub(crate) fn wanted(&self) -> Wanted {
        let columns = self.columns.iter().map(|column| (*column).to_owned()).collect();
        Wanted { columns, from: self.from, joins: self.joins }
    }
}

/// A statement that one query, or several, put together.
#[derive(Debug)]
pub(crate) struct Statement {
    /// Those who have part in it have the same pointer.
    pub(crate) sql: Arc<str>,
    /// Which columns of the result are the query's own.
    pub(crate) places: Vec<usize>,
    /// Whether others have part in it.
    shared: bool,
}

impl Statement {
    /// What is wanted, and what these collectors want of the same place.
    pub(crate) fn new(
        wanted: &Wanted,
        collectors: &[&'static PgCollector],
        major: u32,
        compat: Compat,
    ) -> Statement {
        let queries = collectors.iter().flat_map(|collector| collector.queries);
        let same = |from: &str| from == wanted.from;
        let others = queries.flat_map(|query: &Query| query.wanted(same, major, compat));
        Statement::of(wanted, &others.collect::<Vec<_>>())
    }

    fn of(wanted: &Wanted, others: &[Wanted]) -> Statement {
        let (mut columns, mut joins): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
        let add = |list: &mut Vec<_>, new| {
            if !list.contains(&new) {
                list.push(new);
            }
        };
        // What is wanted comes last: it is there already, unless it is alone.
        for one in others.iter().chain([wanted]) {
            one.columns.iter().for_each(|column| add(&mut columns, column));
            one.joins.iter().for_each(|join| add(&mut joins, join));
        }
        let place = |wanted: &String| columns.iter().position(|column| column == wanted);
        let places = wanted.columns.iter().filter_map(place).collect();
        let from: Vec<&str> = [wanted.from].into_iter().chain(joins).collect();
        let sql = format!("SELECT {} {}", columns.join(", "), from.join(" ")).into();
        Statement { sql, places, shared: others.len() > 1 }
    }

    /// Its rows, and the statement whose rows these are.
    pub(crate) async fn run(
        self: Arc<Self>,
        session: &PgSession,
        wanted: impl FnOnce() -> Wanted,
    ) -> Result<(Arc<Rows>, Arc<Statement>), CollectError> {
        if !self.shared {
            return Ok((Arc::new(session.query(&self.sql, true).await?), self));
        }
        match session.query_shared(self.sql.as_ptr().addr(), &self.sql).await {
            Err(error) if is_about_a_part(error.outcome) => {
                let alone = Statement::of(&wanted(), &[]);
                let rows = session.query(&alone.sql, true).await?;
                Ok((Arc::new(rows), Arc::new(alone)))
            }
            result => Ok((result?, self)),
        }
    }
}

/// Whether the server may take the other parts of a statement.
fn is_about_a_part(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Permission | Outcome::Error | Outcome::UnsupportedVersion)
}

/// Names by OID.
pub(crate) type Names<'a> = HashMap<&'a str, &'a str, RandomState>;

/// The rows of a [`Read`].
pub struct Found {
    rows: Arc<Rows>,
    statement: Option<Arc<Statement>>,
}

/// One future, with its result in a list.
type Only<F> = Map<F, fn(<F as Future>::Output) -> Vec<<F as Future>::Output>>;

/// What all of these come to, run at once. Mostly it is one, for which [`join_all`] would cost more than it does itself.
pub(crate) fn at_once<F: Future>(futures: impl IntoIterator<Item = F>) -> Either<Only<F>, JoinAll<F>> {
    let mut futures = futures.into_iter();
    match (futures.next(), futures.next()) {
        (Some(only), None) => Either::Left(only.map(|result| vec![result])),
        (first, second) => Either::Right(join_all(first.into_iter().chain(second).chain(futures))),
    }
}

/// The rows of all of these, those first that are read at once. Every reply is awaited, also when one is an error.
pub(crate) async fn all(
    reads: &'static [&'static Read],
    session: &PgSession,
) -> Result<Vec<Found>, CollectError> {
    let at_once = at_once(reads.iter().map(|read| read.at_once(session))).await;
    let mut found = at_once.into_iter().filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
    for read in reads {
        if let Read::Then(sql) = read
            && let Some(sql) = sql(&found, session)
        {
            let rows = Arc::new(session.query(&sql, false).await?);
            found.push(Found { rows, statement: None });
        }
    }
    Ok(found)
}

impl Read {
    /// Its rows, unless others are needed first.
    async fn at_once(&'static self, session: &PgSession) -> Result<Option<Found>, CollectError> {
        match self {
            Read::Select(select) => {
                let wanted = || select.wanted();
                let statement = session.memory().plans().statement(select, session.major(), wanted);
                let (rows, statement) = statement.run(session, wanted).await?;
                Ok(Some(Found { rows, statement: Some(statement) }))
            }
            Read::Statement(sql) => {
                let sql = session.memory().plans().text(self, session.major(), *sql);
                let rows = session.query_shared(sql.as_ptr().addr(), &sql).await?;
                Ok(Some(Found { rows, statement: None }))
            }
            Read::Then(_) => Ok(None),
        }
    }
}

impl Found {
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = FoundRow<'_>> {
        let places = self.statement.as_ref().map(|statement| statement.places.as_slice());
        self.rows.iter().map(move |row| FoundRow { row, places })
    }

    pub(crate) fn first(&self) -> Option<FoundRow<'_>> {
        self.iter().next()
    }

    /// The second column by the first.
    pub(crate) fn by_first(&self) -> Names<'_> {
        self.iter().filter_map(|row| Some((row.get(0)?, row.get(1)?))).collect()
    }
}

/// A row with the columns that were asked for.
#[derive(Clone, Copy)]
pub(crate) struct FoundRow<'a> {
    row: Row<'a>,
    places: Option<&'a [usize]>,
}

impl<'a> FoundRow<'a> {
    fn place(self, column: usize) -> usize {
        self.places.map_or(column, |places| places.get(column).copied().unwrap_or(usize::MAX))
    }

    /// A cell; none for NULL.
    pub(crate) fn get(self, column: usize) -> Option<&'a str> {
        self.row.get(self.place(column))
    }

    /// A cell as a number; none also for text that is none.
    pub(crate) fn float(self, column: usize) -> Option<f64> {
        self.row.float(self.place(column))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::collectors;

    /// Databases, slots, standbys and what is one row are read by many, and once.
    #[test]
    fn a_scrape_is_a_dozen_statements() {
        let enabled: Vec<&'static PgCollector> =
            collectors::ALL.iter().copied().filter(|collector| collector.spec.default_enabled).collect();
        for (major, most) in [(13, 13), (14, 13), (15, 13), (16, 14), (17, 14), (18, 14)] {
            let mut texts = BTreeSet::new();
            for query in enabled.iter().flat_map(|collector| collector.queries) {
                for wanted in query.wanted(|_| true, major, Compat::V0_20) {
                    let statement = Statement::new(&wanted, &enabled, major, Compat::V0_20);
                    assert_eq!(statement.places.len(), wanted.columns.len(), "{}", statement.sql);
                    texts.insert(statement.sql);
                }
                let own = query.reads().iter().filter(|read| matches!(read, Read::Statement(_)));
                texts.extend(own.map(|read| format!("{:p}", *read).into()));
            }
            assert!(texts.len() <= most, "{major}: {texts:#?}");
        }
    }
}
