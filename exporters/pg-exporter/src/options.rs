//! What the user chose that collectors need to know.

use std::num::NonZeroUsize;
use std::time::Duration;

use exporter_kit::config::GoDuration;
use exporter_kit::names::Names;
use exporter_kit::targets::glob;

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
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose shape the page has.
    pub compat: Compat,
    /// What badly named families are called.
    pub family_names: Names,
    /// Labels on the families that carry `server` in 0.19, too.
    pub constant_labels: Vec<(String, String)>,
    /// Start of the names of the families that have these labels, instead of `pg`.
    pub metric_prefix: String,
    /// Whether what postgres_exporter calls default metrics is left out.
    pub disable_default_metrics: bool,
    /// Namespaces of the user's queries: default metrics under these names are left out.
    pub replaced: Vec<String>,
    /// Which databases are left out, and which are taken where there is a choice.
    pub names: DatabaseNames,
    /// Whose tables, indexes, functions and sequences are shown.
    pub databases: Databases,
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

/// Databases by name; `*` stands for any text.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DatabaseNames {
    /// The only databases that --databases=all and --auto-discover-databases take, separated by commas; * is any text
    #[arg(long = "include-databases", value_name = "NAMES", value_delimiter = ',')]
    pub include: Vec<String>,
    /// Databases whose size and limit are left out, separated by commas; * is any text. --databases=all and
    /// --auto-discover-databases skip them, too
    #[arg(long = "exclude-databases", value_name = "NAMES", value_delimiter = ',')]
    pub exclude: Vec<String>,
}

impl DatabaseNames {
    /// Whether a database is left out.
    pub(crate) fn exclude(&self, name: &str) -> bool {
        self.exclude.iter().any(|pattern| glob(pattern, name))
    }

    /// Whether a database is one of those that are wanted besides the connected one.
    pub(crate) fn want(&self, name: &str) -> bool {
        // `--include-databases=` includes all, as in postgres_exporter.
        let mut patterns = self.include.iter().filter(|pattern| !pattern.is_empty()).peekable();
        let included = patterns.peek().is_none() || patterns.any(|pattern| glob(pattern, name));
        included && !self.exclude(name)
    }
}

/// Which databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum WhichDatabases {
    /// The connected one, as postgres_exporter does.
    #[default]
    Connected,
    /// All that can be connected to.
    All,
}

/// Whose tables, indexes, functions and sequences are shown.
#[derive(Clone, Debug, clap::Args)]
pub struct Databases {
    /// Whose tables, indexes, functions and sequences are shown; those of others are read in the background
    #[arg(id = "databases", long = "databases", value_enum, default_value_t)]
    pub which: WhichDatabases,
    /// --databases=all: sessions in other databases at a time
    #[arg(id = "databases_sessions", long = "databases.sessions", value_name = "N", default_value = "2")]
    pub sessions: NonZeroUsize,
    /// --databases=all: how old what was read in another database may get before a scrape starts to read it again;
    /// 0 reads on every scrape, and waits
    #[arg(
        id = "databases_refresh",
        long = "databases.refresh",
        value_name = "DURATION",
        default_value = "1m"
    )]
    pub refresh: GoDuration,
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
    /// stat_statements: go on showing a statement until half as many again as the limit are longer, and count all that is
    /// not shown of a database under user and queryid "other"
    #[arg(id = "statements_sticky", long = "collector.stat_statements.sticky")]
    pub sticky: bool,
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
