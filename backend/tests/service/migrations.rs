//! Migrations: once, in order, by one of many, and never over an edited past.

use autodealgenie_backend::db::migrate::{self, MIGRATIONS};
use testkit::postgres::Postgres;

#[tokio::test]
async fn four_starters_make_one_schema() {
    let postgres = Postgres::start().await.unwrap();
    let url = postgres.admin_dsn("postgres");
    let starters: Vec<_> = (0..4)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { migrate::run(&url).await })
        })
        .collect();
    let mut applied = Vec::new();
    for starter in starters {
        applied.push(starter.await.unwrap().unwrap());
    }
    applied.sort_unstable();
    assert_eq!(applied, [0, 0, 0, MIGRATIONS.len()]);
    let rows = postgres.psql("SELECT count(*) FROM schema_migrations").await.unwrap();
    assert_eq!(rows, Some(MIGRATIONS.len().to_string()));
    assert_eq!(migrate::run(&url).await.unwrap(), 0);
}

#[tokio::test]
async fn an_edited_or_newer_past_is_refused_by_name() {
    let postgres = Postgres::start().await.unwrap();
    let url = postgres.admin_dsn("postgres");
    migrate::run(&url).await.unwrap();
    postgres.sql("UPDATE schema_migrations SET checksum = 'x' WHERE version = 1").await.unwrap();
    let refused = migrate::run(&url).await.unwrap_err().to_string();
    assert!(refused.contains("0001_schema.sql") && refused.contains("changed"), "{refused}");
    postgres
        .sql("DELETE FROM schema_migrations; INSERT INTO schema_migrations VALUES (9999, '9999_later.sql', 'x')")
        .await
        .unwrap();
    let refused = migrate::run(&url).await.unwrap_err().to_string();
    assert!(refused.contains("9999_later.sql") && refused.contains("newer"), "{refused}");
}

#[tokio::test]
async fn rows_keep_version_and_times_whoever_writes() {
    let postgres = Postgres::start().await.unwrap();
    migrate::run(&postgres.admin_dsn("postgres")).await.unwrap();
    postgres
        .sql(
            "INSERT INTO users (email, username, hashed_password) VALUES ('a@b.c', 'a', 'x');
             INSERT INTO deals (user_id, vehicle_vin, vehicle_make, vehicle_model, vehicle_year, asking_price)
             SELECT id, '1HGCM82633A004352', 'Honda', 'Accord', 2003, 1000 FROM users;
             INSERT INTO negotiation_sessions (user_id, deal_id) SELECT user_id, id FROM deals;
             INSERT INTO deal_evaluations (user_id, deal_id) SELECT user_id, id FROM deals;
             INSERT INTO search_history (user_id, search_type, search_criteria, result_count)
             SELECT id, 'quick', '{}', 0 FROM users;
             INSERT INTO ai_responses (user_id, deal_id, feature, prompt_type, model_used, llm_used, response_content)
             SELECT user_id, id, 'negotiation', 'counter', 'rules', false, '{}' FROM deals;
             UPDATE deals SET status = 'in_progress'",
        )
        .await
        .unwrap();
    let kept = "SELECT version = 2 AND updated_at > created_at AND status_changed_at > created_at FROM deals";
    assert_eq!(postgres.psql(kept).await.unwrap().unwrap(), "t");
    // Nothing that hangs on a deal or a user stops its deletion; statistics stay, without the name.
    postgres.sql("DELETE FROM deals").await.unwrap();
    postgres.sql("DELETE FROM users").await.unwrap();
    let left = "SELECT concat_ws(' ', (SELECT count(*) FROM negotiation_sessions),
                (SELECT count(*) FROM deal_evaluations),
                (SELECT count(*) FROM search_history WHERE user_id IS NULL),
                (SELECT count(*) FROM ai_responses WHERE user_id IS NULL AND deal_id IS NULL))";
    assert_eq!(postgres.psql(left).await.unwrap().unwrap(), "0 0 1 1");
}
