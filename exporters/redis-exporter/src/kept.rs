//! What follows from a part of a reply that is mostly the same from one scrape to the next, and is kept for that long.

use std::sync::{Mutex, PoisonError};

/// What was made of a key, until it is another one.
#[derive(Debug)]
pub(crate) struct Kept<K, T>(Mutex<Option<(K, T)>>);

impl<K, T> Default for Kept<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: PartialEq, T: Clone> Kept<K, T> {
    /// What is kept of this key, or was just made.
    pub(crate) fn get(&self, key: K, make: impl FnOnce(&K) -> T) -> T {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((known, made)) if *known == key => made.clone(),
            _ => {
                let made = make(&key);
                *kept = Some((key, made.clone()));
                made
            }
        }
    }
}
