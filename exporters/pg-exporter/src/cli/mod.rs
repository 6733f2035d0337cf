//! Flags and environment: ours, and those of postgres_exporter.

mod data_source;
mod flags;

use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, Parser};
use exporter_kit::app::{Web, WebArgs};
use exporter_kit::config::GoDuration;
use exporter_kit::names::Names;
use exposition::is_label_name;
use pg_client::{Connector, Environment};

use crate::collectors;
use crate::commands;
use crate::options::{Compat, DatabaseNames, Databases, Options, Statements};
use crate::sql::PgCollector;

pub(crate) use data_source::APPLICATION_NAME;

/// The file of modules and targets that is read when no other is named.
const CONFIG_FILE: &str = "postgres_exporter.yml";

/// Prometheus exporter for PostgreSQL.
#[derive(Clone, Parser)]
#[command(name = "pg-exporter", version, args_override_self = true)]
pub struct Cli {
    /// What to do instead of serving metrics.
    #[command(subcommand)]
    pub command: Option<commands::Command>,
    /// Connection string: a URI or key=value pairs, as libpq reads them; repeatable. Default: DATA_SOURCE_NAME, else
    /// DATA_SOURCE_URI with DATA_SOURCE_USER and DATA_SOURCE_PASS, else libpq's own environment and defaults
    #[arg(long, value_name = "DSN", action = clap::ArgAction::Append)]
    dsn: Vec<String>,
    /// Modules and targets of /probe and /sd. Default: postgres_exporter.yml, if it is there
    #[arg(id = "modules_file", long = "config.file", value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Targets of /probe whose connections are kept
    #[arg(long = "probe.max-targets", value_name = "N", default_value = "1000")]
    pub probe_max_targets: usize,
    /// Whose shape the page has where versions of postgres_exporter differ
    #[arg(long, value_enum, default_value_t)]
    compat: Compat,
    /// What families are called whose name promtool check metrics objects to: as in postgres_exporter, or clean
    #[arg(long = "names", value_enum, default_value_t)]
    family_names: Names,
    /// How old sizes of databases and relations may get before a scrape starts to refresh them in the background;
    /// 0 reads them on every scrape
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    size_refresh: GoDuration,
    /// Whose tables, indexes, functions and sequences are shown.
    #[command(flatten)]
    databases: Databases,
    /// Names of databases.
    #[command(flatten)]
    names: DatabaseNames,
    /// Run the queries of --extend.query-path in all databases, not just the connected one
    #[arg(long)]
    auto_discover_databases: bool,
    /// Queries of your own, as a YAML file in postgres_exporter's form
    #[arg(long = "extend.query-path", value_name = "FILE")]
    query_path: Option<PathBuf>,
    /// Print the built-in legacy families and those of --extend.query-path, and exit
    #[arg(long = "dumpmaps")]
    pub dump_maps: bool,
    /// Leave out the metrics that postgres_exporter calls default ones: those with a server label
    #[arg(long)]
    disable_default_metrics: bool,
    /// The same as --no-collector.settings
    #[arg(long)]
    disable_settings_metrics: bool,
    /// Labels for the metrics that have a server label, and for pg_up: NAME=VALUE, separated by commas
    #[arg(long = "constantLabels", value_name = "LABELS", default_value = "", value_parser = constant_labels)]
    constant_labels: ConstantLabels,
    /// Start of the names of metrics with a server label, instead of pg
    #[arg(long, value_name = "PREFIX", default_value = "pg", value_parser = metric_prefix)]
    metric_prefix: String,
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

/// Name and value of labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ConstantLabels(Vec<(String, String)>);

impl Cli {
    /// Parses the process's arguments; ends the process on `--help` and on usage errors (exit code 2).
    pub fn parse_args(environment: &Environment) -> Cli {
        Cli::try_parse(std::env::args_os(), environment).unwrap_or_else(|error| error.exit())
    }

    /// Parses arguments, the program's name first.
    ///
    /// # Errors
    /// What is wrong with them; also a request for help.
    pub fn try_parse(
        arguments: impl Iterator<Item = std::ffi::OsString>,
        environment: &Environment,
    ) -> Result<Cli, clap::Error> {
        let mut command = command();
        let arguments = flags::arguments(arguments, environment)
            .map_err(|message| command.error(clap::error::ErrorKind::InvalidValue, message))?;
        Cli::from_matches(&command.try_get_matches_from_mut(arguments)?)
    }

    fn from_matches(matches: &ArgMatches) -> Result<Cli, clap::Error> {
        let mut cli = Cli::from_arg_matches(matches)?;
        let default = !cli.disable_default_collectors;
        let flag = |flag: &str, name: &str| matches.get_flag(&format!("{flag}.{name}"));
        cli.enabled = collectors::ALL
            .iter()
            .copied()
            .filter(|collector| {
                let name = collector.spec.name;
                flag("collector", name)
                    || (default && collector.spec.default_enabled && !flag("no-collector", name))
            })
            .filter(|collector| !(cli.disable_settings_metrics && collector.spec.name == "settings"))
            .filter(|collector| !(cli.disable_default_metrics && collector.is_default_metric(cli.compat)))
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
            family_names: self.family_names,
            constant_labels: self.constant_labels.0.clone(),
            metric_prefix: self.metric_prefix.clone(),
            disable_default_metrics: self.disable_default_metrics,
            replaced: Vec::new(),
            names: self.names.clone(),
            databases: self.databases.clone(),
            size_refresh: self.size_refresh.get(),
            // A little less than the scrape may take, so that the server's word for it still arrives.
            statement_timeout: self.web.scrape_timeout.get().mul_f32(0.9),
            statements: self.statements.clone(),
        }
    }

    /// How to reach the servers of `/metrics`; never empty.
    ///
    /// # Errors
    /// A connection string that cannot be read, or a file that a variable names and that cannot be read.
    pub fn connectors(&self, environment: &Environment) -> anyhow::Result<Vec<Connector>> {
        data_source::connectors(&self.dsn, environment)
    }

    /// Where and how pages are served. Prometheus keeps a connection for each target of `/probe`.
    pub fn web(&self) -> Web {
        let mut web = self.web.web(9187);
        let limit = &mut web.server.limits.max_connections;
        *limit = (*limit).max(self.probe_max_targets.saturating_add(64));
        web
    }

    /// The file of modules and targets.
    pub fn config_file(&self) -> Option<PathBuf> {
        let default = Path::new(CONFIG_FILE);
        self.config_file.clone().or_else(|| default.exists().then(|| default.to_owned()))
    }

    /// The file of the user's queries.
    pub fn query_path(&self) -> Option<&Path> {
        self.query_path.as_deref().filter(|path| !path.as_os_str().is_empty())
    }

    /// In which other databases the user's queries run; none unless wanted.
    pub fn discovery(&self) -> Option<&DatabaseNames> {
        self.auto_discover_databases.then_some(&self.names)
    }
}

/// The command with flags for each collector, and all forms of flags that postgres_exporter takes.
pub fn command() -> Command {
    flags::complete(Cli::command())
}

/// `a=b,c=d`. Nothing between two commas is nothing.
fn constant_labels(text: &str) -> Result<ConstantLabels, String> {
    let mut labels = Vec::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is not NAME=VALUE"))?;
        let (name, value) = (name.trim(), value.trim());
        if !is_label_name(name) {
            return Err(format!("{name:?} cannot be the name of a label"));
        }
        labels.push((name.to_owned(), value.to_owned()));
    }
    Ok(ConstantLabels(labels))
}

fn metric_prefix(text: &str) -> Result<String, String> {
    match exposition::is_metric_name(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} cannot be the start of a metric's name")),
    }
}

#[cfg(test)]
mod tests;
