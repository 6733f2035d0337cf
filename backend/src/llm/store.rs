//! What models and rules answered, in the table `ai_responses`.

use serde::Serialize;
use tokio_postgres::types::Json;

use super::{PromptKind, Usage};
use crate::db::{Connection, DbError, Query};

const INSERT: Query = Query::insert(
    "ai_responses",
    "
    INSERT INTO ai_responses (
        user_id,
        deal_id,
        feature,
        prompt_type,
        model_used,
        llm_used,
        prompt_tokens,
        completion_tokens,
        cost,
        response_content
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::float8, $10)",
);

/// The statements of this store.
pub const QUERIES: &[&Query] = &[&INSERT];

/// Notes an answer about a deal of `user`.
///
/// # Errors
/// See [`DbError`].
pub async fn record(
    db: &mut Connection,
    user: i64,
    deal: i64,
    kind: PromptKind,
    usage: &Usage,
    answer: &(impl Serialize + Sync + std::fmt::Debug),
) -> Result<(), DbError> {
    let tokens = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    db.execute(
        &INSERT,
        &[
            &user,
            &deal,
            &kind.feature,
            &kind.name,
            &usage.model,
            &usage.is_llm(),
            &tokens(usage.prompt_tokens),
            &tokens(usage.completion_tokens),
            &usage.cost,
            &Json(answer),
        ],
    )
    .await?;
    Ok(())
}
