//! Accounts, passwords and sessions.

pub mod accounts;
pub mod handlers;
pub mod limit;
pub mod passwords;
pub mod reset;
pub mod sessions;
pub mod store;

use std::time::Instant;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;

use self::sessions::Token;
use crate::App;
use crate::http::problem::Problem;
use crate::labels::label_enum;

label_enum! {
    /// What an account may do; the database's enum `userrole`.
    AccountRole {
        /// What concerns itself.
        User = "user",
        /// Also what concerns all.
        Admin = "admin",
    }
}

/// The account behind the bearer token of a request.
#[derive(Clone, Debug)]
pub struct CurrentUser {
    /// Its id.
    pub id: i64,
    /// The token itself, to revoke it.
    pub token: Token,
}

impl FromRequestParts<App> for CurrentUser {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<CurrentUser, Problem> {
        let token = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .and_then(|(_, token)| Token::parse(token.trim()))
            .ok_or(Problem::Unauthorized)?;
        let id = app.sessions.find(&token).await?.ok_or(Problem::Unauthorized)?;
        app.activity.note(id, Instant::now());
        Ok(CurrentUser { id, token })
    }
}

/// The id of an account that is an admin's now.
#[derive(Clone, Copy, Debug)]
pub struct Admin(pub i64);

impl FromRequestParts<App> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Admin, Problem> {
        let user = CurrentUser::from_request_parts(parts, app).await?;
        // Asked each time: who is no admin any more must not be one until the session ends.
        let account = store::by_id(&mut app.db.connection().await?, user.id).await?;
        match account.ok_or(Problem::Unauthorized)?.role {
            AccountRole::Admin => Ok(Admin(user.id)),
            AccountRole::User => Err(Problem::Forbidden),
        }
    }
}

/// Who calls a route that is open to everybody.
#[derive(Debug)]
pub struct Visitor(Result<Option<i64>, Problem>);

impl Visitor {
    /// The user's id if a good session was shown. Not being able to check it is no reason to refuse what everybody may
    /// have; a bad token is.
    ///
    /// # Errors
    /// [`Problem::Unauthorized`].
    pub fn if_known(self) -> Result<Option<i64>, Problem> {
        match self.0 {
            Err(Problem::Unavailable(_)) => Ok(None),
            known => known,
        }
    }

    /// The user's id.
    ///
    /// # Errors
    /// [`Problem::Unauthorized`], or that sessions cannot be checked now.
    pub fn required(self) -> Result<i64, Problem> {
        self.0?.ok_or(Problem::Unauthorized)
    }
}

impl FromRequestParts<App> for Visitor {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Visitor, std::convert::Infallible> {
        if !parts.headers.contains_key(header::AUTHORIZATION) {
            return Ok(Visitor(Ok(None)));
        }
        let user = CurrentUser::from_request_parts(parts, app).await;
        Ok(Visitor(user.map(|user| Some(user.id))))
    }
}
