//! Favourites: vehicles that a user wants to find again, in the table `favorites`.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use utoipa::ToSchema;

use super::store::{Vehicle, columns};
use crate::App;
use crate::auth::CurrentUser;
use crate::db::{DbError, Query as Statement};
use crate::http::extract::{Json, Query, Vin};
use crate::http::page::{Page, Window};
use crate::http::problem::Problem;
use crate::http::removed;
use crate::http::validate::Checks;

const INSERT: Statement = Statement::insert(
    "favorites",
    concat!(
        "
    WITH added AS (
        INSERT INTO favorites (user_id, vehicle_id)
        SELECT $1, id FROM vehicles WHERE vin = $2 AND listed
        RETURNING id, vehicle_id, created_at
    )
    SELECT",
        columns!(),
        ",
        added.id,
        added.created_at
    FROM added
    JOIN vehicles ON vehicles.id = added.vehicle_id"
    ),
);

const LIST: Statement = Statement::select(
    "favorites",
    concat!(
        "
    SELECT",
        columns!(),
        ",
        favorites.id,
        favorites.created_at
    FROM favorites
    JOIN vehicles ON vehicles.id = vehicle_id
    WHERE user_id = $1
        AND favorites.id < $2
    ORDER BY favorites.id DESC
    LIMIT $3"
    ),
);

const DELETE: Statement = Statement::delete(
    "favorites",
    "
    DELETE FROM favorites
    USING vehicles
    WHERE user_id = $1
        AND vehicle_id = vehicles.id
        AND vin = $2",
);

/// The statements of this store.
pub const QUERIES: &[&Statement] = &[&INSERT, &LIST, &DELETE];

/// A favourite as its owner sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Favorite {
    id: i64,
    vehicle: Vehicle,
    created_at: Timestamp,
}

impl Favorite {
    fn from_row(row: &Row) -> Result<Favorite, DbError> {
        Ok(Favorite { vehicle: Vehicle::from_row(row)?, id: row.get(14), created_at: row.get(15) })
    }
}

/// Body of a new favourite.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewFavorite)]
pub struct Create {
    #[schema(pattern = "^[A-HJ-NPR-Za-hj-npr-z0-9]{17}$")]
    vin: String,
}

/// Makes a vehicle a favourite.
pub async fn create(
    State(app): State<App>,
    user: CurrentUser,
    Json(body): Json<Create>,
) -> Result<(StatusCode, Answer<Favorite>), Problem> {
    let mut checks = Checks::default();
    let vin = checks.vin("vin", &body.vin);
    checks.finish(())?;
    let row = app.db.connection().await?.row(&INSERT, &[&user.id, &vin]).await.map_err(|error| {
        if error.violates("favorites_user_id_vehicle_id_key") {
            Problem::Conflict("this vehicle is a favourite already".to_owned())
        } else {
            error.into()
        }
    })?;
    let favorite = Favorite::from_row(&row.ok_or(Problem::NotFound("vehicle"))?)?;
    Ok((StatusCode::CREATED, Answer(favorite)))
}

/// Lists the user's favourites.
pub async fn list(
    State(app): State<App>,
    user: CurrentUser,
    Query(window): Query<Window>,
) -> Result<Answer<Page<Favorite>>, Problem> {
    let rows = app.db.connection().await?.rows(&LIST, &[&user.id, &window.below(), &window.rows()]).await?;
    let favorites = rows.iter().map(Favorite::from_row).collect::<Result<_, _>>()?;
    Ok(Answer(window.page(favorites, |favorite| favorite.id)))
}

/// Forgets a favourite.
pub async fn remove(State(app): State<App>, user: CurrentUser, Vin(vin): Vin) -> Result<StatusCode, Problem> {
    let count = app.db.connection().await?.execute(&DELETE, &[&user.id, &vin]).await?;
    removed(count == 1, "favourite")
}
