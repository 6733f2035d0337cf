//! Calculate a loan, compare offers, apply for one.

use std::time::Instant;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::store::{self, Application, NewApplication};
use super::terms::{LENDERS, Terms};
use super::{CreditTier, LoanStatus};
use crate::App;
use crate::auth::CurrentUser;
use crate::http::extract::{Id, Json, Query};
use crate::http::page::{Cursor, Limit, Page, Window};
use crate::http::problem::Problem;
use crate::http::validate::{Checks, MAX_PRICE};
use crate::metrics::StatusLabels;

/// The lowest loan, in dollars: below, a payment is less than a cent.
const LEAST: f64 = 100.0;

/// What a loan is to be. Dollars.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LoanWanted)]
pub struct Wanted {
    #[schema(minimum = 100, maximum = 9_999_999.99)]
    loan_amount: f64,
    #[schema(minimum = 6, maximum = 120)]
    loan_term_months: i32,
    credit_score_range: CreditTier,
}

impl Wanted {
    fn check(&self, checks: &mut Checks) {
        checks.price("loan_amount", self.loan_amount);
        checks.require("loan_amount", self.loan_amount >= LEAST, format_args!("must be at least {LEAST}"));
        checks.range("loan_term_months", self.loan_term_months, 6, 120);
    }
}

/// What a loan costs.
pub async fn calculate(Json(wanted): Json<Wanted>) -> Result<Answer<Terms>, Problem> {
    let mut checks = Checks::default();
    wanted.check(&mut checks);
    checks.finish(())?;
    let Wanted { loan_amount, loan_term_months, credit_score_range } = wanted;
    Ok(Answer(Terms::new(loan_amount, loan_term_months, credit_score_range, 0.0)))
}

/// What one lender asks.
#[derive(Serialize, ToSchema)]
pub struct Offer {
    lender: &'static str,
    #[serde(flatten)]
    terms: Terms,
}

/// Offers, the cheapest first.
#[derive(Serialize, ToSchema)]
pub struct Offers {
    items: Vec<Offer>,
}

/// What lenders ask for a loan.
pub async fn offers(Query(wanted): Query<Wanted>) -> Result<Answer<Offers>, Problem> {
    let mut checks = Checks::default();
    wanted.check(&mut checks);
    checks.finish(())?;
    let Wanted { loan_amount, loan_term_months, credit_score_range } = wanted;
    let lenders = LENDERS.iter().filter(|(_, _, longest)| loan_term_months <= *longest);
    let items = lenders.map(|(lender, surcharge, _)| Offer {
        lender,
        terms: Terms::new(loan_amount, loan_term_months, credit_score_range, *surcharge),
    });
    Ok(Answer(Offers { items: items.collect() }))
}

/// Body of an application. Dollars.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewApplication)]
pub struct Apply {
    deal_id: Option<i64>,
    #[schema(minimum = 100, maximum = 9_999_999.99)]
    loan_amount: f64,
    #[serde(default)]
    #[schema(minimum = 0, maximum = 9_999_999.99)]
    down_payment: f64,
    #[schema(minimum = 6, maximum = 120)]
    loan_term_months: i32,
    credit_score_range: CreditTier,
    #[schema(minimum = 0, maximum = 9_999_999.99)]
    annual_income: Option<f64>,
}

fn check_income(checks: &mut Checks, income: f64) {
    checks.require(
        "annual_income",
        (0.0..=MAX_PRICE).contains(&income),
        format!("must be from 0 to {MAX_PRICE}"),
    );
}

/// Applies for a loan, which is decided at once if the income is given.
pub async fn apply(
    State(app): State<App>,
    user: CurrentUser,
    Json(body): Json<Apply>,
) -> Result<(StatusCode, Answer<Application>), Problem> {
    let started = Instant::now();
    let Apply {
        deal_id,
        loan_amount,
        down_payment,
        loan_term_months,
        credit_score_range: tier,
        annual_income,
    } = body;
    let mut checks = Checks::default();
    Wanted { loan_amount, loan_term_months, credit_score_range: tier }.check(&mut checks);
    if down_payment != 0.0 {
        checks.price("down_payment", down_payment);
    }
    if let Some(income) = annual_income {
        check_income(&mut checks, income);
    }
    checks.finish(())?;
    let terms = Terms::new(loan_amount, loan_term_months, tier, 0.0);
    let decision = terms.decide(tier, loan_amount, down_payment, annual_income);
    let new = NewApplication { deal_id, loan_amount, down_payment, loan_term_months, tier, annual_income };
    let mut db = app.db.connection().await?;
    let stored = store::insert(&mut db, user.id, &new, &terms, decision).await.map_err(|error| {
        if error.violates("loan_applications_live_deal_key") {
            Problem::Conflict("this deal has an application that was not rejected".to_owned())
        } else {
            error.into()
        }
    })?;
    let application = stored.ok_or(Problem::NotFound("deal"))?;
    let labels = StatusLabels { status: application.status.as_str() };
    app.metrics.loan_applications.get_or_create_owned(&labels).inc();
    app.metrics.loan_processing_duration.observe(started.elapsed().as_secs_f64());
    Ok((StatusCode::CREATED, Answer(application)))
}

/// Query of a list of applications.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
    status: Option<LoanStatus>,
}

/// Lists the user's applications.
pub async fn list(
    State(app): State<App>,
    user: CurrentUser,
    Query(Filter { limit, cursor, status }): Query<Filter>,
) -> Result<Answer<Page<Application>>, Problem> {
    let window = Window::new(limit, cursor);
    let mut db = app.db.connection().await?;
    let found = store::list(&mut db, user.id, window.below(), status, window.rows()).await?;
    Ok(Answer(window.page(found, |application| application.id)))
}

/// Shows an application.
pub async fn show(
    State(app): State<App>,
    user: CurrentUser,
    Id(id): Id,
) -> Result<Answer<Application>, Problem> {
    let application = store::find(&mut app.db.connection().await?, user.id, id).await?;
    application.map(Answer).ok_or(Problem::NotFound("loan application"))
}

/// Body that completes a pending application. Dollars.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Income {
    #[schema(minimum = 0, maximum = 9_999_999.99)]
    annual_income: f64,
}

/// Completes a pending application with the income, which decides it.
pub async fn complete(
    State(app): State<App>,
    user: CurrentUser,
    Id(id): Id,
    Json(Income { annual_income }): Json<Income>,
) -> Result<Answer<Application>, Problem> {
    let mut checks = Checks::default();
    check_income(&mut checks, annual_income);
    checks.finish(())?;
    let mut db = app.db.connection().await?;
    let found = store::find(&mut db, user.id, id).await?.ok_or(Problem::NotFound("loan application"))?;
    let tier = found.credit_score_range;
    let decision = found.terms.decide(tier, found.loan_amount, found.down_payment, Some(annual_income));
    let decided = store::decide(&mut db, user.id, id, annual_income, decision).await?;
    decided.map(Answer).ok_or_else(|| Problem::Conflict("this application is decided already".to_owned()))
}
