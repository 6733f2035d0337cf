//! Ordered, checksummed migrations. Any number of processes may start at once: an advisory lock lets one of them work
//! while the others wait and then find nothing to do.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio_postgres::{Client, NoTls};

use super::{DbError, classify, describe, parse_url};
use crate::hex;

/// One step of the schema.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Position, without gaps from 1.
    pub version: i32,
    /// File name.
    pub name: &'static str,
    /// Text; runs in one transaction.
    pub sql: &'static str,
}

/// All steps in order. A released step is never edited: its checksum is in every database.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "0001_schema.sql", sql: include_str!("../../migrations/0001_schema.sql") },
    Migration {
        version: 2,
        name: "0002_vehicles.sql",
        sql: include_str!("../../migrations/0002_vehicles.sql"),
    },
    Migration { version: 3, name: "0003_loans.sql", sql: include_str!("../../migrations/0003_loans.sql") },
];

/// Key of the advisory lock: "autodeal" in ASCII.
const LOCK: i64 = 0x6175_746f_6465_616c;

const BOOKKEEPING: &str = "
    CREATE TABLE IF NOT EXISTS schema_migrations (
        version    integer PRIMARY KEY,
        name       text NOT NULL,
        checksum   text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )";

/// Applies what is missing of [`MIGRATIONS`] and answers how many steps that were.
///
/// # Errors
/// If the server cannot be reached, a step fails, an applied step was edited, or the database is newer than this program.
pub async fn run(url: &str) -> Result<usize, DbError> {
    apply(url, MIGRATIONS).await
}

async fn apply(url: &str, migrations: &[Migration]) -> Result<usize, DbError> {
    let mut config = parse_url(url)?;
    config.connect_timeout(Duration::from_secs(5)).application_name("autodealgenie-migrate");
    let connecting = tokio::time::timeout(Duration::from_secs(10), config.connect(NoTls)).await;
    let unreachable =
        |reason: String| DbError::Unavailable { what: "connecting to migrate".to_owned(), reason };
    let (mut client, connection) = connecting
        .map_err(|_| unreachable("no answer within 10s".to_owned()))?
        .map_err(|error| unreachable(describe(&error)))?;
    let driver = tokio::spawn(connection);
    let result = locked(&mut client, migrations).await;
    // Closing the session releases the lock, whatever happened.
    drop(client);
    if let Ok(Err(error)) = driver.await {
        tracing::debug!(error = describe(&error), "migration connection closed");
    }
    result
}

async fn locked(client: &mut Client, migrations: &[Migration]) -> Result<usize, DbError> {
    let failed = |what: &str| -> Box<dyn Fn(tokio_postgres::Error) -> DbError + Send> {
        let what = what.to_owned();
        Box::new(move |error| classify(what.clone(), &error))
    };
    client
        .batch_execute(&format!("SET lock_timeout = '60s'; SELECT pg_advisory_lock({LOCK})"))
        .await
        .map_err(failed("waiting for the migration lock"))?;
    client.batch_execute(BOOKKEEPING).await.map_err(failed("creating schema_migrations"))?;
    let applied = client
        .query("SELECT version, name, checksum FROM schema_migrations ORDER BY version", &[])
        .await
        .map_err(failed("reading schema_migrations"))?;
    for row in &applied {
        let (version, name, checksum): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
        let refuse = |reason: &str| {
            Err(DbError::Failed { what: format!("checking migration {name}"), reason: reason.to_owned() })
        };
        match migrations.iter().find(|migration| migration.version == version) {
            None => return refuse("the database is newer than this program; start the newer one"),
            Some(migration) if migration.checksum() != checksum => {
                return refuse("its text changed after it was applied; restore it and add a new migration");
            }
            Some(_) => {}
        }
    }
    let mut count = 0;
    for migration in migrations.iter().skip(applied.len()) {
        let failed = failed(&format!("applying migration {}", migration.name));
        let transaction = client.transaction().await.map_err(&failed)?;
        transaction.batch_execute(migration.sql).await.map_err(&failed)?;
        transaction
            .execute(
                "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
                &[&migration.version, &migration.name, &migration.checksum()],
            )
            .await
            .map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        tracing::info!(migration = migration.name, "applied");
        count += 1;
    }
    Ok(count)
}

impl Migration {
    fn checksum(&self) -> String {
        hex::encode(&Sha256::digest(self.sql.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_no_gaps_and_names_carry_them() {
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(usize::try_from(migration.version).unwrap(), index + 1);
            assert!(migration.name.starts_with(&format!("{:04}_", migration.version)));
        }
    }
}
