//! Begin a negotiation, exchange offers, ask the agent, accept or walk away. The dealer thinks while no connection to
//! the database is held; what changed meanwhile is a conflict.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::dealer::{self, Line, Position};
use super::store::{self, Message, Negotiation};
use super::{NegotiationStatus, Role};
use crate::App;
use crate::auth::CurrentUser;
use crate::db::Transaction;
use crate::deals;
use crate::http::etag::{HasVersion, IfMatch, Versioned};
use crate::http::extract::{Id, Json, Query};
use crate::http::page::{Cursor, Limit, Page, Window};
use crate::http::problem::Problem;
use crate::http::validate::Checks;
use crate::llm::{self, Usage};
use crate::metrics::{OutcomeLabels, RoleLabels};

/// Messages that the agent is reminded of.
const MEMORY: i64 = 12;
/// Rounds unless the user says otherwise.
const ROUNDS: i32 = 10;

/// A negotiation and what was just said in it, in order.
#[derive(Serialize, ToSchema)]
#[schema(as = NegotiationRound)]
pub struct Round {
    #[serde(flatten)]
    negotiation: Negotiation,
    messages: Vec<Message>,
}

impl HasVersion for Round {
    fn version(&self) -> i32 {
        self.negotiation.version
    }
}

/// Body of a new negotiation. Dollars.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewNegotiation)]
pub struct Create {
    #[schema(minimum = 1)]
    deal_id: i64,
    #[schema(minimum = 0.01, maximum = 9_999_999.99)]
    target_price: f64,
    #[schema(minimum = 0.01, maximum = 9_999_999.99)]
    offer: f64,
    #[schema(min_length = 1, max_length = 2_000)]
    message: Option<String>,
    #[schema(minimum = 1, maximum = 50)]
    max_rounds: Option<i32>,
}

fn spoken(checks: &mut Checks, message: Option<String>, otherwise: impl FnOnce() -> String) -> String {
    message.map_or_else(otherwise, |message| checks.text("message", &message, 1, 2_000))
}

fn offered(offer: f64) -> String {
    format!("I offer {offer:.2} dollars.")
}

/// Begins a negotiation with the user's first offer and the dealer's answer.
pub async fn create(
    State(app): State<App>,
    user: CurrentUser,
    Json(body): Json<Create>,
) -> Result<(StatusCode, Versioned<Round>), Problem> {
    let mut checks = Checks::default();
    checks.price("target_price", body.target_price);
    checks.price("offer", body.offer);
    let max_rounds = body.max_rounds.unwrap_or(ROUNDS);
    checks.range("max_rounds", max_rounds, 1, 50);
    let said = spoken(&mut checks, body.message, || offered(body.offer));
    checks.finish(())?;
    let deal = {
        let mut db = app.db.connection().await?;
        deals::store::find(&mut db, user.id, body.deal_id).await?.ok_or(Problem::NotFound("deal"))?
    };
    let closed = || Problem::Conflict("this deal is closed".to_owned());
    if !deal.status.may_begin() {
        return Err(closed());
    }
    let mut position = Position {
        vehicle: format!("{} {} {}", deal.vehicle_year, deal.vehicle_make, deal.vehicle_model),
        asking_price: deal.asking_price,
        target_price: body.target_price,
        user_offer: body.offer,
        dealer_offer: None,
        round: 1,
        max_rounds,
    };
    let (answer, usage) = dealer::answer(&app.llm, dealer::INITIAL, &position, &said).await;
    position.dealer_offer = Some(answer.offer);
    let mut db = app.db.begin().await?;
    if !store::open_deal(&mut db, user.id, deal.id).await? {
        return undo(db, closed()).await;
    }
    let negotiation = match store::insert(&mut db, user.id, deal.id, &position).await {
        Err(error) if error.violates("negotiation_sessions_active_deal_key") => {
            let problem = Problem::Conflict("this deal is being negotiated already".to_owned());
            return undo(db, problem).await;
        }
        inserted => inserted?,
    };
    llm::store::record(&mut db, user.id, deal.id, dealer::INITIAL, &usage, &answer).await?;
    let round = say(&app, db, negotiation, &usage, exchange(body.offer, said, answer)).await?;
    app.metrics.negotiation_sessions.inc();
    Ok((StatusCode::CREATED, Versioned(round)))
}

/// Takes everything back and keeps the connection for others.
async fn undo<T>(db: Transaction, problem: Problem) -> Result<T, Problem> {
    db.rollback().await?;
    Err(problem)
}

/// The user's words, the dealer's and the agent's.
fn exchange(offer: f64, said: String, answer: dealer::Answer) -> Vec<Line> {
    vec![
        Line { role: Role::User, content: said, offer: Some(offer) },
        Line { role: Role::DealerSim, content: answer.message, offer: Some(answer.offer) },
        Line { role: Role::Agent, content: answer.advice, offer: None },
    ]
}

/// Stores what was said, commits and counts it.
async fn say(
    app: &App,
    mut db: Transaction,
    negotiation: Negotiation,
    usage: &Usage,
    lines: Vec<Line>,
) -> Result<Round, Problem> {
    let messages = store::say(&mut db, negotiation.id, negotiation.current_round, usage, &lines).await?;
    db.commit().await?;
    for message in &messages {
        let labels = RoleLabels { role: message.role.as_str() };
        app.metrics.negotiation_messages.get_or_create_owned(&labels).inc();
    }
    Ok(Round { negotiation, messages })
}

/// Query of a list of negotiations.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
    status: Option<NegotiationStatus>,
}

/// Lists the user's negotiations.
pub async fn list(
    State(app): State<App>,
    user: CurrentUser,
    Query(Filter { limit, cursor, status }): Query<Filter>,
) -> Result<Answer<Page<Negotiation>>, Problem> {
    let window = Window::new(limit, cursor);
    let mut db = app.db.connection().await?;
    let found = store::list(&mut db, user.id, window.below(), status, window.rows()).await?;
    Ok(Answer(window.page(found, |negotiation| negotiation.id)))
}

/// Shows a negotiation.
pub async fn show(
    State(app): State<App>,
    user: CurrentUser,
    Id(id): Id,
) -> Result<Versioned<Negotiation>, Problem> {
    let found = store::find(&mut app.db.connection().await?, user.id, id).await?;
    found.map(Versioned).ok_or(Problem::NotFound("negotiation"))
}

/// Lists what was said.
pub async fn messages(
    State(app): State<App>,
    user: CurrentUser,
    Id(id): Id,
    Query(window): Query<Window>,
) -> Result<Answer<Page<Message>>, Problem> {
    let mut db = app.db.connection().await?;
    store::find(&mut db, user.id, id).await?.ok_or(Problem::NotFound("negotiation"))?;
    let messages = store::messages(&mut db, id, window.below(), window.rows()).await?;
    Ok(Answer(window.page(messages, |message| message.id)))
}

/// The negotiation, if it is active and has the version that was asked for.
async fn active(
    app: &App,
    user: &CurrentUser,
    id: i64,
    version: Option<i32>,
) -> Result<Negotiation, Problem> {
    let found = store::find(&mut app.db.connection().await?, user.id, id).await?;
    let negotiation = found.ok_or(Problem::NotFound("negotiation"))?;
    if version.is_some_and(|version| version != negotiation.version) {
        return Err(Problem::Outdated);
    }
    if negotiation.status != NegotiationStatus::Active {
        return Err(Problem::Conflict(format!("this negotiation is {}", negotiation.status.as_str())));
    }
    Ok(negotiation)
}

fn overtaken() -> Problem {
    Problem::Conflict("the negotiation or its deal has changed meanwhile; get it again".to_owned())
}

/// Body of a counter-offer. Dollars.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CounterOffer)]
pub struct Counter {
    #[schema(minimum = 0.01, maximum = 9_999_999.99)]
    offer: f64,
    #[schema(min_length = 1, max_length = 2_000)]
    message: Option<String>,
}

/// Answers the dealer with another offer, which begins a round.
pub async fn counter(
    State(app): State<App>,
    user: CurrentUser,
    Id(id): Id,
    IfMatch(version): IfMatch,
    Json(Counter { offer, message }): Json<Counter>,
) -> Result<Versioned<Round>, Problem> {
    let mut checks = Checks::default();
    checks.price("offer", offer);
    let said = spoken(&mut checks, message, || offered(offer));
    checks.finish(())?;
    let negotiation = active(&app, &user, id, version).await?;
    if offer < negotiation.user_offer {
        return Err(Problem::field("offer", "must not be below your last offer"));
    }
    next_round(&app, &user, negotiation, offer, said).await
}

/// Body of a rejection.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Rejection)]
pub struct Reject {
    #[schema(min_length = 1, max_length = 2_000)]
    message: Option<String>,
}

/// Refuses the dealer's offer without another one, which begins a round too; in the last one it ends the negotiation.
pub async fn reject(
    State(app): State<App>,
    user: CurrentUser,
    Id(id): Id,
    IfMatch(version): IfMatch,
    Json(Reject { message }): Json<Reject>,
) -> Result<Versioned<Round>, Problem> {
    let mut checks = Checks::default();
    let said = spoken(&mut checks, message, || "I cannot accept that.".to_owned());
    checks.finish(())?;
    let negotiation = active(&app, &user, id, version).await?;
    if negotiation.current_round >= negotiation.max_rounds {
        return end(&app, &user, negotiation, NegotiationStatus::Cancelled, said).await;
    }
    let offer = negotiation.user_offer;
    next_round(&app, &user, negotiation, offer, said).await
}

async fn next_round(
    app: &App,
    user: &CurrentUser,
    negotiation: Negotiation,
    offer: f64,
    said: String,
) -> Result<Versioned<Round>, Problem> {
    if negotiation.current_round >= negotiation.max_rounds {
        return Err(Problem::Conflict(
            "the last round is over: accept the dealer's offer or cancel".to_owned(),
        ));
    }
    let mut position = negotiation.position();
    position.round += 1;
    position.user_offer = offer;
    let (answer, usage) = dealer::answer(&app.llm, dealer::COUNTER, &position, &said).await;
    position.dealer_offer = Some(answer.offer);
    let mut db = app.db.begin().await?;
    let moved = store::advance(&mut db, user.id, negotiation.id, negotiation.version, &position).await?;
    let Some(negotiation) = moved else { return undo(db, overtaken()).await };
    llm::store::record(&mut db, user.id, negotiation.deal_id, dealer::COUNTER, &usage, &answer).await?;
    Ok(Versioned(say(app, db, negotiation, &usage, exchange(offer, said, answer)).await?))
}

/// Accepts the dealer's offer: the negotiation and its deal are completed.
pub async fn accept(
    State(app): State<App>,
    user: CurrentUser,
    Id(id): Id,
    IfMatch(version): IfMatch,
) -> Result<Versioned<Round>, Problem> {
    let negotiation = active(&app, &user, id, version).await?;
    let said = format!("I accept {:.2} dollars.", negotiation.dealer_offer);
    end(&app, &user, negotiation, NegotiationStatus::Completed, said).await
}

/// Walks away; the deal stays open.
pub async fn cancel(
    State(app): State<App>,
    user: CurrentUser,
    Id(id): Id,
    IfMatch(version): IfMatch,
) -> Result<Versioned<Round>, Problem> {
    let negotiation = active(&app, &user, id, version).await?;
    end(&app, &user, negotiation, NegotiationStatus::Cancelled, "I walk away.".to_owned()).await
}

async fn end(
    app: &App,
    user: &CurrentUser,
    negotiation: Negotiation,
    status: NegotiationStatus,
    said: String,
) -> Result<Versioned<Round>, Problem> {
    let agreed = (status == NegotiationStatus::Completed).then_some(negotiation.dealer_offer);
    let mut db = app.db.begin().await?;
    let Negotiation { id, version, deal_id, .. } = negotiation;
    let finished = store::finish(&mut db, user.id, id, version, status, agreed).await?;
    let Some(finished) = finished else { return undo(db, overtaken()).await };
    if let Some(price) = agreed
        && !store::buy(&mut db, user.id, deal_id, price).await?
    {
        return undo(db, overtaken()).await;
    }
    let lines = vec![Line { role: Role::User, content: said, offer: agreed }];
    let round = say(app, db, finished, &Usage::rules(), lines).await?;
    let negotiation = &round.negotiation;
    if let Some(end) = negotiation.finished_at {
        let seconds = end.duration_since(negotiation.created_at).as_secs_f64();
        let labels = OutcomeLabels { outcome: status.as_str() };
        app.metrics.negotiation_duration.get_or_create_owned(&labels).observe(seconds);
    }
    Ok(Versioned(round))
}

/// Body of a question.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Question)]
pub struct Ask {
    #[schema(min_length = 1, max_length = 2_000)]
    message: String,
}

/// Asks the agent; offers and round stay as they are.
pub async fn ask(
    State(app): State<App>,
    user: CurrentUser,
    Id(id): Id,
    Json(Ask { message }): Json<Ask>,
) -> Result<(StatusCode, Versioned<Round>), Problem> {
    let mut checks = Checks::default();
    let question = checks.text("message", &message, 1, 2_000);
    checks.finish(())?;
    let negotiation = active(&app, &user, id, None).await?;
    let before = {
        let mut db = app.db.connection().await?;
        store::messages(&mut db, id, i64::MAX, MEMORY).await?
    };
    let (reply, usage) = dealer::chat(&app.llm, &negotiation.position(), &before, &question).await;
    let mut db = app.db.begin().await?;
    llm::store::record(&mut db, user.id, negotiation.deal_id, dealer::CHAT, &usage, &reply).await?;
    let lines = vec![
        Line { role: Role::User, content: question, offer: None },
        Line { role: Role::Agent, content: reply.message, offer: None },
    ];
    Ok((StatusCode::CREATED, Versioned(say(&app, db, negotiation, &usage, lines).await?)))
}
