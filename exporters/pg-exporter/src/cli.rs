//! Flags and environment: ours, and those of postgres_exporter for the target.

use std::fs;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, Parser};
use exporter_kit::app::WebArgs;
use exporter_kit::config::GoDuration;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pg_client::{Connector, Dsn, Environment};

use crate::collectors;
use crate::options::{Compat, Options, Statements};
use crate::sql::PgCollector;

/// Prometheus exporter for PostgreSQL.
#[derive(Parser)]
#[command(name = "pg-exporter", version)]
pub struct Cli {
    /// Connection string: a URI or key=value pairs, as libpq reads them. Default: DATA_SOURCE_NAME, else
    /// DATA_SOURCE_URI with DATA_SOURCE_USER and DATA_SOURCE_PASS, else libpq's own environment and defaults
    #[arg(long, value_name = "DSN")]
    dsn: Option<String>,
    /// Whose shape the page has where versions of postgres_exporter differ
    #[arg(long, value_enum, default_value_t)]
    compat: Compat,
    /// How old sizes of databases and relations may get before a scrape starts to refresh them in the background;
    /// 0 reads them on every scrape
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    size_refresh: GoDuration,
    /// Databases whose size and limit are left out, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',', env = "PG_EXPORTER_EXCLUDE_DATABASES")]
    exclude_databases: Vec<String>,
    /// Switch all collectors off that are not switched on by a flag
    #[arg(long)]
    disable_default_collectors: bool,
    /// What stat_statements shows.
    #[command(flatten)]
    statements: Statements,
    /// Web and scrape options.
    #[command(flatten)]
    pub web: WebArgs,
    #[arg(skip)]
    enabled: Vec<&'static PgCollector>,
}

impl Cli {
    /// Parses the process's arguments; ends the process on `--help` and on usage errors (exit code 2).
    pub fn parse_args() -> Cli {
        let matches = command().get_matches();
        Cli::from_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    fn from_matches(matches: &ArgMatches) -> Result<Cli, clap::Error> {
        let mut cli = Cli::from_arg_matches(matches)?;
        let default = !cli.disable_default_collectors;
        cli.enabled = collectors::ALL
            .iter()
            .copied()
            .filter(|collector| {
                let name = collector.spec.name;
                let on = matches.get_flag(&format!("collector.{name}"));
                let off = matches.get_flag(&format!("no-collector.{name}"));
                on || (default && collector.spec.default_enabled && !off)
            })
            .collect();
        Ok(cli)
    }

    /// The collectors that are switched on.
    pub fn enabled(&self) -> &[&'static PgCollector] {
        &self.enabled
    }

    /// What collectors need to know.
    pub fn options(&self) -> Options {
        Options {
            compat: self.compat,
            constant_labels: Vec::new(),
            exclude_databases: self.exclude_databases.clone(),
            size_refresh: self.size_refresh.get(),
            // A little less than the scrape may take, so that the server's word for it still arrives.
            statement_timeout: self.web.scrape_timeout.get().mul_f32(0.9),
            statements: self.statements.clone(),
        }
    }

    /// How to reach the server.
    ///
    /// # Errors
    /// A connection string that cannot be read, or a file that a variable names and that cannot be read.
    pub fn connector(&self, environment: &Environment) -> anyhow::Result<Connector> {
        let (dsn, origin) = match (&self.dsn, data_source(environment)?) {
            (Some(dsn), _) => (Some(dsn.clone()), "--dsn"),
            (None, found) => (found, "DATA_SOURCE_*"),
        };
        let dsn = match dsn {
            Some(text) => Dsn::parse_in(&text, environment)
                .with_context(|| format!("cannot use the connection string in {origin}"))?,
            None => Dsn::from_env(environment).context("cannot use the PG* variables of the environment")?,
        };
        Ok(Connector::new(dsn).with_application_name("pg-exporter"))
    }
}

/// The command with two flags for each collector.
pub fn command() -> Command {
    let mut command = Cli::command()
        .mut_arg("telemetry_path", |arg| arg.env("PG_EXPORTER_WEB_TELEMETRY_PATH"))
        .mut_arg("scrape_timeout", |arg| {
            arg.alias("collection-timeout").env("PG_EXPORTER_COLLECTION_TIMEOUT")
        });
    for collector in collectors::ALL {
        let name = collector.spec.name;
        let (on, off) = (format!("collector.{name}"), format!("no-collector.{name}"));
        let flag = |id: &str, other: &str| {
            let id = id.to_owned();
            Arg::new(id.clone()).long(id).action(ArgAction::SetTrue).overrides_with(other.to_owned())
        };
        let state = if collector.spec.default_enabled { "on" } else { "off" };
        let help = format!("{} [default: {state}]", collector.spec.doc);
        command = command
            .arg(flag(&on, &off).help(help).help_heading("Collectors (--no-collector.NAME switches one off)"))
            .arg(flag(&off, &on).hide(true));
    }
    command
}

/// The target from postgres_exporter's variables.
fn data_source(environment: &Environment) -> anyhow::Result<Option<String>> {
    if let Some(name) = environment.var("DATA_SOURCE_NAME") {
        return Ok(Some(name.to_owned()));
    }
    let from_file = |name: &str| -> anyhow::Result<Option<String>> {
        if let Some(path) = environment.var(&format!("{name}_FILE")) {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read {path}, named by {name}_FILE"))?;
            return Ok(Some(text.trim().to_owned()));
        }
        Ok(environment.var(name).map(str::to_owned))
    };
    let Some(uri) = from_file("DATA_SOURCE_URI")? else { return Ok(None) };
    let encode = |text: Option<String>| {
        text.map(|text| utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string()).unwrap_or_default()
    };
    let (user, password) = (encode(from_file("DATA_SOURCE_USER")?), encode(from_file("DATA_SOURCE_PASS")?));
    let login = match (user.as_str(), password.as_str()) {
        ("", "") => String::new(),
        (user, "") => format!("{user}@"),
        (user, password) => format!("{user}:{password}@"),
    };
    Ok(Some(format!("postgresql://{login}{uri}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enabled(arguments: &[&str]) -> Vec<&'static str> {
        let matches = command().try_get_matches_from([&["pg-exporter"], arguments].concat()).unwrap();
        Cli::from_matches(&matches).unwrap().enabled().iter().map(|collector| collector.spec.name).collect()
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
        assert_eq!(enabled(&["--disable-default-collectors", "--collector.wal"]), ["wal"]);
    }

    #[test]
    fn data_source_variables() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pass");
        fs::write(&file, "p:w@d\n").unwrap();
        let map = |pairs: &[(&'static str, &str)]| {
            Environment::new(pairs.iter().map(|(name, value)| (*name, (*value).to_owned())))
        };
        let uri = data_source(&map(&[
            ("DATA_SOURCE_URI", "db:5432/app?sslmode=disable"),
            ("DATA_SOURCE_USER", "me"),
            ("DATA_SOURCE_PASS_FILE", file.to_str().unwrap()),
        ]));
        assert_eq!(uri.unwrap().unwrap(), "postgresql://me:p%3Aw%40d@db:5432/app?sslmode=disable");
        let name = data_source(&map(&[("DATA_SOURCE_NAME", "host=a"), ("DATA_SOURCE_URI", "b")]));
        assert_eq!(name.unwrap().unwrap(), "host=a");
        assert_eq!(data_source(&map(&[])).unwrap(), None);
        let missing = data_source(&map(&[("DATA_SOURCE_URI_FILE", "/nonexistent/uri")])).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/uri"));
    }
}
