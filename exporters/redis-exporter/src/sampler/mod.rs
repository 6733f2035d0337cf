//! Key insight in the background, with a budget of the server's time: what patterns match, the greatest keys, and
//! memory and time to live of random keys. Scrapes read what was found last and never wait for SCAN.
//!
//! It works on the target's kept connection, one small batch at a time, and rests after each as long as the budget
//! demands. One walk of a database serves every pattern.

mod budget;
mod findings;
mod pass;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exporter_kit::telemetry::log::Throttle;
use redis::Value;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::budget::{Budget, Reading};
pub(crate) use self::findings::SamplerCollector;
use self::findings::{Findings, Walked};
use self::pass::{Pass, Wanted};
use crate::collectors::key_groups::{self, KeyGroups};
use crate::collectors::keys::Keys;
use crate::command::Command;
use crate::connection::{REFUSAL_KEPT, Target};
use crate::error::ReplyError;
use crate::info::{Info, number, part};
use crate::keyspace_walk;
use crate::options::{Options, SamplerOptions};
use crate::request;
use crate::session::{Facts, Session};

/// How long a session is kept: INFO is read once in each.
const SESSION_KEPT: Duration = Duration::from_secs(60);

/// How long one batch may take before it counts as lost.
const BATCH_LIMIT: Duration = Duration::from_secs(10);

/// The rest after an error, and between two rounds through the databases.
const PAUSE: Duration = Duration::from_secs(10);

/// Keys whose memory is asked for at once: each may cost the server some.
const WEIGHED_AT_ONCE: u32 = 200;

/// Random keys that are looked at in each round, and batches of a walk between two rounds.
const RANDOM_KEYS: usize = 50;
const BATCHES_BETWEEN: u32 = 16;

/// Keys that are looked into at once.
const CHECKED_AT_ONCE: usize = 100;

const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Work that the server may refuse while it allows the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Work {
    Weigh,
    LookAtRandomKeys,
    Walk(i64),
}

/// The background work on one target.
pub struct Sampler {
    target: Arc<Target>,
    options: Arc<Options>,
    wanted: SamplerOptions,
    keys: Keys,
    groups: KeyGroups,
    budget: Mutex<Budget>,
    findings: Mutex<Findings>,
    /// What was refused, and when.
    refused: Mutex<HashMap<Work, Instant>>,
    throttle: Throttle,
}

impl Sampler {
    /// The sampler that the options ask for, if any. It does nothing until [`Sampler::run`].
    pub fn new(target: &Arc<Target>, options: &Arc<Options>) -> Option<Arc<Self>> {
        let features = &options.features;
        let wanted = features.sampler?;
        let nothing = features.count.is_empty()
            && features.patterns.is_empty()
            && features.key_groups.is_empty()
            && !wanted.insight;
        (!nothing).then(|| {
            Arc::new(Self {
                target: Arc::clone(target),
                options: Arc::clone(options),
                wanted,
                keys: Keys::new(options),
                groups: KeyGroups::new(options),
                budget: Mutex::new(Budget::new(wanted.budget)),
                findings: Mutex::default(),
                refused: Mutex::default(),
                throttle: Throttle::new(LOG_INTERVAL),
            })
        })
    }

    /// Works until it is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut databases = VecDeque::new();
        let mut pass = None;
        loop {
            if let Err(error) = self.work(&mut databases, &mut pass).await {
                self.findings().errors += 1;
                if let Some(suppressed) = self.throttle.check("sampler") {
                    tracing::warn!(%error, suppressed, "the key sampler rests");
                }
                sleep(if error.reason.is_lasting() { REFUSAL_KEPT } else { PAUSE }).await;
            }
        }
    }

    /// Notes a refusal: each attempt would be one in the server's ACL log and error counters.
    fn note(&self, work: Work, error: &ReplyError) {
        if error.reason.is_lasting() {
            self.findings().errors += 1;
            self.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(work, Instant::now());
            if let Some(suppressed) = self.throttle.check(error.what) {
                tracing::warn!(%error, suppressed, "the key sampler does without");
            }
        }
    }

    fn may(&self, work: Work) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get(&work).is_none_or(|at| at.elapsed() >= REFUSAL_KEPT)
    }

    fn findings(&self) -> MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works within one session. What is unfinished at its end stays in `pass` and in `databases`.
    async fn work(&self, databases: &mut VecDeque<i64>, pass: &mut Option<Pass>) -> Result<(), ReplyError> {
        let began = Instant::now();
        let session = Session::open(Arc::clone(&self.target), began + SESSION_KEPT + BATCH_LIMIT).await?;
        let facts = session.read_facts().await?;
        // What was read in between: the fewer the better.
        let _ = self.budget().settle(Reading::of(&facts.info));
        if !session.reads_keys(&facts) {
            *self.findings() = Findings::default();
            sleep(PAUSE).await;
            return Ok(());
        }
        if pass.as_ref().is_some_and(|pass| pass.run_id != facts.server.run_id) {
            *pass = None;
        }
        while began.elapsed() < SESSION_KEPT {
            let current = match pass {
                Some(current) => current,
                None => match databases.pop_front() {
                    Some(database) => pass.insert(self.begin(&facts, database)),
                    None => {
                        databases.extend(self.databases(&facts));
                        self.forget(databases);
                        if databases.is_empty() {
                            sleep(PAUSE).await;
                            return Ok(());
                        }
                        continue;
                    }
                },
            };
            let database = current.database;
            match self.round(&session, current).await {
                Ok(false) => continue,
                Ok(true) => {}
                // The walk goes on where it was when the server can be reached again.
                Err(error) if !error.is_answer() => return Err(error),
                // The other databases do not wait for this one.
                Err(error) => self.give_up(database, &error),
            }
            *pass = None;
            if databases.is_empty() {
                sleep(PAUSE).await;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Random keys and some batches of the walk; `true` when it came to its end.
    async fn round(&self, session: &Session, pass: &mut Pass) -> Result<bool, ReplyError> {
        if self.wanted.insight && self.may(Work::LookAtRandomKeys) {
            self.look_at_random_keys(session, pass.database).await?;
        }
        for _ in 0..BATCHES_BETWEEN {
            if !self.step(session, pass).await? {
                let done = self.finish(session, pass).await?;
                self.findings().end(pass.database, done);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A database that cannot be walked now.
    fn give_up(&self, database: i64, error: &ReplyError) {
        let mut findings = self.findings();
        findings.running = None;
        // A refusal counts where it is noted.
        findings.errors += u64::from(!error.reason.is_lasting());
        drop(findings);
        self.note(Work::Walk(database), error);
    }

    /// The databases that something is wanted of.
    fn databases(&self, facts: &Facts) -> BTreeSet<i64> {
        let features = &self.options.features;
        let mut databases: BTreeSet<i64> =
            features.count.iter().chain(&features.patterns).map(|key| key.database).collect();
        if self.wanted.insight || !features.key_groups.is_empty() {
            databases.extend(key_groups::databases(facts));
        }
        databases.retain(|database| self.may(Work::Walk(*database)));
        databases
    }

    /// What was found in databases that are gone.
    fn forget(&self, databases: &VecDeque<i64>) {
        self.findings().walked.retain(|database, _| databases.contains(database));
    }

    fn begin(&self, facts: &Facts, database: i64) -> Pass {
        let features = &self.options.features;
        let big = if self.wanted.insight { self.wanted.top } else { 0 };
        let wanted =
            Wanted::of(database, &features.count, &features.patterns, big, !features.key_groups.is_empty());
        let size = facts.info.get(&format!("db{database}")).and_then(|line| part(line, "keys"));
        Pass::new(&facts.server.run_id, database, size.and_then(number).unwrap_or(0.0), wanted)
    }

    /// One batch of the walk; `false` when it is at its end.
    async fn step(&self, session: &Session, pass: &mut Pass) -> Result<bool, ReplyError> {
        let weighs = pass.wanted.weighs();
        let most = if weighs { WEIGHED_AT_ONCE } else { u32::MAX };
        let batch = self.options.features.batch.min(most);
        let Some(scan) = pass.scan(batch) else { return Ok(false) };
        if pass.wanted.is_empty() {
            return Ok(false);
        }
        let reply = self.paid(session, pass.database, "SCAN", &[scan], batch as usize).await?.remove(0)?;
        let (cursor, keys) = keyspace_walk::page(&reply)?;
        let keys = pass.take(cursor, keys, batch);
        if weighs && !keys.is_empty() && self.may(Work::Weigh) {
            let commands: Vec<Command> =
                keys.iter().map(|key| Command::of(&["MEMORY", "USAGE"]).arg(key)).collect();
            let replies = self.paid(session, pass.database, "MEMORY USAGE", &commands, 0).await?;
            for (key, reply) in keys.into_iter().zip(replies) {
                match reply {
                    // A key that is gone weighs nothing.
                    Ok(Value::Nil) => {}
                    Ok(reply) => {
                        let Some(memory) = integer(&reply) else {
                            pass.unweighed = true;
                            continue;
                        };
                        if pass.wanted.groups {
                            self.groups.add(&mut pass.groups, &key, memory);
                        }
                        pass.weigh(key, memory);
                    }
                    Err(error) => {
                        pass.unweighed = true;
                        self.note(Work::Weigh, &error);
                    }
                }
            }
        }
        self.findings().running = Some((pass.database, pass.progress()));
        Ok(true)
    }

    /// Reads what is wanted of the keys that were found.
    async fn finish(&self, session: &Session, pass: &mut Pass) -> Result<Walked, ReplyError> {
        let matched: Vec<(Vec<u8>, bool)> =
            std::mem::take(&mut pass.matched).into_iter().map(|key| (key, false)).collect();
        let mut known = Vec::new();
        for chunk in matched.chunks(CHECKED_AT_ONCE) {
            let began = Instant::now();
            let read = timeout(BATCH_LIMIT, self.keys.chunk(session, pass.database, chunk)).await;
            self.rest(session, pass.database, began, (chunk.len() * 4, 0)).await;
            match read.map_err(|_| ReplyError::timeout("reading keys")) {
                Ok(Ok(found)) => known.extend(found),
                Ok(Err(error)) | Err(error) => {
                    pass.matched = matched.into_iter().map(|(key, _)| key).collect();
                    return Err(error);
                }
            }
        }
        let counts = pass.wanted.count.iter().zip(&pass.counts);
        let big = if pass.unweighed { BTreeSet::new() } else { std::mem::take(&mut pass.big) };
        Ok(Walked {
            ended: Instant::now(),
            took: pass.began.elapsed(),
            counts: counts.map(|((at, _), count)| (*at, *count)).collect(),
            checked: self.keys.write(&known),
            left_out: pass.left_out,
            exact: !pass.repeats,
            groups: std::mem::take(&mut pass.groups),
            weighed: pass.wanted.groups && self.may(Work::Weigh) && !pass.unweighed,
            big: big.iter().map(|(memory, key)| (keyspace_walk::label(key), *memory)).collect(),
        })
    }

    /// Type, memory and time to live of some keys that the server picks.
    async fn look_at_random_keys(&self, session: &Session, database: i64) -> Result<(), ReplyError> {
        let random = vec![Command::of(&["RANDOMKEY"]); RANDOM_KEYS];
        let picked = self.paid(session, database, "RANDOMKEY", &random, 0).await?;
        let mut keys = Vec::new();
        for reply in picked {
            match reply {
                Ok(Value::BulkString(key)) => keys.push(key),
                Ok(_) => {}
                Err(error) => self.note(Work::LookAtRandomKeys, &error),
            }
        }
        if keys.is_empty() {
            return Ok(());
        }
        let about = |key: &Vec<u8>| {
            [&["TYPE"][..], &["MEMORY", "USAGE"], &["PTTL"]].map(|words| Command::of(words).arg(key))
        };
        let commands: Vec<Command> = keys.iter().flat_map(about).collect();
        let replies = self.paid(session, database, "looking at random keys", &commands, 0).await?;
        for error in replies.iter().filter_map(|reply| reply.as_ref().err()) {
            self.note(Work::LookAtRandomKeys, error);
        }
        let mut findings = self.findings();
        for about in replies.chunks_exact(3) {
            // A key that went away in between has no memory.
            let [Ok(kind), Ok(memory), Ok(ttl @ Value::Int(_))] = about else { continue };
            if let (Some(kind), Some(memory)) = (request::text(kind), integer(memory)) {
                findings.sample(database, &kind, memory as f64, integer(ttl).map(|ttl| ttl as f64 / 1e3));
            }
        }
        Ok(())
    }

    /// Runs a batch, and rests as long as the budget demands.
    async fn paid(
        &self,
        session: &Session,
        database: i64,
        what: &'static str,
        commands: &[Command],
        keys: usize,
    ) -> Result<Vec<Result<Value, ReplyError>>, ReplyError> {
        let began = Instant::now();
        let replies = timeout(BATCH_LIMIT, session.in_database(database, what, commands)).await;
        self.rest(session, database, began, (commands.len(), keys)).await;
        replies.unwrap_or_else(|_| Err(ReplyError::timeout(what)))
    }

    /// Rests after a batch of so many commands and keys. Before a long rest the server is asked whether it is owed.
    async fn rest(&self, session: &Session, database: i64, began: Instant, (commands, keys): (usize, usize)) {
        let mut due = self.budget().book(began, began.elapsed(), commands, keys);
        if self.budget().is_worth_asking(Instant::now()) {
            let asked = Instant::now();
            let info = Command::of(&["INFO", "COMMANDSTATS"]);
            let reply = timeout(BATCH_LIMIT, session.in_database(database, "INFO", &[info])).await;
            let reply = reply.ok().and_then(Result::ok).and_then(|mut replies| replies.pop()?.ok());
            let mut budget = self.budget();
            due = budget.book(asked, asked.elapsed(), 1, 0);
            if let Some(text) = reply.as_ref().and_then(request::text) {
                due = budget.settle(Reading::of(&Info::parse(text))).unwrap_or(due);
            }
        }
        sleep_until(due).await;
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server's time that was taken, by our account.
    fn spent(&self) -> Duration {
        self.budget().spent
    }
}

/// An integer that is not negative; PTTL says -1 for no time to live.
fn integer(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}
