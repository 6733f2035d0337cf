//! For exporters that serve many targets: patterns of what is allowed, and what is kept of the targets asked for last.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Whether `*` in the pattern can stand for texts that make it the given one.
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Keeps at most so many values, those that were asked for last, and none that nobody asked for in a while.
pub struct Recent<T> {
    limit: usize,
    idle: Duration,
    entries: Mutex<HashMap<String, Entry<T>>>,
}

struct Entry<T> {
    used: Instant,
    value: T,
}

impl<T: Clone> Recent<T> {
    /// Nothing is kept yet.
    pub fn new(limit: usize, idle: Duration) -> Recent<T> {
        Recent { limit: limit.max(1), idle, entries: Mutex::default() }
    }

    /// The value of a key, made if it is not there.
    ///
    /// # Errors
    /// Those of `make`; nothing is kept then.
    pub fn get_or_make<E>(&self, key: &str, make: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut entries = self.entries();
        let now = Instant::now();
        if let Some(entry) = entries.get_mut(key) {
            entry.used = now;
            return Ok(entry.value.clone());
        }
        let value = make()?;
        entries.retain(|_, entry| now.saturating_duration_since(entry.used) < self.idle);
        while entries.len() >= self.limit {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            entries.remove(&oldest);
        }
        entries.insert(key.to_owned(), Entry { used: now, value: value.clone() });
        Ok(value)
    }

    /// Drops everything.
    pub fn clear(&self) {
        self.entries().clear();
    }

    /// How many values are kept.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<String, Entry<T>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*a", "a", false),
            ("a*b*c", "axbxbxc", true),
            ("a*b*c", "axc", false),
            ("db-*.example", "db-1.example.org", false),
            ("**", "x", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_fits_itself_with_parts_starred(parts in prop::collection::vec("[a-zä.]{0,5}", 1..5), fill in "[a-z]{0,4}") {
            prop_assert!(glob(&parts.join("*"), &parts.join(&fill)));
        }

        #[test]
        fn no_text_makes_it_panic(pattern in "[*aä.]{0,12}", text in any::<String>()) {
            glob(&pattern, &text);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_and_the_idle_are_dropped() {
        let recent: Recent<u32> = Recent::new(2, Duration::from_secs(60));
        let get = |key: &str, value| recent.get_or_make(key, || Ok::<_, Infallible>(value)).unwrap();
        for (key, value, expected) in
            [("a", 1, 1), ("b", 2, 2), ("a", 9, 1), ("c", 3, 3), ("a", 9, 1), ("b", 9, 9)]
        {
            assert_eq!(get(key, value), expected, "{key}");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(recent.len(), 2);
        tokio::time::advance(Duration::from_secs(60)).await;
        get("d", 4);
        assert_eq!(recent.len(), 1);
        assert_eq!(recent.get_or_make("e", || Err("no")), Err("no"));
    }
}
