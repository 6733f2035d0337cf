//! Deals in the table `deals`. Every statement names the owner: a foreign deal is as absent as one that never was.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use utoipa::ToSchema;

use super::DealStatus;
use crate::db::{Connection, DbError, Query};
use crate::http::etag::HasVersion;

macro_rules! columns {
    () => {
        "
        id,
        vehicle_vin,
        vehicle_make,
        vehicle_model,
        vehicle_year,
        vehicle_mileage,
        asking_price::float8,
        offer_price::float8,
        status::text,
        notes,
        version,
        status_changed_at,
        created_at,
        updated_at"
    };
}

const INSERT: Query = Query::insert(
    "deals",
    concat!(
        "
    INSERT INTO deals (
        user_id,
        vehicle_vin,
        vehicle_make,
        vehicle_model,
        vehicle_year,
        vehicle_mileage,
        asking_price,
        offer_price,
        status,
        notes
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7::float8, $8::float8, $9::text::dealstatus, $10)
    RETURNING",
        columns!()
    ),
);

const LIST: Query = Query::select(
    "deals",
    concat!(
        "
    SELECT",
        columns!(),
        "
    FROM deals
    WHERE user_id = $1
        AND id < $2
        AND ($3::text IS NULL OR status = $3::text::dealstatus)
    ORDER BY id DESC
    LIMIT $4"
    ),
);

const FIND: Query = Query::select(
    "deals",
    concat!(
        "
    SELECT",
        columns!(),
        "
    FROM deals
    WHERE id = $1
        AND user_id = $2"
    ),
);

const MOVE: Query = Query::update(
    "deals",
    concat!(
        "
    UPDATE deals
    SET status = $3::text::dealstatus
    WHERE id = $1
        AND user_id = $2
        AND status::text = ANY ($4)
        AND ($5::int IS NULL OR version = $5)
    RETURNING",
        columns!()
    ),
);

const DELETE: Query = Query::delete(
    "deals",
    "
    DELETE FROM deals
    WHERE id = $1
        AND user_id = $2",
);

/// The statements of this store.
pub const QUERIES: &[&Query] = &[&INSERT, &LIST, &FIND, &MOVE, &DELETE];

/// A deal as its owner sees it. Prices in dollars.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Deal {
    /// Id.
    pub id: i64,
    /// Vehicle identification number.
    pub vehicle_vin: String,
    /// Make.
    pub vehicle_make: String,
    /// Model.
    pub vehicle_model: String,
    /// Model year.
    pub vehicle_year: i32,
    /// Miles on the odometer.
    pub vehicle_mileage: i32,
    /// What the dealer asks.
    pub asking_price: f64,
    /// What the user offers.
    pub offer_price: Option<f64>,
    /// Where it stands.
    pub status: DealStatus,
    /// The user's notes.
    pub notes: Option<String>,
    /// Counts the changes, from 1.
    pub version: i32,
    /// The last change of the status.
    pub status_changed_at: Timestamp,
    /// When it was created.
    pub created_at: Timestamp,
    /// The last change.
    pub updated_at: Timestamp,
}

impl HasVersion for Deal {
    fn version(&self) -> i32 {
        self.version
    }
}

impl Deal {
    fn from_row(row: &Row) -> Result<Deal, DbError> {
        let status: &str = row.get(8);
        Ok(Deal {
            id: row.get(0),
            vehicle_vin: row.get(1),
            vehicle_make: row.get(2),
            vehicle_model: row.get(3),
            vehicle_year: row.get(4),
            vehicle_mileage: row.get(5),
            asking_price: row.get(6),
            offer_price: row.get(7),
            status: DealStatus::parse(status).ok_or_else(|| DbError::Failed {
                what: "reading deals.status".to_owned(),
                reason: format!("{status} is no status that this program knows"),
            })?,
            notes: row.get(9),
            version: row.get(10),
            status_changed_at: row.get(11),
            created_at: row.get(12),
            updated_at: row.get(13),
        })
    }
}

/// A deal to create, already checked.
#[derive(Clone, Debug)]
pub struct NewDeal {
    /// Vehicle identification number.
    pub vehicle_vin: String,
    /// Make.
    pub vehicle_make: String,
    /// Model.
    pub vehicle_model: String,
    /// Model year.
    pub vehicle_year: i32,
    /// Miles on the odometer.
    pub vehicle_mileage: i32,
    /// What the dealer asks, in dollars.
    pub asking_price: f64,
    /// What the user offers, in dollars.
    pub offer_price: Option<f64>,
    /// Where it begins.
    pub status: DealStatus,
    /// The user's notes.
    pub notes: Option<String>,
}

/// Creates a deal of `user`.
///
/// # Errors
/// Violates `deals_open_vin_key` if the user has an open deal on the vehicle, `deals_user_id_fkey` if the user is gone.
pub async fn insert(db: &mut Connection, user: i64, deal: &NewDeal) -> Result<Deal, DbError> {
    let row = db
        .row(
            &INSERT,
            &[
                &user,
                &deal.vehicle_vin,
                &deal.vehicle_make,
                &deal.vehicle_model,
                &deal.vehicle_year,
                &deal.vehicle_mileage,
                &deal.asking_price,
                &deal.offer_price,
                &deal.status.as_str(),
                &deal.notes,
            ],
        )
        .await?;
    Deal::from_row(&row.ok_or_else(|| DbError::no_row(&INSERT))?)
}

/// At most `limit` deals of `user` with ids below `below`, newest first.
///
/// # Errors
/// See [`DbError`].
pub async fn list(
    db: &mut Connection,
    user: i64,
    below: i64,
    status: Option<DealStatus>,
    limit: i64,
) -> Result<Vec<Deal>, DbError> {
    let status = status.map(DealStatus::as_str);
    db.rows(&LIST, &[&user, &below, &status, &limit]).await?.iter().map(Deal::from_row).collect()
}

/// A deal of `user`.
///
/// # Errors
/// See [`DbError`].
pub async fn find(db: &mut Connection, user: i64, id: i64) -> Result<Option<Deal>, DbError> {
    db.row(&FIND, &[&id, &user]).await?.as_ref().map(Deal::from_row).transpose()
}

/// Moves a deal of `user` to `status`, if it stands where that is allowed and
/// has this `version`, if one is asked for; otherwise nothing changes.
///
/// # Errors
/// See [`DbError`].
pub async fn change_status(
    db: &mut Connection,
    user: i64,
    id: i64,
    version: Option<i32>,
    status: DealStatus,
) -> Result<Option<Deal>, DbError> {
    let from: Vec<_> = status.reached_from().iter().map(|status| status.as_str()).collect();
    let row = db.row(&MOVE, &[&id, &user, &status.as_str(), &from, &version]).await?;
    row.as_ref().map(Deal::from_row).transpose()
}

/// Deletes a deal of `user`; answers whether there was one.
///
/// # Errors
/// See [`DbError`].
pub async fn delete(db: &mut Connection, user: i64, id: i64) -> Result<bool, DbError> {
    Ok(db.execute(&DELETE, &[&id, &user]).await? == 1)
}
