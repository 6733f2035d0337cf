//! What the exporter must be allowed on a server: the commands that the enabled features send, the rule that allows just
//! those, and what is lost without each. The commands come from the collectors themselves.

use std::collections::BTreeMap;

use redis::Value;

use crate::collectors;
use crate::command::Command;
use crate::options::Options;
use crate::request::{Log, Request, Server, text};
use crate::resp::Decoder;

/// Commands whose subcommands have rules of their own.
const CONTAINERS: &[&str] = &[
    "client",
    "cluster",
    "commandlog",
    "config",
    "hotkeys",
    "latency",
    "memory",
    "sentinel",
    "slowlog",
    "xinfo",
];

/// What is lost without a command, as families without the namespace; `*` at the end stands for any rest.
#[rustfmt::skip]
const LOST: &[(&str, &[&str])] = &[
    ("info", &["everything"]),
    ("ping", &["exporter_last_scrape_ping_time_seconds"]),
    ("cluster|info", &["cluster_state", "cluster_slots_*", "cluster_known_nodes", "cluster_size", "cluster_current_epoch", "cluster_my_epoch", "cluster_messages_*", "cluster_stats_*", "cluster_links_*", "cluster_slot_migration_*"]),
    ("cluster|nodes", &["cluster_node_slots", "cluster_node_config_epoch", "all nodes of --cluster but its seeds", "/discover-cluster-nodes and /sd"]),
    ("readonly", &["keys that a replica of a cluster reads for its master"]),
    ("cluster|slot-stats", &["cluster_slot_keys", "cluster_slot_cpu_*", "cluster_slot_net_*"]),
    ("hotkeys|get", &["hot_key_*", "hot_keys_*"]),
    ("config|get", &["config_*", "rdb_current_size_bytes"]),
    ("client|list", &["connected_client_*", "client_group_*", "client_groups_folded", "client_top_memory_bytes"]),
    ("commandlog|get", &["commandlog_*"]),
    ("latency|histogram", &["commands_latencies_usec"]),
    ("latency|latest", &["latency_spike_*"]),
    ("slowlog|get", &["slowlog_last_id", "last_slow_execution_duration_seconds", "slowlog_entries_total", "slowlog_entry_duration_seconds", "slowlog_entries_lost_total"]),
    ("slowlog|len", &["slowlog_length"]),
    ("select", &["what is asked for in other databases than the connection's"]),
    ("scan", &["keys_count", "key_memory_usage_bytes", "key_size", "key_value", "key_value_as_string", "stream_*", "big_key_memory_bytes", "key_group_*", "number_of_distinct_key_groups"]),
    ("type", &["key_size", "key_value", "key_value_as_string", "sampled_key_*"]),
    ("memory|usage", &["key_memory_usage_bytes", "big_key_memory_bytes", "sampled_key_*", "key_group_*", "number_of_distinct_key_groups"]),
    ("strlen", &["key_size", "key_value", "key_value_as_string"]),
    ("hlen", &["key_size"]),
    ("llen", &["key_size"]),
    ("scard", &["key_size"]),
    ("zcard", &["key_size"]),
    ("xlen", &["key_size"]),
    ("getrange", &["key_value", "key_value_as_string"]),
    ("pfcount", &["the cardinality of HyperLogLogs in key_size"]),
    ("randomkey", &["sampled_key_*"]),
    ("pttl", &["sampled_key_*"]),
    ("xinfo|stream", &["stream_length", "stream_radix_tree_*", "stream_last_*", "stream_first_entry_id", "stream_groups", "stream_entries_added_total", "stream_max_deleted_entry_id"]),
    ("xinfo|groups", &["stream_group_*"]),
    ("xinfo|consumers", &["stream_group_consumer_*"]),
    ("eval", &["script_values"]),
    ("eval_ro", &["script_values"]),
    ("sentinel|masters", &["sentinel_master_setting_*", "sentinel_master_config_epoch", "sentinel_master_last_ok_*", "sentinel_master_ok_*", "sentinel_peer_info"]),
    ("sentinel|ckquorum", &["sentinel_master_ckquorum_status"]),
    ("sentinel|config", &["sentinel_config_*"]),
    ("sentinel|sentinels", &["sentinel_master_ok_sentinels", "sentinel_peer_info"]),
    ("sentinel|slaves", &["sentinel_master_ok_slaves"]),
    ("server", &["tile38_*"]),
    ("ft._list", &["search_index_*"]),
    ("ft.info", &["search_index_*"]),
];

type Version = (u32, u32);

/// The servers that get a rule of their own: name, `redis_version`, `valkey_version`.
pub const SERVERS: &[(&str, Version, Version)] = &[
    ("Redis 6.2", (6, 2), (0, 0)),
    ("Redis 7.0", (7, 0), (0, 0)),
    ("Redis 7.2 to 8.0, Valkey 7.2", (7, 2), (0, 0)),
    ("Redis 8.2 and 8.4", (8, 2), (0, 0)),
    ("Redis 8.6 and later", (8, 6), (0, 0)),
    ("Valkey 8.0", (7, 2), (8, 0)),
    ("Valkey 8.1 and later", (7, 2), (8, 1)),
];

/// A command that the exporter sends.
#[derive(Debug, Clone)]
pub struct Need {
    /// Its name in a rule, as `slowlog|get`.
    pub name: String,
    /// One of its forms that changes nothing, for trying it.
    pub command: Command,
}

impl Need {
    fn of(words: &[&str]) -> Self {
        let command = Command::of(words);
        Self { name: name(&command), command }
    }

    /// The families that are lost without it.
    pub fn lost(&self) -> &'static [&'static str] {
        LOST.iter().find(|(name, _)| *name == self.name).map_or(&[], |(_, families)| families)
    }
}

/// The name of a command in a rule.
fn name(command: &Command) -> String {
    let mut sent = Vec::new();
    command.write(&mut sent);
    let Ok(Some(Ok(Value::Array(words)))) = Decoder::default().next(&sent, &mut 0) else {
        return String::new();
    };
    let mut words = words.iter().filter_map(text).map(|word| word.to_ascii_lowercase());
    let first = words.next().unwrap_or_default();
    match words.next().filter(|_| CONTAINERS.contains(&first.as_str())) {
        Some(second) => format!("{first}|{second}"),
        None => first,
    }
}

/// Every command that is sent to such a server, by name.
pub fn needs(options: &Options, server: &Server, client_name: bool) -> Vec<Need> {
    let features = &options.features;
    let mut needs = vec![Need::of(&["INFO", "ALL"])];
    if client_name {
        needs.push(Need::of(&["CLIENT", "SETNAME", "redis_exporter"]));
    }
    for section in collectors::all(options) {
        needs.extend(section.requests(server).iter().map(|request| {
            let command = request.command(options);
            Need { name: name(&command), command }
        }));
    }
    if !options.compat_1_86() {
        let log = |log: &Log| Request::Log(*log, 1).command(options);
        let logs = collectors::logs(server);
        needs.extend(logs.iter().map(log).map(|command| Need { name: name(&command), command }));
    }
    let mut add = |wanted: bool, lists: &[&[&str]]| {
        if wanted {
            needs.extend(lists.iter().map(|words| Need::of(words)));
        }
    };
    add(features.ping, &[&["PING"]]);
    let nodes = server.cluster && (features.whole_cluster || features.lists_nodes);
    add(nodes, &[&["CLUSTER", "NODES"]]);
    add(features.whole_cluster && features.only_replicas, &[&["READONLY"]]);
    let config = options.config_command.as_deref().unwrap_or("CONFIG");
    add(features.rdb_file_size && options.config_command.is_some(), &[&[config, "GET", "dir"]]);
    add(features.search_indexes.is_some(), &[&["FT._LIST"], &["FT.INFO", "index"]]);
    let groups = !features.key_groups.is_empty();
    let insight = features.sampler.is_some_and(|sampler| sampler.insight);
    let patterns = [&features.patterns, &features.stream_patterns, &features.count];
    let named = [&features.keys, &features.streams];
    let lists = || patterns.iter().chain(&named).flat_map(|list| list.iter());
    let first = |lists: &[&Vec<crate::options::KeyArg>]| {
        lists.iter().find_map(|list| list.first()).map(|key| key.key.clone()).unwrap_or_default()
    };
    let key = first(&[&features.keys, &features.patterns]);
    let key = key.as_str();
    let check = !(features.keys.is_empty() && features.patterns.is_empty());
    add(insight || groups || patterns.iter().any(|list| !list.is_empty()), &[&["SCAN", "0", "COUNT", "1"]]);
    add(check || insight, &[&["TYPE", key]]);
    add(check || insight || groups, &[&["MEMORY", "USAGE", key]]);
    add(
        check,
        &[
            &["STRLEN", key],
            &["HLEN", key],
            &["LLEN", key],
            &["SCARD", key],
            &["ZCARD", key],
            &["XLEN", key],
            &["GETRANGE", key, "0", "0"],
            &["PFCOUNT", key],
        ],
    );
    add(insight, &[&["RANDOMKEY"], &["PTTL", key]]);
    let stream = first(&[&features.streams, &features.stream_patterns]);
    let stream = stream.as_str();
    let streams = !stream.is_empty();
    add(streams, &[&["XINFO", "STREAM", stream], &["XINFO", "GROUPS", stream]]);
    add(streams && features.stream_consumers, &[&["XINFO", "CONSUMERS", stream, "group"]]);
    let eval = if features.scripts_read_only { "EVAL_RO" } else { "EVAL" };
    add(!features.scripts.is_empty(), &[&[eval, "return {}", "0"]]);
    let reads = insight || groups || lists().next().is_some() || !features.scripts.is_empty();
    add(insight || groups || lists().any(|key| key.database != 0), &[&["SELECT", "0"]]);
    add(reads && server.version >= (7, 2), &[&["CLIENT", "NO-TOUCH", "on"]]);
    let mut unique: BTreeMap<String, Need> = BTreeMap::new();
    for need in needs {
        unique.entry(need.name.clone()).or_insert(need);
    }
    unique.into_values().collect()
}

/// The keys that the exporter reads, as patterns.
fn keys(options: &Options) -> Vec<String> {
    let features = &options.features;
    let every = features.sampler.is_some_and(|sampler| sampler.insight) || !features.key_groups.is_empty();
    if !features.scripts.is_empty() || every {
        return vec!["*".to_owned()];
    }
    let named = features.keys.iter().chain(&features.streams).map(|key| escape(&key.key));
    let patterns = features.patterns.iter().chain(&features.stream_patterns).map(|key| key.key.clone());
    let mut keys: Vec<String> = named.chain(patterns).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// A key as a pattern that matches nothing else.
fn escape(key: &str) -> String {
    let special = |c| matches!(c, '*' | '?' | '[' | ']' | '\\');
    key.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

/// The least rule: nothing but these commands on nothing but these keys.
pub fn rule(options: &Options, server: &Server, client_name: bool) -> Vec<String> {
    let mut words: Vec<String> = ["resetkeys", "resetchannels", "-@all"].map(str::to_owned).to_vec();
    let read_only = if server.version >= (7, 0) { "%R~" } else { "~" };
    if options.features.search_indexes.is_some() {
        // For the search module of Redis 7.4 the name of an index is a key, which FT.INFO may write.
        words.push("~*".to_owned());
    } else {
        words.extend(keys(options).iter().map(|key| format!("{read_only}{key}")));
    }
    words.extend(needs(options, server, client_name).iter().map(|need| format!("+{}", need.name)));
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Features;

    fn server(version: (u32, u32), valkey: (u32, u32)) -> Server {
        Server { version, valkey, ..Server::default() }
    }

    #[test]
    fn the_default_rule_is_small_and_grows_with_features_and_versions() {
        let rule =
            |options: &Options, version, valkey| rule(options, &server(version, valkey), true).join(" ");
        let options = Options::default();
        assert_eq!(
            rule(&options, (7, 0), (0, 0)),
            "resetkeys resetchannels -@all +client|setname +config|get +info +latency|histogram +latency|latest \
             +slowlog|get +slowlog|len"
        );
        assert!(!rule(&options, (6, 2), (0, 0)).contains("histogram"));
        let node = Server { cluster: true, ..server((7, 0), (0, 0)) };
        let listing = Features { lists_nodes: true, ..Features::default() };
        for (features, expected) in [(Features::default(), false), (listing, true)] {
            let options = Options { features, ..Options::default() };
            assert_eq!(super::rule(&options, &node, true).contains(&"+cluster|nodes".to_owned()), expected);
        }
        assert!(rule(&options, (7, 2), (8, 1)).contains("+commandlog|get"));
        let mut options = options;
        options.features.keys = crate::options::KeyArg::parse_list("a*b").unwrap();
        assert!(rule(&options, (7, 0), (0, 0)).contains("%R~a\\*b +client|setname"));
        assert!(rule(&options, (6, 2), (0, 0)).contains(" ~a\\*b "));
        options.features.search_indexes = regex::Regex::new("").ok();
        assert!(rule(&options, (7, 4), (0, 0)).contains("resetchannels -@all ~* +client|no-touch"));
    }

    #[test]
    fn what_each_command_is_for_is_said() {
        let mut options = Options::default();
        options.features.clients = true;
        for (_, version, valkey) in SERVERS {
            for need in needs(&options, &server(*version, *valkey), false) {
                assert!(!need.lost().is_empty(), "{}", need.name);
            }
        }
    }
}
