//! How much of the server's time the sampler takes, and how long it must rest for it.

use std::time::Duration;

/// What a command costs the server at least, whatever it does.
const PER_COMMAND: Duration = Duration::from_micros(10);

/// What a key that is looked at costs the server at least.
const PER_KEY: Duration = Duration::from_micros(1);

/// A share of the server's time.
#[derive(Debug)]
pub(super) struct Budget {
    share: f64,
    /// The fastest batch: what the network takes, about.
    fastest: Duration,
    /// What was taken, by our account.
    pub(super) spent: Duration,
}

impl Budget {
    /// `a_second` of the server's time in each second.
    pub(super) fn new(a_second: Duration) -> Self {
        Self { share: a_second.as_secs_f64(), fastest: Duration::MAX, spent: Duration::ZERO }
    }

    /// Books a batch that was answered after `elapsed` and says how long after its beginning the next one may begin.
    /// The time of the server is what the batch took beyond the network, and at least what its work takes anywhere.
    pub(super) fn book(&mut self, elapsed: Duration, commands: usize, keys: usize) -> Duration {
        self.fastest = self.fastest.min(elapsed);
        let least = PER_COMMAND * u32::try_from(commands).unwrap_or(u32::MAX)
            + PER_KEY * u32::try_from(keys).unwrap_or(u32::MAX);
        let cost = elapsed.saturating_sub(self.fastest).max(least);
        self.spent += cost;
        Duration::from_secs_f64((cost.as_secs_f64() / self.share).min(3600.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_paid_for_with_rest() {
        let mut budget = Budget::new(Duration::from_millis(5));
        // 1,000 keys and a command: 1,010 microseconds at least.
        assert_eq!(budget.book(Duration::from_millis(20), 1, 1000), Duration::from_millis(202));
        // Beyond the network's 20 ms the server took 3 ms.
        assert_eq!(budget.book(Duration::from_millis(23), 1, 1000), Duration::from_millis(600));
        assert_eq!(budget.spent, Duration::from_micros(4010));
    }
}
