//! The definition file: families first, then the events and queries that fill them. Everything that can be wrong
//! without a database is found here, with its place.

mod event;
mod family;
mod query;
mod stock;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use exporter_kit::config::{self, ConfigError, GoDuration, Secret, Spanned};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use self::event::Event;
pub use self::event::{Counters, EventDefinition, EventEmission, FUNCTION_QUOTE, Mode, Operation};
use self::family::Family;
pub use self::family::{FamilyDefinition, Init};
use self::query::Query;
pub use self::query::{Emission, NullValue, QueryDefinition, Values};
use self::stock::Stock;
pub use self::stock::StockDefinition;
use crate::counters::events;

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: Spanned<u32>,
    #[serde(default)]
    database: Database,
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    counters: Counters,
    families: Vec<Family>,
    #[serde(default)]
    events: Vec<Event>,
    #[serde(default)]
    stocks: Vec<Stock>,
    #[serde(default)]
    queries: Vec<Query>,
}

/// The database all queries run on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Name in `business_exporter_up{database}`.
    #[serde(default = "Database::default_name")]
    pub name: String,
    /// Connection string as libpq reads it; default: the environment variable DATABASE_URL.
    #[serde(default = "Database::default_dsn")]
    pub dsn: Secret,
    /// Password, read anew at each connect; default: the connection string's.
    pub password: Option<Secret>,
    /// Whether a role that may do everything is refused.
    #[serde(default)]
    pub role_check: RoleCheck,
}

/// What becomes of a role that may do more than the exporter needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleCheck {
    /// It may work.
    #[default]
    Off,
    /// A superuser gets no query run.
    Strict,
}

impl Database {
    fn default_name() -> String {
        "main".to_owned()
    }

    fn default_dsn() -> Secret {
        Secret::from_env("DATABASE_URL")
    }
}

impl Default for Database {
    fn default() -> Database {
        Database {
            name: Database::default_name(),
            dsn: Database::default_dsn(),
            password: None,
            role_check: RoleCheck::default(),
        }
    }
}

/// Limits of queries that set none.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// The server cancels a statement after this time.
    pub timeout: GoDuration,
    /// The server cancels a statement after waiting this long for one lock.
    pub lock_timeout: GoDuration,
    /// One row more, and a query fails.
    pub max_rows: usize,
    /// One series of a family more, and a query fails.
    pub max_series: usize,
    /// How long the last result of a query in the background is shown while it fails.
    pub hold_max: GoDuration,
}

impl Default for Defaults {
    fn default() -> Defaults {
        let milliseconds = |count| GoDuration(Duration::from_millis(count));
        Defaults {
            timeout: milliseconds(3000),
            lock_timeout: milliseconds(250),
            max_rows: 500,
            max_series: 300,
            hold_max: GoDuration(Duration::from_secs(300)),
        }
    }
}

/// Families by name.
type Families = BTreeMap<String, Arc<FamilyDefinition>>;

/// A definition that makes sense.
#[derive(Debug)]
pub struct Definition {
    /// Where to run the queries.
    pub database: Database,
    /// Limits.
    pub defaults: Defaults,
    /// How events are counted.
    pub counters: Counters,
    /// What is counted.
    pub events: Vec<EventDefinition>,
    /// What the counters are compared with.
    pub stocks: Vec<StockDefinition>,
    /// What to run.
    pub queries: Vec<QueryDefinition>,
    /// What events and queries fill, by name.
    pub families: Families,
    /// Tells one definition from another: the beginning of SHA-256 over the file and its SQL files, in hexadecimal.
    pub hash: String,
}

/// Reads and checks a definition file.
///
/// # Errors
/// [`ConfigError`] with file, line, column and what to do.
pub fn load(path: &Path) -> Result<Definition, ConfigError> {
    let name = path.display().to_string();
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Read { path: path.display().to_string(), cause })
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    parse(&read(path)?, &name, |file| read(&folder.join(file)))
}

/// As [`load`], from text; `read` gives the text of a `sql_file`.
///
/// # Errors
/// [`ConfigError`] with line, column and what to do.
pub fn parse(
    text: &str,
    name: &str,
    read: impl Fn(&str) -> Result<String, ConfigError>,
) -> Result<Definition, ConfigError> {
    let file: File = config::parse(text, name)?;
    let check = Check { text, name };
    if file.version.value != 1 {
        return check.fail(&file.version, "only version 1 is known");
    }
    if file.events.is_empty() && file.queries.is_empty() {
        return check.fail(&file.version, "there is nothing to show: write events or queries");
    }
    check.counters(&file.counters)?;
    check.unique("event", file.events.iter().map(|event| &event.name))?;
    check.unique("query", file.queries.iter().map(|query| &query.name))?;
    let families = check.families(&file.families)?;
    let mut hash = Sha256::new_with_prefix(text);
    let mut queries = Vec::new();
    for query in &file.queries {
        if query.name.value == events::NAME {
            let message =
                format!("{:?} is what the counting of events is called; take another name", events::NAME);
            return check.fail(&query.name, message);
        }
        let text = query.sql_file.as_ref().map(|file| read(&file.value)).transpose()?;
        hash.update(text.as_deref().unwrap_or_default());
        queries.push(query.definition(&check, &file.defaults, &families, text.as_deref())?);
    }
    let from_queries =
        queries.iter().flat_map(|query| &query.emit).map(|emission| &*emission.family.desc.name);
    check.fed_once(&file.events, &from_queries.collect())?;
    let events: Vec<EventDefinition> =
        file.events.iter().map(|event| event.definition(&check, &families)).collect::<Result<_, _>>()?;
    check.append_only(&file.events, &events)?;
    let stocks =
        file.stocks.iter().map(|stock| stock.definition(&check, &events)).collect::<Result<_, _>>()?;
    let hash = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(Definition {
        database: file.database,
        defaults: file.defaults,
        counters: file.counters,
        events,
        stocks,
        queries,
        families,
        hash,
    })
}

/// The text being checked, for errors that show the place.
struct Check<'a> {
    text: &'a str,
    name: &'a str,
}

impl Check<'_> {
    fn fail<T, S>(&self, at: &Spanned<S>, message: impl Into<String>) -> Result<T, ConfigError> {
        Err(config::error_at(self.text, self.name, at, message))
    }

    fn unique<'a>(
        &self,
        what: &str,
        names: impl Iterator<Item = &'a Spanned<String>>,
    ) -> Result<(), ConfigError> {
        let mut known = BTreeSet::new();
        for name in names {
            if !known.insert(&name.value) {
                return self.fail(name, format!("{what} {:?} stands twice; rename one", name.value));
            }
        }
        Ok(())
    }

    fn families(&self, families: &[Family]) -> Result<Families, ConfigError> {
        let mut known = BTreeMap::new();
        for family in families {
            let definition = family.definition().or_else(|problem| self.fail(&family.name, problem))?;
            let name = &family.name.value;
            if known.insert(name.clone(), Arc::new(definition)).is_some() {
                return self.fail(
                    &family.name,
                    format!("family {name} stands twice; one declaration serves all queries"),
                );
            }
        }
        // OpenMetrics names a counter without its suffix.
        let base = |family: &&Family| {
            known.contains_key(family.name.value.strip_suffix("_total").unwrap_or_default())
        };
        match families.iter().find(base) {
            Some(family) => self.fail(
                &family.name,
                format!("there is a family {} without _total, too; rename one", family.name.value),
            ),
            None => Ok(known),
        }
    }
}

#[cfg(test)]
mod tests;
