//! Accounts as admins see and change them.

use axum::Json as Answer;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use utoipa::ToSchema;

use super::{AccountRole, Admin};
use crate::App;
use crate::db::{DbError, Query as Statement};
use crate::http::etag::{HasVersion, IfMatch, Versioned};
use crate::http::extract::{Id, Json, Query};
use crate::http::page::{Page, Window};
use crate::http::problem::Problem;

macro_rules! columns {
    () => {
        "
        id,
        email,
        username,
        role::text,
        is_active,
        last_login_at,
        version,
        created_at"
    };
}

const LIST: Statement = Statement::select(
    "users",
    concat!(
        "
    SELECT",
        columns!(),
        "
    FROM users
    WHERE id < $1
    ORDER BY id DESC
    LIMIT $2"
    ),
);

const FIND: Statement = Statement::select(
    "users",
    concat!(
        "
    SELECT",
        columns!(),
        "
    FROM users
    WHERE id = $1"
    ),
);

const CHANGE: Statement = Statement::update(
    "users",
    concat!(
        "
    UPDATE users
    SET role = coalesce($2::text::userrole, role),
        is_active = coalesce($3, is_active)
    WHERE id = $1
        AND ($4::int IS NULL OR version = $4)
    RETURNING",
        columns!()
    ),
);

/// The statements of this store.
pub const QUERIES: &[&Statement] = &[&LIST, &FIND, &CHANGE];

/// An account as an admin sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Account {
    id: i64,
    email: String,
    username: String,
    role: AccountRole,
    is_active: bool,
    last_login_at: Option<Timestamp>,
    version: i32,
    created_at: Timestamp,
}

impl HasVersion for Account {
    fn version(&self) -> i32 {
        self.version
    }
}

impl Account {
    fn from_row(row: &Row) -> Result<Account, DbError> {
        Ok(Account {
            id: row.get(0),
            email: row.get(1),
            username: row.get(2),
            role: AccountRole::read("users.role", row.get(3))?,
            is_active: row.get(4),
            last_login_at: row.get(5),
            version: row.get(6),
            created_at: row.get(7),
        })
    }
}

/// Lists all accounts.
pub async fn list(
    State(app): State<App>,
    _: Admin,
    Query(window): Query<Window>,
) -> Result<Answer<Page<Account>>, Problem> {
    let rows = app.db.connection().await?.rows(&LIST, &[&window.below(), &window.rows()]).await?;
    let accounts = rows.iter().map(Account::from_row).collect::<Result<_, _>>()?;
    Ok(Answer(window.page(accounts, |account| account.id)))
}

/// Body of a change; what is absent stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AccountChange)]
pub struct Change {
    role: Option<AccountRole>,
    is_active: Option<bool>,
}

/// Changes an account. An account that is disabled loses its sessions. Nobody changes the own account, so that an
/// admin is left.
pub async fn change(
    State(app): State<App>,
    Admin(admin): Admin,
    Id(id): Id,
    IfMatch(version): IfMatch,
    Json(Change { role, is_active }): Json<Change>,
) -> Result<Versioned<Account>, Problem> {
    if id == admin {
        return Err(Problem::Conflict("your own account is for another admin to change".to_owned()));
    }
    let mut db = app.db.connection().await?;
    let role = role.map(AccountRole::as_str);
    let Some(row) = db.row(&CHANGE, &[&id, &role, &is_active, &version]).await? else {
        let exists = db.row(&FIND, &[&id]).await?.is_some();
        return Err(if exists { Problem::Outdated } else { Problem::NotFound("account") });
    };
    if is_active == Some(false) {
        app.sessions.end_all(id).await?;
    }
    Ok(Versioned(Account::from_row(&row)?))
}
