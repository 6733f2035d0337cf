//! What is shown of a reading: no series ever steps down, except to exactly 0.
//!
//! To Prometheus any decrease is a restart from 0, so a counter that falls by 1 looks like as many events as it has. A
//! reading can be lower than the one before: of a replica that lags, or of a standby that took over without the last
//! commits. Then the last value is held until the reading reaches it, or, when that takes too long, the ledger is
//! restarted at 0 in the database, for all replicas of the exporter alike.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Why values start again at 0: they were below what was shown for too long, or by too much.
pub const REGRESSION: &str = "regression";
/// Why values start again at 0: the database is another one, or a restored one.
pub const LINEAGE: &str = "lineage";

/// A series, or the series of one histogram: family and label values.
pub type Key = (String, Vec<String>);

/// What the ledger holds at one instant. The values of a key: one for a counter; cumulative buckets, sum and count for
/// a histogram.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Changes when the ledger starts again at 0.
    pub epoch: String,
    /// Why it did last.
    pub reason: String,
    /// All series.
    pub values: BTreeMap<Key, Vec<f64>>,
}

/// What was shown last, and what is held.
#[derive(Debug)]
pub struct Publication {
    grace: Duration,
    max: f64,
    epoch: Option<String>,
    shown: BTreeMap<Key, Vec<f64>>,
    held: BTreeMap<String, f64>,
    below_since: Option<Instant>,
    resets: BTreeMap<String, u64>,
}

impl Publication {
    /// Nothing was shown yet. A value is held for `grace` at most, and when it is `max` below the last at most.
    pub fn new(grace: Duration, max: f64) -> Publication {
        let (shown, held, resets) = Default::default();
        Publication { grace, max, epoch: None, shown, held, below_since: None, resets }
    }

    /// Takes a reading. True when values were held for too long: the ledger is to be restarted.
    pub fn take(&mut self, reading: Reading, now: Instant) -> bool {
        let first = self.epoch.is_none();
        let restarted = !first && self.epoch.as_ref() != Some(&reading.epoch);
        self.epoch = Some(reading.epoch);
        self.held.clear();
        if restarted {
            *self.resets.entry(reading.reason).or_default() += 1;
            self.shown.clear();
        }
        let mut lowest = 0.0_f64;
        for (key, last) in &mut self.shown {
            let value = reading.values.get(key);
            if let Some(value) = value.filter(|value| value.iter().zip(&*last).all(|(new, old)| new >= old)) {
                last.clone_from(value);
                continue;
            }
            // The last of the values is the counter itself, or the count of the histogram.
            let count =
                |values: Option<&Vec<f64>>| values.and_then(|values| values.last().copied()).unwrap_or(0.0);
            let below = count(Some(last)) - count(value);
            lowest = lowest.max(below);
            let held = self.held.entry(key.0.clone()).or_default();
            *held = held.max(below);
        }
        for (key, value) in reading.values {
            // A series that comes later is 0 once, so that `increase()` sees its first event.
            self.shown.entry(key).or_insert_with(|| if first { value } else { vec![0.0; value.len()] });
        }
        if self.held.is_empty() {
            self.below_since = None;
            return false;
        }
        let since = *self.below_since.get_or_insert(now);
        lowest > self.max || now.saturating_duration_since(since) >= self.grace
    }

    /// What to show.
    pub fn shown(&self) -> &BTreeMap<Key, Vec<f64>> {
        &self.shown
    }

    /// The epoch of the last reading.
    pub fn epoch(&self) -> Option<&str> {
        self.epoch.as_deref()
    }

    /// How far the reading is below what is shown, by family.
    pub fn held(&self, family: &str) -> f64 {
        self.held.get(family).copied().unwrap_or(0.0)
    }

    /// How often the ledger was restarted for this reason while this process ran.
    pub fn resets(&self, reason: &str) -> u64 {
        self.resets.get(reason).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRACE: Duration = Duration::from_secs(600);

    fn key(label: &str) -> Key {
        ("f".to_owned(), vec![label.to_owned()])
    }

    fn reading(epoch: &str, values: &[(&str, f64)]) -> Reading {
        Reading {
            epoch: epoch.to_owned(),
            reason: "regression".to_owned(),
            values: values.iter().map(|(label, value)| (key(label), vec![*value])).collect(),
        }
    }

    fn shown(publication: &Publication, label: &str) -> Option<f64> {
        publication.shown().get(&key(label)).map(|values| values[0])
    }

    #[test]
    fn a_lower_value_is_held_and_then_the_ledger_is_restarted_once() {
        let (mut publication, start) = (Publication::new(GRACE, 1000.0), Instant::now());
        assert!(!publication.take(reading("1", &[("a", 100.0)]), start));
        assert!(!publication.take(reading("1", &[("a", 60.0)]), start));
        assert_eq!((shown(&publication, "a"), publication.held("f")), (Some(100.0), 40.0));
        // A series that is gone is as low as it gets.
        assert!(!publication.take(reading("1", &[]), start + GRACE / 2));
        assert_eq!((shown(&publication, "a"), publication.held("f")), (Some(100.0), 100.0));
        assert!(publication.take(reading("1", &[("a", 70.0)]), start + GRACE));
        assert_eq!(shown(&publication, "a"), Some(100.0));
        assert!(!publication.take(reading("2", &[("a", 1.0)]), start + GRACE));
        assert_eq!((shown(&publication, "a"), publication.held("f")), (Some(0.0), 0.0));
        assert_eq!((publication.resets("regression"), publication.resets("lineage")), (1, 0));
        assert!(!publication.take(reading("2", &[("a", 2.0)]), start + GRACE));
        assert_eq!(shown(&publication, "a"), Some(2.0));
    }

    #[test]
    fn a_value_that_recovers_is_forgiven_and_one_far_below_is_not() {
        let (mut publication, start) = (Publication::new(GRACE, 1000.0), Instant::now());
        publication.take(reading("1", &[("a", 2000.0)]), start);
        assert!(!publication.take(reading("1", &[("a", 1999.0)]), start));
        assert!(!publication.take(reading("1", &[("a", 2001.0)]), start));
        // The time below counts from its last beginning.
        assert!(!publication.take(reading("1", &[("a", 1999.0)]), start + GRACE));
        assert!(publication.take(reading("1", &[("a", 1000.0)]), start + GRACE));
    }

    #[test]
    fn a_series_that_comes_later_is_zero_once() {
        let (mut publication, start) = (Publication::new(GRACE, 1000.0), Instant::now());
        publication.take(reading("1", &[("a", 5.0)]), start);
        publication.take(reading("1", &[("a", 5.0), ("b", 3.0)]), start);
        assert_eq!((shown(&publication, "a"), shown(&publication, "b")), (Some(5.0), Some(0.0)));
        publication.take(reading("1", &[("a", 5.0), ("b", 4.0)]), start);
        assert_eq!(shown(&publication, "b"), Some(4.0));
    }

    #[test]
    fn a_histogram_is_held_as_a_whole() {
        let (mut publication, start) = (Publication::new(GRACE, 1000.0), Instant::now());
        let reading = |values: &[f64]| Reading {
            epoch: "1".to_owned(),
            reason: String::new(),
            values: BTreeMap::from([(key("a"), values.to_vec())]),
        };
        publication.take(reading(&[1.0, 3.0, 25.5, 3.0]), start);
        publication.take(reading(&[0.0, 4.0, 30.0, 4.0]), start);
        assert_eq!(publication.shown()[&key("a")], [1.0, 3.0, 25.5, 3.0]);
    }

    proptest! {
        /// Whatever the database says, and whenever it is restarted.
        #[test]
        fn no_series_steps_down_except_to_zero(steps in prop::collection::vec((0..3_u8, prop::collection::btree_map("[a-d]", 0..50_u32, 0..4)), 0..60)) {
            let (mut publication, start) = (Publication::new(GRACE, 20.0), Instant::now());
            let mut last: BTreeMap<Key, Vec<f64>> = BTreeMap::new();
            let mut epoch = 0;
            for (minute, (restart, values)) in steps.into_iter().enumerate() {
                epoch += u32::from(restart == 0);
                let values: Vec<(&str, f64)> = values.iter().map(|(label, value)| (label.as_str(), f64::from(*value))).collect();
                publication.take(reading(&epoch.to_string(), &values), start + Duration::from_secs(60 * minute as u64));
                for (key, values) in publication.shown() {
                    let before = last.get(key).map_or(0.0, |values| values[0]);
                    prop_assert!(values[0] >= before || values[0] == 0.0, "{key:?}: {before} then {}", values[0]);
                }
                last = publication.shown().clone();
            }
        }
    }
}
