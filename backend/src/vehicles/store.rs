//! The catalogue in the table `vehicles`, and the history of searches.

use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use super::{Condition, Criteria};
use crate::db::{Connection, DbError, Query};

macro_rules! columns {
    () => {
        "
        vehicles.id,
        vin,
        make,
        model,
        trim,
        year,
        body_type,
        condition::text,
        fuel_type,
        transmission,
        color,
        mileage,
        price::float8,
        location"
    };
}
pub(super) use columns;

const SEARCH: Query = Query::select(
    "vehicles",
    concat!(
        "
    SELECT",
        columns!(),
        "
    FROM vehicles
    WHERE listed
        AND id < $1
        AND ($2::text IS NULL OR lower(make) = $2)
        AND ($3::text IS NULL OR lower(model) = $3)
        AND ($4::text IS NULL OR body_type = $4)
        AND ($5::text IS NULL OR condition = $5::text::vehiclecondition)
        AND ($6::text IS NULL OR fuel_type = $6)
        AND ($7::text IS NULL OR transmission = $7)
        AND ($8::int IS NULL OR year >= $8)
        AND ($9::int IS NULL OR year <= $9)
        AND ($10::float8 IS NULL OR price >= $10::float8::numeric)
        AND ($11::float8 IS NULL OR price <= $11::float8::numeric)
        AND ($12::int IS NULL OR mileage <= $12)
    ORDER BY id DESC
    LIMIT $13"
    ),
);

const FIND: Query = Query::select(
    "vehicles",
    concat!(
        "
    SELECT",
        columns!(),
        "
    FROM vehicles
    WHERE vin = $1
        AND listed"
    ),
);

/// The commonest body type of a user's favourites, in their range of prices with a fifth of leeway.
const TASTE: Query = Query::select(
    "favorites",
    "
    SELECT
        mode() WITHIN GROUP (ORDER BY body_type),
        round(min(price) * 0.8, 2)::float8,
        round(max(price) * 1.2, 2)::float8
    FROM favorites
    JOIN vehicles ON vehicles.id = vehicle_id
    WHERE user_id = $1",
);

/// The statements of this store.
pub const QUERIES: &[&Query] = &[&SEARCH, &FIND, &TASTE];

/// A vehicle of the catalogue.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Vehicle {
    /// Id; orders searches.
    pub id: i64,
    /// Vehicle identification number.
    pub vin: String,
    /// Make.
    pub make: String,
    /// Model.
    pub model: String,
    /// Trim.
    pub trim: Option<String>,
    /// Model year.
    pub year: i32,
    /// Body type.
    pub body_type: String,
    /// Condition.
    pub condition: Condition,
    /// Fuel.
    pub fuel_type: String,
    /// Transmission.
    pub transmission: String,
    /// Colour.
    pub color: Option<String>,
    /// Miles on the odometer.
    pub mileage: i32,
    /// Price in dollars.
    pub price: f64,
    /// Where it stands.
    pub location: Option<String>,
}

impl Vehicle {
    pub(super) fn from_row(row: &Row) -> Result<Vehicle, DbError> {
        Ok(Vehicle {
            id: row.get(0),
            vin: row.get(1),
            make: row.get(2),
            model: row.get(3),
            trim: row.get(4),
            year: row.get(5),
            body_type: row.get(6),
            condition: Condition::read("vehicles.condition", row.get(7))?,
            fuel_type: row.get(8),
            transmission: row.get(9),
            color: row.get(10),
            mileage: row.get(11),
            price: row.get(12),
            location: row.get(13),
        })
    }
}

/// At most `limit` vehicles that meet `criteria` with ids below `below`, newest first.
///
/// # Errors
/// See [`DbError`].
pub async fn search(
    db: &mut Connection,
    criteria: &Criteria,
    below: i64,
    limit: i64,
) -> Result<Vec<Vehicle>, DbError> {
    let rows = db
        .rows(
            &SEARCH,
            &[
                &below,
                &criteria.make,
                &criteria.model,
                &criteria.body_type,
                &criteria.condition.map(Condition::as_str),
                &criteria.fuel_type,
                &criteria.transmission,
                &criteria.year_min,
                &criteria.year_max,
                &criteria.price_min,
                &criteria.price_max,
                &criteria.mileage_max,
                &limit,
            ],
        )
        .await?;
    rows.iter().map(Vehicle::from_row).collect()
}

/// The vehicle with this number, if it is on offer.
///
/// # Errors
/// See [`DbError`].
pub async fn find(db: &mut Connection, vin: &str) -> Result<Option<Vehicle>, DbError> {
    db.row(&FIND, &[&vin]).await?.as_ref().map(Vehicle::from_row).transpose()
}

/// What the favourites of `user` have in common; nothing if there are none.
///
/// # Errors
/// See [`DbError`].
pub async fn taste(db: &mut Connection, user: i64) -> Result<Criteria, DbError> {
    let row = db.row(&TASTE, &[&user]).await?.ok_or_else(|| DbError::no_row(&TASTE))?;
    Ok(Criteria {
        body_type: row.get(0),
        price_min: row.get(1),
        price_max: row.get(2),
        ..Criteria::default()
    })
}
