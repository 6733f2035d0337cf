//! Search the catalogue and show a vehicle of it. Both are open to everybody; sessions, if given, are checked.

use std::time::Instant;

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use super::history::{Found, History, Searched};
use super::store::{self, Vehicle};
use super::{Condition, Criteria, SearchType, saved_searches};
use crate::App;
use crate::auth::Visitor;
use crate::http::extract::{Query, Vin};
use crate::http::page::{Cursor, Limit, Page, Window};
use crate::http::problem::Problem;
use crate::http::validate::Checks;
use crate::http::written::Written;

/// Query of a search: its type, a page of it, and the criteria.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Search {
    search_type: Option<SearchType>,
    saved_search_id: Option<i64>,
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
    #[schema(min_length = 1, max_length = 100)]
    make: Option<String>,
    #[schema(min_length = 1, max_length = 100)]
    model: Option<String>,
    #[schema(min_length = 1, max_length = 50)]
    body_type: Option<String>,
    condition: Option<Condition>,
    #[schema(min_length = 1, max_length = 50)]
    fuel_type: Option<String>,
    #[schema(min_length = 1, max_length = 50)]
    transmission: Option<String>,
    #[schema(minimum = 1900, maximum = 2100)]
    year_min: Option<i32>,
    #[schema(minimum = 1900, maximum = 2100)]
    year_max: Option<i32>,
    #[schema(minimum = 0.01, maximum = 9_999_999.99)]
    price_min: Option<f64>,
    #[schema(minimum = 0.01, maximum = 9_999_999.99)]
    price_max: Option<f64>,
    #[schema(minimum = 0, maximum = 2_000_000)]
    mileage_max: Option<i32>,
}

impl Search {
    /// Type, page and criteria, with everything refused that has no meaning in this type of search.
    fn check(self) -> Result<(SearchType, Option<i64>, Criteria), Problem> {
        let kind = self.search_type.unwrap_or(SearchType::Quick);
        let mut checks = Checks::default();
        let own = matches!(kind, SearchType::Quick | SearchType::Advanced);
        let advanced = kind == SearchType::Advanced;
        for (field, given, fine) in [
            ("make", self.make.is_some(), own),
            ("model", self.model.is_some(), own),
            ("body_type", self.body_type.is_some(), own),
            ("price_max", self.price_max.is_some(), own),
            ("condition", self.condition.is_some(), advanced),
            ("fuel_type", self.fuel_type.is_some(), advanced),
            ("transmission", self.transmission.is_some(), advanced),
            ("year_min", self.year_min.is_some(), advanced),
            ("year_max", self.year_max.is_some(), advanced),
            ("price_min", self.price_min.is_some(), advanced),
            ("mileage_max", self.mileage_max.is_some(), advanced),
            ("saved_search_id", self.saved_search_id.is_some(), kind == SearchType::Saved),
        ] {
            checks.require(
                field,
                fine || !given,
                format_args!("has no meaning in a {} search", kind.as_str()),
            );
        }
        let named = kind != SearchType::Saved || self.saved_search_id.is_some();
        checks.require("saved_search_id", named, "is needed in a saved search");
        let mut criteria = Criteria {
            make: self.make,
            model: self.model,
            body_type: self.body_type,
            condition: self.condition,
            fuel_type: self.fuel_type,
            transmission: self.transmission,
            year_min: self.year_min,
            year_max: self.year_max,
            price_min: self.price_min,
            price_max: self.price_max,
            mileage_max: self.mileage_max,
        };
        criteria.check("", &mut checks);
        checks.finish((kind, self.saved_search_id, criteria))
    }
}

/// Searches the catalogue. The first page of a search is recorded and counted, its further pages are not.
pub async fn search(
    State(app): State<App>,
    visitor: Visitor,
    Query(query): Query<Search>,
) -> Result<Written<Page<Vehicle>>, Problem> {
    let started = Instant::now();
    let _active = app.metrics.active_searches.hold();
    let (limit, cursor) = (query.limit, query.cursor);
    let (kind, saved, mut criteria) = query.check()?;
    let user = match kind {
        SearchType::Quick | SearchType::Advanced => visitor.if_known()?,
        SearchType::Saved | SearchType::Recommended => Some(visitor.required()?),
    };
    match (kind, user, saved) {
        (SearchType::Saved, Some(user), Some(id)) => {
            let found = saved_searches::check(&mut app.db.connection().await?, user, id).await?;
            criteria = found.ok_or(Problem::NotFound("saved search"))?;
        }
        (SearchType::Recommended, Some(user), _) => {
            criteria = store::taste(&mut app.db.connection().await?, user).await?;
        }
        _ => {}
    }
    let (found, page) = page(&app, &criteria, cursor, limit).await?;
    if cursor.is_none() {
        History::note(&app, Searched { user, kind, criteria, found });
    }
    app.metrics.vehicle_search_duration.observe(started.elapsed().as_secs_f64());
    Ok(page)
}

/// A page, as it is kept or as it is in the database now, and what the history wants to know of it.
async fn page(
    app: &App,
    criteria: &Criteria,
    cursor: Option<Cursor>,
    limit: Limit,
) -> Result<(Found, Written<Page<Vehicle>>), Problem> {
    let question = (criteria, cursor, limit.0);
    if let Some((found, page)) = app.searches.get(&question).await {
        return Ok((found, Written::from_kept(page)));
    }
    let window = Window::new(limit, cursor);
    let vehicles = {
        let mut db = app.db.connection().await?;
        store::search(&mut db, criteria, window.below(), window.rows()).await?
    };
    let page = window.page(vehicles, |vehicle| vehicle.id);
    let (found, page) = (Found::new(&page.items), Written::new(&page)?);
    app.searches.set(&question, &found, page.json()).await;
    Ok((found, page))
}

/// Shows a vehicle.
pub async fn show(State(app): State<App>, Vin(vin): Vin) -> Result<Written<Vehicle>, Problem> {
    if let Some(((), vehicle)) = app.vehicles.get(&vin).await {
        return Ok(Written::from_kept(vehicle));
    }
    let vehicle = {
        let mut db = app.db.connection().await?;
        store::find(&mut db, &vin).await?.ok_or(Problem::NotFound("vehicle"))?
    };
    let vehicle = Written::new(&vehicle)?;
    app.vehicles.set(&vin, &(), vehicle.json()).await;
    Ok(vehicle)
}
