//! Runs the queries that have a `refresh` or a `cron`, one after the other on a connection of their own.

use std::sync::Arc;

use exporter_kit::collector::Collector;
use tokio::time::{Instant, sleep_until};

use crate::collector::QueryCollector;
use crate::definition::Schedule;
use crate::role::RoleRule;
use crate::target::Target;

/// Runs each query when its pause is over, until it is dropped. A query that takes long delays the others, so that the
/// database never has more than one of them to do.
pub async fn run(queries: Vec<Arc<QueryCollector>>, target: Target, role: RoleRule) {
    let target = Arc::new(target);
    let mut due: Vec<(Instant, Arc<QueryCollector>)> =
        queries.into_iter().map(|query| (Instant::now(), query)).collect();
    while let Some((at, query)) = due.iter_mut().min_by_key(|(at, _)| *at) {
        sleep_until(*at).await;
        // In a task of its own: a panic ends that run and nothing else.
        let (running, target, role) = (Arc::clone(query), Arc::clone(&target), role.clone());
        let run = tokio::spawn(async move { running.run_in_background(&target, role).await });
        let pause = run.await.unwrap_or_else(|error| {
            tracing::error!(query = query.spec().name, %error, "a query in the background ended early");
            query.schedule().map(Schedule::pause).unwrap_or_default()
        });
        *at = Instant::now() + pause;
    }
}
