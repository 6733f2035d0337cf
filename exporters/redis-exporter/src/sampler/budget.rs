//! How much of the server's time the sampler takes, and how long it must rest for it.
//!
//! Two things are at least what our commands took: the time until their replies came, and what the server says in
//! commandstats that all such commands took, whoever sent them. The smaller one is booked. The first is far too much
//! on a slow network or a busy machine, the second on a server where others send the same commands.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::info::{Info, number, part};

/// What a command costs the server at least, whatever it does.
const PER_COMMAND: Duration = Duration::from_micros(10);

/// What a key that is looked at costs the server at least.
const PER_KEY: Duration = Duration::from_micros(1);

/// A rest as long as this is worth asking the server for its own account.
const LONG_REST: Duration = Duration::from_millis(200);

/// How long an account may stay open.
const LONG_OPEN: Duration = Duration::from_secs(10);

/// Commands that the sampler sends, without their subcommands.
const COMMANDS: &[&str] = &[
    "client",
    "getrange",
    "hlen",
    "info",
    "llen",
    "memory",
    "pfcount",
    "pttl",
    "randomkey",
    "scan",
    "scard",
    "select",
    "strlen",
    "type",
    "xlen",
    "zcard",
];

/// Microseconds of the server by command, from commandstats.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Reading(BTreeMap<String, f64>);

impl Reading {
    /// `None` when the server does not tell.
    pub(super) fn of(info: &Info) -> Option<Self> {
        let ours = info.section("Commandstats").filter_map(|field| {
            let name = field.key.strip_prefix("cmdstat_")?;
            let (command, _) = name.split_once('|').unwrap_or((name, ""));
            let spent = part(field.value, "usec").and_then(number)?;
            COMMANDS.contains(&command).then(|| (name.to_owned(), spent))
        });
        let reading: BTreeMap<_, _> = ours.collect();
        (!reading.is_empty()).then_some(Self(reading))
    }

    /// The time since an earlier reading; `None` when the statistics were reset in between.
    fn since(&self, earlier: &Self) -> Option<Duration> {
        let grown = |(name, before): (&String, &f64)| self.0.get(name).is_some_and(|now| now >= before);
        if !earlier.0.iter().all(grown) {
            return None;
        }
        let more = self.0.iter().map(|(name, now)| now - earlier.0.get(name).unwrap_or(&0.0));
        Some(Duration::from_secs_f64(more.sum::<f64>() / 1e6))
    }
}

/// A share of the server's time.
#[derive(Debug)]
pub(super) struct Budget {
    share: f64,
    /// The fastest batch: what the network takes, about.
    fastest: Duration,
    /// What commandstats last said.
    last: Option<Reading>,
    /// Since when batches are in no closed account, and how long they took.
    open: Option<(Instant, Duration)>,
    /// What was taken, by the accounts that are closed.
    pub(super) spent: Duration,
}

impl Budget {
    /// `a_second` of the server's time in each second.
    pub(super) fn new(a_second: Duration) -> Self {
        Self {
            share: a_second.as_secs_f64(),
            fastest: Duration::MAX,
            last: None,
            open: None,
            spent: Duration::ZERO,
        }
    }

    /// Books a batch that was sent at `began` and answered after `elapsed`; says when the next one may begin.
    /// On a server without commandstats the batch took what it took beyond the network, and at least what its work
    /// takes anywhere.
    pub(super) fn book(
        &mut self,
        began: Instant,
        elapsed: Duration,
        commands: usize,
        keys: usize,
    ) -> Instant {
        self.fastest = self.fastest.min(elapsed);
        if self.last.is_some() {
            let (since, taken) = self.open.unwrap_or((began, Duration::ZERO));
            self.open = Some((since, taken + elapsed));
            return since + self.rest(taken + elapsed);
        }
        let least = PER_COMMAND * u32::try_from(commands).unwrap_or(u32::MAX)
            + PER_KEY * u32::try_from(keys).unwrap_or(u32::MAX);
        let cost = elapsed.saturating_sub(self.fastest).max(least);
        self.spent += cost;
        began + self.rest(cost)
    }

    /// Whether the server's own account is worth a command.
    pub(super) fn is_worth_asking(&self, now: Instant) -> bool {
        self.open.is_some_and(|(since, taken)| {
            let due = since + self.rest(taken);
            due.saturating_duration_since(now) > LONG_REST || now.duration_since(since) > LONG_OPEN
        })
    }

    /// Closes the account with what the server says; says when the next batch may begin.
    pub(super) fn settle(&mut self, reading: Option<Reading>) -> Option<Instant> {
        let said = reading.as_ref().zip(self.last.as_ref()).and_then(|(now, before)| now.since(before));
        self.last = reading;
        let (since, taken) = self.open.take()?;
        let cost = said.unwrap_or(taken).min(taken);
        self.spent += cost;
        Some(since + self.rest(cost))
    }

    fn rest(&self, cost: Duration) -> Duration {
        Duration::from_secs_f64((cost.as_secs_f64() / self.share).min(3600.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn reading(text: &str) -> Option<Reading> {
        Reading::of(&Info::parse(format!("# Commandstats\r\n{text}")))
    }

    #[test]
    fn work_is_paid_for_with_rest() {
        let (mut budget, began) = (Budget::new(5 * MS), Instant::now());
        // 1,000 keys and a command: 1,010 microseconds at least.
        assert_eq!(budget.book(began, 20 * MS, 1, 1000), began + 202 * MS);
        // Beyond the network's 20 ms the server took 3 ms.
        assert_eq!(budget.book(began, 23 * MS, 1, 1000), began + 600 * MS);
        assert_eq!((budget.spent, budget.is_worth_asking(began)), (Duration::from_micros(4010), false));
    }

    #[test]
    fn the_smaller_of_waiting_and_the_servers_account_is_booked() {
        let (mut budget, began) = (Budget::new(5 * MS), Instant::now());
        let scans =
            |usec: u32| reading(&format!("cmdstat_scan:calls=1,usec={usec}\r\ncmdstat_get:calls=1,usec=9"));
        assert_eq!(budget.settle(scans(100)), None);
        assert_eq!(budget.book(began, MS / 2, 1, 1000), began + 100 * MS);
        assert!(!budget.is_worth_asking(began));
        assert_eq!(budget.book(began + 100 * MS, 3 * MS / 2, 1, 1000), began + 400 * MS);
        assert!(budget.is_worth_asking(began + 102 * MS) && budget.is_worth_asking(began + 10_001 * MS));
        // The server says 1 ms for what took us 2.
        assert_eq!(budget.settle(scans(1100)), Some(began + 200 * MS));
        // Others sent SCAN, too.
        budget.book(began, MS, 1, 1000);
        assert_eq!(budget.settle(scans(90_000)), Some(began + 200 * MS));
        // CONFIG RESETSTAT came in between.
        budget.book(began, MS, 1, 1000);
        assert_eq!((budget.settle(scans(5)), budget.spent), (Some(began + 200 * MS), 3 * MS));
    }

    #[test]
    fn subcommands_count_and_other_commands_do_not() {
        let some = reading("cmdstat_memory|usage:calls=1,usec=5\r\ncmdstat_set:calls=1,usec=7\r\n").unwrap();
        assert_eq!(some.since(&Reading::default()), Some(Duration::from_micros(5)));
        assert_eq!(reading("cmdstat_set:calls=1,usec=7\r\n"), None);
    }
}
