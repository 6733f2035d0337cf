//! What follows from a part of a reply that is mostly the same from one scrape to the next, and is kept for that long.

use std::borrow::Borrow;
use std::sync::{Mutex, PoisonError};

/// What was made of a key, until it is another one.
#[derive(Debug)]
pub(crate) struct Kept<K, T>(Mutex<Option<(K, T)>>);

impl<K, T> Default for Kept<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K, T: Clone> Kept<K, T> {
    /// What is kept of this key, or was just made.
    pub(crate) fn get<Q>(&self, key: &Q, make: impl FnOnce() -> T) -> T
    where
        K: Borrow<Q>,
        Q: ?Sized + PartialEq + ToOwned<Owned = K>,
    {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((known, made)) if known.borrow() == key => made.clone(),
            _ => {
                let made = make();
                *kept = Some((key.to_owned(), made.clone()));
                made
            }
        }
    }
}
