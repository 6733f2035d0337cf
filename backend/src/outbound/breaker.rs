//! The circuit breaker: after some failures in a row a service is left alone for a while, then one call tries it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// When to leave a service alone.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Failures in a row that open the circuit.
    pub failures: u32,
    /// How long it stays open before one call tries.
    pub pause: Duration,
}

/// Opens after failures in a row.
#[derive(Debug)]
pub struct Breaker {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    opened: Option<Instant>,
    trying: bool,
}

/// Permission for one call. Dropped without a verdict (the caller left), it says nothing about the service.
#[derive(Debug)]
pub struct Pass<'a> {
    breaker: &'a Breaker,
    trial: bool,
}

impl Breaker {
    /// A closed one.
    pub fn new(limits: Limits) -> Breaker {
        Breaker { limits, state: Mutex::default() }
    }

    /// Permission for a call at `now`; none while the circuit is open, or while another call tries it.
    pub fn enter(&self, now: Instant) -> Option<Pass<'_>> {
        let mut state = self.state();
        let Some(opened) = state.opened else { return Some(Pass { breaker: self, trial: false }) };
        if state.trying || now.saturating_duration_since(opened) < self.limits.pause {
            return None;
        }
        state.trying = true;
        Some(Pass { breaker: self, trial: true })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The service answered: the circuit is closed.
    pub fn answered(self) {
        let mut state = self.breaker.state();
        state.failures = 0;
        state.opened = None;
    }

    /// The service failed at `now`.
    pub fn failed(self, now: Instant) {
        let mut state = self.breaker.state();
        state.failures = state.failures.saturating_add(1);
        if self.trial || state.failures >= self.breaker.limits.failures {
            state.opened = Some(now);
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.trial {
            self.breaker.state().trying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { failures: 2, pause: Duration::from_secs(10) };

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_a_good_trial() {
        let (breaker, start) = (Breaker::new(LIMITS), Instant::now());
        breaker.enter(start).unwrap().failed(start);
        breaker.enter(start).unwrap().answered();
        breaker.enter(start).unwrap().failed(start);
        breaker.enter(start).unwrap().failed(start);
        assert!(breaker.enter(start + Duration::from_secs(9)).is_none());
        let later = start + LIMITS.pause;
        let trial = breaker.enter(later).unwrap();
        assert!(breaker.enter(later).is_none(), "one call tries");
        trial.failed(later);
        assert!(breaker.enter(later).is_none());
        let last = later + LIMITS.pause;
        breaker.enter(last).unwrap().answered();
        assert!(breaker.enter(last).is_some() && breaker.enter(last).is_some());
    }

    #[test]
    fn a_trial_that_was_given_up_may_be_repeated() {
        let (breaker, start) = (Breaker::new(LIMITS), Instant::now());
        breaker.enter(start).unwrap().failed(start);
        breaker.enter(start).unwrap().failed(start);
        drop(breaker.enter(start + LIMITS.pause).unwrap());
        assert!(breaker.enter(start + LIMITS.pause).is_some());
    }
}
