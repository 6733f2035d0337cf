//! Answers kept in Redis for a while. Redis is a convenience here: while it is away, every answer is computed.
//!
//! An answer is kept as the bytes that clients get, and sent from there as it is. Before it, in a line of its own, stands
//! what the service itself wants to know of it, so that it need not read the answer.

use std::time::Instant;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
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

/// The kept answers of one kind.
#[derive(Debug)]
pub struct Lookaside {
    cache: Cache,
    kind: Kind,
    /// Nothing in a service that does not measure.
    meters: Option<Meters>,
}

/// The metrics of one cache, resolved once.
#[derive(Debug)]
struct Meters {
    hits: Counter,
    misses: Counter,
    get: OperationMeters,
    set: OperationMeters,
}

/// The metrics of reading from or writing to one cache.
#[derive(Debug)]
struct OperationMeters {
    duration: Histogram,
    errors: Counter,
}

impl Meters {
    fn new(metrics: &Metrics, kind: Kind) -> Meters {
        let labels = CacheLabels { cache_name: kind.name };
        let operation = |operation| {
            let labels = CacheOperationLabels { operation, cache_name: kind.name };
            OperationMeters {
                duration: metrics.cache_operation_duration.get_or_create_owned(&labels),
                errors: metrics.cache_errors.get_or_create_owned(&labels),
            }
        };
        Meters {
            hits: metrics.cache_hits.get_or_create_owned(&labels),
            misses: metrics.cache_misses.get_or_create_owned(&labels),
            get: operation("get"),
            set: operation("set"),
        }
    }
}

impl Lookaside {
    /// Keeps answers in `cache`. With metrics, its series are there from now on.
    pub fn new(cache: Cache, kind: Kind, metrics: Option<&Metrics>) -> Lookaside {
        Lookaside { cache, kind, meters: metrics.map(|metrics| Meters::new(metrics, kind)) }
    }

    /// The kept answer to `question`, and what is noted of it.
    pub async fn get<N: DeserializeOwned>(&self, question: &impl Serialize) -> Option<(N, Bytes)> {
        let mut commands = redis::pipe();
        commands.cmd("GET").arg(self.key(question)?);
        let started = Instant::now();
        let reply: Result<(Option<Vec<u8>>,), _> = self.cache.run("reading a kept answer", &commands).await;
        let (kept,) = self.settled(|meters| &meters.get, started, reply)?;
        // What is there in another shape counts as missing.
        let answer = kept.and_then(|kept| parse(&kept.into()));
        if let Some(meters) = &self.meters {
            if answer.is_some() { &meters.hits } else { &meters.misses }.inc();
        }
        answer
    }

    /// Keeps `answer` to `question`, with a note for who reads it from here.
    pub async fn set(&self, question: &impl Serialize, note: &impl Serialize, answer: &[u8]) {
        let (Some(key), Ok(mut kept)) = (self.key(question), serde_json::to_vec(note)) else { return };
        kept.push(b'\n');
        kept.extend_from_slice(answer);
        let mut commands = redis::pipe();
        commands.cmd("SET").arg(key).arg(kept).arg("EX").arg(self.kind.seconds).ignore();
        let started = Instant::now();
        let reply: Result<(), _> = self.cache.run("keeping an answer", &commands).await;
        self.settled(|meters| &meters.set, started, reply);
    }

    fn settled<T>(
        &self,
        operation: impl Fn(&Meters) -> &OperationMeters,
        started: Instant,
        reply: Result<T, CacheError>,
    ) -> Option<T> {
        let meters = self.meters.as_ref().map(operation);
        if let Some(meters) = meters {
            meters.duration.observe(started.elapsed().as_secs_f64());
        }
        reply
            .inspect_err(|error| {
                tracing::warn!(%error, cache = self.kind.name, "cache bypassed");
                if let Some(meters) = meters {
                    meters.errors.inc();
                }
            })
            .ok()
    }

    /// Questions hold what clients wrote, of any length: the key is a hash. Answers are not read again, so those of
    /// another version of the service, which may look different, have other keys.
    fn key(&self, question: &impl Serialize) -> Option<String> {
        let hash = Sha256::new_with_prefix(env!("CARGO_PKG_VERSION"));
        let hash = hash.chain_update(serde_json::to_vec(question).ok()?).finalize();
        Some(format!("{}:{}", self.kind.name, hex::encode(&hash)))
    }
}

/// The note and the answer of what is kept.
fn parse<N: DeserializeOwned>(kept: &Bytes) -> Option<(N, Bytes)> {
    let end = kept.iter().position(|byte| *byte == b'\n')?;
    let note = serde_json::from_slice(&kept[..end]).ok()?;
    Some((note, kept.slice(end + 1..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_another_shape_is_missing() {
        let parse = |kept: &str| parse::<u32>(&Bytes::copy_from_slice(kept.as_bytes()));
        assert_eq!(parse("7\n{\"a\": \"\\n\"}\n"), Some((7, Bytes::from_static(b"{\"a\": \"\\n\"}\n"))));
        assert_eq!(parse("{\"a\": 1}"), None);
        assert_eq!(parse("{\"a\": 1}\n{}"), None);
        assert_eq!(parse(""), None);
    }
}
