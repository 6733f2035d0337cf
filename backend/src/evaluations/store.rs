//! Evaluations in the table `deal_evaluations`. Every statement names the owner.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use utoipa::ToSchema;

use super::verdict::{Condition, Financing, Judgement};
use super::{EvaluationStatus, Recommendation, Step};
use crate::db::{Connection, DbError, Query};
use crate::http::etag::HasVersion;
use crate::market::Estimate;

macro_rules! columns {
    () => {
        "
        id,
        deal_id,
        status::text,
        current_step::text,
        result,
        version,
        created_at,
        updated_at"
    };
}

/// A deal that is not the user's, or not there, gives no row.
const INSERT: Query = Query::insert(
    "deal_evaluations",
    concat!(
        "
    INSERT INTO deal_evaluations (user_id, deal_id, status)
    SELECT user_id, id, 'awaiting_input'
    FROM deals
    WHERE id = $2
        AND user_id = $1
    RETURNING",
        columns!()
    ),
);

const LIST: Query = Query::select(
    "deal_evaluations",
    concat!(
        "
    SELECT",
        columns!(),
        "
    FROM deal_evaluations
    WHERE user_id = $1
        AND id < $2
        AND ($3::int8 IS NULL OR deal_id = $3)
    ORDER BY id DESC
    LIMIT $4"
    ),
);

const FIND: Query = Query::select(
    "deal_evaluations",
    concat!(
        "
    SELECT",
        columns!(),
        "
    FROM deal_evaluations
    WHERE id = $1
        AND user_id = $2"
    ),
);

/// An evaluation that has changed since gives no row.
const ADVANCE: Query = Query::update(
    "deal_evaluations",
    concat!(
        "
    UPDATE deal_evaluations
    SET status = $4::text::evaluationstatus,
        current_step = $5::text::pipelinestep,
        result = $6
    WHERE id = $1
        AND user_id = $2
        AND version = $3
    RETURNING",
        columns!()
    ),
);

/// The statements of this store.
pub const QUERIES: &[&Query] = &[&INSERT, &LIST, &FIND, &ADVANCE];

/// What was answered and found so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = EvaluationFindings)]
pub struct Findings {
    /// What the user knows of the vehicle.
    pub condition_answers: Option<Condition>,
    /// The step `vehicle_condition`.
    pub vehicle_condition: Option<Judgement>,
    /// What such vehicles cost.
    pub market: Option<Estimate>,
    /// The step `price`.
    pub price: Option<Judgement>,
    /// How the user would pay.
    pub financing_answers: Option<Financing>,
    /// The step `financing`.
    pub financing: Option<Judgement>,
    /// The step `risk`.
    pub risk: Option<Judgement>,
    /// From 0 to 100.
    pub score: Option<f64>,
    /// What to do.
    pub recommendation: Option<Recommendation>,
    /// In words.
    pub summary: Option<String>,
}

/// An evaluation as its user sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Evaluation {
    /// Id.
    pub id: i64,
    /// The deal.
    pub deal_id: i64,
    /// Where it stands.
    pub status: EvaluationStatus,
    /// The step that is asked, or the last one.
    pub current_step: Step,
    /// What was answered and found so far.
    pub findings: Findings,
    /// Counts the changes, from 1.
    pub version: i32,
    /// When it began.
    pub created_at: Timestamp,
    /// The last change.
    pub updated_at: Timestamp,
}

impl HasVersion for Evaluation {
    fn version(&self) -> i32 {
        self.version
    }
}

impl Evaluation {
    fn from_row(row: &Row) -> Result<Evaluation, DbError> {
        let findings: Option<Json<Findings>> = row.try_get(4).map_err(|error| DbError::Failed {
            what: "reading deal_evaluations.result".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Evaluation {
            id: row.get(0),
            deal_id: row.get(1),
            status: EvaluationStatus::read("deal_evaluations.status", row.get(2))?,
            current_step: Step::read("deal_evaluations.current_step", row.get(3))?,
            findings: findings.map_or_else(Findings::default, |Json(findings)| findings),
            version: row.get(5),
            created_at: row.get(6),
            updated_at: row.get(7),
        })
    }
}

/// Begins an evaluation of a deal of `user`; nothing if there is no such deal.
///
/// # Errors
/// See [`DbError`].
pub async fn insert(db: &mut Connection, user: i64, deal: i64) -> Result<Option<Evaluation>, DbError> {
    db.row(&INSERT, &[&user, &deal]).await?.as_ref().map(Evaluation::from_row).transpose()
}

/// At most `limit` evaluations of `user` with ids below `below`, newest first.
///
/// # Errors
/// See [`DbError`].
pub async fn list(
    db: &mut Connection,
    user: i64,
    below: i64,
    deal: Option<i64>,
    limit: i64,
) -> Result<Vec<Evaluation>, DbError> {
    db.rows(&LIST, &[&user, &below, &deal, &limit]).await?.iter().map(Evaluation::from_row).collect()
}

/// An evaluation of `user`.
///
/// # Errors
/// See [`DbError`].
pub async fn find(db: &mut Connection, user: i64, id: i64) -> Result<Option<Evaluation>, DbError> {
    db.row(&FIND, &[&id, &user]).await?.as_ref().map(Evaluation::from_row).transpose()
}

/// Moves an evaluation of `user` on; nothing if it has changed since `version`.
///
/// # Errors
/// See [`DbError`].
pub async fn advance(
    db: &mut Connection,
    user: i64,
    id: i64,
    version: i32,
    status: EvaluationStatus,
    step: Step,
    findings: &Findings,
) -> Result<Option<Evaluation>, DbError> {
    let row =
        db.row(&ADVANCE, &[&id, &user, &version, &status.as_str(), &step.as_str(), &Json(findings)]).await?;
    row.as_ref().map(Evaluation::from_row).transpose()
}
