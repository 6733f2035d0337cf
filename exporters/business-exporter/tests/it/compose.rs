//! What docker-compose.yml lets the exporter's role read is enough for the shipped definition, and nothing personal.

use testkit::postgres::Postgres;

use crate::support::{exporter, shipped};

const MIGRATIONS: [&str; 3] = [
    include_str!("../../../../backend/migrations/0001_schema.sql"),
    include_str!("../../../../backend/migrations/0002_vehicles.sql"),
    include_str!("../../../../backend/migrations/0003_loans.sql"),
];
const LEDGER: &str = include_str!("../../../../docker/postgres/ledger.sql");
const GRANTS: &str = include_str!("../../../../docker/postgres/grants.sql");

#[tokio::test]
async fn the_grants_are_enough_and_no_more() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    server.sql("CREATE ROLE business LOGIN PASSWORD 'to-look-at'; CREATE ROLE backend; CREATE TABLE schema_migrations ()").await?;
    for migration in MIGRATIONS {
        server.sql(migration).await?;
    }
    server.sql(LEDGER).await?;
    // Without what is for psql.
    let grants: String =
        GRANTS.lines().filter(|line| !line.starts_with('\\')).map(|line| format!("{line}\n")).collect();
    server.sql(&grants).await?;

    let dsn =
        format!("postgresql://business:to-look-at@127.0.0.1:{}/postgres?sslmode=disable", server.port());
    let exporter = exporter(&shipped(), &dsn).await?;
    let page = exporter.scrape(10.0).await?;
    let outcomes: Vec<_> = page.samples("business_exporter_query_outcome").collect();
    assert!(outcomes.len() >= 10, "{outcomes:?}");
    for sample in outcomes {
        assert!(sample.value == 0.0 || sample.label("outcome") == Some("ok"), "{sample:?}");
    }

    let client = server.client_as("business", "to-look-at", "postgres").await?;
    for column in [
        "users.hashed_password",
        "users.email",
        "password_resets.token_hash",
        "webhook_subscriptions.secret_token",
        "negotiation_messages.content",
    ] {
        let (table, _) = column.split_once('.').unwrap_or_default();
        let refused = client.batch_execute(&format!("SELECT {column} FROM {table}")).await.unwrap_err();
        let refused = refused.as_db_error().map(|error| error.message().to_owned());
        assert_eq!(refused, Some(format!("permission denied for table {table}")), "{column}");
    }
    Ok(())
}
