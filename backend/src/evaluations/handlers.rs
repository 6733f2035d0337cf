//! Begin an evaluation and answer what it asks. Market and language model are asked while no connection to the database
//! is held; what changed meanwhile is a conflict.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::store::{self, Evaluation, Findings};
use super::verdict::{self, Condition, Financing};
use super::{EvaluationStatus, Recommendation, Step};
use crate::App;
use crate::auth::CurrentUser;
use crate::deals;
use crate::deals::store::Deal;
use crate::http::etag::{IfMatch, Versioned};
use crate::http::extract::{Id, Json, Query};
use crate::http::page::{Cursor, Limit, Page, Window};
use crate::http::problem::Problem;
use crate::http::validate::{Checks, MAX_PRICE};
use crate::llm::{self, Prompt, PromptKind, Usage};
use crate::metrics::RecommendationLabels;

/// The summary at the end.
pub const SUMMARY: PromptKind = PromptKind { feature: "deal_evaluation", name: "evaluation" };

const WRITER: &str = "You sum up the evaluation of a car deal for its buyer. The case is JSON: scores from 0 (bad) to 100 \
    (good) with reasons, and a recommendation that you explain and do not change. Answer with one JSON object and \
    nothing else: {\"summary\": string}, at most four sentences.";

/// Body of a new evaluation.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewEvaluation)]
pub struct Create {
    #[schema(minimum = 1)]
    deal_id: i64,
}

/// Begins an evaluation, which asks for the vehicle's condition first.
pub async fn create(
    State(app): State<App>,
    user: CurrentUser,
    Json(Create { deal_id }): Json<Create>,
) -> Result<(StatusCode, Versioned<Evaluation>), Problem> {
    let begun = store::insert(&mut app.db.connection().await?, user.id, deal_id).await?;
    let evaluation = begun.ok_or(Problem::NotFound("deal"))?;
    app.metrics.evaluations_started.inc();
    Ok((StatusCode::CREATED, Versioned(evaluation)))
}

/// Query of a list.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
    deal_id: Option<i64>,
}

/// Lists the user's evaluations.
pub async fn list(
    State(app): State<App>,
    user: CurrentUser,
    Query(Filter { limit, cursor, deal_id }): Query<Filter>,
) -> Result<Answer<Page<Evaluation>>, Problem> {
    let window = Window::new(limit, cursor);
    let mut db = app.db.connection().await?;
    let found = store::list(&mut db, user.id, window.below(), deal_id, window.rows()).await?;
    Ok(Answer(window.page(found, |evaluation| evaluation.id)))
}

/// Shows an evaluation.
pub async fn show(
    State(app): State<App>,
    user: CurrentUser,
    Id(id): Id,
) -> Result<Versioned<Evaluation>, Problem> {
    let found = store::find(&mut app.db.connection().await?, user.id, id).await?;
    found.map(Versioned).ok_or(Problem::NotFound("evaluation"))
}

/// Body of an answer: that of the step which is asked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EvaluationAnswers)]
pub struct Answers {
    /// At the step `vehicle_condition`.
    vehicle_condition: Option<Condition>,
    /// At the step `financing`.
    financing: Option<Financing>,
}

impl Answers {
    fn check(&self) -> Result<(), Problem> {
        let mut checks = Checks::default();
        if let Some(Condition { accidents, owners, .. }) = self.vehicle_condition {
            checks.range("vehicle_condition.accidents", accidents, 0, 20);
            checks.range("vehicle_condition.owners", owners, 0, 20);
        }
        if let Some(financing) = self.financing {
            let money = 0.0..=MAX_PRICE;
            let rule = format!("must be from 0 to {MAX_PRICE}");
            checks.require("financing.annual_income", money.contains(&financing.annual_income), &rule);
            checks.require("financing.down_payment", money.contains(&financing.down_payment), &rule);
            checks.range("financing.loan_term_months", financing.loan_term_months, 6, 120);
        }
        checks.finish(())
    }
}

/// Answers what is asked, and goes on to the next question or to the end.
pub async fn answer(
    State(app): State<App>,
    user: CurrentUser,
    Id(id): Id,
    IfMatch(version): IfMatch,
    Json(answers): Json<Answers>,
) -> Result<Versioned<Evaluation>, Problem> {
    answers.check()?;
    let (evaluation, deal) = {
        let mut db = app.db.connection().await?;
        let found = store::find(&mut db, user.id, id).await?.ok_or(Problem::NotFound("evaluation"))?;
        let deal = deals::store::find(&mut db, user.id, found.deal_id).await?;
        (found, deal.ok_or(Problem::NotFound("evaluation"))?)
    };
    if version.is_some_and(|version| version != evaluation.version) {
        return Err(Problem::Outdated);
    }
    if evaluation.status == EvaluationStatus::Completed {
        return Err(Problem::Conflict("this evaluation is completed".to_owned()));
    }
    let needed = |field: &str| Problem::field(field, "is what this step asks for, and nothing else");
    match (evaluation.current_step, answers.vehicle_condition, answers.financing) {
        (Step::VehicleCondition, Some(condition), None) => {
            price(&app, &user, evaluation, &deal, condition).await
        }
        (Step::Financing, None, Some(financing)) => finish(&app, &user, evaluation, &deal, financing).await,
        (Step::VehicleCondition, ..) => Err(needed("vehicle_condition")),
        _ => Err(needed("financing")),
    }
}

fn overtaken() -> Problem {
    Problem::Conflict("the evaluation has changed meanwhile; get it again".to_owned())
}

/// What is offered for the vehicle, or else asked.
fn price_of(deal: &Deal) -> f64 {
    deal.offer_price.unwrap_or(deal.asking_price)
}

async fn price(
    app: &App,
    user: &CurrentUser,
    evaluation: Evaluation,
    deal: &Deal,
    condition: Condition,
) -> Result<Versioned<Evaluation>, Problem> {
    let Deal { vehicle_make, vehicle_model, vehicle_year, .. } = deal;
    let market = app.market.estimate(&app.db, vehicle_make, vehicle_model, *vehicle_year).await?;
    let findings = Findings {
        condition_answers: Some(condition),
        vehicle_condition: Some(verdict::condition(&condition)),
        market: Some(market),
        price: Some(verdict::price(price_of(deal), &market)),
        ..evaluation.findings
    };
    let (status, step) = (EvaluationStatus::AwaitingInput, Step::Financing);
    let mut db = app.db.connection().await?;
    let moved =
        store::advance(&mut db, user.id, evaluation.id, evaluation.version, status, step, &findings).await?;
    moved.map(Versioned).ok_or_else(overtaken)
}

async fn finish(
    app: &App,
    user: &CurrentUser,
    evaluation: Evaluation,
    deal: &Deal,
    answers: Financing,
) -> Result<Versioned<Evaluation>, Problem> {
    let mut findings = evaluation.findings;
    let (Some(condition), Some(price)) = (&findings.vehicle_condition, &findings.price) else {
        tracing::error!(evaluation = evaluation.id, "an evaluation lacks its first findings");
        return Err(Problem::Internal);
    };
    let financing = verdict::financing(price_of(deal), &answers);
    let this_year = i32::from(Timestamp::now().to_zoned(TimeZone::UTC).year());
    let risk = verdict::risk(deal.vehicle_year, this_year, deal.vehicle_mileage, condition);
    let (score, recommendation) = verdict::total(condition, price, &financing, &risk);
    findings.financing_answers = Some(answers);
    findings.financing = Some(financing);
    findings.risk = Some(risk);
    findings.score = Some(score);
    findings.recommendation = Some(recommendation);
    let (summary, usage) = summarise(app, deal, &findings, score, recommendation).await;
    findings.summary = Some(summary.summary.clone());

    let mut db = app.db.begin().await?;
    let (status, step) = (EvaluationStatus::Completed, Step::Final);
    let moved =
        store::advance(&mut db, user.id, evaluation.id, evaluation.version, status, step, &findings).await?;
    let Some(evaluation) = moved else {
        db.rollback().await?;
        return Err(overtaken());
    };
    llm::store::record(&mut db, user.id, deal.id, SUMMARY, &usage, &summary).await?;
    db.commit().await?;
    let labels = RecommendationLabels { recommendation: recommendation.as_str() };
    app.metrics.evaluations_completed.get_or_create_owned(&labels).inc();
    Ok(Versioned(evaluation))
}

#[derive(Debug, Serialize, Deserialize)]
struct Summary {
    summary: String,
}

async fn summarise(
    app: &App,
    deal: &Deal,
    findings: &Findings,
    score: f64,
    recommendation: Recommendation,
) -> (Summary, Usage) {
    let vehicle = format!("{} {} {}", deal.vehicle_year, deal.vehicle_make, deal.vehicle_model);
    let case = json!({"vehicle": vehicle, "price": price_of(deal), "findings": findings});
    let prompt = Prompt { kind: SUMMARY, system: WRITER, user: case.to_string() };
    let short = |text: &Summary| llm::speakable(&text.summary);
    app.llm.answer(&prompt, short).await.unwrap_or_else(|| {
        let advice = match recommendation {
            Recommendation::Buy => "Take it.",
            Recommendation::Negotiate => "Ask for a better price.",
            Recommendation::Avoid => "Leave it.",
        };
        let reasons = [&findings.price, &findings.vehicle_condition, &findings.financing, &findings.risk];
        let reasons: Vec<_> =
            reasons.into_iter().flatten().map(|judgement| judgement.reason.as_str()).collect();
        let summary = format!("{score:.0} of 100 points for the {vehicle}: {}. {advice}", reasons.join("; "));
        (Summary { summary }, Usage::rules())
    })
}
