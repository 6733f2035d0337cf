//! Queries of the user's own: `--extend.query-path`, a file in postgres_exporter's form.
//!
//! - [`mod@file`]: what is in it; [`versions`]: ranges of server versions.
//! - [`run`]: from SQL to typed rows, on a connection apart from the scrape's, so that a slow query costs only itself.
//! - `decode`: from rows to samples.
//! - [`collector`]: a namespace as a collector; [`databases`]: all of them in the other databases.

pub mod collector;
pub mod databases;
mod decode;
pub mod file;
pub mod run;
pub mod versions;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use exporter_kit::collector::Collector;
use pg_client::{Connector, Warm};

use crate::options::DatabaseNames;
use crate::session::PgSession;
use collector::UserQuery;
use databases::OtherDatabases;
use file::Namespace;

/// The collectors of the queries on a server, also in its other databases if `discovery` says which.
pub fn collectors(
    namespaces: &[Arc<Namespace>],
    connector: &Connector,
    discovery: Option<&DatabaseNames>,
) -> Vec<Box<dyn Collector<PgSession>>> {
    let lane = Warm::new(connector.clone());
    let mut all: Vec<Box<dyn Collector<PgSession>>> = Vec::new();
    for namespace in namespaces {
        all.push(Box::new(UserQuery::new(Arc::clone(namespace), lane.clone())));
    }
    let everywhere: Vec<_> = namespaces.iter().filter(|namespace| !namespace.master).cloned().collect();
    if let Some(discovery) = discovery.filter(|_| !everywhere.is_empty()) {
        all.push(Box::new(OtherDatabases::new(everywhere, connector.clone(), discovery.clone())));
    }
    all
}

/// A text that stays in memory as long as the process runs, as names of collectors do; the same text only once.
fn interned(text: String) -> &'static str {
    static KNOWN: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(text) = known.get(text.as_str()) {
        return text;
    }
    let text: &'static str = Box::leak(text.into_boxed_str());
    known.insert(text);
    text
}
