//! Admins put vehicles on offer; who subscribed to such vehicles is told.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Condition;
use super::store::{Vehicle, columns};
use crate::App;
use crate::auth::Admin;
use crate::db::{DbError, Query};
use crate::http::extract::Json;
use crate::http::problem::Problem;
use crate::http::validate::Checks;
use crate::webhooks;

const INSERT: Query = Query::insert(
    "vehicles",
    concat!(
        "
    INSERT INTO vehicles (
        vin,
        make,
        model,
        trim,
        year,
        body_type,
        condition,
        fuel_type,
        transmission,
        color,
        mileage,
        price,
        location
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7::text::vehiclecondition, $8, $9, $10, $11, $12::float8, $13)
    RETURNING",
        columns!()
    ),
);

/// The statements of this store.
pub const QUERIES: &[&Query] = &[&INSERT];

/// Body of a vehicle to be offered. Dollars and miles.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewVehicle)]
pub struct Create {
    #[schema(pattern = "^[A-HJ-NPR-Za-hj-npr-z0-9]{17}$")]
    vin: String,
    #[schema(min_length = 1, max_length = 100)]
    make: String,
    #[schema(min_length = 1, max_length = 100)]
    model: String,
    #[schema(min_length = 1, max_length = 100)]
    trim: Option<String>,
    #[schema(minimum = 1900, maximum = 2100)]
    year: i32,
    #[schema(min_length = 1, max_length = 50)]
    body_type: String,
    condition: Condition,
    #[schema(min_length = 1, max_length = 50)]
    fuel_type: String,
    #[schema(min_length = 1, max_length = 50)]
    transmission: String,
    #[schema(min_length = 1, max_length = 50)]
    color: Option<String>,
    #[schema(minimum = 0, maximum = 2_000_000)]
    mileage: i32,
    #[schema(minimum = 0.01, maximum = 9_999_999.99)]
    price: f64,
    #[schema(min_length = 1, max_length = 255)]
    location: Option<String>,
}

/// Puts a vehicle on offer. It and its alerts are stored together; sending them is for the delivery.
pub async fn create(
    State(app): State<App>,
    _: Admin,
    Json(body): Json<Create>,
) -> Result<(StatusCode, Answer<Vehicle>), Problem> {
    let mut checks = Checks::default();
    let vin = checks.vin("vin", &body.vin);
    let make = checks.text("make", &body.make, 1, 100);
    let model = checks.text("model", &body.model, 1, 100);
    let trim = body.trim.map(|trim| checks.text("trim", &trim, 1, 100));
    checks.range("year", body.year, 1900, 2100);
    // Searches compare these three in lower case.
    let body_type = checks.text("body_type", &body.body_type, 1, 50).to_lowercase();
    let fuel_type = checks.text("fuel_type", &body.fuel_type, 1, 50).to_lowercase();
    let transmission = checks.text("transmission", &body.transmission, 1, 50).to_lowercase();
    let color = body.color.map(|color| checks.text("color", &color, 1, 50));
    checks.range("mileage", body.mileage, 0, 2_000_000);
    checks.price("price", body.price);
    let location = body.location.map(|location| checks.text("location", &location, 1, 255));
    checks.finish(())?;
    let mut db = app.db.begin().await?;
    let condition = body.condition.as_str();
    let row = db
        .row(
            &INSERT,
            &[
                &vin,
                &make,
                &model,
                &trim,
                &body.year,
                &body_type,
                &condition,
                &fuel_type,
                &transmission,
                &color,
                &body.mileage,
                &body.price,
                &location,
            ],
        )
        .await;
    let row = match row {
        Err(error) if error.violates("vehicles_vin_key") => {
            db.rollback().await?;
            return Err(Problem::Conflict("a vehicle of this number is known already".to_owned()));
        }
        inserted => inserted?.ok_or_else(|| DbError::no_row(&INSERT))?,
    };
    let vehicle = Vehicle::from_row(&row)?;
    let alerts = webhooks::store::alert(&mut db, &vehicle).await?;
    db.commit().await?;
    app.metrics.webhook_alerts.inc_by(alerts);
    app.alerts.notify_one();
    Ok((StatusCode::CREATED, Answer(vehicle)))
}
