//! The definition file: families first, then the events and queries that fill them. Everything that can be wrong
//! without a database is found here, with its place.

mod effective;
mod event;
mod family;
mod query;
mod schedule;
mod stock;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use exporter_kit::config::{self, ConfigError, GoDuration, Secret, Spanned};
use exporter_kit::targets::glob;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::event::Event;
pub use self::event::{Counters, EventDefinition, EventEmission, FUNCTION_QUOTE, Mode, Operation};
use self::family::Family;
pub use self::family::{FamilyDefinition, Init};
use self::query::Query;
pub use self::query::{Emission, NullValue, QueryDefinition, Requirements, Role, Values};
pub use self::schedule::Schedule;
use self::stock::Stock;
pub use self::stock::StockDefinition;
use crate::counters::events;

/// The file as it is written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// 1
    #[schemars(with = "u32")]
    version: Spanned<u32>,
    /// The database that everything is read from; or write `databases`
    database: Option<Database>,
    /// Several databases: each event, stock and query says under `database` which one it is for
    #[schemars(with = "Option<Vec<Database>>")]
    databases: Option<Spanned<Vec<Database>>>,
    /// Labels of every sample on the page
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    const_labels: Option<Spanned<BTreeMap<String, String>>>,
    /// Limits of queries that set none
    #[serde(default)]
    defaults: Defaults,
    /// How events are counted
    #[serde(default)]
    counters: Counters,
    /// Files with more families, events, stocks and queries, relative to this one; `*` may stand in the last part
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    include: Vec<Spanned<String>>,
    /// What events and queries fill
    #[serde(default)]
    families: Vec<Family>,
    /// What happens to rows of tables, and what is counted then
    #[serde(default)]
    events: Vec<Event>,
    /// What counters are compared with, row by row
    #[serde(default)]
    stocks: Vec<Stock>,
    /// What is read
    #[serde(default)]
    queries: Vec<Query>,
}

/// A file that another includes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Included {
    #[serde(default)]
    families: Vec<Family>,
    #[serde(default)]
    events: Vec<Event>,
    #[serde(default)]
    stocks: Vec<Stock>,
    #[serde(default)]
    queries: Vec<Query>,
}

/// A database that queries run on.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Name in the label `database` of the exporter's own metrics, and where others say which one they are for
    #[serde(default = "Database::default_name")]
    pub name: String,
    /// Connection string as libpq reads it: text, `{env: NAME}`, `{file: PATH}` or `{command: [program, argument]}`;
    /// default: `{env: DATABASE_URL}`
    #[serde(default = "Database::default_dsn")]
    #[schemars(with = "Option<String>")]
    pub dsn: Secret,
    /// Password, written like `dsn`; default: the connection string's
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub password: Option<Secret>,
    /// What becomes of a role that may do more than read: looked at when a connection is opened
    #[serde(default)]
    pub role_check: RoleCheck,
}

/// What becomes of a role that may do more than the exporter needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RoleCheck {
    /// It may work.
    #[default]
    Off,
    /// It may work, and the log says what it may do.
    Warn,
    /// It gets no query run.
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
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// The server cancels a statement after this time
    #[schemars(with = "String")]
    pub timeout: GoDuration,
    /// The server cancels a statement after waiting this long for one lock
    #[schemars(with = "String")]
    pub lock_timeout: GoDuration,
    /// One row more, and a query fails
    pub max_rows: usize,
    /// One series of a family more, and a query fails
    pub max_series: usize,
    /// A query that the planner expects to cost more, in the units of `EXPLAIN`, is not run; default: any may cost anything
    pub max_cost: Option<f64>,
    /// How long the last result of a query in the background is shown while it fails
    #[schemars(with = "String")]
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
            max_cost: None,
            hold_max: GoDuration(Duration::from_secs(300)),
        }
    }
}

/// Families by name.
pub type Families = BTreeMap<String, Arc<FamilyDefinition>>;

/// What is defined for one database.
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
}

/// A file that makes sense, with those that it includes.
#[derive(Debug)]
pub struct Definitions {
    /// What is defined for each database, in the order of the file.
    pub databases: Vec<Definition>,
    /// What events and queries fill, by name.
    pub families: Families,
    /// Labels of every sample.
    pub const_labels: BTreeMap<String, String>,
    /// Tells one definition from another: the beginning of SHA-256 over all its files, in hexadecimal.
    pub hash: String,
}

/// Reads and checks a definition file.
///
/// # Errors
/// [`ConfigError`] with file, line, column and what to do.
pub fn load(path: &Path) -> Result<Definitions, ConfigError> {
    parse(&read(path)?, path)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|cause| ConfigError::Read { path: path.display().to_string(), cause })
}

/// A file's part of a definition.
struct Part {
    text: String,
    name: String,
    folder: PathBuf,
    content: Included,
}

impl Part {
    fn check(&self) -> Check<'_> {
        Check { text: &self.text, name: &self.name }
    }
}

/// As [`load`], from text that stands in for the file's; other files are found from the path.
///
/// # Errors
/// [`ConfigError`] with line, column and what to do.
pub fn parse(text: &str, path: &Path) -> Result<Definitions, ConfigError> {
    let name = path.display().to_string();
    let file: File = config::parse(text, &name)?;
    let check = Check { text, name: &name };
    if file.version.value != 1 {
        return check.fail(&file.version, "only version 1 is known");
    }
    check.counters(&file.counters)?;
    let File {
        version,
        database,
        databases,
        const_labels,
        defaults,
        counters,
        include,
        families,
        events,
        stocks,
        queries,
    } = file;
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    let content = Included { families, events, stocks, queries };
    let mut parts = vec![Part { text: text.to_owned(), name: name.clone(), folder: folder.clone(), content }];
    for pattern in &include {
        for path in check.included(&folder, pattern)? {
            let (text, name) = (read(&path)?, path.display().to_string());
            let content = config::parse(&text, &name)?;
            let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
            parts.push(Part { text, name, folder, content });
        }
    }
    if parts.iter().all(|part| part.content.events.is_empty() && part.content.queries.is_empty()) {
        return check.fail(&version, "there is nothing to show: write events or queries");
    }
    let databases = match (database, databases) {
        (Some(_), Some(databases)) => {
            return check.fail(&databases, "write either database or databases");
        }
        (_, Some(databases)) if databases.value.is_empty() => {
            return check.fail(&databases, "databases is empty");
        }
        (_, Some(databases)) => {
            let names: BTreeSet<&String> = databases.value.iter().map(|database| &database.name).collect();
            if names.len() < databases.value.len() {
                return check.fail(&databases, "two databases have one name; give each its own");
            }
            databases.value
        }
        (database, None) => vec![database.unwrap_or_default()],
    };
    let mut definitions: Vec<Definition> = databases
        .into_iter()
        .map(|database| Definition {
            database,
            defaults,
            counters: counters.clone(),
            events: Vec::new(),
            stocks: Vec::new(),
            queries: Vec::new(),
        })
        .collect();
    unique("event", &parts, |part| part.content.events.iter().map(|event| &event.name).collect())?;
    unique("query", &parts, |part| part.content.queries.iter().map(|query| &query.name).collect())?;
    let families = declared(&parts)?;
    let const_labels = const_labels.map(|labels| check.const_labels(labels, &families)).transpose()?;
    let mut hash = Sha256::new();
    for part in &parts {
        hash.update(&part.text);
        let check = part.check();
        for query in &part.content.queries {
            if query.name.value == events::NAME {
                let message =
                    format!("{:?} is what the counting of events is called; take another name", events::NAME);
                return check.fail(&query.name, message);
            }
            let text =
                query.sql_file.as_ref().map(|file| read(&part.folder.join(&file.value))).transpose()?;
            hash.update(text.as_deref().unwrap_or_default());
            let query_definition = query.definition(&check, &defaults, &families, text.as_deref())?;
            let at = check.database(&query.name, query.database.as_ref(), &definitions)?;
            definitions[at].queries.push(query_definition);
        }
    }
    let from_queries: BTreeSet<String> = definitions
        .iter()
        .flat_map(|definition| &definition.queries)
        .flat_map(|query| &query.emit)
        .map(|emission| emission.family.desc.name.to_string())
        .collect();
    let mut fed: BTreeMap<String, usize> = BTreeMap::new();
    for part in &parts {
        let check = part.check();
        for event in &part.content.events {
            check.fed_once(event, &from_queries)?;
            let definition = event.definition(&check, &families)?;
            let at = check.database(&event.name, event.database.as_ref(), &definitions)?;
            for emission in &definition.emit {
                let name = emission.family.desc.name.to_string();
                if *fed.entry(name.clone()).or_insert(at) != at {
                    let message = format!("{name} is filled by events of two databases; give each a family");
                    return check.fail(&event.name, message);
                }
            }
            definitions[at].events.push(definition);
        }
    }
    for part in &parts {
        let check = part.check();
        for event in &part.content.events {
            let at = check.database(&event.name, event.database.as_ref(), &definitions)?;
            check.append_only(event, &definitions[at].events)?;
        }
        for stock in &part.content.stocks {
            let at = check.database(&stock.table, stock.database.as_ref(), &definitions)?;
            let stock = stock.definition(&check, &definitions[at].events)?;
            definitions[at].stocks.push(stock);
        }
    }
    let hash = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let const_labels = const_labels.unwrap_or_default();
    Ok(Definitions { databases: definitions, families, const_labels, hash })
}

/// That no name stands twice, in whatever file.
fn unique<'a>(
    what: &str,
    parts: &'a [Part],
    names: impl Fn(&'a Part) -> Vec<&'a Spanned<String>>,
) -> Result<(), ConfigError> {
    let mut known = BTreeMap::new();
    for part in parts {
        for name in names(part) {
            if let Some(before) = known.insert(&name.value, &part.name) {
                let place = if *before == part.name { String::new() } else { format!(", also in {before}") };
                return part
                    .check()
                    .fail(name, format!("{what} {:?} stands twice{place}; rename one", name.value));
            }
        }
    }
    Ok(())
}

fn declared(parts: &[Part]) -> Result<Families, ConfigError> {
    let mut known = BTreeMap::new();
    let all = || parts.iter().flat_map(|part| part.content.families.iter().map(move |family| (part, family)));
    for (part, family) in all() {
        let check = part.check();
        let definition = family.definition().or_else(|problem| check.fail(&family.name, problem))?;
        let name = &family.name.value;
        if known.insert(name.clone(), Arc::new(definition)).is_some() {
            let message = format!("family {name} stands twice; one declaration serves all queries");
            return check.fail(&family.name, message);
        }
    }
    // OpenMetrics names a counter without its suffix.
    let base = |name: &str| name.strip_suffix("_total").or(name.strip_suffix("_info")).map(str::to_owned);
    match all().find(|(_, family)| base(&family.name.value).is_some_and(|base| known.contains_key(&base))) {
        Some((part, family)) => {
            let name = &family.name.value;
            let suffix = if name.ends_with("_total") { "_total" } else { "_info" };
            part.check()
                .fail(&family.name, format!("there is a family {name} without {suffix}, too; rename one"))
        }
        None => Ok(known),
    }
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

    /// Labels that no family has already.
    fn const_labels(
        &self,
        labels: Spanned<BTreeMap<String, String>>,
        families: &Families,
    ) -> Result<BTreeMap<String, String>, ConfigError> {
        for label in labels.value.keys() {
            let has = |family: &&Arc<FamilyDefinition>| {
                family.labels.contains_key(label) || *label == *family.desc.name
            };
            let problem = match families.values().find(has) {
                _ if !family::is_free_label(label) => "is not a label name, or a reserved one".to_owned(),
                Some(family) => format!("is a label of {}, too", family.desc.name),
                None => continue,
            };
            return self.fail(&labels, format!("const_labels: {label:?} {problem}"));
        }
        Ok(labels.value)
    }

    /// The place of the database that something is for.
    fn database(
        &self,
        owner: &Spanned<String>,
        given: Option<&Spanned<String>>,
        databases: &[Definition],
    ) -> Result<usize, ConfigError> {
        let Some(given) = given else {
            return match databases {
                [_] => Ok(0),
                _ => self.fail(owner, "there are several databases: write which one under database"),
            };
        };
        let found = databases.iter().position(|definition| definition.database.name == given.value);
        match found {
            Some(index) => Ok(index),
            None => self.fail(given, format!("there is no database {:?}", given.value)),
        }
    }

    /// The files that a pattern names, in order; a `*` may stand in their last part.
    fn included(&self, folder: &Path, pattern: &Spanned<String>) -> Result<Vec<PathBuf>, ConfigError> {
        let whole = folder.join(&pattern.value);
        let last = whole.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if !last.contains('*') {
            return Ok(vec![whole]);
        }
        let folder = whole.parent().unwrap_or(folder);
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return self.fail(pattern, format!("cannot list {}: {error}", folder.display())),
        };
        let mut paths: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                path.file_name().and_then(|name| name.to_str()).is_some_and(|name| glob(&last, name))
            })
            .collect();
        paths.sort();
        Ok(paths)
    }
}

#[cfg(test)]
mod tests;
