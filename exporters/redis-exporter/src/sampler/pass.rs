//! One walk of a database: where it is, what it found so far. It goes on after a lost connection, as long as the server
//! process is the same: its cursor means nothing to another one.

use std::collections::{BTreeSet, HashSet, hash_map::RandomState};
use std::hash::BuildHasher;

use tokio::time::Instant;

use crate::collectors::key_groups::Groups;
use crate::command::Command;
use crate::glob;
use crate::options::KeyArg;

/// Keys that are told from those seen before; above it a key that SCAN repeats counts twice.
const MOST_REMEMBERED: usize = 4_000_000;

/// Keys of one pattern that are looked into.
const MOST_MATCHED: usize = 10_000;

/// What one database is walked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// Places of the patterns that are counted, among those of the options.
    pub(super) count: Vec<(usize, Vec<u8>)>,
    /// Patterns whose keys are looked into.
    pub(super) check: Vec<Vec<u8>>,
    /// How many of the greatest keys.
    pub(super) big: usize,
    /// Each key belongs to a group.
    pub(super) groups: bool,
}

impl Wanted {
    pub(super) fn of(database: i64, count: &[KeyArg], check: &[KeyArg], big: usize, groups: bool) -> Self {
        let here = |key: &&KeyArg| key.database == database;
        let bytes = |key: &KeyArg| key.key.clone().into_bytes();
        Self {
            count: count
                .iter()
                .enumerate()
                .filter(|(_, key)| here(key))
                .map(|(at, key)| (at, bytes(key)))
                .collect(),
            check: check.iter().filter(here).map(bytes).collect(),
            big,
            groups,
        }
    }

    /// Whether the memory of each key is needed.
    pub(super) fn weighs(&self) -> bool {
        self.big > 0 || self.groups
    }

    /// What the server itself may select by: the pattern, when there is one and nothing else is wanted.
    fn only(&self) -> Option<&[u8]> {
        let mut patterns = self.count.iter().map(|(_, pattern)| pattern).chain(&self.check);
        match (patterns.next(), patterns.next()) {
            (Some(pattern), None) if !self.weighs() => Some(pattern),
            _ => None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.is_empty() && self.check.is_empty() && !self.weighs()
    }
}

#[derive(Debug)]
pub(super) struct Pass {
    pub(super) run_id: String,
    pub(super) database: i64,
    pub(super) began: Instant,
    pub(super) wanted: Wanted,
    /// `None` at the end.
    cursor: Option<String>,
    /// Keys the server looked at, about, and had at the beginning.
    looked_at: f64,
    size: f64,
    hasher: RandomState,
    seen: HashSet<u64>,
    pub(super) repeats: bool,
    pub(super) counts: Vec<u64>,
    pub(super) matched: BTreeSet<Vec<u8>>,
    /// Keys that match a pattern and are not looked into.
    pub(super) left_out: u64,
    /// Memory and name of the greatest keys.
    pub(super) big: BTreeSet<(u64, Vec<u8>)>,
    pub(super) groups: Groups,
    /// The memory of a key could not be read: sums and ranks would be wrong.
    pub(super) unweighed: bool,
}

impl Pass {
    pub(super) fn new(run_id: &str, database: i64, size: f64, wanted: Wanted) -> Self {
        Self {
            run_id: run_id.to_owned(),
            database,
            began: Instant::now(),
            counts: vec![0; wanted.count.len()],
            wanted,
            cursor: Some("0".to_owned()),
            looked_at: 0.0,
            size,
            hasher: RandomState::new(),
            seen: HashSet::new(),
            repeats: false,
            matched: BTreeSet::new(),
            left_out: 0,
            big: BTreeSet::new(),
            groups: Groups::default(),
            unweighed: false,
        }
    }

    /// The next command; `None` at the end.
    pub(super) fn scan(&self, batch: u32) -> Option<Command> {
        let mut scan = Command::of(&["SCAN", self.cursor.as_ref()?]);
        if let Some(pattern) = self.wanted.only() {
            scan = scan.arg("MATCH").arg(pattern);
        }
        Some(scan.arg("COUNT").arg(batch.to_string()))
    }

    /// Takes a reply to it; gives the keys that were not seen before.
    pub(super) fn take(&mut self, cursor: String, keys: Vec<Vec<u8>>, batch: u32) -> Vec<Vec<u8>> {
        self.cursor = Some(cursor).filter(|cursor| cursor != "0");
        self.looked_at += f64::from(batch);
        let fresh = keys.into_iter().filter(|key| {
            let wanted = &self.wanted;
            let counted = |(_, pattern): &(usize, Vec<u8>)| glob::matches(pattern, key);
            let checked = wanted.check.iter().any(|pattern| glob::matches(pattern, key));
            if !wanted.weighs() && !checked && !wanted.count.iter().any(counted) {
                return false;
            }
            if self.seen.len() >= MOST_REMEMBERED {
                self.repeats = true;
            } else if !self.seen.insert(self.hasher.hash_one(key)) {
                return false;
            }
            for (count, pattern) in self.counts.iter_mut().zip(&wanted.count) {
                *count += u64::from(counted(pattern));
            }
            if checked && self.matched.len() < MOST_MATCHED {
                self.matched.insert(key.clone());
            } else if checked {
                self.left_out += 1;
            }
            true
        });
        fresh.collect()
    }

    /// Keeps a key when it is one of the greatest.
    pub(super) fn weigh(&mut self, key: Vec<u8>, memory: u64) {
        self.big.insert((memory, key));
        if self.big.len() > self.wanted.big {
            self.big.pop_first();
        }
    }

    /// How much of the database was walked, between 0 and 1.
    pub(super) fn progress(&self) -> f64 {
        if self.cursor.is_none() { 1.0 } else { (self.looked_at / self.size.max(1.0)).min(0.99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(count: &[&str], check: &[&str], big: usize) -> Wanted {
        let args = |keys: &[&str]| {
            keys.iter().map(|key| KeyArg { database: 0, key: (*key).to_owned() }).collect::<Vec<_>>()
        };
        Wanted::of(0, &args(count), &args(check), big, false)
    }

    fn keys(keys: &[&str]) -> Vec<Vec<u8>> {
        keys.iter().map(|key| key.as_bytes().to_vec()).collect()
    }

    #[test]
    fn one_walk_serves_all_patterns_and_counts_each_key_once() {
        let mut pass = Pass::new("a", 0, 10.0, wanted(&["a*", "*1"], &["b*"], 0));
        pass.take("7".into(), keys(&["a1", "a2", "b1", "c"]), 5);
        assert_eq!(pass.progress(), 0.5);
        pass.take("0".into(), keys(&["a1", "b2", "b1"]), 5);
        assert_eq!((&pass.counts[..], pass.matched.len(), pass.progress()), (&[2, 2][..], 2, 1.0));
        assert!(pass.scan(5).is_none() && !pass.repeats);
    }

    #[test]
    fn a_lone_pattern_is_matched_by_the_server() {
        let scan = |big| Pass::new("a", 0, 1.0, wanted(&["x*"], &[], big)).scan(5);
        assert_eq!(scan(0), Some(Command::of(&["SCAN", "0", "MATCH", "x*", "COUNT", "5"])));
        assert_eq!(scan(3), Some(Command::of(&["SCAN", "0", "COUNT", "5"])));
    }

    #[test]
    fn the_greatest_keys_are_kept() {
        let mut pass = Pass::new("a", 0, 1.0, wanted(&[], &[], 2));
        for (key, memory) in [("a", 5), ("b", 9), ("c", 1), ("d", 7)] {
            pass.weigh(key.into(), memory);
        }
        assert_eq!(pass.big.iter().map(|(memory, _)| *memory).collect::<Vec<_>>(), [7, 9]);
    }
}
