//! What postgres_exporter's command line and environment have that ours has not by itself: environment variables, empty
//! ones included, kingpin's `--no-` forms, `@file`, and names that changed from one of its versions to the next.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};
use pg_client::Environment;

use crate::collectors;

/// A flag of postgres_exporter and the variable that stands in for it.
struct Variable {
    name: &'static str,
    flag: &'static str,
    boolean: bool,
}

const fn text(name: &'static str, flag: &'static str) -> Variable {
    Variable { name, flag, boolean: false }
}

const fn switch(name: &'static str, flag: &'static str) -> Variable {
    Variable { name, flag, boolean: true }
}

#[rustfmt::skip]
const VARIABLES: &[Variable] = &[
    text("PG_EXPORTER_WEB_TELEMETRY_PATH", "web.telemetry-path"),
    text("PG_EXPORTER_EXCLUDE_DATABASES", "exclude-databases"),
    text("PG_EXPORTER_INCLUDE_DATABASES", "include-databases"),
    text("PG_EXPORTER_EXTEND_QUERY_PATH", "extend.query-path"),
    text("PG_EXPORTER_CONSTANT_LABELS", "constantLabels"),
    text("PG_EXPORTER_METRIC_PREFIX", "metric-prefix"),
    text("PG_EXPORTER_COLLECTION_TIMEOUT", "collection-timeout"),
    switch("PG_EXPORTER_DISABLE_DEFAULT_METRICS", "disable-default-metrics"),
    switch("PG_EXPORTER_DISABLE_SETTINGS_METRICS", "disable-settings-metrics"),
    switch("PG_EXPORTER_AUTO_DISCOVER_DATABASES", "auto-discover-databases"),
];

/// Flags under the name that another version of postgres_exporter has for them.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("scrape-timeout", "collection-timeout"),
    ("collector.replication_slots", "collector.replication_slot"),
    ("no-collector.replication_slots", "no-collector.replication_slot"),
];

/// Collectors of postgres_exporter for servers that are not supported.
const WITHOUT_EFFECT: &[&str] = &["collector.xlog_location", "no-collector.xlog_location"];

/// kingpin's further forms of `--help`.
const HELP: &[&str] = &["--help-long", "--help-man"];

/// The arguments as our parser wants them, the program's name first.
///
/// # Errors
/// What cannot be used, and where it stands.
pub(super) fn arguments(
    given: impl Iterator<Item = OsString>,
    environment: &Environment,
) -> Result<Vec<OsString>, String> {
    let mut given = given;
    let program = given.next().unwrap_or_else(|| "pg-exporter".into());
    let mut own = Vec::new();
    for argument in given {
        match argument.to_str() {
            Some(text) if HELP.contains(&text) => own.push("--help".into()),
            Some(text) if text.len() > 1 && text.starts_with('@') => own.extend(from_file(&text[1..])?),
            _ => own.push(argument),
        }
    }
    let mut all = vec![program];
    all.extend(from_environment(environment, &own)?);
    all.extend(own);
    Ok(all)
}

/// One argument a line; a line that starts with `#` is none.
fn from_file(path: &str) -> Result<Vec<OsString>, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read arguments from {path}, given as @{path}: {error}"))?;
    Ok(text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(OsString::from).collect())
}

/// Variables that are set and whose flag is not given.
fn from_environment(environment: &Environment, own: &[OsString]) -> Result<Vec<OsString>, String> {
    let mut found = Vec::new();
    for Variable { name, flag, boolean } in VARIABLES {
        let Some(value) = environment.var(name).filter(|_| !is_given(own, flag)) else { continue };
        if !boolean {
            found.push(format!("--{flag}={value}").into());
            continue;
        }
        match go_bool(value) {
            Some(true) => found.push(format!("--{flag}").into()),
            Some(false) => {}
            None => return Err(format!("{name}={value:?} is no boolean; write true or false")),
        }
    }
    Ok(found)
}

fn is_given(own: &[OsString], flag: &str) -> bool {
    let names = OTHER_NAMES.iter().filter(|(_, other)| *other == flag).map(|(name, _)| *name).chain([flag]);
    let given = |name: &str| {
        own.iter()
            .filter_map(|argument| argument.to_str()?.strip_prefix("--"))
            .any(|argument| argument.strip_prefix("no-").unwrap_or(argument).split('=').next() == Some(name))
    };
    names.into_iter().any(given)
}

/// What Go's `ParseBool` accepts.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// The command with a flag for each collector, and a `--no-` form of every switch: the last one counts.
pub(super) fn complete(mut command: Command) -> Command {
    const HEADING: &str = "Collectors (--no-collector.NAME switches one off)";
    for collector in collectors::ALL {
        let state = if collector.spec.default_enabled { "on" } else { "off" };
        let id = format!("collector.{}", collector.spec.name);
        let help = format!("{} [default: {state}]", collector.spec.doc);
        let flag = Arg::new(id.clone()).long(id).action(ArgAction::SetTrue).help(help);
        command = command.arg(flag.help_heading(HEADING));
    }
    let switches = command.get_arguments().filter(|arg| matches!(arg.get_action(), ArgAction::SetTrue));
    let switches: Vec<(String, String)> =
        switches.filter_map(|arg| Some((arg.get_id().to_string(), arg.get_long()?.to_owned()))).collect();
    for (id, long) in switches {
        let off = format!("no-{long}");
        let flag = Arg::new(off.clone()).long(off.clone()).action(ArgAction::SetTrue).hide(true);
        command = command
            .mut_arg(id.clone(), |arg| arg.overrides_with(off.clone()))
            .arg(flag.overrides_with(id.clone()).overrides_with(off));
    }
    for name in WITHOUT_EFFECT {
        command = command.arg(Arg::new(*name).long(*name).action(ArgAction::SetTrue).hide(true));
    }
    let ids: Vec<String> = command.get_arguments().map(|arg| arg.get_id().to_string()).collect();
    for id in ids {
        command = command.mut_arg(id, |arg| {
            let others = OTHER_NAMES.iter().filter(|(name, _)| arg.get_long() == Some(*name));
            let others: Vec<&str> = others.map(|(_, other)| *other).collect();
            arg.aliases(others).global(true)
        });
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str], variables: &[(&'static str, &str)]) -> Result<Vec<String>, String> {
        let given = ["pg-exporter"].iter().chain(arguments).map(OsString::from);
        let environment =
            Environment::new(variables.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let all = super::arguments(given, &environment)?;
        Ok(all.into_iter().skip(1).map(|argument| argument.into_string().unwrap()).collect())
    }

    #[test]
    fn flags_beat_variables_and_empty_ones_are_unset() {
        let prefix = [("PG_EXPORTER_METRIC_PREFIX", "x")];
        assert_eq!(read(&["check"], &prefix).unwrap(), ["--metric-prefix=x", "check"]);
        assert_eq!(read(&["--metric-prefix", "y"], &prefix).unwrap(), ["--metric-prefix", "y"]);
        assert_eq!(read(&["--metric-prefix=y"], &prefix).unwrap(), ["--metric-prefix=y"]);
        assert_eq!(read(&[], &[("PG_EXPORTER_METRIC_PREFIX", "")]).unwrap(), [""; 0]);
        assert_eq!(
            read(&["--scrape-timeout=1s"], &[("PG_EXPORTER_COLLECTION_TIMEOUT", "2s")]).unwrap(),
            ["--scrape-timeout=1s"]
        );
    }

    #[test]
    fn booleans_are_go_s() {
        let name = "PG_EXPORTER_AUTO_DISCOVER_DATABASES";
        assert_eq!(read(&[], &[(name, "T")]).unwrap(), ["--auto-discover-databases"]);
        assert_eq!(read(&[], &[(name, "0")]).unwrap(), [""; 0]);
        assert_eq!(
            read(&["--no-auto-discover-databases"], &[(name, "1")]).unwrap(),
            ["--no-auto-discover-databases"]
        );
        assert!(read(&[], &[(name, "yes")]).unwrap_err().contains(name));
    }

    #[test]
    fn arguments_may_stand_in_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flags");
        std::fs::write(&path, "# ours\n--collector.wal\n\n--log.level=debug\n").unwrap();
        let given = format!("@{}", path.display());
        assert_eq!(
            read(&[&given, "--help-long"], &[]).unwrap(),
            ["--collector.wal", "--log.level=debug", "--help"]
        );
        assert!(read(&["@/nonexistent/flags"], &[]).unwrap_err().contains("/nonexistent/flags"));
    }
}
