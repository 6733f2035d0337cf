//! Every flag and variable of postgres_exporter 0.19 and 0.20 is accepted, and acts.

use std::ffi::OsString;
use std::time::Duration;

use super::*;
use crate::options::WhichDatabases;

fn parse_in(arguments: &[&str], variables: &[(&'static str, &str)]) -> Result<Cli, String> {
    let arguments = ["pg-exporter"].iter().chain(arguments).map(OsString::from);
    let variables = variables.iter().map(|(name, value)| (*name, (*value).to_owned()));
    Cli::try_parse(arguments, &Environment::new(variables)).map_err(|error| error.to_string())
}

fn parse(arguments: &[&str]) -> Cli {
    parse_in(arguments, &[]).unwrap()
}

fn enabled(arguments: &[&str]) -> Vec<&'static str> {
    parse(arguments).enabled().iter().map(|collector| collector.spec.name).collect()
}

#[test]
fn the_command_is_sound() {
    command().debug_assert();
}

#[test]
fn collectors_are_switched_by_flags() {
    assert!(enabled(&[]).contains(&"stat_database"));
    assert!(!enabled(&["--no-collector.stat_database"]).contains(&"stat_database"));
    assert!(enabled(&["--no-collector.wal", "--collector.wal"]).contains(&"wal"));
    assert!(!enabled(&["--collector.wal", "--no-collector.wal"]).contains(&"wal"));
    assert_eq!(enabled(&["--disable-default-collectors", "--collector.wal"]), ["wal"]);
    assert!(!enabled(&["--disable-settings-metrics"]).contains(&"settings"));
    let default_metrics = ["static", "stat_database_conflicts"];
    let without = enabled(&["--disable-default-metrics"]);
    assert!(default_metrics.iter().all(|name| !without.contains(name)) && without.contains(&"stat_archiver"));
    let without = enabled(&["--disable-default-metrics", "--compat=0.19"]);
    assert!(!without.contains(&"stat_archiver") && without.contains(&"settings"));
}

/// What a flag does to the command line's meaning.
type Acts = fn(&Cli) -> bool;

fn has(cli: &Cli, name: &str) -> bool {
    cli.enabled().iter().any(|collector| collector.spec.name == name)
}

#[rustfmt::skip]
const VALUES: &[(&str, &str, Acts)] = &[
    ("--config.file", "x.yml", |cli| cli.config_file() == Some("x.yml".into())),
    ("--web.listen-address", ":1", |cli| cli.web.listen_address.len() == 1),
    ("--web.config.file", "x.yml", |cli| cli.web.config_file.is_some()),
    ("--web.telemetry-path", "/x", |cli| cli.web.telemetry_path == "/x"),
    ("--exclude-databases", "a,b", |cli| cli.names.exclude == ["a", "b"]),
    ("--include-databases", "a,b", |cli| cli.names.include == ["a", "b"]),
    ("--databases", "all", |cli| cli.databases.which == WhichDatabases::All),
    ("--databases.sessions", "7", |cli| cli.databases.sessions.get() == 7),
    ("--databases.refresh", "7s", |cli| cli.databases.refresh.get() == Duration::from_secs(7)),
    ("--extend.query-path", "x.yml", |cli| cli.query_path() == Some(Path::new("x.yml"))),
    ("--constantLabels", "a=b, c=d", |cli| cli.constant_labels.0.len() == 2),
    ("--metric-prefix", "x", |cli| cli.metric_prefix == "x"),
    ("--collection-timeout", "1m", |cli| cli.web.scrape_timeout.get() == Duration::from_secs(60)),
    ("--log.level", "debug", |cli| cli.web.log_level == tracing::Level::DEBUG),
    ("--log.format", "json", |cli| format!("{:?}", cli.web.log_format).contains("Json")),
    ("--collector.stat_statements.query_length", "7", |cli| cli.statements.query_length == 7),
    ("--collector.stat_statements.limit", "7", |cli| cli.statements.limit == 7),
    ("--collector.stat_statements.exclude_databases", "a,b", |cli| cli.statements.exclude_databases.len() == 2),
    ("--collector.stat_statements.exclude_users", "a,b", |cli| cli.statements.exclude_users.len() == 2),
];

#[test]
fn values() {
    for &(flag, value, acts) in VALUES {
        assert!(!acts(&parse(&[])), "{flag} cannot be told from its default");
        assert!(acts(&parse(&[flag, value])), "{flag} {value}");
        assert!(acts(&parse(&[&format!("{flag}={value}")])), "{flag}={value}");
        assert!(acts(&parse(&["once", flag, value])), "once {flag} {value}");
    }
}

#[rustfmt::skip]
const SWITCHES: &[(&str, Acts)] = &[
    ("web.systemd-socket", |cli| cli.web.systemd_socket),
    ("disable-default-metrics", |cli| cli.disable_default_metrics),
    ("disable-settings-metrics", |cli| cli.disable_settings_metrics),
    ("auto-discover-databases", |cli| cli.auto_discover_databases),
    ("dumpmaps", |cli| cli.dump_maps),
    ("collector.stat_statements.include_query", |cli| cli.statements.include_query),
    ("collector.stat_statements.sticky", |cli| cli.statements.sticky),
    ("collector.buffercache_summary", |cli| has(cli, "buffercache_summary")),
    ("collector.database", |cli| has(cli, "database")),
    ("collector.database_wraparound", |cli| has(cli, "database_wraparound")),
    ("collector.locks", |cli| has(cli, "locks")),
    ("collector.long_running_transactions", |cli| has(cli, "long_running_transactions")),
    ("collector.postmaster", |cli| has(cli, "postmaster")),
    ("collector.process_idle", |cli| has(cli, "process_idle")),
    ("collector.replication", |cli| has(cli, "replication")),
    ("collector.replication_slot", |cli| has(cli, "replication_slots")),
    ("collector.replication_slots", |cli| has(cli, "replication_slots")),
    ("collector.roles", |cli| has(cli, "roles")),
    ("collector.settings", |cli| has(cli, "settings")),
    ("collector.stat_activity", |cli| has(cli, "stat_activity")),
    ("collector.stat_activity_autovacuum", |cli| has(cli, "stat_activity_autovacuum")),
    ("collector.stat_archiver", |cli| has(cli, "stat_archiver")),
    ("collector.stat_bgwriter", |cli| has(cli, "stat_bgwriter")),
    ("collector.stat_checkpointer", |cli| has(cli, "stat_checkpointer")),
    ("collector.stat_database", |cli| has(cli, "stat_database")),
    ("collector.stat_progress_vacuum", |cli| has(cli, "stat_progress_vacuum")),
    ("collector.stat_replication", |cli| has(cli, "stat_replication")),
    ("collector.stat_statements", |cli| has(cli, "stat_statements")),
    ("collector.stat_user_tables", |cli| has(cli, "stat_user_tables")),
    ("collector.stat_wal_receiver", |cli| has(cli, "stat_wal_receiver")),
    ("collector.statio_user_indexes", |cli| has(cli, "statio_user_indexes")),
    ("collector.statio_user_tables", |cli| has(cli, "statio_user_tables")),
    ("collector.wal", |cli| has(cli, "wal")),
];

#[test]
fn switches() {
    for &(flag, acts) in SWITCHES {
        let (on, off) = (format!("--{flag}"), format!("--no-{flag}"));
        assert!(acts(&parse(&[&on])), "{on}");
        assert!(!acts(&parse(&[&off])), "{off}");
        assert!(acts(&parse(&[&off, &on])) && !acts(&parse(&[&on, &off])), "the last one counts: {flag}");
    }
}

#[rustfmt::skip]
const VARIABLES: &[(&str, &str, Acts)] = &[
    ("PG_EXPORTER_WEB_TELEMETRY_PATH", "/x", |cli| cli.web.telemetry_path == "/x"),
    ("PG_EXPORTER_DISABLE_DEFAULT_METRICS", "true", |cli| cli.disable_default_metrics),
    ("PG_EXPORTER_DISABLE_SETTINGS_METRICS", "1", |cli| cli.disable_settings_metrics),
    ("PG_EXPORTER_AUTO_DISCOVER_DATABASES", "T", |cli| cli.auto_discover_databases),
    ("PG_EXPORTER_EXCLUDE_DATABASES", "a,b", |cli| cli.names.exclude == ["a", "b"]),
    ("PG_EXPORTER_INCLUDE_DATABASES", "a,b", |cli| cli.names.include == ["a", "b"]),
    ("PG_EXPORTER_EXTEND_QUERY_PATH", "x", |cli| cli.query_path().is_some()),
    ("PG_EXPORTER_CONSTANT_LABELS", "a=b", |cli| !cli.constant_labels.0.is_empty()),
    ("PG_EXPORTER_METRIC_PREFIX", "x", |cli| cli.metric_prefix == "x"),
    ("PG_EXPORTER_COLLECTION_TIMEOUT", "3s", |cli| cli.web.scrape_timeout.get() == Duration::from_secs(3)),
];

#[test]
fn variables() {
    for &(name, value, acts) in VARIABLES {
        assert!(acts(&parse_in(&[], &[(name, value)]).unwrap()));
        assert!(!acts(&parse_in(&[], &[(name, "")]).unwrap()), "an empty variable counts as unset");
    }
}

#[test]
fn names_of_databases_are_patterns() {
    for (arguments, wanted) in [
        (&[] as &[_], &["shop", "shop_2", "stock"] as &[_]),
        (&["--include-databases="], &["shop", "shop_2", "stock"]),
        (&["--include-databases=sh*"], &["shop", "shop_2"]),
        (&["--include-databases=shop,stock"], &["shop", "stock"]),
        (&["--include-databases=sh*", "--exclude-databases=*_2"], &["shop"]),
        (&["--exclude-databases=s*"], &[]),
    ] {
        let names = parse(arguments).names;
        let found: Vec<_> = ["shop", "shop_2", "stock"].into_iter().filter(|name| names.want(name)).collect();
        assert_eq!(found, wanted, "{arguments:?}");
    }
}

#[test]
fn what_has_no_effect_is_accepted_and_nonsense_is_not() {
    parse(&["--collector.xlog_location", "--no-collector.xlog_location"]);
    for (arguments, part) in [
        (&["--constantLabels=a"] as &[_], "NAME=VALUE"),
        (&["--constantLabels=1=b"], "name of a label"),
        (&["--metric-prefix=1x"], "start of a metric"),
        (&["--nonsense"], "--nonsense"),
    ] {
        let message = parse_in(arguments, &[]).err().unwrap();
        assert!(message.contains(part), "{arguments:?}: {message}");
    }
}
