//! Sign up, log in, log out, who am I.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::CurrentUser;
use super::store::{self, NewUser, User};
use crate::App;
use crate::http::extract::{Client, Json};
use crate::http::problem::Problem;
use crate::http::validate::Checks;

/// Bytes of a password: fewer are guessed, more only cost time.
pub(super) const PASSWORD: std::ops::RangeInclusive<usize> = 8..=256;

/// [`PASSWORD`] in words.
pub(super) const PASSWORD_RULE: &str = "must have 8 to 256 bytes";

/// Body of a sign-up.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Signup {
    #[schema(max_length = 254, pattern = r"^\S+@\S+\.\S+$")]
    email: String,
    #[schema(min_length = 3, max_length = 50)]
    username: String,
    #[schema(min_length = 1, max_length = 200)]
    full_name: Option<String>,
    #[schema(min_length = 8, max_length = 256)]
    password: String,
}

/// Creates an account.
pub async fn signup(
    State(app): State<App>,
    Json(signup): Json<Signup>,
) -> Result<(StatusCode, Answer<User>), Problem> {
    let mut checks = Checks::default();
    let email = checks.email("email", &signup.email);
    let username = checks.text("username", &signup.username, 3, 50);
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    checks.require("username", username.chars().all(plain), "must be letters, digits, '_', '-' or '.'");
    let full_name = signup.full_name.map(|name| checks.text("full_name", &name, 1, 200));
    checks.require("password", PASSWORD.contains(&signup.password.len()), PASSWORD_RULE);
    checks.finish(())?;

    let hashed_password = app.passwords.hash(signup.password).await?;
    let user = NewUser { email, username, full_name, hashed_password };
    let user = store::insert(&mut app.db.connection().await?, &user).await.map_err(|error| {
        if error.violates("users_email_key") {
            Problem::Conflict("an account with this e-mail address exists".to_owned())
        } else if error.violates("users_username_key") {
            Problem::Conflict("this username is taken".to_owned())
        } else {
            error.into()
        }
    })?;
    app.metrics.user_signups.inc();
    Ok((StatusCode::CREATED, Answer(user)))
}

/// Body of a login.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    #[schema(max_length = 254, pattern = r"^\S+@\S+\.\S+$")]
    email: String,
    #[schema(max_length = 256)]
    password: String,
}

/// A new session.
#[derive(Serialize, ToSchema)]
pub struct Session {
    token: String,
    token_type: &'static str,
    expires_in: u64,
    user: User,
}

/// Starts a session. Unknown account, wrong password and disabled account give the same answer at the same cost.
pub async fn login(
    State(app): State<App>,
    client: Client,
    Json(login): Json<Login>,
) -> Result<Answer<Session>, Problem> {
    let mut checks = Checks::default();
    let email = checks.email("email", &login.email);
    checks.require("password", login.password.len() <= *PASSWORD.end(), "must have at most 256 bytes");
    checks.finish(())?;

    let attempt = app.logins.take(&email, client.0).await?.map_err(|seconds| {
        app.metrics.auth_failures.inc();
        app.metrics.auth_limited.inc();
        Problem::TooMany { seconds }
    })?;
    // The connection goes back before the hash is computed: hashing is slow, connections are few.
    let account = {
        let mut db = app.db.connection().await?;
        store::credentials(&mut db, &email).await?
    };
    let stored = account.as_ref().map(|account| account.hashed_password.clone());
    let matches = app.passwords.verify(login.password, stored).await?;
    let Some(account) = account.filter(|account| matches && account.is_active) else {
        app.metrics.auth_failures.inc();
        return Err(Problem::LoginRefused);
    };
    let user = {
        let mut db = app.db.connection().await?;
        store::logged_in(&mut db, &account).await?.ok_or(Problem::LoginRefused)?
    };
    let token = app.sessions.start(user.id).await?;
    app.logins.succeeded(&attempt).await?;
    app.metrics.auth_success.inc();
    Ok(Answer(Session {
        token: token.reveal(),
        token_type: "Bearer",
        expires_in: app.sessions.ttl().as_secs(),
        user,
    }))
}

/// Ends the session.
pub async fn logout(State(app): State<App>, user: CurrentUser) -> Result<StatusCode, Problem> {
    app.sessions.end(user.id, &user.token).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The account of the session.
pub async fn me(State(app): State<App>, user: CurrentUser) -> Result<Answer<User>, Problem> {
    let account = store::by_id(&mut app.db.connection().await?, user.id).await?;
    account.map(Answer).ok_or(Problem::Unauthorized)
}
