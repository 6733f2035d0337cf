//! Walking a database with SCAN: every pattern at once, each key once however often SCAN names it.

use std::collections::{HashSet, hash_map::RandomState};
use std::hash::BuildHasher;

use redis::Value;

use crate::command::Command;
use crate::error::ReplyError;
use crate::options::KeyArg;
use crate::request::{items, text};
use crate::session::Session;

/// What a key is known by; kept instead of the key, of which there may be millions.
type Fingerprint = u128;

/// Calls `visit` with the place of a pattern in `patterns` and a key of it. A pattern that cannot be walked to its end
/// is in the list that is returned, with the reason.
pub(crate) async fn walk(
    session: &Session,
    patterns: &[KeyArg],
    batch: u32,
    mut visit: impl FnMut(usize, &[u8]),
) -> Vec<(usize, ReplyError)> {
    let hashers = [RandomState::new(), RandomState::new()];
    let mut failed = Vec::new();
    let mut databases: Vec<i64> = patterns.iter().map(|pattern| pattern.database).collect();
    databases.sort_unstable();
    databases.dedup();
    for database in databases {
        let here = patterns.iter().enumerate().filter(|(_, pattern)| pattern.database == database);
        // The pattern, its cursor, and the keys that were seen.
        let mut open: Vec<(usize, String, HashSet<Fingerprint>)> =
            here.map(|(at, _)| (at, "0".to_owned(), HashSet::new())).collect();
        while !open.is_empty() {
            let commands: Vec<Command> = open
                .iter()
                .map(|(at, cursor, _)| {
                    let pattern = patterns[*at].key.as_str();
                    Command::of(&["SCAN", cursor, "MATCH", pattern, "COUNT"]).arg(batch.to_string())
                })
                .collect();
            let replies = match session.in_database(database, "SCAN", &commands).await {
                Ok(replies) => replies,
                Err(error) => {
                    failed.extend(open.iter().map(|(at, ..)| (*at, error.clone())));
                    break;
                }
            };
            let mut still_open = Vec::new();
            for ((at, _, mut seen), reply) in open.into_iter().zip(replies) {
                match reply.and_then(|reply| {
                    page(&reply).map(|(cursor, keys)| {
                        for key in keys {
                            let [a, b] = [0, 1].map(|n: usize| u128::from(hashers[n].hash_one(&key)));
                            if seen.insert(a << 64 | b) {
                                visit(at, &key);
                            }
                        }
                        cursor
                    })
                }) {
                    Ok(cursor) if cursor == "0" => {}
                    Ok(cursor) => still_open.push((at, cursor, seen)),
                    Err(error) => failed.push((at, error)),
                }
            }
            open = still_open;
        }
    }
    failed
}

/// The cursor and the keys of one reply.
pub(crate) fn page(reply: &Value) -> Result<(String, Vec<Vec<u8>>), ReplyError> {
    let read = || {
        let [cursor, keys] = items(reply)? else { return None };
        let keys = items(keys)?.iter().map(|key| match key {
            Value::BulkString(key) => Some(key.clone()),
            _ => None,
        });
        Some((text(cursor)?, keys.collect::<Option<Vec<_>>>()?))
    };
    read().ok_or_else(|| ReplyError::unexpected("SCAN"))
}

/// A key as a label: as it is when it is UTF-8, with `\xNN` for its other bytes when it is not.
pub(crate) fn label(key: &[u8]) -> String {
    std::str::from_utf8(key).map_or_else(|_| key.escape_ascii().to_string(), str::to_owned)
}
