//! Subscriptions in `webhook_subscriptions`, alerts in `webhook_deliveries`. Statements of the handlers name the owner.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use utoipa::ToSchema;

use super::{DeliveryStatus, WebhookStatus};
use crate::db::{Connection, DbError, Query};
use crate::http::etag::HasVersion;
use crate::vehicles::store::Vehicle;

/// Subscriptions that a user may have.
pub const MOST: i64 = 20;

macro_rules! columns {
    () => {
        "
        id,
        webhook_url,
        status::text,
        make,
        model,
        price_min::float8,
        price_max::float8,
        year_min,
        year_max,
        mileage_max,
        failure_count,
        last_triggered_at,
        version,
        created_at"
    };
}

/// A user who has all that one may have gets no row.
const INSERT: Query = Query::insert(
    "webhook_subscriptions",
    concat!(
        "
    INSERT INTO webhook_subscriptions (
        user_id,
        webhook_url,
        secret_token,
        make,
        model,
        price_min,
        price_max,
        year_min,
        year_max,
        mileage_max
    )
    SELECT $1::int8, $2::text, $3::text, $4::text, $5::text, $6::float8, $7::float8, $8::int, $9::int, $10::int
    WHERE (SELECT count(*) FROM webhook_subscriptions WHERE user_id = $1::int8) < $11::int8
    RETURNING",
        columns!()
    ),
);

const LIST: Query = Query::select(
    "webhook_subscriptions",
    concat!(
        "
    SELECT",
        columns!(),
        "
    FROM webhook_subscriptions
    WHERE user_id = $1
        AND id < $2
    ORDER BY id DESC
    LIMIT $3"
    ),
);

const FIND: Query = Query::select(
    "webhook_subscriptions",
    concat!(
        "
    SELECT",
        columns!(),
        "
    FROM webhook_subscriptions
    WHERE id = $1
        AND user_id = $2"
    ),
);

const SWITCH: Query = Query::update(
    "webhook_subscriptions",
    concat!(
        "
    UPDATE webhook_subscriptions
    SET status = $3::text::webhookstatus,
        failure_count = 0
    WHERE id = $1
        AND user_id = $2
        AND ($4::int IS NULL OR version = $4)
    RETURNING",
        columns!()
    ),
);

const DELETE: Query = Query::delete(
    "webhook_subscriptions",
    "
    DELETE FROM webhook_subscriptions
    WHERE id = $1
        AND user_id = $2",
);

const DELIVERIES: Query = Query::select(
    "webhook_deliveries",
    "
    SELECT
        id,
        status::text,
        attempts,
        response_status,
        payload,
        next_attempt_at,
        created_at,
        finished_at
    FROM webhook_deliveries
    WHERE subscription_id = $1
        AND id < $2
    ORDER BY id DESC
    LIMIT $3",
);

const ALERT: Query = Query::insert(
    "webhook_deliveries",
    "
    INSERT INTO webhook_deliveries (subscription_id, payload)
    SELECT id, $1::jsonb
    FROM webhook_subscriptions
    WHERE status = 'active'
        AND (make IS NULL OR lower(make) = lower($2))
        AND (model IS NULL OR lower(model) = lower($3))
        AND (price_min IS NULL OR price_min <= $4::float8::numeric)
        AND (price_max IS NULL OR price_max >= $4::float8::numeric)
        AND (year_min IS NULL OR year_min <= $5)
        AND (year_max IS NULL OR year_max >= $5)
        AND (mileage_max IS NULL OR mileage_max >= $6)",
);

/// Takes what is due, for so long that a try has ended when it is due again: if this instance dies, another repeats it.
const CLAIM: Query = Query::update(
    "webhook_deliveries",
    "
    UPDATE webhook_deliveries AS d
    SET attempts = d.attempts + 1,
        next_attempt_at = now() + $2 * interval '1 second'
    FROM webhook_subscriptions AS s
    WHERE s.id = d.subscription_id
        AND d.id IN (
            SELECT due.id
            FROM webhook_deliveries AS due
            JOIN webhook_subscriptions AS active ON active.id = due.subscription_id AND active.status = 'active'
            WHERE due.status = 'pending'
                AND due.next_attempt_at <= now()
            ORDER BY due.next_attempt_at
            LIMIT $1
            FOR UPDATE OF due SKIP LOCKED
        )
    RETURNING
        d.id,
        d.subscription_id,
        d.payload,
        d.attempts,
        s.webhook_url,
        s.secret_token",
);

const DELIVERED: Query = Query::update(
    "webhook_deliveries",
    "
    WITH fine AS (
        UPDATE webhook_subscriptions
        SET failure_count = 0,
            last_triggered_at = now()
        WHERE id = $2
    )
    UPDATE webhook_deliveries
    SET status = 'delivered',
        response_status = $3,
        finished_at = now()
    WHERE id = $1",
);

/// Whether this failure switched the subscription off.
const FAILED: Query = Query::update(
    "webhook_deliveries",
    "
    WITH failing AS (
        UPDATE webhook_subscriptions
        SET failure_count = failure_count + 1,
            last_triggered_at = now(),
            status = CASE WHEN failure_count + 1 >= $5 THEN 'failed' ELSE status END
        WHERE id = $2
            AND status = 'active'
        RETURNING status
    ), delivery AS (
        UPDATE webhook_deliveries
        SET status = CASE WHEN $4::float8 IS NULL THEN 'failed'::deliverystatus ELSE 'pending' END,
            response_status = $3,
            next_attempt_at = now() + coalesce($4::float8, 0) * interval '1 second',
            finished_at = CASE WHEN $4::float8 IS NULL THEN now() END
        WHERE id = $1
    )
    SELECT EXISTS (SELECT FROM failing WHERE status = 'failed')",
);

/// The statements of this store.
pub const QUERIES: &[&Query] =
    &[&INSERT, &LIST, &FIND, &SWITCH, &DELETE, &DELIVERIES, &ALERT, &CLAIM, &DELIVERED, &FAILED];

/// Which vehicles a subscriber wants to hear of; what is absent does not matter. Dollars and miles.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Make, in any case.
    pub make: Option<String>,
    /// Model, in any case.
    pub model: Option<String>,
    /// Lowest price.
    pub price_min: Option<f64>,
    /// Highest price.
    pub price_max: Option<f64>,
    /// Oldest model year.
    pub year_min: Option<i32>,
    /// Newest model year.
    pub year_max: Option<i32>,
    /// Highest mileage.
    pub mileage_max: Option<i32>,
}

/// A subscription as its owner sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Webhook {
    /// Id.
    pub id: i64,
    /// Where alerts are sent.
    pub url: String,
    /// Whether it gets alerts.
    pub status: WebhookStatus,
    /// Make.
    pub make: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Lowest price.
    pub price_min: Option<f64>,
    /// Highest price.
    pub price_max: Option<f64>,
    /// Oldest model year.
    pub year_min: Option<i32>,
    /// Newest model year.
    pub year_max: Option<i32>,
    /// Highest mileage.
    pub mileage_max: Option<i32>,
    /// Failures in a row.
    pub failure_count: i32,
    /// The last try.
    pub last_triggered_at: Option<Timestamp>,
    /// Counts the changes, also those by deliveries.
    pub version: i32,
    /// When it was made.
    pub created_at: Timestamp,
}

impl HasVersion for Webhook {
    fn version(&self) -> i32 {
        self.version
    }
}

impl Webhook {
    fn from_row(row: &Row) -> Result<Webhook, DbError> {
        Ok(Webhook {
            id: row.get(0),
            url: row.get(1),
            status: WebhookStatus::read("webhook_subscriptions.status", row.get(2))?,
            make: row.get(3),
            model: row.get(4),
            price_min: row.get(5),
            price_max: row.get(6),
            year_min: row.get(7),
            year_max: row.get(8),
            mileage_max: row.get(9),
            failure_count: row.get(10),
            last_triggered_at: row.get(11),
            version: row.get(12),
            created_at: row.get(13),
        })
    }
}

/// An alert as the subscription's owner sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = WebhookDelivery)]
pub struct Delivery {
    /// Id; the header `X-AutoDealGenie-Delivery`.
    pub id: i64,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// Tries so far.
    pub attempts: i32,
    /// What the endpoint answered last, if it did.
    pub response_status: Option<i32>,
    /// What is sent.
    #[schema(value_type = Object)]
    pub payload: Value,
    /// When it is tried again, if it is pending.
    pub next_attempt_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was delivered or given up.
    pub finished_at: Option<Timestamp>,
}

/// An alert to be sent now.
#[derive(Clone, Debug)]
pub struct Due {
    /// Its id.
    pub id: i64,
    /// The subscription's.
    pub subscription: i64,
    /// What to send.
    pub payload: Value,
    /// Tries, with this one.
    pub attempts: i32,
    /// Where to.
    pub url: String,
    /// What to sign with.
    pub secret: String,
}

/// Makes a subscription of `user`; nothing if there are [`MOST`] already.
///
/// # Errors
/// See [`DbError`].
pub async fn insert(
    db: &mut Connection,
    user: i64,
    url: &str,
    secret: &str,
    wishes: &Wishes,
) -> Result<Option<Webhook>, DbError> {
    let Wishes { make, model, price_min, price_max, year_min, year_max, mileage_max } = wishes;
    let row = db
        .row(
            &INSERT,
            &[
                &user,
                &url,
                &secret,
                make,
                model,
                price_min,
                price_max,
                year_min,
                year_max,
                mileage_max,
                &MOST,
            ],
        )
        .await?;
    row.as_ref().map(Webhook::from_row).transpose()
}

/// At most `limit` subscriptions of `user` with ids below `below`, newest first.
///
/// # Errors
/// See [`DbError`].
pub async fn list(db: &mut Connection, user: i64, below: i64, limit: i64) -> Result<Vec<Webhook>, DbError> {
    db.rows(&LIST, &[&user, &below, &limit]).await?.iter().map(Webhook::from_row).collect()
}

/// A subscription of `user`.
///
/// # Errors
/// See [`DbError`].
pub async fn find(db: &mut Connection, user: i64, id: i64) -> Result<Option<Webhook>, DbError> {
    db.row(&FIND, &[&id, &user]).await?.as_ref().map(Webhook::from_row).transpose()
}

/// Switches a subscription of `user` on or off; nothing if it is not there or has another version.
///
/// # Errors
/// See [`DbError`].
pub async fn switch(
    db: &mut Connection,
    user: i64,
    id: i64,
    version: Option<i32>,
    status: WebhookStatus,
) -> Result<Option<Webhook>, DbError> {
    let row = db.row(&SWITCH, &[&id, &user, &status.as_str(), &version]).await?;
    row.as_ref().map(Webhook::from_row).transpose()
}

/// Forgets a subscription of `user` and its alerts; whether there was one.
///
/// # Errors
/// See [`DbError`].
pub async fn delete(db: &mut Connection, user: i64, id: i64) -> Result<bool, DbError> {
    Ok(db.execute(&DELETE, &[&id, &user]).await? == 1)
}

/// At most `limit` alerts of a subscription with ids below `below`, newest first.
///
/// # Errors
/// See [`DbError`].
pub async fn deliveries(
    db: &mut Connection,
    subscription: i64,
    below: i64,
    limit: i64,
) -> Result<Vec<Delivery>, DbError> {
    let rows = db.rows(&DELIVERIES, &[&subscription, &below, &limit]).await?;
    let read = |row: &Row| {
        Ok(Delivery {
            id: row.get(0),
            status: DeliveryStatus::read("webhook_deliveries.status", row.get(1))?,
            attempts: row.get(2),
            response_status: row.get(3),
            payload: row.get(4),
            next_attempt_at: row.get(5),
            created_at: row.get(6),
            finished_at: row.get(7),
        })
    };
    rows.iter().map(read).collect()
}

/// Makes an alert for everybody who wants to hear of `vehicle`, and tells for how many.
///
/// # Errors
/// See [`DbError`].
pub async fn alert(db: &mut Connection, vehicle: &Vehicle) -> Result<u64, DbError> {
    let payload = Json(serde_json::json!({"event": "vehicle.listed", "vehicle": vehicle}));
    let Vehicle { make, model, price, year, mileage, .. } = vehicle;
    db.execute(&ALERT, &[&payload, make, model, price, year, mileage]).await
}

/// Takes at most `limit` due alerts for `lease`.
///
/// # Errors
/// See [`DbError`].
pub async fn claim(db: &mut Connection, limit: i64, lease: Duration) -> Result<Vec<Due>, DbError> {
    let rows = db.rows(&CLAIM, &[&limit, &lease.as_secs_f64()]).await?;
    let read = |row: &Row| Due {
        id: row.get(0),
        subscription: row.get(1),
        payload: row.get(2),
        attempts: row.get(3),
        url: row.get(4),
        secret: row.get(5),
    };
    Ok(rows.iter().map(read).collect())
}

/// Notes that an alert was taken with `status`.
///
/// # Errors
/// See [`DbError`].
pub async fn delivered(db: &mut Connection, due: &Due, status: u16) -> Result<(), DbError> {
    db.execute(&DELIVERED, &[&due.id, &due.subscription, &i32::from(status)]).await?;
    Ok(())
}

/// Notes that an alert was not taken, to be sent again after `pause` or given up; whether the subscription was switched
/// off by it, after `patience` failures in a row.
///
/// # Errors
/// See [`DbError`].
pub async fn failed(
    db: &mut Connection,
    due: &Due,
    status: Option<u16>,
    pause: Option<Duration>,
    patience: i32,
) -> Result<bool, DbError> {
    let pause = pause.map(|pause| pause.as_secs_f64());
    let status = status.map(i32::from);
    let row = db.row(&FAILED, &[&due.id, &due.subscription, &status, &pause, &patience]).await?;
    row.map(|row| row.get(0)).ok_or_else(|| DbError::no_row(&FAILED))
}
