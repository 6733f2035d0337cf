//! Accounts in the table `users`.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use utoipa::ToSchema;

use super::AccountRole;
use crate::db::{Connection, DbError, Query};

const INSERT: Query = Query::insert(
    "users",
    "
    INSERT INTO users (email, username, full_name, hashed_password)
    VALUES ($1, $2, $3, $4)
    RETURNING
        id,
        email,
        username,
        full_name,
        role::text,
        created_at,
        last_login_at",
);

const CREDENTIALS: Query = Query::select(
    "users",
    "
    SELECT
        id,
        hashed_password,
        is_active
    FROM users
    WHERE email = $1",
);

const LOGGED_IN: Query = Query::update(
    "users",
    "
    UPDATE users
    SET last_login_at = now()
    WHERE id = $1
        AND hashed_password = $2
    RETURNING
        id,
        email,
        username,
        full_name,
        role::text,
        created_at,
        last_login_at",
);

const BY_ID: Query = Query::select(
    "users",
    "
    SELECT
        id,
        email,
        username,
        full_name,
        role::text,
        created_at,
        last_login_at
    FROM users
    WHERE id = $1
        AND is_active",
);

/// The statements of this store.
pub const QUERIES: &[&Query] = &[&INSERT, &CREDENTIALS, &LOGGED_IN, &BY_ID];

/// An account as its owner sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct User {
    /// Id.
    pub id: i64,
    /// E-mail address in lower case.
    pub email: String,
    /// Public name.
    pub username: String,
    /// Full name, if given.
    pub full_name: Option<String>,
    /// What it may do.
    pub role: AccountRole,
    /// When it was created.
    pub created_at: Timestamp,
    /// The last login.
    pub last_login_at: Option<Timestamp>,
}

impl User {
    fn from_row(row: &Row) -> Result<User, DbError> {
        Ok(User {
            id: row.get(0),
            email: row.get(1),
            username: row.get(2),
            full_name: row.get(3),
            role: AccountRole::read("users.role", row.get(4))?,
            created_at: row.get(5),
            last_login_at: row.get(6),
        })
    }
}

/// An account to create, already checked.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// E-mail address in lower case.
    pub email: String,
    /// Public name.
    pub username: String,
    /// Full name, if given.
    pub full_name: Option<String>,
    /// PHC string.
    pub hashed_password: String,
}

/// What a login is checked against.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The account's id.
    pub id: i64,
    /// PHC string.
    pub hashed_password: String,
    /// Whether it may log in.
    pub is_active: bool,
}

/// Creates an account.
///
/// # Errors
/// Violates `users_email_key` or `users_username_key` if the name is taken.
pub async fn insert(db: &mut Connection, user: &NewUser) -> Result<User, DbError> {
    let row = db.row(&INSERT, &[&user.email, &user.username, &user.full_name, &user.hashed_password]).await?;
    User::from_row(&row.ok_or_else(|| DbError::no_row(&INSERT))?)
}

/// What to check a login of `email` against.
///
/// # Errors
/// See [`DbError`].
pub async fn credentials(db: &mut Connection, email: &str) -> Result<Option<Credentials>, DbError> {
    let row = db.row(&CREDENTIALS, &[&email]).await?;
    Ok(row.map(|row| Credentials { id: row.get(0), hashed_password: row.get(1), is_active: row.get(2) }))
}

/// Notes a login and answers the account; nothing if it is gone, or has another password by now.
///
/// # Errors
/// See [`DbError`].
pub async fn logged_in(db: &mut Connection, account: &Credentials) -> Result<Option<User>, DbError> {
    let row = db.row(&LOGGED_IN, &[&account.id, &account.hashed_password]).await?;
    row.as_ref().map(User::from_row).transpose()
}

/// The account, unless it is gone or disabled.
///
/// # Errors
/// See [`DbError`].
pub async fn by_id(db: &mut Connection, id: i64) -> Result<Option<User>, DbError> {
    db.row(&BY_ID, &[&id]).await?.as_ref().map(User::from_row).transpose()
}
