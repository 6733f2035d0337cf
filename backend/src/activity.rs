//! Who used the service lately, in this process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a user counts as active after a request.
const LATELY: Duration = Duration::from_secs(300);

/// The last request of each user.
#[derive(Debug, Default)]
pub struct Activity(Mutex<HashMap<i64, Instant>>);

impl Activity {
    /// Notes a request of `user` at `now`.
    pub fn note(&self, user: i64, now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(user, now);
    }

    /// How many users were active at `now`; forgets the others.
    pub fn count(&self, now: Instant) -> usize {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, at| now.saturating_duration_since(*at) < LATELY);
        seen.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_counted_once_and_forgotten() {
        let (activity, start) = (Activity::default(), Instant::now());
        activity.note(1, start);
        activity.note(1, start + LATELY / 2);
        activity.note(2, start);
        assert_eq!(activity.count(start + LATELY / 2), 2);
        assert_eq!(activity.count(start + LATELY), 1);
        assert_eq!(activity.count(start + 2 * LATELY), 0);
    }
}
