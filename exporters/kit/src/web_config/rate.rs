//! A token bucket over all requests of the server.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::RateLimit;

/// Lets `burst` requests through at once, then one an interval.
#[derive(Debug)]
pub(super) struct Limiter {
    interval: Duration,
    burst: u32,
    /// When the bucket was last known to hold so many tokens.
    state: Mutex<(Instant, f64)>,
}

impl Limiter {
    /// The limiter, or none when the interval is zero.
    pub(super) fn new(limit: &RateLimit) -> Option<Self> {
        let interval = limit.interval.get();
        let full = (Instant::now(), f64::from(limit.burst));
        (!interval.is_zero()).then(|| Self { interval, burst: limit.burst, state: Mutex::new(full) })
    }

    pub(super) fn allow(&self) -> bool {
        self.allow_at(Instant::now())
    }

    fn allow_at(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = now.saturating_duration_since(state.0).as_secs_f64() / self.interval.as_secs_f64();
        let tokens = (state.1 + gained).min(f64::from(self.burst));
        let allowed = tokens >= 1.0;
        *state = (now, if allowed { tokens - 1.0 } else { tokens });
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::GoDuration;

    #[test]
    fn a_burst_then_one_an_interval() {
        let limit = RateLimit { interval: GoDuration(Duration::from_secs(1)), burst: 2 };
        let limiter = Limiter::new(&limit).unwrap();
        let start = limiter.state.lock().unwrap().0;
        let at = |milliseconds| limiter.allow_at(start + Duration::from_millis(milliseconds));
        assert_eq!(
            [at(0), at(0), at(0), at(900), at(1000), at(1100)],
            [true, true, false, false, true, false]
        );
        assert_eq!([at(60_000), at(60_000), at(60_000)], [true, true, false]);
    }

    #[test]
    fn no_interval_is_no_limit() {
        assert!(Limiter::new(&RateLimit::default()).is_none());
    }
}
