//! What the service does without being asked: deliver alerts, count what only the database knows.

use std::time::Duration;

use futures_util::future::join;

use crate::App;
use crate::db::DbError;
use crate::{negotiations, webhooks};

/// How often the database is asked for what is shown as a gauge.
const REFRESH: Duration = Duration::from_secs(15);

/// Works until the service stops.
pub async fn run(app: App) {
    join(webhooks::delivery::run(app.clone()), refresh(app)).await;
}

async fn refresh(app: App) {
    loop {
        if let Err(error) = count(&app).await {
            tracing::warn!(%error, "active negotiations are not counted");
        }
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep(REFRESH) => {}
        }
    }
}

async fn count(app: &App) -> Result<(), DbError> {
    let active = negotiations::store::active(&mut app.db.connection().await?).await?;
    app.metrics.active_negotiations.set(active);
    Ok(())
}
