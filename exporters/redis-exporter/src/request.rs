//! The commands a scrape may send, and what must be known about the server to choose among them.
//! A request is also the key under which its reply is shared by the collectors of one scrape.

use std::borrow::Cow;

use redis::Value;

use crate::command::Command;
use crate::error::ReplyError;
use crate::info::{self, Info};
use crate::options::Options;

/// The configuration parameters that default families come from. Several in one CONFIG GET need Redis 7.0.
pub const CONFIG_PARAMETERS: &[&str] = &[
    "client-output-buffer-limit",
    "databases",
    "io-threads",
    "maxclients",
    "maxmemory",
    "repl-backlog-size",
];

/// Slots that are shown.
const TOP_SLOTS: &str = "20";

/// One command with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Request {
    /// `INFO ALL`.
    Info,
    /// `INFO`, for servers that know no argument.
    InfoPlain,
    /// `CONFIG GET` of [`CONFIG_PARAMETERS`].
    Config,
    /// `CONFIG GET *`.
    ConfigAll,
    /// `CLUSTER INFO`.
    ClusterInfo,
    /// `CLUSTER NODES`.
    ClusterNodes,
    /// `LATENCY LATEST`.
    LatencyLatest,
    /// `LATENCY HISTOGRAM`.
    LatencyHistogram,
    /// `SLOWLOG LEN`.
    SlowlogLen,
    /// The newest entries of a log: `SLOWLOG GET count` or `COMMANDLOG GET count type`.
    Log(Log, u64),
    /// `CLUSTER SLOT-STATS` of the slots with the most keys.
    SlotStats,
    /// `HOTKEYS GET`.
    HotKeys,
    /// `SENTINEL MASTERS`.
    SentinelMasters,
    /// `SENTINEL CKQUORUM master`.
    SentinelCkquorum(String),
    /// `SENTINEL SENTINELS master`.
    SentinelSentinels(String),
    /// `SENTINEL SLAVES master`.
    SentinelSlaves(String),
    /// `CLIENT LIST`.
    ClientList,
    /// `INFO MODULES`.
    InfoModules,
    /// `PING`.
    Ping,
    /// `SERVER EXT` of Tile38.
    ServerExt,
    /// `SENTINEL CONFIG GET *`.
    SentinelConfig,
    /// `FT._LIST` of the search module.
    SearchList,
    /// `FT.INFO index`.
    SearchInfo(String),
}

impl Request {
    /// The request for configuration that suits the server and the options; `None` when there is no CONFIG.
    pub fn config(server: &Server, options: &Options) -> Option<Self> {
        if options.config_command.is_none() || server.sentinel {
            None
        } else if options.include_config || options.features.rdb_file_size || server.version < (7, 0) {
            Some(Request::ConfigAll)
        } else {
            Some(Request::Config)
        }
    }

    /// The command as it is sent.
    pub fn command(&self, options: &Options) -> Command {
        let config = options.config_command.as_deref().unwrap_or("CONFIG");
        let words: &[&str] = match self {
            Request::Info => &["INFO", "ALL"],
            Request::InfoPlain => &["INFO"],
            Request::Config => &[&[config, "GET"], CONFIG_PARAMETERS].concat(),
            Request::ConfigAll => &[config, "GET", "*"],
            Request::ClusterInfo => &["CLUSTER", "INFO"],
            Request::ClusterNodes => &["CLUSTER", "NODES"],
            Request::LatencyLatest => &["LATENCY", "LATEST"],
            Request::LatencyHistogram => &["LATENCY", "HISTOGRAM"],
            Request::SlowlogLen => &["SLOWLOG", "LEN"],
            Request::Log(Log::Slow, count) => &["SLOWLOG", "GET", &count.to_string()],
            Request::Log(log, count) => &["COMMANDLOG", "GET", &count.to_string(), log.as_str()],
            Request::SlotStats => {
                &["CLUSTER", "SLOT-STATS", "ORDERBY", "KEY-COUNT", "LIMIT", TOP_SLOTS, "DESC"]
            }
            Request::HotKeys => &["HOTKEYS", "GET"],
            Request::SentinelMasters => &["SENTINEL", "MASTERS"],
            Request::SentinelCkquorum(master) => &["SENTINEL", "CKQUORUM", master],
            Request::SentinelSentinels(master) => &["SENTINEL", "SENTINELS", master],
            Request::SentinelSlaves(master) => &["SENTINEL", "SLAVES", master],
            Request::ClientList => &["CLIENT", "LIST"],
            Request::InfoModules => &["INFO", "MODULES"],
            Request::Ping => &["PING"],
            Request::ServerExt => &["SERVER", "EXT"],
            Request::SentinelConfig => &["SENTINEL", "CONFIG", "GET", "*"],
            Request::SearchList => &["FT._LIST"],
            Request::SearchInfo(index) => &["FT.INFO", index],
        };
        Command::of(words)
    }

    /// The command's name for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Request::Info => "INFO ALL",
            Request::InfoPlain => "INFO",
            Request::Config | Request::ConfigAll => "CONFIG GET",
            Request::ClusterInfo => "CLUSTER INFO",
            Request::ClusterNodes => "CLUSTER NODES",
            Request::LatencyLatest => "LATENCY LATEST",
            Request::LatencyHistogram => "LATENCY HISTOGRAM",
            Request::SlowlogLen => "SLOWLOG LEN",
            Request::Log(Log::Slow, _) => "SLOWLOG GET",
            Request::Log(..) => "COMMANDLOG GET",
            Request::SlotStats => "CLUSTER SLOT-STATS",
            Request::HotKeys => "HOTKEYS GET",
            Request::SentinelMasters => "SENTINEL MASTERS",
            Request::SentinelCkquorum(_) => "SENTINEL CKQUORUM",
            Request::SentinelSentinels(_) => "SENTINEL SENTINELS",
            Request::SentinelSlaves(_) => "SENTINEL SLAVES",
            Request::ClientList => "CLIENT LIST",
            Request::InfoModules => "INFO MODULES",
            Request::Ping => "PING",
            Request::ServerExt => "SERVER EXT",
            Request::SentinelConfig => "SENTINEL CONFIG GET",
            Request::SearchList => "FT._LIST",
            Request::SearchInfo(_) => "FT.INFO",
        }
    }
}

/// The newest entry of the slow log.
pub const NEWEST_SLOW: Request = Request::Log(Log::Slow, 1);

/// A log of commands that the server keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Log {
    /// Commands that took long.
    Slow,
    /// Commands with much input.
    LargeRequest,
    /// Commands with much output.
    LargeReply,
}

impl Log {
    /// The type that COMMANDLOG calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Log::Slow => "slow",
            Log::LargeRequest => "large-request",
            Log::LargeReply => "large-reply",
        }
    }
}

/// What decides which commands a server gets; read from its INFO and assumed unchanged at the next scrape,
/// so that everything leaves in one write. A change is seen in the same scrape and asked for then.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Server {
    /// Identifies the server process.
    pub run_id: String,
    /// Major and minor of `redis_version` (Valkey says 7.2 there).
    pub version: (u32, u32),
    /// Major and minor of `valkey_version`; zeros when it is no Valkey, or one that does not say so.
    pub valkey: (u32, u32),
    /// `connected_clients`.
    pub clients: u64,
    /// `cluster_enabled:1`.
    pub cluster: bool,
    /// It is a Sentinel.
    pub sentinel: bool,
    /// The names of the masters that a Sentinel watches.
    pub masters: Vec<String>,
}

impl Server {
    /// Reads what INFO says about the server.
    pub fn new(info: &Info) -> Self {
        let version = |field| {
            let mut parts =
                info.get(field).unwrap_or_default().split('.').map_while(|part| part.parse().ok());
            (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
        };
        let masters = info
            .section("Sentinel")
            .filter(|field| is_master(field.key))
            .filter_map(|field| info::part(field.value, "name").map(str::to_owned))
            .collect();
        Self {
            run_id: info.get("run_id").unwrap_or_default().to_owned(),
            version: version("redis_version"),
            valkey: version("valkey_version"),
            clients: info.get("connected_clients").and_then(|count| count.parse().ok()).unwrap_or(0),
            cluster: info.get("cluster_enabled") == Some("1"),
            sentinel: info.has_section("Sentinel"),
            masters,
        }
    }
}

/// Whether a key of INFO's Sentinel section is `master` with a number.
pub fn is_master(key: &str) -> bool {
    key.strip_prefix("master").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The text of a reply, whatever string type it has; bytes that are not UTF-8 become U+FFFD.
pub fn text(value: &Value) -> Option<String> {
    borrowed(value).map(Cow::into_owned)
}

/// The same, of a reply that is not needed any more.
pub fn into_text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(
            String::from_utf8(bytes)
                .unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned()),
        ),
        value => text(&value),
    }
}

/// The same, for what is too long to be copied.
pub fn borrowed(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        // Checking all of it at once is quicker than looking for what is wrong.
        Value::BulkString(bytes) => Some(match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(bytes),
        }),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(Cow::Borrowed(text)),
        Value::Okay => Some(Cow::Borrowed("OK")),
        Value::Int(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}

/// Whether a reply is this text.
pub fn is(value: &Value, expected: &str) -> bool {
    match value {
        Value::BulkString(bytes) => bytes == expected.as_bytes(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text == expected,
        _ => false,
    }
}

/// A number that came as an integer or as text.
pub fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Double(number) => Some(*number),
        _ => borrowed(value).as_deref().and_then(info::number),
    }
}

/// The items of an array.
pub fn items(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

/// Keys and values of a map, which RESP2 sends as a flat array.
pub fn pairs(value: &Value) -> Option<impl Iterator<Item = (&Value, &Value)> + Clone> {
    let (map, flat): (&[(Value, Value)], &[Value]) = match value {
        Value::Map(pairs) => (pairs, &[]),
        Value::Array(items) if items.len() % 2 == 0 => (&[], items),
        _ => return None,
    };
    let flat = flat.chunks_exact(2).map(|pair| (&pair[0], &pair[1]));
    Some(map.iter().map(|(key, value)| (key, value)).chain(flat))
}

/// Keys and values that are texts.
pub type Texts<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Keys and values of a map of texts, such as the reply of CONFIG GET.
pub fn texts<'a>(request: &Request, value: &'a Value) -> Result<Texts<'a>, ReplyError> {
    let pairs = pairs(value).ok_or_else(|| ReplyError::unexpected(request.name()))?;
    Ok(pairs.filter_map(|(key, value)| Some((borrowed(key)?, borrowed(value)?))).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Replies of any shape.
    pub(crate) fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            Just(Value::Okay),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_map(Value::Double),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::BulkString),
            "\\PC{0,20}".prop_map(Value::SimpleString),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                proptest::collection::vec((inner.clone(), inner), 0..4).prop_map(Value::Map),
            ]
        })
    }

    #[test]
    fn a_server_is_known_by_its_info() {
        let info = Info::parse(
            "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n# Cluster\r\ncluster_enabled:1\r\n",
        );
        let expected = Server { run_id: "abc".into(), version: (7, 0), cluster: true, ..Server::default() };
        assert_eq!(Server::new(&info), expected);
        let info = Info::parse("# Sentinel\r\nsentinel_masters:1\r\nmaster0:name=a,status=ok\r\n");
        let server = Server::new(&info);
        assert!(server.sentinel);
        assert_eq!(server.masters, ["a"]);
    }

    #[test]
    fn a_map_is_read_in_both_protocols() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let flat = Value::Array(vec![bulk("maxclients"), bulk("10")]);
        let map = Value::Map(vec![(bulk("maxclients"), bulk("10"))]);
        for value in [flat, map] {
            let read = texts(&Request::Config, &value).unwrap();
            assert_eq!(read, [("maxclients".into(), "10".into())]);
        }
        assert!(texts(&Request::Config, &Value::Nil).is_err());
    }
}
