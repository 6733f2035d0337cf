//! The largest of many counters, chosen so that the choice seldom changes, and counters of the rest.
//!
//! A series that comes and goes costs Prometheus a new one each time, and what it counted meanwhile is lost. So what is
//! among the `limit` largest stays until it is not even among half as many again, and whatever a counter counts while it
//! is not shown is added to that of its group's rest. The increases of all series of a group, the rest included, are
//! together those of the group, from the first update on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

/// A counter of the server, with `W` values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Counter<K, const W: usize> {
    /// What tells it from the others.
    pub(crate) key: K,
    /// Where it belongs when it is not shown.
    pub(crate) group: String,
    pub(crate) values: [f64; W],
}

/// What is remembered from one update to the next.
pub(crate) struct Sticky<K, const W: usize> {
    /// The last values of all; none before the first update.
    last: Option<HashMap<K, [f64; W]>>,
    shown: HashSet<K>,
    rest: BTreeMap<String, [f64; W]>,
}

impl<K, const W: usize> Default for Sticky<K, W> {
    fn default() -> Sticky<K, W> {
        Sticky { last: None, shown: HashSet::new(), rest: BTreeMap::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord, const W: usize> Sticky<K, W> {
    /// Takes the present values of all counters; says which of them to show, the one with the largest value at `rank`
    /// first.
    pub(crate) fn update(
        &mut self,
        limit: usize,
        rank: usize,
        mut counters: Vec<Counter<K, W>>,
    ) -> Vec<Counter<K, W>> {
        counters.sort_by(|a, b| b.values[rank].total_cmp(&a.values[rank]).then_with(|| a.key.cmp(&b.key)));
        let stays = limit + limit / 2;
        let was_shown = std::mem::take(&mut self.shown);
        let mut rest = BTreeMap::new();
        let mut shown = Vec::new();
        for (index, counter) in counters.iter().enumerate() {
            let before = was_shown.contains(&counter.key);
            let now = index < limit || (index < stays && before);
            let of_rest = rest
                .entry(counter.group.clone())
                .or_insert_with(|| self.rest.get(&counter.group).copied().unwrap_or([0.0; W]));
            // An increase is seen on a series that has both its ends.
            if !(before && now) {
                let increases = self.increases(counter);
                of_rest.iter_mut().zip(increases).for_each(|(sum, increase)| *sum += increase);
            }
            if now {
                self.shown.insert(counter.key.clone());
                shown.push(counter.clone());
            }
        }
        self.rest = rest;
        self.last = Some(counters.into_iter().map(|counter| (counter.key, counter.values)).collect());
        shown
    }

    /// What each group's counters counted while they were not shown.
    pub(crate) fn rest(&self) -> &BTreeMap<String, [f64; W]> {
        &self.rest
    }

    /// What a counter counted since the last update. One that is new, or smaller than it was, began at 0 since then.
    fn increases(&self, counter: &Counter<K, W>) -> [f64; W] {
        let Some(last) = &self.last else { return [0.0; W] };
        let before = last.get(&counter.key).copied().unwrap_or([0.0; W]);
        std::array::from_fn(|index| {
            let (before, now) = (before[index], counter.values[index]);
            if now < before { now } else { now - before }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Counters = Vec<Counter<usize, 2>>;

    fn counters(values: &[u32]) -> Counters {
        let counter = |(key, value): (usize, &u32)| Counter {
            key,
            group: ["odd", "even"][key % 2].to_owned(),
            values: [f64::from(*value), f64::from(*value) * 2.0],
        };
        values.iter().enumerate().map(counter).collect()
    }

    fn keys(shown: &Counters) -> Vec<usize> {
        shown.iter().map(|counter| counter.key).collect()
    }

    #[test]
    fn what_is_shown_stays_until_half_as_many_are_in_front_of_it() {
        let mut sticky = Sticky::default();
        assert_eq!(keys(&sticky.update(2, 0, counters(&[9, 8, 7, 1]))), [0, 1]);
        assert_eq!(
            keys(&sticky.update(2, 0, counters(&[9, 8, 10, 1]))),
            [2, 0, 1],
            "1 is third now, and stays"
        );
        assert_eq!(keys(&sticky.update(2, 0, counters(&[9, 8, 10, 9]))), [2, 0], "1 is fourth");
        assert_eq!(
            keys(&sticky.update(2, 0, counters(&[9, 9, 10, 9]))),
            [2, 0],
            "third is not enough to come back"
        );
    }

    #[test]
    fn the_rest_begins_at_zero_and_counts_what_is_not_shown() {
        let mut sticky = Sticky::default();
        let rest = |sticky: &Sticky<usize, 2>, group: &str| sticky.rest().get(group).copied();
        sticky.update(1, 0, counters(&[9, 5, 5]));
        assert_eq!((rest(&sticky, "odd"), rest(&sticky, "even")), (Some([0.0; 2]), Some([0.0; 2])));
        sticky.update(1, 0, counters(&[19, 6, 7]));
        assert_eq!((rest(&sticky, "odd"), rest(&sticky, "even")), (Some([2.0, 4.0]), Some([1.0, 2.0])));
        // Evicted and begun again, and one that is new.
        sticky.update(1, 0, counters(&[19, 3, 7, 4]));
        assert_eq!((rest(&sticky, "odd"), rest(&sticky, "even")), (Some([2.0, 4.0]), Some([8.0, 16.0])));
        sticky.update(1, 0, Vec::new());
        assert_eq!(rest(&sticky, "odd"), None, "a group that is gone is forgotten");
    }

    /// What Prometheus' increase() makes of what it sees.
    #[derive(Default)]
    struct Prometheus {
        last: HashMap<String, f64>,
        increase: f64,
    }

    impl Prometheus {
        fn scrape(&mut self, page: HashMap<String, f64>) {
            for (series, now) in &page {
                if let Some(before) = self.last.get(series) {
                    self.increase += if now < before { *now } else { now - before };
                }
            }
            self.last = page;
        }
    }

    /// Present values after each step; none for a counter that is not there.
    fn history() -> impl Strategy<Value = Vec<Vec<Option<u32>>>> {
        let step = prop::collection::vec(prop::option::weighted(0.9, 0_u32..50), 12);
        prop::collection::vec(step, 1..12)
    }

    proptest! {
        #[test]
        fn the_increases_are_those_of_the_server(steps in history(), limit in 1_usize..8) {
            let mut sticky: Sticky<usize, 2> = Sticky::default();
            let mut prometheus = Prometheus::default();
            let mut present: HashMap<usize, u32> = HashMap::new();
            let mut expected = 0.0;
            for (number, step) in steps.iter().enumerate() {
                let mut now = HashMap::new();
                for (key, value) in step.iter().enumerate() {
                    let Some(value) = value else { continue };
                    // Mostly growing; a small draw is a reset.
                    let before = present.get(&key).copied().unwrap_or(0);
                    let after = if *value == 0 { 1 } else { before + value };
                    if number > 0 {
                        expected += f64::from(if after < before { after } else { after - before });
                    }
                    now.insert(key, after);
                }
                present = now;
                let mut all = counters(&vec![0; step.len()]);
                all.retain(|counter| present.contains_key(&counter.key));
                for counter in &mut all {
                    counter.values = [f64::from(present[&counter.key]); 2];
                }
                // A group without counters has no rest; one counter in each keeps it here.
                all.extend(["odd", "even"].map(|group| Counter { key: 100 + group.len(), group: group.to_owned(), values: [0.0; 2] }));
                let shown = sticky.update(limit, 0, all);
                prop_assert!(shown.len() <= limit + limit / 2);
                let mut page: HashMap<String, f64> =
                    shown.iter().map(|counter| (counter.key.to_string(), counter.values[1])).collect();
                page.extend(sticky.rest().iter().map(|(group, rest)| (group.clone(), rest[1])));
                prometheus.scrape(page);
            }
            prop_assert_eq!(prometheus.increase, expected);
        }

        #[test]
        fn ranks_that_move_within_the_margin_change_nothing(orders in prop::collection::vec(Just((0..15_u32).collect::<Vec<_>>()).prop_shuffle(), 1..20)) {
            let mut sticky = Sticky::default();
            // Ten that lead, whose order changes all the time, and a crowd far behind.
            let values = |order: &[u32]| -> Vec<u32> {
                order.iter().map(|place| 1_000 + place).chain((0..100).map(|key| key % 7)).collect()
            };
            let first: HashSet<usize> = keys(&sticky.update(10, 0, counters(&values(&orders[0])))).into_iter().collect();
            for order in &orders {
                let shown: HashSet<usize> = keys(&sticky.update(10, 0, counters(&values(order)))).into_iter().collect();
                prop_assert!(shown.is_superset(&first), "one of those that were shown went, though it is among 15");
                prop_assert!(shown.len() <= 15 && shown.iter().all(|key| *key < 15));
            }
        }
    }
}
