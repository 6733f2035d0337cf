//! Basic auth: one bcrypt comparison for each wrong or unknown login, none for one seen to be right.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::config::Secret;

/// bcrypt's largest cost that is worth waiting for: each step doubles the time (cost 10 is about 70 ms).
const MAX_COST: u32 = 18;

/// A user that cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The hash is not bcrypt.
    #[error("the password of user {0:?} is not a bcrypt hash; make one with `htpasswd -nBC 10 \"\"`")]
    NotBcrypt(String),
    /// Each request would take minutes.
    #[error("the bcrypt hash of user {user:?} has cost {cost}; use at most {MAX_COST}")]
    Cost {
        /// The user.
        user: String,
        /// The hash's cost.
        cost: u32,
    },
    /// The secret cannot be read.
    #[error("cannot read the password of user {user:?}: {cause}")]
    Secret {
        /// The user.
        user: String,
        /// Why.
        cause: String,
    },
    /// One name with a plain password and a hash.
    #[error("user {0:?} has a password and a hash; give one of them")]
    Twice(String),
}

type Sha = [u8; 32];

/// The users and what was learnt about their passwords.
#[derive(Debug)]
pub(super) struct Users {
    hashes: BTreeMap<String, String>,
    /// SHA-256 of the password: of plain users from the start, of the others once bcrypt agreed.
    /// Only right passwords get in, so it holds one entry a user.
    known: Mutex<HashMap<String, Sha>>,
    /// Compared for users that do not exist, so that they cost the same as those that do.
    decoy: Option<String>,
    /// One comparison at a time: guessing must not take every core and blocking thread.
    turn: Semaphore,
    comparisons: Arc<AtomicU64>,
}

impl Users {
    pub(super) fn new(
        hashed: &BTreeMap<String, Secret>,
        plain: &BTreeMap<String, Secret>,
    ) -> Result<Option<Self>, AuthError> {
        let reveal = |user: &str, secret: &Secret| {
            secret
                .reveal()
                .map_err(|error| AuthError::Secret { user: user.to_owned(), cause: error.to_string() })
        };
        let mut hashes = BTreeMap::new();
        let mut decoy: Option<(u32, String)> = None;
        for (user, secret) in hashed {
            let hash = reveal(user, secret)?;
            let parts: bcrypt::HashParts = hash.parse().map_err(|_| AuthError::NotBcrypt(user.clone()))?;
            let cost = parts.get_cost();
            if cost > MAX_COST {
                return Err(AuthError::Cost { user: user.clone(), cost });
            }
            // The dearest of the real hashes: an unknown user must not be the quickest to refuse.
            if decoy.as_ref().is_none_or(|(dearest, _)| cost > *dearest) {
                decoy = Some((cost, hash.clone()));
            }
            hashes.insert(user.clone(), hash);
        }
        let mut known = HashMap::new();
        for (user, secret) in plain {
            if hashes.contains_key(user) {
                return Err(AuthError::Twice(user.clone()));
            }
            known.insert(user.clone(), sha(&reveal(user, secret)?));
        }
        if hashes.is_empty() && known.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            hashes,
            known: Mutex::new(known),
            decoy: decoy.map(|(_, hash)| hash),
            turn: Semaphore::new(1),
            comparisons: Arc::default(),
        }))
    }

    /// bcrypt comparisons so far.
    pub(super) fn comparisons(&self) -> u64 {
        self.comparisons.load(Ordering::Relaxed)
    }

    /// Whether the request's `Authorization` header names a user with the right password.
    pub(super) async fn admit(&self, headers: &HeaderMap) -> bool {
        let Some((user, password)) = credentials(headers) else { return false };
        let digest = sha(&password);
        if self.known().get(&user) == Some(&digest) {
            return true;
        }
        let hash = self.hashes.get(&user);
        let Some(compared) = hash.or(self.decoy.as_ref()).cloned() else { return false };
        let Ok(_turn) = self.turn.acquire().await else { return false };
        // Somebody may have waited with the same password.
        if self.known().get(&user) == Some(&digest) {
            return true;
        }
        let comparisons = Arc::clone(&self.comparisons);
        let equal = tokio::task::spawn_blocking(move || {
            comparisons.fetch_add(1, Ordering::Relaxed);
            bcrypt::verify(password, &compared).unwrap_or(false)
        })
        .await
        .unwrap_or(false);
        let admitted = equal && hash.is_some();
        if admitted {
            self.known().insert(user, digest);
        }
        admitted
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Sha>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sha(text: &str) -> Sha {
    Sha256::digest(text.as_bytes()).into()
}

/// User and password of a `Basic` header (RFC 7617).
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(decode_base64(encoded.trim())?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Padded standard base64 (RFC 4648 section 4), nothing else.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(4) {
        return None;
    }
    let padding = bytes.iter().rev().take_while(|&&byte| byte == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(bytes.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for &byte in &bytes[..bytes.len() - padding] {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
