//! What was searched, in the table `search_history`: written behind the answers, so that an answer from the cache costs the
//! database nothing, and together: while one statement runs, the next searches gather.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_postgres::types::Json;

use super::store::Vehicle;
use super::{Criteria, SearchType};
use crate::App;
use crate::db::{DbError, Query};
use crate::metrics::SearchLabels;

/// Searches that may wait while the database is slow; further ones are forgotten.
const MOST: usize = 10_000;
/// Vehicles that are remembered of what was found.
const TOP: usize = 3;

/// A user who is gone meanwhile leaves the search without a name.
const RECORD: Query = Query::insert(
    "search_history",
    "
    INSERT INTO search_history (user_id, search_type, search_criteria, result_count, top_vehicles)
    SELECT
        (SELECT id FROM users WHERE id = s.user_id),
        s.search_type::searchtype,
        s.criteria,
        s.result_count,
        s.top
    FROM unnest($1::int8[], $2::text[], $3::jsonb[], $4::int[], $5::jsonb[])
        AS s (user_id, search_type, criteria, result_count, top)",
);

/// The statements of this store.
pub const QUERIES: &[&Query] = &[&RECORD];

/// What a page of a search holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// How many vehicles.
    count: i32,
    /// The numbers of the first ones.
    top: Vec<String>,
}

impl Found {
    /// These vehicles.
    pub fn new(vehicles: &[Vehicle]) -> Found {
        Found {
            count: i32::try_from(vehicles.len()).unwrap_or(i32::MAX),
            top: vehicles.iter().take(TOP).map(|vehicle| vehicle.vin.clone()).collect(),
        }
    }
}

/// A search and the page that it found.
#[derive(Clone, Debug)]
pub struct Searched {
    /// Who searched, if known.
    pub user: Option<i64>,
    /// How.
    pub kind: SearchType,
    /// For what.
    pub criteria: Criteria,
    /// What is on the page.
    pub found: Found,
}

/// The searches that are not written yet.
#[derive(Debug, Default)]
pub struct History(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    searches: Vec<Searched>,
    /// Runs as long as there is something to write.
    writer: Option<JoinHandle<()>>,
    writing: bool,
}

impl History {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `search` written and counted.
    pub fn note(app: &App, search: Searched) {
        let mut waiting = app.history.waiting();
        if waiting.searches.len() >= MOST {
            tracing::warn!("a search is not recorded: too many wait for the database");
            return;
        }
        waiting.searches.push(search);
        if !waiting.writing {
            waiting.writing = true;
            waiting.writer = Some(tokio::spawn(write(app.clone())));
        }
    }

    /// Waits until everything is written that waits now.
    pub async fn settled(&self) {
        let writer = self.waiting().writer.take();
        if let Some(writer) = writer
            && let Err(error) = writer.await
        {
            tracing::warn!(%error, "writing searches stopped");
        }
    }

    /// All that wait; without any the writer ends.
    fn take(&self) -> Vec<Searched> {
        let mut waiting = self.waiting();
        waiting.writing = !waiting.searches.is_empty();
        std::mem::take(&mut waiting.searches)
    }
}

async fn write(app: App) {
    loop {
        let searches = app.history.take();
        if searches.is_empty() {
            return;
        }
        match record(&app, &searches).await {
            Ok(()) => {
                for Searched { kind, .. } in &searches {
                    let labels = SearchLabels { search_type: kind.as_str() };
                    app.metrics.vehicle_searches.get_or_create_owned(&labels).inc();
                }
            }
            Err(error) => tracing::warn!(%error, searches = searches.len(), "searches are not recorded"),
        }
    }
}

async fn record(app: &App, searches: &[Searched]) -> Result<(), DbError> {
    let users: Vec<_> = searches.iter().map(|search| search.user).collect();
    let kinds: Vec<_> = searches.iter().map(|search| search.kind.as_str()).collect();
    let criteria: Vec<_> = searches.iter().map(|search| Json(&search.criteria)).collect();
    let counts: Vec<_> = searches.iter().map(|search| search.found.count).collect();
    let top: Vec<_> = searches.iter().map(|search| Json(&search.found.top)).collect();
    let mut db = app.db.connection().await?;
    db.execute(&RECORD, &[&users, &kinds, &criteria, &counts, &top]).await?;
    Ok(())
}
