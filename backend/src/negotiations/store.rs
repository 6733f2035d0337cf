//! Negotiations in the tables `negotiation_sessions` and `negotiation_messages`. Every statement names the owner, or
//! runs in a transaction behind one that does.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use utoipa::ToSchema;

use super::dealer::{Line, Position};
use super::{NegotiationStatus, Role};
use crate::db::{Connection, DbError, Query};
use crate::http::etag::HasVersion;
use crate::llm::Usage;

macro_rules! columns {
    () => {
        "
        s.id,
        s.deal_id,
        s.status::text,
        s.current_round,
        s.max_rounds,
        concat_ws(' ', d.vehicle_year, d.vehicle_make, d.vehicle_model),
        d.asking_price::float8,
        s.target_price::float8,
        s.user_offer::float8,
        s.dealer_offer::float8,
        s.agreed_price::float8,
        s.version,
        s.finished_at,
        s.created_at,
        s.updated_at"
    };
}

/// A deal on which somebody negotiates is in progress. A deal that is not the user's, or not open, gives no row.
const OPEN: Query = Query::update(
    "deals",
    "
    UPDATE deals
    SET status = 'in_progress'
    WHERE id = $1
        AND user_id = $2
        AND status IN ('pending', 'in_progress')",
);

const INSERT: Query = Query::insert(
    "negotiation_sessions",
    concat!(
        "
    WITH s AS (
        INSERT INTO negotiation_sessions (user_id, deal_id, max_rounds, target_price, user_offer, dealer_offer)
        VALUES ($1, $2, $3, $4::float8, $5::float8, $6::float8)
        RETURNING *
    )
    SELECT",
        columns!(),
        "
    FROM s
    JOIN deals AS d ON d.id = s.deal_id"
    ),
);

const LIST: Query = Query::select(
    "negotiation_sessions",
    concat!(
        "
    SELECT",
        columns!(),
        "
    FROM negotiation_sessions AS s
    JOIN deals AS d ON d.id = s.deal_id
    WHERE s.user_id = $1
        AND s.id < $2
        AND ($3::text IS NULL OR s.status = $3::text::negotiationstatus)
    ORDER BY s.id DESC
    LIMIT $4"
    ),
);

const FIND: Query = Query::select(
    "negotiation_sessions",
    concat!(
        "
    SELECT",
        columns!(),
        "
    FROM negotiation_sessions AS s
    JOIN deals AS d ON d.id = s.deal_id
    WHERE s.id = $1
        AND s.user_id = $2"
    ),
);

/// A negotiation that has changed since, or whose deal was closed, gives no row.
const ADVANCE: Query = Query::update(
    "negotiation_sessions",
    concat!(
        "
    UPDATE negotiation_sessions AS s
    SET current_round = $4,
        user_offer = $5::float8,
        dealer_offer = $6::float8
    FROM deals AS d
    WHERE d.id = s.deal_id
        AND d.status = 'in_progress'
        AND s.id = $1
        AND s.user_id = $2
        AND s.version = $3
        AND s.status = 'active'
    RETURNING",
        columns!()
    ),
);

const FINISH: Query = Query::update(
    "negotiation_sessions",
    concat!(
        "
    UPDATE negotiation_sessions AS s
    SET status = $4::text::negotiationstatus,
        agreed_price = $5::float8,
        finished_at = now()
    FROM deals AS d
    WHERE d.id = s.deal_id
        AND s.id = $1
        AND s.user_id = $2
        AND s.version = $3
        AND s.status = 'active'
    RETURNING",
        columns!()
    ),
);

/// A deal that was closed meanwhile gives no row.
const BUY: Query = Query::update(
    "deals",
    "
    UPDATE deals
    SET status = 'completed',
        offer_price = $3::float8
    WHERE id = $1
        AND user_id = $2
        AND status = 'in_progress'",
);

const SAY: Query = Query::insert(
    "negotiation_messages",
    "
    INSERT INTO negotiation_messages (session_id, role, content, offer, round_number, metadata)
    SELECT $1, role::messagerole, content, offer, $2, $3
    FROM unnest($4::text[], $5::text[], $6::float8[]) WITH ORDINALITY AS lines (role, content, offer, number)
    ORDER BY number
    RETURNING
        id,
        role::text,
        content,
        offer::float8,
        round_number,
        created_at",
);

const MESSAGES: Query = Query::select(
    "negotiation_messages",
    "
    SELECT
        id,
        role::text,
        content,
        offer::float8,
        round_number,
        created_at
    FROM negotiation_messages
    WHERE session_id = $1
        AND id < $2
    ORDER BY id DESC
    LIMIT $3",
);

const ACTIVE: Query = Query::select(
    "negotiation_sessions",
    "
    SELECT count(*)
    FROM negotiation_sessions
    WHERE status = 'active'",
);

/// The statements of this store.
pub const QUERIES: &[&Query] =
    &[&OPEN, &INSERT, &LIST, &FIND, &ADVANCE, &FINISH, &BUY, &SAY, &MESSAGES, &ACTIVE];

/// A negotiation as its user sees it. Prices in dollars.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Negotiation {
    /// Id.
    pub id: i64,
    /// The deal it is about.
    pub deal_id: i64,
    /// Where it stands.
    pub status: NegotiationStatus,
    /// From 1.
    pub current_round: i32,
    /// After this round the dealer's offer is only accepted or not.
    pub max_rounds: i32,
    /// Year, make and model.
    pub vehicle: String,
    /// What the dealer asked at first.
    pub asking_price: f64,
    /// What the user hopes to pay.
    pub target_price: f64,
    /// What the user offered last.
    pub user_offer: f64,
    /// What the dealer offered last.
    pub dealer_offer: f64,
    /// What was agreed on.
    pub agreed_price: Option<f64>,
    /// Counts the changes, from 1.
    pub version: i32,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When it began.
    pub created_at: Timestamp,
    /// The last change.
    pub updated_at: Timestamp,
}

impl HasVersion for Negotiation {
    fn version(&self) -> i32 {
        self.version
    }
}

impl Negotiation {
    fn from_row(row: &Row) -> Result<Negotiation, DbError> {
        // The columns may be null for rows of other writers; the service writes all of them.
        let asking_price = row.get(6);
        let offer = |index| row.get::<_, Option<f64>>(index).unwrap_or(asking_price);
        Ok(Negotiation {
            id: row.get(0),
            deal_id: row.get(1),
            status: NegotiationStatus::read("negotiation_sessions.status", row.get(2))?,
            current_round: row.get(3),
            max_rounds: row.get(4),
            vehicle: row.get(5),
            asking_price,
            target_price: offer(7),
            user_offer: offer(8),
            dealer_offer: offer(9),
            agreed_price: row.get(10),
            version: row.get(11),
            finished_at: row.get(12),
            created_at: row.get(13),
            updated_at: row.get(14),
        })
    }

    /// Where it stands, for the dealer.
    pub fn position(&self) -> Position {
        Position {
            vehicle: self.vehicle.clone(),
            asking_price: self.asking_price,
            target_price: self.target_price,
            user_offer: self.user_offer,
            dealer_offer: Some(self.dealer_offer),
            round: self.current_round,
            max_rounds: self.max_rounds,
        }
    }
}

/// What somebody said.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = NegotiationMessage)]
pub struct Message {
    /// Id.
    pub id: i64,
    /// Who said it.
    pub role: Role,
    /// The words.
    pub content: String,
    /// The offer that went with them, in dollars.
    pub offer: Option<f64>,
    /// The round in which it was said.
    pub round_number: i32,
    /// When.
    pub created_at: Timestamp,
}

impl Message {
    fn from_row(row: &Row) -> Result<Message, DbError> {
        Ok(Message {
            id: row.get(0),
            role: Role::read("negotiation_messages.role", row.get(1))?,
            content: row.get(2),
            offer: row.get(3),
            round_number: row.get(4),
            created_at: row.get(5),
        })
    }
}

/// Puts a deal of `user` in progress; whether it was open.
///
/// # Errors
/// See [`DbError`].
pub async fn open_deal(db: &mut Connection, user: i64, deal: i64) -> Result<bool, DbError> {
    Ok(db.execute(&OPEN, &[&deal, &user]).await? == 1)
}

/// Begins a negotiation about `deal` in the first round of `position`.
///
/// # Errors
/// Violates `negotiation_sessions_active_deal_key` if there is one already.
pub async fn insert(
    db: &mut Connection,
    user: i64,
    deal: i64,
    position: &Position,
) -> Result<Negotiation, DbError> {
    let Position { max_rounds, target_price, user_offer, dealer_offer, .. } = position;
    let row = db.row(&INSERT, &[&user, &deal, max_rounds, target_price, user_offer, dealer_offer]).await?;
    Negotiation::from_row(&row.ok_or_else(|| DbError::no_row(&INSERT))?)
}

/// At most `limit` negotiations of `user` with ids below `below`, newest first.
///
/// # Errors
/// See [`DbError`].
pub async fn list(
    db: &mut Connection,
    user: i64,
    below: i64,
    status: Option<NegotiationStatus>,
    limit: i64,
) -> Result<Vec<Negotiation>, DbError> {
    let status = status.map(NegotiationStatus::as_str);
    db.rows(&LIST, &[&user, &below, &status, &limit]).await?.iter().map(Negotiation::from_row).collect()
}

/// A negotiation of `user`.
///
/// # Errors
/// See [`DbError`].
pub async fn find(db: &mut Connection, user: i64, id: i64) -> Result<Option<Negotiation>, DbError> {
    db.row(&FIND, &[&id, &user]).await?.as_ref().map(Negotiation::from_row).transpose()
}

/// Moves a negotiation of `user` to where `position` is; nothing if it has changed since `version`, or its deal is
/// closed.
///
/// # Errors
/// See [`DbError`].
pub async fn advance(
    db: &mut Connection,
    user: i64,
    id: i64,
    version: i32,
    position: &Position,
) -> Result<Option<Negotiation>, DbError> {
    let Position { round, user_offer, dealer_offer, .. } = position;
    let row = db.row(&ADVANCE, &[&id, &user, &version, round, user_offer, dealer_offer]).await?;
    row.as_ref().map(Negotiation::from_row).transpose()
}

/// Ends a negotiation of `user`; nothing if it has changed since `version`.
///
/// # Errors
/// See [`DbError`].
pub async fn finish(
    db: &mut Connection,
    user: i64,
    id: i64,
    version: i32,
    status: NegotiationStatus,
    agreed_price: Option<f64>,
) -> Result<Option<Negotiation>, DbError> {
    let row = db.row(&FINISH, &[&id, &user, &version, &status.as_str(), &agreed_price]).await?;
    row.as_ref().map(Negotiation::from_row).transpose()
}

/// Completes a deal of `user` at `price`; whether it was in progress.
///
/// # Errors
/// See [`DbError`].
pub async fn buy(db: &mut Connection, user: i64, deal: i64, price: f64) -> Result<bool, DbError> {
    Ok(db.execute(&BUY, &[&deal, &user, &price]).await? == 1)
}

/// Adds `lines` to a round of a negotiation; `usage` tells who thought them up.
///
/// # Errors
/// See [`DbError`].
pub async fn say(
    db: &mut Connection,
    session: i64,
    round: i32,
    usage: &Usage,
    lines: &[Line],
) -> Result<Vec<Message>, DbError> {
    let metadata = Json(serde_json::json!({"model": usage.model}));
    let roles: Vec<_> = lines.iter().map(|line| line.role.as_str()).collect();
    let contents: Vec<_> = lines.iter().map(|line| line.content.as_str()).collect();
    let offers: Vec<_> = lines.iter().map(|line| line.offer).collect();
    let rows = db.rows(&SAY, &[&session, &round, &metadata, &roles, &contents, &offers]).await?;
    rows.iter().map(Message::from_row).collect()
}

/// At most `limit` messages of a negotiation with ids below `below`, newest first.
///
/// # Errors
/// See [`DbError`].
pub async fn messages(
    db: &mut Connection,
    session: i64,
    below: i64,
    limit: i64,
) -> Result<Vec<Message>, DbError> {
    db.rows(&MESSAGES, &[&session, &below, &limit]).await?.iter().map(Message::from_row).collect()
}

/// How many negotiations are active.
///
/// # Errors
/// See [`DbError`].
pub async fn active(db: &mut Connection) -> Result<i64, DbError> {
    db.row(&ACTIVE, &[]).await?.map(|row| row.get(0)).ok_or_else(|| DbError::no_row(&ACTIVE))
}
