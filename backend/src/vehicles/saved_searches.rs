//! Saved searches: criteria under a name, in the table `saved_searches`.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::Json as Jsonb;
use utoipa::ToSchema;

use super::Criteria;
use crate::App;
use crate::auth::CurrentUser;
use crate::db::{Connection, DbError, Query as Statement};
use crate::http::extract::{Id, Json, Query};
use crate::http::page::{Page, Window};
use crate::http::problem::Problem;
use crate::http::removed;
use crate::http::validate::Checks;

macro_rules! columns {
    () => {
        "
        id,
        name,
        search_criteria,
        notification_enabled,
        last_checked_at,
        created_at"
    };
}

const INSERT: Statement = Statement::insert(
    "saved_searches",
    concat!(
        "
    INSERT INTO saved_searches (user_id, name, search_criteria, notification_enabled)
    VALUES ($1, $2, $3, $4)
    RETURNING",
        columns!()
    ),
);

const LIST: Statement = Statement::select(
    "saved_searches",
    concat!(
        "
    SELECT",
        columns!(),
        "
    FROM saved_searches
    WHERE user_id = $1
        AND id < $2
    ORDER BY id DESC
    LIMIT $3"
    ),
);

const FIND: Statement = Statement::select(
    "saved_searches",
    concat!(
        "
    SELECT",
        columns!(),
        "
    FROM saved_searches
    WHERE id = $1
        AND user_id = $2"
    ),
);

const CHECK: Statement = Statement::update(
    "saved_searches",
    "
    UPDATE saved_searches
    SET last_checked_at = now(),
        new_matches_count = 0
    WHERE id = $1
        AND user_id = $2
    RETURNING search_criteria",
);

const DELETE: Statement = Statement::delete(
    "saved_searches",
    "
    DELETE FROM saved_searches
    WHERE id = $1
        AND user_id = $2",
);

/// The statements of this store.
pub const QUERIES: &[&Statement] = &[&INSERT, &LIST, &FIND, &CHECK, &DELETE];

/// A saved search as its owner sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SavedSearch {
    id: i64,
    name: String,
    criteria: Criteria,
    notification_enabled: bool,
    last_checked_at: Option<Timestamp>,
    created_at: Timestamp,
}

impl SavedSearch {
    fn from_row(row: &Row) -> Result<SavedSearch, DbError> {
        Ok(SavedSearch {
            id: row.get(0),
            name: row.get(1),
            criteria: criteria(row, 2)?,
            notification_enabled: row.get(3),
            last_checked_at: row.get(4),
            created_at: row.get(5),
        })
    }
}

fn criteria(row: &Row, column: usize) -> Result<Criteria, DbError> {
    let read = row.try_get(column).map(|Jsonb(criteria)| criteria);
    read.map_err(|error| DbError::Failed {
        what: "reading saved_searches.search_criteria".to_owned(),
        reason: error.to_string(),
    })
}

/// The criteria of a saved search of `user`, which counts as looked at now.
///
/// # Errors
/// See [`DbError`].
pub async fn check(db: &mut Connection, user: i64, id: i64) -> Result<Option<Criteria>, DbError> {
    db.row(&CHECK, &[&id, &user]).await?.map(|row| criteria(&row, 0)).transpose()
}

/// Body of a new saved search.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSavedSearch)]
pub struct Create {
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    criteria: Criteria,
    notification_enabled: Option<bool>,
}

/// Saves a search.
pub async fn create(
    State(app): State<App>,
    user: CurrentUser,
    Json(mut body): Json<Create>,
) -> Result<(StatusCode, Answer<SavedSearch>), Problem> {
    let mut checks = Checks::default();
    let name = checks.text("name", &body.name, 1, 255);
    body.criteria.check("criteria.", &mut checks);
    checks.finish(())?;
    let notify = body.notification_enabled.unwrap_or(true);
    let mut db = app.db.connection().await?;
    let row = db.row(&INSERT, &[&user.id, &name, &Jsonb(&body.criteria), &notify]).await;
    let row = row.map_err(|error| {
        if error.violates("saved_searches_user_id_name_key") {
            Problem::Conflict("you have a saved search of this name".to_owned())
        } else {
            error.into()
        }
    })?;
    let saved = SavedSearch::from_row(&row.ok_or_else(|| DbError::no_row(&INSERT))?)?;
    Ok((StatusCode::CREATED, Answer(saved)))
}

/// Lists the user's saved searches.
pub async fn list(
    State(app): State<App>,
    user: CurrentUser,
    Query(window): Query<Window>,
) -> Result<Answer<Page<SavedSearch>>, Problem> {
    let rows = app.db.connection().await?.rows(&LIST, &[&user.id, &window.below(), &window.rows()]).await?;
    let saved = rows.iter().map(SavedSearch::from_row).collect::<Result<_, _>>()?;
    Ok(Answer(window.page(saved, |saved| saved.id)))
}

/// Shows a saved search.
pub async fn show(
    State(app): State<App>,
    user: CurrentUser,
    Id(id): Id,
) -> Result<Answer<SavedSearch>, Problem> {
    let row = app.db.connection().await?.row(&FIND, &[&id, &user.id]).await?;
    Ok(Answer(SavedSearch::from_row(&row.ok_or(Problem::NotFound("saved search"))?)?))
}

/// Forgets a saved search.
pub async fn remove(State(app): State<App>, user: CurrentUser, Id(id): Id) -> Result<StatusCode, Problem> {
    let count = app.db.connection().await?.execute(&DELETE, &[&id, &user.id]).await?;
    removed(count == 1, "saved search")
}
