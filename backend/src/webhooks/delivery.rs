//! Sends alerts: signed, again after failures with growing pauses, and a subscription that only fails is switched off.

use std::time::{Duration, Instant};

use axum::http::{HeaderValue, Uri};
use futures_util::future::join_all;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

use super::store::{self, Due};
use crate::App;
use crate::db::DbError;
use crate::external;
use crate::hex;
use crate::metrics::StatusLabels;
use crate::outbound::CallError;

/// Alerts sent at a time.
const BATCH: i64 = 10;
/// How long an alert is held beyond the time that the endpoint has.
const MARGIN: Duration = Duration::from_secs(20);
/// The longest pause between two tries.
const LONGEST: Duration = Duration::from_secs(3600);

/// Every value of the label `status` of deliveries.
pub const STATUSES: [&str; 3] = ["delivered", "retried", "failed"];

/// Sends what is due until the service stops.
pub async fn run(app: App) {
    loop {
        let sent = match batch(&app).await {
            Ok(sent) => sent,
            Err(error) => {
                tracing::warn!(%error, "alerts wait");
                0
            }
        };
        if sent > 0 && !app.shutdown.is_cancelled() {
            continue;
        }
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = app.alerts.notified() => {}
            () = tokio::time::sleep(app.webhooks.poll) => {}
        }
    }
}

async fn batch(app: &App) -> Result<usize, DbError> {
    let lease = app.webhooks.timeout + MARGIN;
    let due = store::claim(&mut app.db.connection().await?, BATCH, lease).await?;
    let sent = join_all(due.iter().map(|due| deliver(app, due))).await;
    sent.into_iter().collect::<Result<Vec<()>, _>>()?;
    Ok(due.len())
}

async fn deliver(app: &App, due: &Due) -> Result<(), DbError> {
    let started = Instant::now();
    let result = send(app, due).await;
    app.metrics.webhook_delivery_duration.observe(started.elapsed().as_secs_f64());
    let mut db = app.db.connection().await?;
    let error = match result {
        Ok(status) => {
            store::delivered(&mut db, due, status).await?;
            count(app, "delivered");
            return Ok(());
        }
        Err(error) => error,
    };
    tracing::info!(subscription = due.subscription, attempt = due.attempts, %error, "alert not taken");
    let again = due.attempts < app.webhooks.tries;
    let pause = again.then(|| pause(app.webhooks.pause, due.attempts));
    let status = match error {
        CallError::RateLimited => Some(429),
        CallError::ServerError(status) | CallError::Refused(status) => Some(status),
        _ => None,
    };
    if store::failed(&mut db, due, status, pause, app.webhooks.patience).await? {
        tracing::warn!(subscription = due.subscription, "webhook switched off after repeated failure");
        app.metrics.webhooks_disabled.inc();
    }
    count(app, if again { "retried" } else { "failed" });
    Ok(())
}

fn count(app: &App, status: &'static str) {
    app.metrics.webhook_deliveries.get_or_create_owned(&StatusLabels { status }).inc();
}

/// Doubled with each try, and spread, so that those who failed together do not come back together.
fn pause(first: Duration, attempts: i32) -> Duration {
    let doublings = u32::try_from(attempts - 1).unwrap_or(0).min(20);
    first.saturating_mul(1 << doublings).min(LONGEST).mul_f64(0.8 + 0.4 * rand::random::<f64>())
}

async fn send(app: &App, due: &Due) -> Result<u16, CallError> {
    let unreachable = || CallError::Connection("the address cannot be called".to_owned());
    let uri: Uri = external::address(&due.url).ok_or_else(unreachable)?;
    let mut request = external::post(&uri, &due.payload);
    let timestamp = Timestamp::now().as_second().to_string();
    let signature = signature(&due.secret, &timestamp, request.body());
    let headers = request.headers_mut();
    for (name, value) in [
        ("x-autodealgenie-delivery", due.id.to_string()),
        ("x-autodealgenie-timestamp", timestamp),
        ("x-autodealgenie-signature", signature),
    ] {
        headers.insert(name, HeaderValue::try_from(value).map_err(|_| unreachable())?);
    }
    let answer = app.webhook_http.once(&request, app.webhooks.timeout).await?;
    Ok(answer.status.as_u16())
}

/// `sha256=` and the HMAC-SHA-256 of timestamp, full stop and body.
pub fn signature(secret: &str, timestamp: &str, body: &[u8]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    format!("sha256={}", hex::encode(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_an_hmac() {
        let signed = signature("Jefe", "what", b"do");
        // By `openssl dgst -sha256 -hmac Jefe` of "what.do".
        let hmac = "cbd64fd013599db930bc33415e9240f19a534a47580b1e2b0d9c1311f146dbba";
        assert_eq!(signed, format!("sha256={hmac}"));
        assert_ne!(signed, signature("Jefe", "wha", b"t.do"));
        assert_ne!(signed, signature("Jeff", "what", b"do"));
    }

    #[test]
    fn pauses_grow_and_end() {
        let first = Duration::from_secs(30);
        let at_most = |attempts: i32| first.mul_f64(1.2 * 2_f64.powi(attempts - 1));
        for attempts in 1..7 {
            let pause = pause(first, attempts);
            assert!(pause >= first.mul_f64(0.8) && pause <= at_most(attempts), "{attempts}: {pause:?}");
        }
        assert!(pause(first, i32::MAX) <= LONGEST.mul_f64(1.2));
    }
}
