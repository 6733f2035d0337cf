//! Create, list, show, move and delete deals.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::DealStatus;
use super::store::{self, Deal, NewDeal};
use crate::App;
use crate::auth::CurrentUser;
use crate::http::etag::{IfMatch, Versioned};
use crate::http::extract::{Id, Json, Query};
use crate::http::page::{Cursor, Limit, Page, Window};
use crate::http::problem::Problem;
use crate::http::removed;
use crate::http::validate::Checks;
use crate::metrics::StatusLabels;

/// Body of a new deal. Prices in dollars.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewDeal)]
pub struct Create {
    #[schema(pattern = "^[A-HJ-NPR-Za-hj-npr-z0-9]{17}$")]
    vehicle_vin: String,
    #[schema(min_length = 1, max_length = 100)]
    vehicle_make: String,
    #[schema(min_length = 1, max_length = 100)]
    vehicle_model: String,
    #[schema(minimum = 1900, maximum = 2100)]
    vehicle_year: i32,
    #[serde(default)]
    #[schema(minimum = 0, maximum = 2_000_000)]
    vehicle_mileage: i32,
    #[schema(minimum = 0.01, maximum = 9_999_999.99)]
    asking_price: f64,
    #[schema(minimum = 0.01, maximum = 9_999_999.99)]
    offer_price: Option<f64>,
    status: Option<DealStatus>,
    #[schema(max_length = 10_000)]
    notes: Option<String>,
}

impl Create {
    fn check(self) -> Result<NewDeal, Problem> {
        let mut checks = Checks::default();
        let status = self.status.unwrap_or(DealStatus::Pending);
        checks.require("status", status.may_begin(), "a new deal is pending or in_progress");
        let vehicle_vin = checks.vin("vehicle_vin", &self.vehicle_vin);
        let vehicle_make = checks.text("vehicle_make", &self.vehicle_make, 1, 100);
        let vehicle_model = checks.text("vehicle_model", &self.vehicle_model, 1, 100);
        checks.range("vehicle_year", self.vehicle_year, 1900, 2100);
        checks.range("vehicle_mileage", self.vehicle_mileage, 0, 2_000_000);
        checks.price("asking_price", self.asking_price);
        if let Some(offer) = self.offer_price {
            checks.price("offer_price", offer);
        }
        let notes = self.notes.map(|notes| checks.text("notes", &notes, 0, 10_000));
        checks.finish(NewDeal {
            vehicle_vin,
            vehicle_make,
            vehicle_model,
            vehicle_year: self.vehicle_year,
            vehicle_mileage: self.vehicle_mileage,
            asking_price: self.asking_price,
            offer_price: self.offer_price,
            status,
            notes,
        })
    }
}

/// Creates a deal.
pub async fn create(
    State(app): State<App>,
    user: CurrentUser,
    Json(body): Json<Create>,
) -> Result<(StatusCode, Versioned<Deal>), Problem> {
    let deal = body.check()?;
    let deal = store::insert(&mut app.db.connection().await?, user.id, &deal).await.map_err(|error| {
        if error.violates("deals_open_vin_key") {
            Problem::Conflict("you have an open deal on this vehicle".to_owned())
        } else {
            error.into()
        }
    })?;
    app.metrics.deals_created.get_or_create_owned(&StatusLabels { status: deal.status.as_str() }).inc();
    Ok((StatusCode::CREATED, Versioned(deal)))
}

/// Query of a list of deals.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
    status: Option<DealStatus>,
}

/// Lists the user's deals.
pub async fn list(
    State(app): State<App>,
    user: CurrentUser,
    Query(Filter { limit, cursor, status }): Query<Filter>,
) -> Result<Answer<Page<Deal>>, Problem> {
    let window = Window::new(limit, cursor);
    let mut db = app.db.connection().await?;
    let deals = store::list(&mut db, user.id, window.below(), status, window.rows()).await?;
    Ok(Answer(window.page(deals, |deal| deal.id)))
}

/// Shows a deal.
pub async fn show(State(app): State<App>, user: CurrentUser, Id(id): Id) -> Result<Versioned<Deal>, Problem> {
    let deal = store::find(&mut app.db.connection().await?, user.id, id).await?;
    deal.map(Versioned).ok_or(Problem::NotFound("deal"))
}

/// Body of a change of status.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeStatus {
    status: DealStatus,
}

/// Moves a deal. Asking for the status that it has changes nothing and is fine, so that a retry is.
pub async fn change_status(
    State(app): State<App>,
    user: CurrentUser,
    Id(id): Id,
    IfMatch(version): IfMatch,
    Json(ChangeStatus { status }): Json<ChangeStatus>,
) -> Result<Versioned<Deal>, Problem> {
    let mut db = app.db.connection().await?;
    if let Some(deal) = store::change_status(&mut db, user.id, id, version, status).await? {
        return Ok(Versioned(deal));
    }
    let deal = store::find(&mut db, user.id, id).await?.ok_or(Problem::NotFound("deal"))?;
    if version.is_some_and(|version| version != deal.version) {
        return Err(Problem::Outdated);
    }
    if deal.status == status {
        return Ok(Versioned(deal));
    }
    Err(Problem::Conflict(format!(
        "a deal that is {} cannot become {}",
        deal.status.as_str(),
        status.as_str()
    )))
}

/// Deletes a deal.
pub async fn remove(State(app): State<App>, user: CurrentUser, Id(id): Id) -> Result<StatusCode, Problem> {
    let found = store::delete(&mut app.db.connection().await?, user.id, id).await?;
    removed(found, "deal")
}
