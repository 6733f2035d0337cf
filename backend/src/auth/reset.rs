//! Forgotten passwords: a token goes to the account's address by the mail hook, and sets a new password once.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::handlers::{PASSWORD, PASSWORD_RULE};
use super::sessions::Token;
use super::store;
use crate::App;
use crate::db::{Connection, DbError, Query};
use crate::http::extract::{Client, Json};
use crate::http::problem::Problem;
use crate::http::validate::Checks;

/// How long a token is good.
const VALID: Duration = Duration::from_secs(3600);

const INSERT: Query = Query::insert(
    "password_resets",
    "
    INSERT INTO password_resets (user_id, token_hash, expires_at)
    VALUES ($1, $2, now() + $3 * interval '1 second')",
);

const FIND: Query = Query::select(
    "password_resets",
    "
    SELECT user_id
    FROM password_resets
    JOIN users ON users.id = user_id
    WHERE token_hash = $1
        AND used_at IS NULL
        AND expires_at > now()
        AND is_active",
);

/// Uses the token up, and with it every other one of the account.
const USE: Query = Query::update(
    "password_resets",
    "
    UPDATE password_resets
    SET used_at = now()
    WHERE used_at IS NULL
        AND user_id = (
            SELECT user_id
            FROM password_resets
            WHERE token_hash = $1
                AND used_at IS NULL
                AND expires_at > now()
            FOR UPDATE
        )",
);

const SET_PASSWORD: Query = Query::update(
    "users",
    "
    UPDATE users
    SET hashed_password = $2
    WHERE id = $1
        AND is_active",
);

/// The statements of this store.
pub const QUERIES: &[&Query] = &[&INSERT, &FIND, &USE, &SET_PASSWORD];

/// Body of a request for a token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PasswordResetRequest)]
pub struct Request {
    #[schema(max_length = 254, pattern = r"^\S+@\S+\.\S+$")]
    email: String,
}

/// Sends a token to the account of an address. The answer is the same, after the same work, whether there is one:
/// token and mail are made after it.
pub async fn request(
    State(app): State<App>,
    client: Client,
    Json(body): Json<Request>,
) -> Result<StatusCode, Problem> {
    let mut checks = Checks::default();
    let email = checks.email("email", &body.email);
    checks.finish(())?;
    app.resets.take(&email, client.0).await?.map_err(|seconds| Problem::TooMany { seconds })?;
    let account = store::credentials(&mut app.db.connection().await?, &email).await?;
    if let Some(account) = account.filter(|account| account.is_active) {
        tokio::spawn(async move {
            if let Err(error) = send(&app, account.id, &email).await {
                tracing::error!(%error, user = account.id, "a password reset was not sent");
            }
        });
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn send(app: &App, user: i64, email: &str) -> anyhow::Result<()> {
    let token = Token::generate();
    let mut db = app.db.connection().await?;
    insert(&mut db, user, &token).await?;
    drop(db);
    let mail = json!({
        "template": "password_reset",
        "to": email,
        "token": token.reveal(),
        "valid_seconds": VALID.as_secs(),
    });
    app.mail.send(&mail).await?;
    app.metrics.password_resets_requested.inc();
    Ok(())
}

async fn insert(db: &mut Connection, user: i64, token: &Token) -> Result<(), DbError> {
    db.execute(&INSERT, &[&user, &hash(token), &VALID.as_secs_f64()]).await?;
    Ok(())
}

fn hash(token: &Token) -> Vec<u8> {
    Sha256::digest(token.bytes()).to_vec()
}

/// Body that sets a new password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PasswordReset)]
pub struct Confirm {
    #[schema(pattern = "^[0-9a-f]{64}$")]
    token: String,
    #[schema(min_length = 8, max_length = 256)]
    password: String,
}

/// Sets a new password and ends every session of the account.
pub async fn confirm(
    State(app): State<App>,
    Json(Confirm { token, password }): Json<Confirm>,
) -> Result<StatusCode, Problem> {
    let mut checks = Checks::default();
    checks.require("password", PASSWORD.contains(&password.len()), PASSWORD_RULE);
    checks.finish(())?;
    let spent = || Problem::field("token", "is unknown, used or expired; ask for a new one");
    let token = hash(&Token::parse(&token).ok_or_else(spent)?);
    // Looked up before the hash is computed: a guess must not cost a core.
    let found = app.db.connection().await?.row(&FIND, &[&token]).await?;
    let user: i64 = found.ok_or_else(spent)?.get(0);
    let hashed = app.passwords.hash(password).await?;
    let mut db = app.db.begin().await?;
    let used = db.execute(&USE, &[&token]).await? > 0;
    if !used || db.execute(&SET_PASSWORD, &[&user, &hashed]).await? == 0 {
        db.rollback().await?;
        return Err(spent());
    }
    // Before the commit: if Redis is away nothing changes, and the token stays good.
    app.sessions.end_all(user).await?;
    db.commit().await?;
    app.metrics.password_resets_completed.inc();
    Ok(StatusCode::NO_CONTENT)
}
