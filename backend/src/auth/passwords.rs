//! Password hashes: argon2id, a bounded number at a time, the same work for accounts that do not exist.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
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
    /// Working memory that no hash uses now, at most one a slot. Allocated anew for each hash, every thread that ever made one
    /// would leave the allocator with 19 MiB or more.
    memory: Arc<Mutex<Vec<Vec<Block>>>>,
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
        let mut memory = Vec::new();
        let decoy = hash(&secret, &mut memory)?.into();
        let memory = Arc::new(Mutex::new(vec![memory]));
        Ok(Passwords { slots: Arc::new(Semaphore::new(slots)), memory, decoy, metrics })
    }

    /// The hash to store for `password`, as a PHC string.
    ///
    /// # Errors
    /// See [`PasswordError`].
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        self.bounded(move |memory| hash(&password, memory)).await
    }

    /// Whether `password` is the one behind `stored`. Without `stored` (no such account) the answer is no, at the same
    /// cost, so that the time of the answer does not tell which accounts exist.
    ///
    /// # Errors
    /// See [`PasswordError`].
    pub async fn verify(&self, password: String, stored: Option<String>) -> Result<bool, PasswordError> {
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.decoy.to_string());
        let matches = self.bounded(move |memory| is_behind(&password, &stored, memory)).await?;
        Ok(matches && known)
    }

    async fn bounded<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Vec<Block>) -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let started = Instant::now();
        let slot = tokio::time::timeout(QUEUE, Arc::clone(&self.slots).acquire_owned())
            .await
            .map_err(|_| PasswordError::Busy)?
            .map_err(failed)?;
        let pool = Arc::clone(&self.memory);
        let result = spawn_blocking(move || {
            // The slot is held by the work, not by the request: the work goes on if the request is dropped.
            let _slot = slot;
            let unused = || pool.lock().unwrap_or_else(PoisonError::into_inner);
            let mut memory = unused().pop().unwrap_or_default();
            let result = work(&mut memory);
            unused().push(memory);
            result
        })
        .await
        .map_err(failed)?;
        self.metrics.password_hash_duration.observe(started.elapsed().as_secs_f64());
        result
    }
}

/// The hash of `password` with a new salt, as a PHC string.
fn hash(password: &str, memory: &mut Vec<Block>) -> Result<String, PasswordError> {
    let argon2 = Argon2::default();
    let salt = Salt::generate();
    let output = output(&argon2, password, &salt, Params::DEFAULT_OUTPUT_LEN, memory)?;
    let hash = PasswordHash {
        algorithm: Algorithm::default().ident(),
        version: Some(Version::default().into()),
        params: ParamsString::try_from(argon2.params()).map_err(failed)?,
        salt: Some(salt),
        hash: Some(output),
    };
    Ok(hash.to_string())
}

/// Whether `stored` is a hash of `password`; compared in constant time.
fn is_behind(password: &str, stored: &str, memory: &mut Vec<Block>) -> Result<bool, PasswordError> {
    let stored = PasswordHash::new(stored).map_err(failed)?;
    let (Some(salt), Some(expected)) = (stored.salt, stored.hash) else {
        return Err(failed("the stored hash has no salt or no output"));
    };
    let argon2 = Argon2::new(
        Algorithm::try_from(stored.algorithm.as_str()).map_err(failed)?,
        stored.version.map(Version::try_from).transpose().map_err(failed)?.unwrap_or_default(),
        Params::try_from(&stored).map_err(failed)?,
    );
    Ok(output(&argon2, password, &salt, expected.len(), memory)? == expected)
}

fn output(
    argon2: &Argon2<'_>,
    password: &str,
    salt: &Salt,
    length: usize,
    memory: &mut Vec<Block>,
) -> Result<Output, PasswordError> {
    memory.resize(argon2.params().block_count(), Block::default());
    let mut bytes = vec![0; length];
    argon2
        .hash_password_into_with_memory(password.as_bytes(), salt, &mut bytes, memory.as_mut_slice())
        .map_err(failed)?;
    Output::new(&bytes).map_err(failed)
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
        let metrics = Arc::new(Metrics::new(&mut registry, "test"));
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
    async fn memory_is_kept_for_each_slot_not_for_each_hash() {
        let (passwords, _) = passwords();
        let hashes = (0..8).map(|number| passwords.hash(format!("horse {number}")));
        assert!(futures_util::future::join_all(hashes).await.iter().all(Result::is_ok));
        assert!((1..=2).contains(&passwords.memory.lock().unwrap().len()));
    }

    #[tokio::test]
    async fn hashes_are_those_of_the_library() {
        use argon2::PasswordVerifier;
        let stored = passwords().0.hash("correct horse".to_owned()).await.unwrap();
        assert!(Argon2::default().verify_password(b"correct horse", stored.as_str()).is_ok());
    }

    #[tokio::test]
    async fn a_broken_stored_hash_is_an_error_not_a_match() {
        assert!(passwords().0.verify("x".to_owned(), Some("plain".to_owned())).await.is_err());
    }
}
