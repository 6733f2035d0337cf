//! The flags and environment variables of redis_exporter, in Go's syntax, in the spelling that our parser knows.

/// The value of a flag in the environment.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What redis_exporter calls a flag, what it is here, its environment variable, and whether it is a boolean.
struct Flag {
    theirs: &'static str,
    ours: &'static str,
    env: &'static str,
    boolean: bool,
}

const fn text(theirs: &'static str, ours: &'static str, env: &'static str) -> Flag {
    Flag { theirs, ours, env, boolean: false }
}

const fn switch(name: &'static str, env: &'static str) -> Flag {
    Flag { theirs: name, ours: name, env, boolean: true }
}

#[rustfmt::skip]
const FLAGS: &[Flag] = &[
    text("redis.addr", "url", "REDIS_ADDR"),
    text("redis.user", "redis.user", "REDIS_USER"),
    text("redis.password", "redis.password", "REDIS_PASSWORD"),
    text("redis.password-file", "redis.password-file", "REDIS_PASSWORD_FILE"),
    text("namespace", "namespace", "REDIS_EXPORTER_NAMESPACE"),
    text("config-command", "config-command", "REDIS_EXPORTER_CONFIG_COMMAND"),
    text("connection-timeout", "scrape-timeout", "REDIS_EXPORTER_CONNECTION_TIMEOUT"),
    text("web.listen-address", "web.listen-address", "REDIS_EXPORTER_WEB_LISTEN_ADDRESS"),
    text("web.telemetry-path", "web.telemetry-path", "REDIS_EXPORTER_WEB_TELEMETRY_PATH"),
    text("log-level", "log.level", "REDIS_EXPORTER_LOG_LEVEL"),
    text("log-format", "log.format", "REDIS_EXPORTER_LOG_FORMAT"),
    text("tls-ca-cert-file", "tls-ca-cert-file", "REDIS_EXPORTER_TLS_CA_CERT_FILE"),
    text("tls-client-cert-file", "tls-client-cert-file", "REDIS_EXPORTER_TLS_CLIENT_CERT_FILE"),
    text("tls-client-key-file", "tls-client-key-file", "REDIS_EXPORTER_TLS_CLIENT_KEY_FILE"),
    switch("append-instance-role-label", "REDIS_EXPORTER_APPEND_INSTANCE_ROLE_LABEL"),
    switch("debug", "REDIS_EXPORTER_DEBUG"),
    switch("exclude-latency-histogram-metrics", "REDIS_EXPORTER_EXCLUDE_LATENCY_HISTOGRAM_METRICS"),
    switch("include-config-metrics", "REDIS_EXPORTER_INCL_CONFIG_METRICS"),
    switch("include-metrics-for-empty-databases", "REDIS_EXPORTER_INCL_METRICS_FOR_EMPTY_DATABASES"),
    switch("include-system-metrics", "REDIS_EXPORTER_INCL_SYSTEM_METRICS"),
    switch("redact-config-metrics", "REDIS_EXPORTER_REDACT_CONFIG_METRICS"),
    switch("redis-only-metrics", "REDIS_EXPORTER_REDIS_ONLY_METRICS"),
    switch("set-client-name", "REDIS_EXPORTER_SET_CLIENT_NAME"),
    switch("skip-tls-verification", "REDIS_EXPORTER_SKIP_TLS_VERIFICATION"),
    text("check-keys", "check-keys", "REDIS_EXPORTER_CHECK_KEYS"),
    text("check-single-keys", "check-single-keys", "REDIS_EXPORTER_CHECK_SINGLE_KEYS"),
    text("check-key-groups", "check-key-groups", "REDIS_EXPORTER_CHECK_KEY_GROUPS"),
    text("check-streams", "check-streams", "REDIS_EXPORTER_CHECK_STREAMS"),
    text("check-single-streams", "check-single-streams", "REDIS_EXPORTER_CHECK_SINGLE_STREAMS"),
    text("count-keys", "count-keys", "REDIS_EXPORTER_COUNT_KEYS"),
    text("check-keys-batch-size", "check-keys-batch-size", "REDIS_EXPORTER_CHECK_KEYS_BATCH_SIZE"),
    text("script", "script", "REDIS_EXPORTER_SCRIPT"),
    text("tls-server-name", "tls-server-name", "REDIS_EXPORTER_TLS_SERVER_NAME"),
    text("tls-server-key-file", "tls-server-key-file", "REDIS_EXPORTER_TLS_SERVER_KEY_FILE"),
    text("tls-server-cert-file", "tls-server-cert-file", "REDIS_EXPORTER_TLS_SERVER_CERT_FILE"),
    text("tls-server-ca-cert-file", "tls-server-ca-cert-file", "REDIS_EXPORTER_TLS_SERVER_CA_CERT_FILE"),
    text("tls-server-min-version", "tls-server-min-version", "REDIS_EXPORTER_TLS_SERVER_MIN_VERSION"),
    text("max-distinct-key-groups", "max-distinct-key-groups", "REDIS_EXPORTER_MAX_DISTINCT_KEY_GROUPS"),
    text("check-search-indexes", "check-search-indexes", "REDIS_EXPORTER_CHECK_SEARCH_INDEXES"),
    text("basic-auth-username", "basic-auth-username", "REDIS_EXPORTER_BASIC_AUTH_USERNAME"),
    text("basic-auth-password", "basic-auth-password", "REDIS_EXPORTER_BASIC_AUTH_PASSWORD"),
    text("basic-auth-hash-password", "basic-auth-hash-password", "REDIS_EXPORTER_BASIC_AUTH_HASH_PASSWORD"),
    switch("streams-exclude-consumer-metrics", "REDIS_EXPORTER_STREAMS_EXCLUDE_CONSUMER_METRICS"),
    switch("lua-script-read-only", "REDIS_EXPORTER_LUA_SCRIPT_READ_ONLY"),
    switch("is-tile38", "REDIS_EXPORTER_IS_TILE38"),
    switch("is-cluster", "REDIS_EXPORTER_IS_CLUSTER"),
    switch("cluster-discover-hostnames", "REDIS_EXPORTER_CLUSTER_DISCOVER_HOSTNAMES"),
    switch("export-client-list", "REDIS_EXPORTER_EXPORT_CLIENT_LIST"),
    switch("export-client-port", "REDIS_EXPORTER_EXPORT_CLIENT_PORT"),
    switch("include-go-runtime-metrics", "REDIS_EXPORTER_INCLUDE_GO_RUNTIME_METRICS"),
    switch("ping-on-connect", "REDIS_EXPORTER_PING_ON_CONNECT"),
    switch("include-modules-metrics", "REDIS_EXPORTER_INCL_MODULES_METRICS"),
    switch("include-search-indexes-metrics", "REDIS_EXPORTER_INCL_SEARCH_INDEXES_METRICS"),
    switch("include-sentinel-peer-info", "REDIS_EXPORTER_INCL_SENTINEL_PEER_INFO"),
    switch("disable-exporting-key-values", "REDIS_EXPORTER_DISABLE_EXPORTING_KEY_VALUES"),
    switch("include-rdb-file-size-metric", "REDIS_EXPORTER_INCL_RDB_FILE_SIZE_METRIC"),
    switch("skip-checkkeys-for-role-master", "REDIS_EXPORTER_SKIP_CHECKKEYS_FOR_ROLE_MASTER"),
    switch("disable-scrape-endpoint", "REDIS_EXPORTER_DISABLE_SCRAPE_ENDPOINT"),
];

/// What Go's `ParseBool` accepts.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Our spelling of a flag; `None` when it changes nothing.
fn spell(flag: &Flag, value: &str) -> Option<String> {
    let value = match (flag.theirs, flag.boolean) {
        ("debug", _) => return (go_bool(value) == Some(true)).then(|| "--log.level=debug".to_owned()),
        (_, true) => go_bool(value).map_or_else(|| value.to_owned(), |value| value.to_string()),
        ("log-level", _) => match value.to_ascii_lowercase().as_str() {
            known @ ("debug" | "info" | "warn" | "error") => known.to_owned(),
            _ => "info".to_owned(),
        },
        ("log-format", _) if value == "txt" => "logfmt".to_owned(),
        _ => value.to_owned(),
    };
    Some(format!("--{}={value}", flag.ours))
}

/// The arguments in the spelling that the parser knows: two dashes, our names, values of the environment first.
/// A variable that is set counts even when it is empty; one that is not a boolean where one is needed does not.
pub(super) fn normalise(arguments: impl IntoIterator<Item = String>, env: Lookup<'_>) -> Vec<String> {
    let mut arguments = arguments.into_iter().peekable();
    let program = arguments.next();
    let (mut out, mut given, mut debug) = (Vec::new(), Vec::new(), None);
    while let Some(argument) = arguments.next() {
        let name = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')).unwrap_or_default();
        let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
        let Some(flag) = FLAGS.iter().find(|flag| name == flag.theirs || name == flag.ours) else {
            let long = argument.starts_with('-') && !argument.starts_with("--") && argument.len() > 2;
            out.push(if long { format!("-{argument}") } else { argument });
            continue;
        };
        given.push(flag.ours);
        let value = match value {
            Some(value) => value.to_owned(),
            None if flag.boolean => "true".to_owned(),
            None => arguments.next().unwrap_or_default(),
        };
        let spelt = spell(flag, &value);
        if flag.theirs == "debug" { debug = spelt } else { out.extend(spelt) }
    }
    let from_env = FLAGS.iter().filter(|flag| !given.contains(&flag.ours)).filter_map(|flag| {
        let value = env(flag.env)?;
        (!flag.boolean || go_bool(&value).is_some()).then(|| (flag, spell(flag, &value)))
    });
    let mut all: Vec<String> = program.into_iter().collect();
    for (flag, spelt) in from_env {
        if flag.theirs == "debug" { debug = debug.or(spelt) } else { all.extend(spelt) }
    }
    all.extend(out);
    // -debug wins over any level.
    all.extend(debug);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_the_peer_is_known_once() {
        let mut theirs: Vec<&str> = FLAGS.iter().map(|flag| flag.theirs).collect();
        theirs.sort_unstable();
        theirs.dedup();
        // -version is the parser's own.
        assert_eq!((theirs.len(), FLAGS.len()), (58, 58));
    }
}
