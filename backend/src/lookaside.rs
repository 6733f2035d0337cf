//! Answers kept in Redis for a while. Redis is a convenience here: while it is away, every answer is computed.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::cache::{Cache, CacheError};
use crate::hex;
use crate::metrics::{CacheLabels, CacheOperationLabels, Metrics};

/// A kind of answer that is kept.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Label `cache_name` and prefix of the keys.
    pub name: &'static str,
    /// Seconds that an answer is kept.
    pub seconds: u64,
}

/// Pages of searches.
pub const SEARCHES: Kind = Kind { name: "vehicle_search", seconds: 300 };
/// Single vehicles.
pub const VEHICLES: Kind = Kind { name: "vehicle", seconds: 300 };
/// All kinds.
pub const KINDS: &[Kind] = &[SEARCHES, VEHICLES];
/// What is done with a cache: values of the label `operation`.
pub const OPERATIONS: &[&str] = &["get", "set"];

/// The kept answers.
#[derive(Clone, Debug)]
pub struct Lookaside {
    cache: Cache,
    metrics: Arc<Metrics>,
}

impl Lookaside {
    /// Keeps answers in `cache`.
    pub fn new(cache: Cache, metrics: Arc<Metrics>) -> Lookaside {
        Lookaside { cache, metrics }
    }

    /// The kept answer to `question`, if there is one that can be read.
    pub async fn get<T: DeserializeOwned>(&self, kind: Kind, question: &impl Serialize) -> Option<T> {
        let mut commands = redis::pipe();
        commands.cmd("GET").arg(key(kind, question)?);
        let started = Instant::now();
        let reply: Result<(Option<Vec<u8>>,), _> = self.cache.run("reading a kept answer", &commands).await;
        let (bytes,) = self.settled(kind, "get", started, reply)?;
        // What an older version kept in another shape counts as missing.
        let answer = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let labels = CacheLabels { cache_name: kind.name };
        let counter = if answer.is_some() { &self.metrics.cache_hits } else { &self.metrics.cache_misses };
        counter.get_or_create_owned(&labels).inc();
        answer
    }

    /// Keeps `answer` to `question`.
    pub async fn set(&self, kind: Kind, question: &impl Serialize, answer: &impl Serialize) {
        let (Some(key), Ok(bytes)) = (key(kind, question), serde_json::to_vec(answer)) else { return };
        let mut commands = redis::pipe();
        commands.cmd("SET").arg(key).arg(bytes).arg("EX").arg(kind.seconds).ignore();
        let started = Instant::now();
        let reply: Result<(), _> = self.cache.run("keeping an answer", &commands).await;
        self.settled(kind, "set", started, reply);
    }

    fn settled<T>(
        &self,
        kind: Kind,
        operation: &'static str,
        started: Instant,
        reply: Result<T, CacheError>,
    ) -> Option<T> {
        let labels = CacheOperationLabels { operation, cache_name: kind.name };
        self.metrics
            .cache_operation_duration
            .get_or_create_owned(&labels)
            .observe(started.elapsed().as_secs_f64());
        reply
            .inspect_err(|error| {
                tracing::warn!(%error, cache = kind.name, "cache bypassed");
                self.metrics.cache_errors.get_or_create_owned(&labels).inc();
            })
            .ok()
    }
}

/// Questions hold what clients wrote, of any length: the key is a hash.
fn key(kind: Kind, question: &impl Serialize) -> Option<String> {
    let mut key = format!("{}:", kind.name);
    let hash = Sha256::digest(serde_json::to_vec(question).ok()?);
    write!(key, "{}", hex::encode(&hash)).ok()?;
    Some(key)
}
