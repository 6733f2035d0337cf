//! Password hashes: argon2id, a bounded number at a time, the same work for accounts that do not exist.

use std::sync::Arc;
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::hex;
use crate::metrics::Metrics;

/// How long a request queues for a free slot.
const QUEUE: Duration = Duration::from_secs(5);

/// Why no hash was made.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Every slot stayed taken.
    #[error("no free slot for a password hash within {QUEUE:?}")]
    Busy,
    /// A defect, or a stored hash that is none.
    #[error("password hashing: {0}")]
    Failed(String),
}

/// Makes and compares password hashes.
#[derive(Clone, Debug)]
pub struct Passwords {
    slots: Arc<Semaphore>,
    decoy: Arc<str>,
    metrics: Arc<Metrics>,
}

impl Passwords {
    /// At most `slots` hashes at a time; each takes 19 MiB and a core for some 20 ms.
    ///
    /// # Errors
    /// If the decoy hash cannot be made.
    pub fn new(slots: usize, metrics: Arc<Metrics>) -> Result<Passwords, PasswordError> {
        let secret = hex::encode(&rand::random::<[u8; 32]>());
        Ok(Passwords { slots: Arc::new(Semaphore::new(slots)), decoy: compute(&secret)?.into(), metrics })
    }

    /// The hash to store for `password`, as a PHC string.
    ///
    /// # Errors
    /// See [`PasswordError`].
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        self.bounded(move || compute(&password)).await
    }

    /// Whether `password` is the one behind `stored`. Without `stored` (no such account) the answer is no, at the same
    /// cost, so that the time of the answer does not tell which accounts exist.
    ///
    /// # Errors
    /// See [`PasswordError`].
    pub async fn verify(&self, password: String, stored: Option<String>) -> Result<bool, PasswordError> {
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.decoy.to_string());
        let matches = self
            .bounded(move || {
                let parsed = PasswordHash::new(&stored).map_err(failed)?;
                match Argon2::default().verify_password(password.as_bytes(), &parsed) {
                    Ok(()) => Ok(true),
                    Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
                    Err(error) => Err(failed(error)),
                }
            })
            .await?;
        Ok(matches && known)
    }

    async fn bounded<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let started = Instant::now();
        let slot = tokio::time::timeout(QUEUE, Arc::clone(&self.slots).acquire_owned())
            .await
            .map_err(|_| PasswordError::Busy)?
            .map_err(failed)?;
        let result = spawn_blocking(move || {
            // The slot is held by the work, not by the request: the work goes on if the request is dropped.
            let _slot = slot;
            work()
        })
        .await
        .map_err(failed)?;
        self.metrics.password_hash_duration.observe(started.elapsed().as_secs_f64());
        result
    }
}

fn compute(password: &str) -> Result<String, PasswordError> {
    Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> PasswordError {
    PasswordError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    fn passwords() -> (Passwords, Registry) {
        let mut registry = Registry::default();
        let metrics = Arc::new(Metrics::new(&mut registry, "test", &[]));
        (Passwords::new(2, metrics).unwrap(), registry)
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_account_matches() {
        let (passwords, _) = passwords();
        let stored = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(passwords.verify("correct horse".to_owned(), Some(stored.clone())).await.unwrap());
        assert!(!passwords.verify("wrong".to_owned(), Some(stored)).await.unwrap());
        assert!(!passwords.verify("correct horse".to_owned(), None).await.unwrap());
    }

    #[tokio::test]
    async fn an_unknown_account_costs_one_hash_of_the_same_parameters() {
        let (passwords, registry) = passwords();
        let stored = passwords.hash("correct horse".to_owned()).await.unwrap();
        let parameters = |hash: &str| hash.rsplitn(3, '$').nth(2).map(str::to_owned);
        assert_eq!(parameters(&stored), parameters(&passwords.decoy));
        passwords.verify("guess".to_owned(), None).await.unwrap();
        passwords.verify("guess".to_owned(), Some(stored)).await.unwrap();
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        assert!(page.contains("autodealgenie_password_hash_duration_seconds_count 3\n"), "{page}");
    }

    #[tokio::test]
    async fn a_broken_stored_hash_is_an_error_not_a_match() {
        assert!(passwords().0.verify("x".to_owned(), Some("plain".to_owned())).await.is_err());
    }
}
