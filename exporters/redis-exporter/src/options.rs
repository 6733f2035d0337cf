//! What the operator chose: which families are wanted and in which shape.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use exporter_kit::names::Names;
use exposition::{Desc, Kind};
use percent_encoding::percent_decode_str;
use regex::Regex;

use crate::lua_pattern::Pattern;

/// The shape of families whose redis_exporter form is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compat {
    /// Corrected types, quantiles, buckets and names.
    #[default]
    Corrected,
    /// Exactly the shape of redis_exporter 1.86.
    V1_86,
}

/// Options that collectors look at.
#[derive(Debug, Clone)]
pub struct Options {
    /// First part of every family's name.
    pub namespace: String,
    /// The shape of families that redis_exporter has wrong.
    pub compat: Compat,
    /// What badly named families are called.
    pub names: Names,
    /// The name of CONFIG on the server; `None` leaves everything out that needs it.
    pub config_command: Option<String>,
    /// No LATENCY command and none of its families.
    pub exclude_latency: bool,
    /// Every configuration parameter as a family.
    pub include_config: bool,
    /// Leave parameters that hold secrets out of the configuration families.
    pub redact_config: bool,
    /// Families about the machine below the server.
    pub include_system: bool,
    /// A zero for each database without keys.
    pub include_empty_databases: bool,
    /// The label `instance_role` on each family of the server.
    pub append_role: bool,
    /// What costs more than the default scrape.
    pub features: Features,
    /// Gets each family that is described.
    pub record: Option<Arc<Mutex<Vec<Desc>>>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespace: "redis".to_owned(),
            compat: Compat::default(),
            names: Names::default(),
            config_command: Some("CONFIG".to_owned()),
            exclude_latency: false,
            include_config: false,
            redact_config: true,
            include_system: false,
            include_empty_databases: true,
            append_role: false,
            features: Features::default(),
            record: None,
        }
    }
}

/// Features that are off unless asked for.
#[derive(Debug, Clone)]
pub struct Features {
    /// Keys to check, by pattern.
    pub patterns: Vec<KeyArg>,
    /// Keys to check, by name.
    pub keys: Vec<KeyArg>,
    /// The values of checked strings as families.
    pub key_values: bool,
    /// Streams to check, by pattern.
    pub stream_patterns: Vec<KeyArg>,
    /// Streams to check, by name.
    pub streams: Vec<KeyArg>,
    /// The consumers of stream groups.
    pub stream_consumers: bool,
    /// Patterns whose keys are counted.
    pub count: Vec<KeyArg>,
    /// Lua patterns that group keys.
    pub key_groups: Vec<Pattern>,
    /// Groups of a database before the rest is one group.
    pub max_key_groups: usize,
    /// Keys that one SCAN looks at.
    pub batch: u32,
    /// Patterns are walked, and keys looked at, in the background; `None` for within the scrape.
    pub sampler: Option<SamplerOptions>,
    /// Check no keys and streams on a master.
    pub only_replicas: bool,
    /// Lua scripts that return names and numbers.
    pub scripts: Vec<Script>,
    /// Run them with EVAL_RO.
    pub scripts_read_only: bool,
    /// Each client of the server.
    pub clients: bool,
    /// The port of each client as a label.
    pub client_port: bool,
    /// Clients by name, library, user and database.
    pub client_groups: Option<ClientGroups>,
    /// The modules of the server.
    pub modules: bool,
    /// The search indexes whose name this expression matches.
    pub search_indexes: Option<Regex>,
    /// The other sentinels of each master.
    pub sentinel_peers: bool,
    /// Size of the RDB file on this machine.
    pub rdb_file_size: bool,
    /// The server is Tile38.
    pub tile38: bool,
    /// PING, and how long it took.
    pub ping: bool,
    /// The server is one of all the nodes of a cluster that are shown.
    pub whole_cluster: bool,
    /// Of the other nodes only keys are shown, as if they were its own.
    pub one_node: bool,
    /// The nodes of its cluster are listed, for Prometheus.
    pub lists_nodes: bool,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            patterns: Vec::new(),
            keys: Vec::new(),
            key_values: true,
            stream_patterns: Vec::new(),
            streams: Vec::new(),
            stream_consumers: true,
            count: Vec::new(),
            key_groups: Vec::new(),
            max_key_groups: 100,
            batch: 1000,
            sampler: None,
            only_replicas: false,
            scripts: Vec::new(),
            scripts_read_only: false,
            clients: false,
            client_port: false,
            client_groups: None,
            modules: false,
            search_indexes: None,
            sentinel_peers: false,
            rdb_file_size: false,
            tile38: false,
            ping: false,
            whole_cluster: false,
            one_node: false,
            lists_nodes: false,
        }
    }
}

/// Bounds of the clients by group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientGroups {
    /// Clients above which they are not listed.
    pub clients: u64,
    /// Groups before the rest is one group.
    pub groups: usize,
    /// Clients with the most memory that are shown.
    pub top: usize,
}

impl Default for ClientGroups {
    fn default() -> Self {
        Self { clients: 10_000, groups: 100, top: 10 }
    }
}

/// What the background sampler does, and what it may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SamplerOptions {
    /// The server's time that it may take in each second.
    pub budget: Duration,
    /// The greatest keys, and a look at random ones, beside the patterns.
    pub insight: bool,
    /// How many of the greatest keys of a database.
    pub top: usize,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self { budget: Duration::from_millis(5), insight: false, top: 20 }
    }
}

/// A Lua script of the operator.
#[derive(Debug, Clone)]
pub struct Script {
    /// The file, as it was named.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// A key or a pattern in a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyArg {
    /// Number of the database.
    pub database: i64,
    /// The key or the pattern.
    pub key: String,
}

impl KeyArg {
    /// Reads `[dbN=]key,…`; each part is decoded as in a URL, so that a key may hold commas and equals signs.
    ///
    /// # Errors
    /// The part that is not of this form.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let decode = |text: &str| {
            let text = text.replace('+', " ");
            percent_decode_str(&text).decode_utf8().map(std::borrow::Cow::into_owned)
        };
        let parse = |part: &str| {
            let wrong = || format!("{part:?} is not KEY or dbN=KEY; write %3D for = and %2C for , in a key");
            let (database, key) = match part.split_once('=') {
                None => (0, part),
                Some((_, key)) if key.contains('=') => return Err(wrong()),
                Some((database, key)) => {
                    let number = decode(database).map_err(|_| wrong())?;
                    let number = number.trim().trim_start_matches("db");
                    (number.parse::<u16>().map_err(|_| wrong())?.into(), key)
                }
            };
            let key = decode(key.trim()).map_err(|_| wrong())?;
            if key.is_empty() { Err(wrong()) } else { Ok(Self { database, key }) }
        };
        text.split(',').filter(|part| !part.trim().is_empty()).map(parse).collect()
    }
}

/// A text that is kept for ever: there are as many as families, however many servers have them.
fn kept(text: &str) -> &'static str {
    static KEPT: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = kept.get(text) {
        return known;
    }
    let text: &'static str = text.to_owned().leak();
    kept.insert(text);
    text
}

impl Options {
    /// Whether the shape of redis_exporter 1.86 was asked for.
    pub fn compat_1_86(&self) -> bool {
        self.compat == Compat::V1_86
    }

    /// Describes a family of this namespace. Name and help are kept for ever, once each, so that a scrape copies neither.
    pub fn desc(&self, kind: Kind, family: &str, help: &str) -> Desc {
        let desc = Desc::new(kind, kept(&format!("{}_{family}", self.namespace)), kept(help));
        if let Some(record) = &self.record {
            record.lock().unwrap_or_else(PoisonError::into_inner).push(desc.clone());
        }
        desc
    }

    /// [`Options::desc`] for a gauge.
    pub fn gauge(&self, family: &str, help: &str) -> Desc {
        self.desc(Kind::Gauge, family, help)
    }

    /// [`Options::desc`] for a counter.
    pub fn counter(&self, family: &str, help: &str) -> Desc {
        self.desc(Kind::Counter, family, help)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_of_keys_are_read() {
        let read = |text| {
            KeyArg::parse_list(text)
                .map(|keys| keys.into_iter().map(|k| (k.database, k.key)).collect::<Vec<_>>())
        };
        let expected = [(0, "a:*"), (3, "b"), (2, "x=y,z")].map(|(db, key)| (db, key.to_owned()));
        assert_eq!(read("a:*,db3=b,2=x%3Dy%2Cz").unwrap(), expected);
        assert_eq!(read("").unwrap(), []);
        for wrong in ["a=b=c", "db=x", "dbx=y", "db1="] {
            assert!(read(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_lists_never_panic(text in "\\PC{0,40}") {
            let _ = KeyArg::parse_list(&text);
        }
    }
}
