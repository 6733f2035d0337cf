//! Subscribe to alerts, look at them, switch them off and on.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::WebhookStatus;
use super::store::{self, Delivery, MOST, Webhook, Wishes};
use crate::App;
use crate::auth::CurrentUser;
use crate::external;
use crate::hex;
use crate::http::etag::{HasVersion, IfMatch, Versioned};
use crate::http::extract::{Id, Json, Query};
use crate::http::page::{Page, Window};
use crate::http::problem::Problem;
use crate::http::removed;
use crate::http::validate::Checks;
use crate::vehicles::Criteria;

/// Body of a new subscription. Dollars and miles; what is absent does not matter.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewWebhook)]
pub struct Create {
    #[schema(min_length = 8, max_length = 2048, pattern = "^https?://")]
    url: String,
    #[schema(min_length = 1, max_length = 100)]
    make: Option<String>,
    #[schema(min_length = 1, max_length = 100)]
    model: Option<String>,
    #[schema(minimum = 0.01, maximum = 9_999_999.99)]
    price_min: Option<f64>,
    #[schema(minimum = 0.01, maximum = 9_999_999.99)]
    price_max: Option<f64>,
    #[schema(minimum = 1900, maximum = 2100)]
    year_min: Option<i32>,
    #[schema(minimum = 1900, maximum = 2100)]
    year_max: Option<i32>,
    #[schema(minimum = 0, maximum = 2_000_000)]
    mileage_max: Option<i32>,
}

/// A new subscription and the secret that its alerts are signed with, which is shown only now.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookWithSecret)]
pub struct Created {
    #[serde(flatten)]
    webhook: Webhook,
    secret: String,
}

impl HasVersion for Created {
    fn version(&self) -> i32 {
        self.webhook.version
    }
}

/// An address without a user's name or password in it, which would end up in lists and logs.
fn callable(url: &str) -> bool {
    let plain = |uri: &Uri| uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    url.len() <= 2048 && external::address(url).is_some_and(|uri| plain(&uri))
}

/// Subscribes to alerts of vehicles.
pub async fn create(
    State(app): State<App>,
    user: CurrentUser,
    Json(body): Json<Create>,
) -> Result<(StatusCode, Versioned<Created>), Problem> {
    let Create { url, make, model, price_min, price_max, year_min, year_max, mileage_max } = body;
    let mut checks = Checks::default();
    checks.require("url", callable(&url), "must be http:// or https:// with a host, at most 2048 bytes");
    let mut criteria = Criteria {
        make,
        model,
        price_min,
        price_max,
        year_min,
        year_max,
        mileage_max,
        ..Criteria::default()
    };
    criteria.check("", &mut checks);
    checks.finish(())?;
    let Criteria { make, model, price_min, price_max, year_min, year_max, mileage_max, .. } = criteria;
    let wishes = Wishes { make, model, price_min, price_max, year_min, year_max, mileage_max };
    let secret = hex::encode(&rand::random::<[u8; 32]>());
    let mut db = app.db.connection().await?;
    let webhook = store::insert(&mut db, user.id, &url, &secret, &wishes).await?;
    let webhook = webhook.ok_or_else(|| Problem::Conflict(format!("you have {MOST} webhooks already")))?;
    Ok((StatusCode::CREATED, Versioned(Created { webhook, secret })))
}

/// Lists the user's subscriptions.
pub async fn list(
    State(app): State<App>,
    user: CurrentUser,
    Query(window): Query<Window>,
) -> Result<Answer<Page<Webhook>>, Problem> {
    let mut db = app.db.connection().await?;
    let found = store::list(&mut db, user.id, window.below(), window.rows()).await?;
    Ok(Answer(window.page(found, |webhook| webhook.id)))
}

/// Shows a subscription.
pub async fn show(
    State(app): State<App>,
    user: CurrentUser,
    Id(id): Id,
) -> Result<Versioned<Webhook>, Problem> {
    let found = store::find(&mut app.db.connection().await?, user.id, id).await?;
    found.map(Versioned).ok_or(Problem::NotFound("webhook"))
}

/// Lists the alerts of a subscription.
pub async fn deliveries(
    State(app): State<App>,
    user: CurrentUser,
    Id(id): Id,
    Query(window): Query<Window>,
) -> Result<Answer<Page<Delivery>>, Problem> {
    let mut db = app.db.connection().await?;
    store::find(&mut db, user.id, id).await?.ok_or(Problem::NotFound("webhook"))?;
    let found = store::deliveries(&mut db, id, window.below(), window.rows()).await?;
    Ok(Answer(window.page(found, |delivery| delivery.id)))
}

/// Body of a switch.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WebhookSwitch)]
pub struct Switch {
    active: bool,
}

/// Switches a subscription off, or on again, also after failures.
pub async fn switch(
    State(app): State<App>,
    user: CurrentUser,
    Id(id): Id,
    IfMatch(version): IfMatch,
    Json(Switch { active }): Json<Switch>,
) -> Result<Versioned<Webhook>, Problem> {
    let status = if active { WebhookStatus::Active } else { WebhookStatus::Inactive };
    let mut db = app.db.connection().await?;
    if let Some(webhook) = store::switch(&mut db, user.id, id, version, status).await? {
        app.alerts.notify_one();
        return Ok(Versioned(webhook));
    }
    let exists = store::find(&mut db, user.id, id).await?.is_some();
    Err(if exists { Problem::Outdated } else { Problem::NotFound("webhook") })
}

/// Forgets a subscription and its alerts.
pub async fn remove(State(app): State<App>, user: CurrentUser, Id(id): Id) -> Result<StatusCode, Problem> {
    let found = store::delete(&mut app.db.connection().await?, user.id, id).await?;
    removed(found, "webhook")
}
