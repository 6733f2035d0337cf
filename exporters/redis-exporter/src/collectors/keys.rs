//! `redis_key_*`: memory, size and value of the keys that the operator names or describes by patterns.

use std::collections::BTreeMap;

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Spec};
use exposition::{Desc, Snapshot};
use redis::Value;

use crate::command::Command;
use crate::error::{Reason, ReplyError};
use crate::info;
use crate::keyspace_walk::{label, walk};
use crate::options::Options;
use crate::request::{number, text};
use crate::session::Session;

static SPEC: Spec =
    Spec { name: "keys", doc: "Memory, size and value of chosen keys", default_enabled: false };

/// Bytes of a value that are read at most; a longer one has no family.
const LONGEST_VALUE: usize = 1024;

/// The command that tells the size of each type. Other types have none.
const SIZES: &[(&str, &str)] = &[
    ("string", "STRLEN"),
    ("hash", "HLEN"),
    ("list", "LLEN"),
    ("set", "SCARD"),
    ("zset", "ZCARD"),
    ("stream", "XLEN"),
    ("array", "ARCOUNT"),
];

/// How a HyperLogLog begins; it counts elements, not bytes.
const HYPERLOGLOG: &[u8] = b"HYLL";

pub(crate) struct Keys {
    options: Options,
    memory: Desc,
    size: Desc,
    value: Desc,
    value_as_string: Desc,
}

impl Keys {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            options: options.clone(),
            memory: options.gauge("key_memory_usage_bytes", "Memory of a key, by MEMORY USAGE."),
            size: options.gauge("key_size", "Elements of a key, or bytes of a string."),
            value: options.gauge("key_value", "Value of a string that is a number."),
            value_as_string: options
                .gauge("key_value_as_string", "Value of a string that is no number, as a label."),
        }
    }

    async fn read(&self, session: &Session) -> Result<Snapshot, CollectError> {
        let features = &self.options.features;
        let facts = session.read_facts().await?;
        if !session.reads_keys(&facts) {
            return Ok(Snapshot::new());
        }
        // Whether a key was named: it is shown even when it does not exist.
        let mut keys: BTreeMap<i64, BTreeMap<Vec<u8>, bool>> = BTreeMap::new();
        // In the background, unless there is no sampler.
        let patterns = if features.sampler.is_some() { &[] } else { &features.patterns[..] };
        let failed = walk(session, patterns, features.batch, |at, key| {
            keys.entry(patterns[at].database).or_default().insert(key.to_vec(), false);
        })
        .await;
        for (_, error) in failed {
            session.note(SPEC.name, error);
        }
        for key in features.keys.iter().filter(|key| session.owns(&key.key)) {
            keys.entry(key.database).or_default().insert(key.key.clone().into_bytes(), true);
        }
        let mut known = Vec::new();
        for (database, keys) in keys {
            let keys: Vec<(Vec<u8>, bool)> = keys.into_iter().collect();
            for chunk in keys.chunks(features.batch as usize) {
                match self.chunk(session, database, chunk).await {
                    Ok(chunk) => known.extend(chunk),
                    Err(error) => {
                        session.note(SPEC.name, error);
                        break;
                    }
                }
            }
        }
        Ok(self.write(&known))
    }

    pub(crate) fn write(&self, keys: &[Known]) -> Snapshot {
        let mut page = Snapshot::new();
        let table = page.table(&["db", "key"]);
        let (memory, size) = (table.column(&self.memory), table.column(&self.size));
        let value = table.column(&self.value);
        for key in keys {
            let row = &mut table.row(&[&key.database, &key.label]);
            row.set_some(memory, key.memory).set_some(size, key.size);
            row.set_some(value, key.text().and_then(info::number));
        }
        let table = page.table(&["db", "key", "val"]);
        let value = table.column(&self.value_as_string);
        for key in keys {
            if let Some(text) = key.text().filter(|text| !text.is_empty() && info::number(text).is_none()) {
                table.row(&[&key.database, &key.label, text]).set(value, 1.0);
            }
        }
        page
    }

    /// Two batches: types and memory, then sizes and values by type; a third where there are HyperLogLogs.
    pub(crate) async fn chunk(
        &self,
        session: &Session,
        database: i64,
        keys: &[(Vec<u8>, bool)],
    ) -> Result<Vec<Known>, ReplyError> {
        let about = keys.iter().flat_map(|(key, _)| {
            [&["TYPE"][..], &["MEMORY", "USAGE"]].map(|words| Command::of(words).arg(key))
        });
        let replies = session.in_database(database, "TYPE", &about.collect::<Vec<_>>()).await?;
        let mut known: Vec<Known> = Vec::new();
        for ((key, _), pair) in keys.iter().zip(replies.chunks_exact(2)) {
            let memory = take(session, &pair[1]).and_then(|value| number(&value));
            let kind = take(session, &pair[0]).and_then(|value| text(&value));
            known.push(Known {
                database: format!("db{database}"),
                label: label(key),
                kind: kind.unwrap_or_default(),
                memory,
                size: None,
                value: None,
            });
        }
        let (mut commands, mut of) = (Vec::new(), Vec::new());
        for (at, (known, (key, named))) in known.iter_mut().zip(keys).enumerate() {
            if known.kind == "none" {
                known.size = named.then_some(0.0);
            } else if let Some((_, size)) = SIZES.iter().find(|(kind, _)| *kind == known.kind) {
                commands.push(Command::of(&[size]).arg(key));
                of.push((at, false));
                if known.kind == "string" {
                    let last =
                        if self.options.features.key_values { LONGEST_VALUE } else { HYPERLOGLOG.len() - 1 };
                    commands.push(Command::of(&["GETRANGE"]).arg(key).arg("0").arg(last.to_string()));
                    of.push((at, true));
                }
            }
        }
        let replies = session.in_database(database, "reading sizes", &commands).await?;
        for ((at, is_value), reply) in of.into_iter().zip(&replies) {
            match take(session, reply) {
                Some(Value::BulkString(bytes)) if is_value => known[at].value = Some(bytes),
                Some(value) if !is_value => known[at].size = number(&value),
                _ => {}
            }
        }
        let logs: Vec<usize> = (0..known.len()).filter(|at| known[*at].is_hyperloglog()).collect();
        if !logs.is_empty() {
            let commands: Vec<Command> =
                logs.iter().map(|at| Command::of(&["PFCOUNT"]).arg(&keys[*at].0)).collect();
            let replies = session.in_database(database, "PFCOUNT", &commands).await?;
            for (at, reply) in logs.into_iter().zip(&replies) {
                // A string that only begins like one is still a string.
                let count = reply.as_ref().ok().and_then(number);
                known[at].size = count.or(known[at].size);
                if count.is_some() {
                    known[at].value = None;
                }
            }
        }
        for key in &mut known {
            let whole = key.size.is_some_and(|size| size <= (LONGEST_VALUE + 1) as f64);
            if !(whole && self.options.features.key_values) {
                key.value = None;
            }
        }
        Ok(known)
    }
}

/// A reply; an error is noted, unless the key is on another node or changed its type in between.
fn take(session: &Session, reply: &Result<Value, ReplyError>) -> Option<Value> {
    match reply {
        Ok(value) => Some(value.clone()),
        Err(error) => {
            if !(error.reason == Reason::Protocol && error.text.starts_with("WRONGTYPE")) {
                session.note(SPEC.name, error.clone());
            }
            None
        }
    }
}

/// What is known of one key.
pub(crate) struct Known {
    database: String,
    label: String,
    kind: String,
    memory: Option<f64>,
    size: Option<f64>,
    /// The beginning of a string.
    value: Option<Vec<u8>>,
}

impl Known {
    fn is_hyperloglog(&self) -> bool {
        self.value.as_ref().is_some_and(|value| value.starts_with(HYPERLOGLOG))
    }

    /// The value, when it is text.
    fn text(&self) -> Option<&str> {
        self.value.as_deref().and_then(|value| std::str::from_utf8(value).ok())
    }
}

impl Collector<Session> for Keys {
    fn spec(&self) -> &Spec {
        &SPEC
    }

    fn collect<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        Box::pin(self.read(session))
    }
}
