//! Applications in the table `loan_applications`. Every statement names the owner.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use utoipa::ToSchema;

use super::terms::Terms;
use super::{CreditTier, LoanStatus};
use crate::db::{Connection, DbError, Query};

macro_rules! columns {
    () => {
        "
        id,
        deal_id,
        status::text,
        loan_amount::float8,
        down_payment::float8,
        loan_term_months,
        credit_score_range::text,
        annual_income::float8,
        apr::float8,
        monthly_payment::float8,
        total_interest::float8,
        total_amount::float8,
        decision_reason,
        decided_at,
        created_at"
    };
}

/// A deal that is not the user's, or not there, gives no row.
const INSERT: Query = Query::insert(
    "loan_applications",
    concat!(
        "
    INSERT INTO loan_applications (
        user_id,
        deal_id,
        status,
        loan_amount,
        down_payment,
        loan_term_months,
        credit_score_range,
        annual_income,
        apr,
        monthly_payment,
        total_interest,
        total_amount,
        decision_reason,
        decided_at
    )
    SELECT
        $1::int8,
        $2::int8,
        $3::text::loanstatus,
        $4::float8,
        $5::float8,
        $6::int,
        $7::text::credittier,
        $8::float8,
        $9::float8,
        $10::float8,
        $11::float8,
        $12::float8,
        $13::text,
        CASE WHEN $3::text <> 'pending' THEN now() END
    WHERE $2::int8 IS NULL
        OR EXISTS (SELECT FROM deals WHERE id = $2::int8 AND user_id = $1::int8)
    RETURNING",
        columns!()
    ),
);

const LIST: Query = Query::select(
    "loan_applications",
    concat!(
        "
    SELECT",
        columns!(),
        "
    FROM loan_applications
    WHERE user_id = $1
        AND id < $2
        AND ($3::text IS NULL OR status = $3::text::loanstatus)
    ORDER BY id DESC
    LIMIT $4"
    ),
);

const FIND: Query = Query::select(
    "loan_applications",
    concat!(
        "
    SELECT",
        columns!(),
        "
    FROM loan_applications
    WHERE id = $1
        AND user_id = $2"
    ),
);

const DECIDE: Query = Query::update(
    "loan_applications",
    concat!(
        "
    UPDATE loan_applications
    SET status = $3::text::loanstatus,
        annual_income = $4::float8,
        decision_reason = $5,
        decided_at = now()
    WHERE id = $1
        AND user_id = $2
        AND status = 'pending'
    RETURNING",
        columns!()
    ),
);

/// The statements of this store.
pub const QUERIES: &[&Query] = &[&INSERT, &LIST, &FIND, &DECIDE];

/// An application as its owner sees it. Dollars.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Application {
    /// Id.
    pub id: i64,
    /// The deal that it pays for.
    pub deal_id: Option<i64>,
    /// Where it stands.
    pub status: LoanStatus,
    /// What is borrowed.
    pub loan_amount: f64,
    /// What is paid at once.
    pub down_payment: f64,
    /// Payments.
    pub loan_term_months: i32,
    /// The applicant's credit.
    pub credit_score_range: CreditTier,
    /// The applicant's income a year.
    pub annual_income: Option<f64>,
    /// What it costs.
    #[serde(flatten)]
    pub terms: Terms,
    /// Why it was decided so.
    pub decision_reason: Option<String>,
    /// When it was decided.
    pub decided_at: Option<Timestamp>,
    /// When it came in.
    pub created_at: Timestamp,
}

impl Application {
    fn from_row(row: &Row) -> Result<Application, DbError> {
        Ok(Application {
            id: row.get(0),
            deal_id: row.get(1),
            status: LoanStatus::read("loan_applications.status", row.get(2))?,
            loan_amount: row.get(3),
            down_payment: row.get(4),
            loan_term_months: row.get(5),
            credit_score_range: CreditTier::read("loan_applications.credit_score_range", row.get(6))?,
            annual_income: row.get(7),
            terms: Terms {
                apr: row.get(8),
                monthly_payment: row.get(9),
                total_interest: row.get(10),
                total_amount: row.get(11),
            },
            decision_reason: row.get(12),
            decided_at: row.get(13),
            created_at: row.get(14),
        })
    }
}

/// An application to file, already checked. Dollars.
#[derive(Clone, Copy, Debug)]
pub struct NewApplication {
    /// The deal that it pays for.
    pub deal_id: Option<i64>,
    /// What is borrowed.
    pub loan_amount: f64,
    /// What is paid at once.
    pub down_payment: f64,
    /// Payments.
    pub loan_term_months: i32,
    /// The applicant's credit.
    pub tier: CreditTier,
    /// The applicant's income a year.
    pub annual_income: Option<f64>,
}

/// Files an application of `user` with its terms and decision; nothing if the deal is not the user's.
///
/// # Errors
/// Violates `loan_applications_live_deal_key` if the deal has a live one, `loan_applications_user_id_fkey` if the user
/// is gone.
pub async fn insert(
    db: &mut Connection,
    user: i64,
    new: &NewApplication,
    terms: &Terms,
    (status, reason): (LoanStatus, &str),
) -> Result<Option<Application>, DbError> {
    let row = db
        .row(
            &INSERT,
            &[
                &user,
                &new.deal_id,
                &status.as_str(),
                &new.loan_amount,
                &new.down_payment,
                &new.loan_term_months,
                &new.tier.as_str(),
                &new.annual_income,
                &terms.apr,
                &terms.monthly_payment,
                &terms.total_interest,
                &terms.total_amount,
                &reason,
            ],
        )
        .await?;
    row.as_ref().map(Application::from_row).transpose()
}

/// At most `limit` applications of `user` with ids below `below`, newest first.
///
/// # Errors
/// See [`DbError`].
pub async fn list(
    db: &mut Connection,
    user: i64,
    below: i64,
    status: Option<LoanStatus>,
    limit: i64,
) -> Result<Vec<Application>, DbError> {
    let status = status.map(LoanStatus::as_str);
    db.rows(&LIST, &[&user, &below, &status, &limit]).await?.iter().map(Application::from_row).collect()
}

/// An application of `user`.
///
/// # Errors
/// See [`DbError`].
pub async fn find(db: &mut Connection, user: i64, id: i64) -> Result<Option<Application>, DbError> {
    db.row(&FIND, &[&id, &user]).await?.as_ref().map(Application::from_row).transpose()
}

/// Decides a pending application of `user`; nothing changes if it is decided already.
///
/// # Errors
/// See [`DbError`].
pub async fn decide(
    db: &mut Connection,
    user: i64,
    id: i64,
    annual_income: f64,
    (status, reason): (LoanStatus, &str),
) -> Result<Option<Application>, DbError> {
    let row = db.row(&DECIDE, &[&id, &user, &status.as_str(), &annual_income, &reason]).await?;
    row.as_ref().map(Application::from_row).transpose()
}
