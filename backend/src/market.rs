//! What vehicles like one cost: by an external API of listings (the shape of MarketCheck's `/search/car/active`), or by
//! the seeded catalogue where there is none or it fails.

use std::sync::Arc;

use axum::http::{Request, Uri};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::db::{Db, DbError, Query};
use crate::external::{self, Api, PATIENCE};
use crate::labels::label_enum;
use crate::metrics::Metrics;
use crate::outbound::{CallError, Http};

const CATALOGUE: Query = Query::select(
    "vehicles",
    "
    SELECT
        count(*),
        round(avg(price), 2)::float8
    FROM vehicles
    WHERE listed
        AND lower(make) = lower($1)
        AND lower(model) = lower($2)
        AND year BETWEEN $3 - 1 AND $3 + 1",
);

/// The statements of this store.
pub const QUERIES: &[&Query] = &[&CATALOGUE];

label_enum! {
    /// Where prices come from.
    PriceSource {
        /// The external API.
        External = "external",
        /// The catalogue.
        Catalogue = "catalogue",
    }
}

/// What vehicles of one model and about one year cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Estimate {
    /// Dollars; nothing if no such vehicle is offered.
    pub average_price: Option<f64>,
    /// How many are offered.
    pub listings: i64,
    /// Where that comes from.
    pub source: PriceSource,
}

/// The API's address is none.
#[derive(Debug, thiserror::Error)]
#[error("the vehicle data API must be http:// or https:// with a host")]
pub struct NotAnAddress;

/// Asks for prices.
#[derive(Debug)]
pub struct Market {
    api: Api,
    base: Option<String>,
    key: String,
}

impl Market {
    /// Asks the API at `url` with `key`, if there is one.
    ///
    /// # Errors
    /// If `url` cannot be called.
    pub fn new(
        url: Option<&str>,
        key: Option<&str>,
        http: &Http,
        metrics: Arc<Metrics>,
    ) -> Result<Market, NotAnAddress> {
        let base = url.map(|url| url.trim_end_matches('/').to_owned());
        if base.as_deref().is_some_and(|base| external::address(base).is_none()) {
            return Err(NotAnAddress);
        }
        let key = key.unwrap_or_default().to_owned();
        Ok(Market { api: Api::new("vehicle_data", http, PATIENCE, metrics), base, key })
    }

    /// What such vehicles cost.
    ///
    /// # Errors
    /// See [`DbError`]: the API's failures are counted, and the catalogue answers.
    pub async fn estimate(&self, db: &Db, make: &str, model: &str, year: i32) -> Result<Estimate, DbError> {
        if let Some(uri) = self.uri(make, model, year) {
            let mut request = Request::new(Bytes::new());
            *request.uri_mut() = uri;
            if let Ok(estimate) = self.api.call(&request, |answer| read(&answer.body)).await {
                return Ok(estimate);
            }
        }
        let row = db.connection().await?.row(&CATALOGUE, &[&make, &model, &year]).await?;
        let row = row.ok_or_else(|| DbError::no_row(&CATALOGUE))?;
        Ok(Estimate { listings: row.get(0), average_price: row.get(1), source: PriceSource::Catalogue })
    }

    fn uri(&self, make: &str, model: &str, year: i32) -> Option<Uri> {
        let base = self.base.as_ref()?;
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("api_key", self.key.as_str()), ("make", make), ("model", model)])
            .extend_pairs([("year", year.to_string().as_str()), ("rows", "50")])
            .finish();
        format!("{base}/search/car/active?{query}").parse().ok()
    }
}

fn read(body: &[u8]) -> Result<Estimate, CallError> {
    #[derive(Deserialize)]
    struct Page {
        num_found: i64,
        listings: Vec<Listing>,
    }
    #[derive(Deserialize)]
    struct Listing {
        price: Option<f64>,
    }
    let page: Page = serde_json::from_slice(body)
        .map_err(|_| CallError::InvalidAnswer("not a page of listings".to_owned()))?;
    let plausible = |price: &f64| (100.0..1e7).contains(price);
    let prices: Vec<f64> =
        page.listings.iter().filter_map(|listing| listing.price).filter(plausible).collect();
    let sum: f64 = prices.iter().sum();
    let count = f64::from(u32::try_from(prices.len()).unwrap_or(u32::MAX));
    let average_price = (!prices.is_empty()).then(|| (sum / count * 100.0).round() / 100.0);
    Ok(Estimate { average_price, listings: page.num_found.max(0), source: PriceSource::External })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_listings_is_averaged_without_its_nonsense() {
        let page = br#"{"num_found": 812, "listings": [{"vin": "x", "price": 20000}, {"price": 21000.02, "miles": 5},
            {"price": null}, {}, {"price": 1}, {"price": 99999999}]}"#;
        let estimate = read(page).unwrap();
        assert_eq!((estimate.average_price, estimate.listings), (Some(20_500.01), 812));
        assert_eq!(read(br#"{"num_found": 0, "listings": []}"#).unwrap().average_price, None);
        assert!(read(b"<html>").is_err() && read(b"{}").is_err());
    }
}
