//! What the user chose that collectors need to know.

use std::time::Duration;

/// Whose shape the page has where versions of postgres_exporter differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Compat {
    /// postgres_exporter 0.19: `server` label on some families, old names of the slot families.
    #[value(name = "0.19")]
    V0_19,
    /// postgres_exporter 0.20.
    #[value(name = "0.20")]
    #[default]
    V0_20,
}

impl Compat {
    /// What the peer calls one of our collectors on its page.
    #[must_use]
    pub fn collector(self, name: &str) -> &str {
        match (self, name) {
            (Compat::V0_19, "replication_slots") => "replication_slot",
            _ => name,
        }
    }
}

/// The same for every scrape of a target.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whose shape the page has.
    pub compat: Compat,
    /// Labels on the families that carry `server` in 0.19, too.
    pub constant_labels: Vec<(String, String)>,
    /// Start of the names of the families that have these labels, instead of `pg`.
    pub metric_prefix: String,
    /// Whether what postgres_exporter calls default metrics is left out.
    pub disable_default_metrics: bool,
    /// Namespaces of the user's queries: default metrics under these names are left out.
    pub replaced: Vec<String>,
    /// Databases whose size is not asked for.
    pub exclude_databases: Vec<String>,
    /// How old sizes may get before a scrape starts to refresh them; zero waits for new ones on every scrape.
    pub size_refresh: Duration,
    /// How long the server works on one statement of a scrape.
    pub statement_timeout: Duration,
    /// What `stat_statements` shows.
    pub statements: Statements,
}

impl Options {
    /// Whether a default metric is left out: all are, or a query of the user has its name.
    pub(crate) fn leaves_out(&self, family: &str) -> bool {
        let replaced = |namespace: &String| {
            family.strip_prefix(namespace.as_str()).is_some_and(|rest| rest.starts_with('_'))
        };
        self.disable_default_metrics || self.replaced.iter().any(replaced)
    }

    /// The name of a family that starts with `pg`, under the prefix that is wanted instead; none for other names.
    pub(crate) fn prefixed(&self, family: &str) -> Option<String> {
        let rest = family.strip_prefix("pg").filter(|rest| rest.is_empty() || rest.starts_with('_'))?;
        (!matches!(self.metric_prefix.as_str(), "" | "pg")).then(|| format!("{}{rest}", self.metric_prefix))
    }
}

/// What `stat_statements` shows; names and defaults of postgres_exporter.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Statements {
    /// stat_statements: also show the text of each statement, in pg_stat_statements_query_id
    #[arg(id = "statements_include_query", long = "collector.stat_statements.include_query")]
    pub include_query: bool,
    /// stat_statements: cut texts after this many characters
    #[arg(
        id = "statements_query_length",
        long = "collector.stat_statements.query_length",
        value_name = "N",
        default_value_t = 120
    )]
    pub query_length: u32,
    /// stat_statements: show this many statements, those with the longest total execution time
    #[arg(
        id = "statements_limit",
        long = "collector.stat_statements.limit",
        value_name = "N",
        default_value_t = 100
    )]
    pub limit: u32,
    /// stat_statements: databases to leave out, separated by commas
    #[arg(
        id = "statements_exclude_databases",
        long = "collector.stat_statements.exclude_databases",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    pub exclude_databases: Vec<String>,
    /// stat_statements: users to leave out, separated by commas
    #[arg(
        id = "statements_exclude_users",
        long = "collector.stat_statements.exclude_users",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    pub exclude_users: Vec<String>,
}
