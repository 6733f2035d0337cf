//! Vehicles: the catalogue, searching it, and what users keep of it.

pub mod favorites;
pub mod handlers;
pub mod history;
pub mod listing;
pub mod saved_searches;
pub mod store;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::http::validate::Checks;
use crate::labels::label_enum;

label_enum! {
    /// How a search came about; the database's enum `searchtype`.
    SearchType {
        /// By make, model, body type and highest price only.
        Quick = "quick",
        /// By any criteria.
        Advanced = "advanced",
        /// By the criteria of a saved search.
        Saved = "saved",
        /// By what the user's favourites have in common.
        Recommended = "recommended",
    }
}

label_enum! {
    /// The database's enum `vehiclecondition`.
    Condition {
        /// Never registered.
        New = "new",
        /// Second hand.
        Used = "used",
        /// Second hand, inspected by its maker.
        Certified = "certified",
    }
}

/// What a vehicle must be like; what is absent does not matter. Prices in dollars, mileage in miles.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Criteria {
    /// Make, in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 100)]
    pub make: Option<String>,
    /// Model, in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 100)]
    pub model: Option<String>,
    /// Body type.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 50)]
    pub body_type: Option<String>,
    /// Condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// Fuel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 50)]
    pub fuel_type: Option<String>,
    /// Transmission.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 50)]
    pub transmission: Option<String>,
    /// Oldest model year.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1900, maximum = 2100)]
    pub year_min: Option<i32>,
    /// Newest model year.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1900, maximum = 2100)]
    pub year_max: Option<i32>,
    /// Lowest price.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.01, maximum = 9_999_999.99)]
    pub price_min: Option<f64>,
    /// Highest price.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.01, maximum = 9_999_999.99)]
    pub price_max: Option<f64>,
    /// Highest mileage.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 2_000_000)]
    pub mileage_max: Option<i32>,
}

impl Criteria {
    /// Checks every criterion; `prefix` leads the names of refused fields.
    pub(crate) fn check(&mut self, prefix: &str, checks: &mut Checks) {
        // Most checks refuse nothing: a name that needs no prefix is not copied.
        let named = |field: &'static str| match prefix {
            "" => Cow::Borrowed(field),
            _ => Cow::Owned(format!("{prefix}{field}")),
        };
        let texts = [
            ("make", &mut self.make, 100),
            ("model", &mut self.model, 100),
            ("body_type", &mut self.body_type, 50),
            ("fuel_type", &mut self.fuel_type, 50),
            ("transmission", &mut self.transmission, 50),
        ];
        for (field, value, max) in texts {
            if let Some(value) = value {
                *value = checks.text(&named(field), value, 1, max).to_lowercase();
            }
        }
        for (field, value) in [("year_min", self.year_min), ("year_max", self.year_max)] {
            if let Some(year) = value {
                checks.range(&named(field), year, 1900, 2100);
            }
        }
        for (field, value) in [("price_min", self.price_min), ("price_max", self.price_max)] {
            if let Some(price) = value {
                checks.price(&named(field), price);
            }
        }
        if let Some(mileage) = self.mileage_max {
            checks.range(&named("mileage_max"), mileage, 0, 2_000_000);
        }
        let ordered =
            |low: Option<f64>, high: Option<f64>| low.zip(high).is_none_or(|(low, high)| low <= high);
        let years = ordered(self.year_min.map(f64::from), self.year_max.map(f64::from));
        checks.require(&named("year_max"), years, "must not be below year_min");
        let prices = ordered(self.price_min, self.price_max);
        checks.require(&named("price_max"), prices, "must not be below price_min");
    }
}
