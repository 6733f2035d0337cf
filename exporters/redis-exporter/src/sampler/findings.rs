//! What the sampler found last, as families: `redis_keys_count`, `redis_key_*`, `redis_big_key_*`,
//! `redis_sampled_key_*`, and how old and how complete that is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Spec};
use exposition::{Desc, Kind, Snapshot};
use tokio::time::Instant;

use super::Sampler;
use crate::collectors::key_groups::Groups;
use crate::options::Options;
use crate::session::Session;

static SPEC: Spec = Spec {
    name: "key_sampler",
    doc: "What the background sampler found of keys: counts, chosen keys, the greatest, random ones",
    default_enabled: false,
};

/// Bytes.
const MEMORY: &[f64] =
    &[64.0, 256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 1_048_576.0, 16_777_216.0, 268_435_456.0];

/// Seconds.
const TTL: &[f64] = &[1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0, 604_800.0, 2_592_000.0];

/// What was found until now.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) walked: BTreeMap<i64, Walked>,
    /// The database that is being walked, and how far.
    pub(super) running: Option<(i64, f64)>,
    memory: BTreeMap<(i64, String), Histogram>,
    ttl: BTreeMap<i64, Histogram>,
    pub(super) errors: u64,
}

/// One walk of a database that came to its end.
pub(super) struct Walked {
    pub(super) ended: Instant,
    pub(super) took: Duration,
    /// Place of a pattern in the options, and its keys.
    pub(super) counts: Vec<(usize, u64)>,
    pub(super) checked: Snapshot,
    pub(super) left_out: u64,
    pub(super) exact: bool,
    pub(super) big: Vec<(String, u64)>,
    pub(super) groups: Groups,
    /// Whether keys were put into groups.
    pub(super) weighed: bool,
}

struct Histogram {
    cumulative: Vec<f64>,
    count: f64,
    sum: f64,
}

impl Histogram {
    fn observe(&mut self, bounds: &[f64], value: f64) {
        for (count, bound) in self.cumulative.iter_mut().zip(bounds) {
            *count += f64::from(u8::from(value <= *bound));
        }
        self.count += 1.0;
        self.sum += value;
    }
}

fn histogram(bounds: &[f64]) -> Histogram {
    Histogram { cumulative: vec![0.0; bounds.len()], count: 0.0, sum: 0.0 }
}

impl Findings {
    /// Takes in a walk that came to its end.
    pub(super) fn end(&mut self, database: i64, walked: Walked) {
        self.running = None;
        self.walked.insert(database, walked);
    }

    /// Takes in one random key.
    pub(super) fn sample(&mut self, database: i64, kind: &str, memory: f64, ttl: Option<f64>) {
        let of_kind = self.memory.entry((database, kind.to_owned())).or_insert_with(|| histogram(MEMORY));
        of_kind.observe(MEMORY, memory);
        let expiring = self.ttl.entry(database).or_insert_with(|| histogram(TTL));
        if let Some(ttl) = ttl {
            expiring.observe(TTL, ttl);
        }
    }
}

/// Writes what the sampler found; asks the server for nothing.
pub(crate) struct SamplerCollector {
    sampler: Arc<Sampler>,
    count: Desc,
    big: Desc,
    memory: Desc,
    ttl: Desc,
    age: Desc,
    took: Desc,
    exact: Desc,
    left_out: Desc,
    progress: Desc,
    spent: Desc,
    budget: Desc,
    errors: Desc,
}

impl SamplerCollector {
    pub(crate) fn new(sampler: Arc<Sampler>, options: &Options) -> Self {
        let gauge = |family: &str, help: &str| options.gauge(family, help);
        Self {
            sampler,
            count: gauge("keys_count", "Keys that match the pattern that the label shows."),
            big: gauge("big_key_memory_bytes", "Memory of the greatest keys of the last whole walk."),
            memory: options.desc(
                Kind::Histogram,
                "sampled_key_memory_bytes",
                "Memory of random keys, by type; of each key as often as it was picked.",
            ),
            ttl: options.desc(
                Kind::Histogram,
                "sampled_key_ttl_seconds",
                "Time to live of those random keys that have one.",
            ),
            age: gauge("key_sampler_walk_age_seconds", "Time since the end of the last whole walk."),
            took: gauge("key_sampler_walk_duration_seconds", "How long the last whole walk took."),
            exact: gauge(
                "key_sampler_walk_deduplicated",
                "1 when the last walk counted each key once, 0 when keys that SCAN repeats may count twice.",
            ),
            left_out: gauge(
                "key_sampler_walk_keys_left_out",
                "Keys of the last walk that match a checked pattern and were not looked into: they were too many.",
            ),
            progress: gauge(
                "key_sampler_walk_progress_ratio",
                "How much of a database the running walk saw.",
            ),
            spent: options.counter(
                "key_sampler_server_seconds_total",
                "Time of the server that the sampler took, by its own account.",
            ),
            budget: gauge(
                "key_sampler_budget_ratio",
                "Share of the server's time that the sampler may take.",
            ),
            errors: options.counter("key_sampler_errors_total", "Times the sampler gave up for a while."),
        }
    }

    fn write(&self, findings: &Findings) -> Snapshot {
        let mut page = Snapshot::new();
        let patterns = &self.sampler.options.features.count;
        let table = page.table(&["db", "key"]);
        let count = table.column(&self.count);
        let names = |database: &i64| format!("db{database}");
        for (database, walked) in &findings.walked {
            for (at, keys) in &walked.counts {
                table.row(&[&names(database), &patterns[*at].key]).set(count, *keys as f64);
            }
        }
        let table = page.table(&["db", "key"]);
        let big = table.column(&self.big);
        for (database, walked) in &findings.walked {
            for (key, memory) in &walked.big {
                table.row(&[&names(database), key]).set(big, *memory as f64);
            }
        }
        let table = page.table(&["db"]);
        let [age, took, exact, left_out] =
            [&self.age, &self.took, &self.exact, &self.left_out].map(|desc| table.column(desc));
        for (database, walked) in &findings.walked {
            table
                .row(&[&names(database)])
                .set(age, walked.ended.elapsed().as_secs_f64())
                .set(took, walked.took.as_secs_f64())
                .set(exact, f64::from(u8::from(walked.exact)))
                .set(left_out, walked.left_out as f64);
        }
        let table = page.table(&["db", "type"]);
        let memory = table.histogram(&self.memory, MEMORY);
        for ((database, kind), found) in &findings.memory {
            let buckets: Vec<_> = found.cumulative.iter().copied().map(Some).collect();
            table.row(&[&names(database), kind]).histogram(&memory, &buckets, found.count, Some(found.sum));
        }
        let table = page.table(&["db"]);
        let ttl = table.histogram(&self.ttl, TTL);
        for (database, found) in &findings.ttl {
            let buckets: Vec<_> = found.cumulative.iter().copied().map(Some).collect();
            table.row(&[&names(database)]).histogram(&ttl, &buckets, found.count, Some(found.sum));
        }
        let table = page.table(&["db"]);
        let progress = table.column(&self.progress);
        if let Some((database, ratio)) = &findings.running {
            table.row(&[&names(database)]).set(progress, *ratio);
        }
        page.sample(&self.spent, self.sampler.spent().as_secs_f64());
        page.sample(&self.budget, self.sampler.wanted.budget.as_secs_f64());
        page.sample(&self.errors, findings.errors as f64);
        for (database, walked) in findings.walked.iter().filter(|(_, walked)| walked.weighed) {
            self.sampler.groups.write(*database, &walked.groups, &mut page);
        }
        for walked in findings.walked.values() {
            page.append(walked.checked.clone());
        }
        page
    }
}

impl Collector<Session> for SamplerCollector {
    fn spec(&self) -> &Spec {
        &SPEC
    }

    fn collect<'a>(&'a self, _: &'a Session) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        Box::pin(async move { Ok(self.write(&self.sampler.findings())) })
    }
}
