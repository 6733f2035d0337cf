//! The definition file: families first, then the queries that fill them. Everything that can be wrong without a
//! database is found here, with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use exporter_kit::config::{self, ConfigError, GoDuration, Secret, Spanned};
use exposition::{Desc, Kind, is_label_name, is_metric_name};
use pg_client::statement;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::domain::{Domain, Label, Rejections};

/// Names the exporter keeps for itself.
const RESERVED: [&str; 2] = ["business_exporter_", "process_"];

/// Ends of names that belong to other types.
const COUNTER_SUFFIXES: [&str; 5] = ["_total", "_bucket", "_count", "_sum", "_info"];

/// Labels that belong to other types.
const RESERVED_LABELS: [&str; 2] = ["le", "quantile"];

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: Spanned<u32>,
    #[serde(default)]
    database: Database,
    #[serde(default)]
    defaults: Defaults,
    families: Vec<Family>,
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
        Database { name: Database::default_name(), dsn: Database::default_dsn() }
    }
}

/// Limits of queries that set none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Defaults {
    timeout: GoDuration,
    lock_timeout: GoDuration,
    max_rows: usize,
    max_series: usize,
}

impl Default for Defaults {
    fn default() -> Defaults {
        let milliseconds = |count| GoDuration(Duration::from_millis(count));
        Defaults {
            timeout: milliseconds(3000),
            lock_timeout: milliseconds(250),
            max_rows: 500,
            max_series: 300,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Family {
    name: Spanned<String>,
    #[serde(rename = "type")]
    kind: FamilyType,
    help: String,
    unit: Option<String>,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    init: Init,
}

/// The labels of a family: their names, or with the domain of each.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "labels are a list of names, or a map of name to {values, max, other}")]
enum Labels {
    Any(Vec<String>),
    Domains(BTreeMap<String, Domain>),
}

impl Default for Labels {
    fn default() -> Labels {
        Labels::Any(Vec::new())
    }
}

impl Labels {
    fn domains(&self) -> Vec<(&String, Domain)> {
        match self {
            Labels::Any(names) => names.iter().map(|name| (name, Domain::default())).collect(),
            Labels::Domains(domains) => domains.iter().map(|(name, domain)| (name, domain.clone())).collect(),
        }
    }
}

/// Which series of a family there are before a row has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Init {
    /// None.
    #[default]
    Observed,
    /// Every one that the domains of the labels allow, at 0: right for numbers of rows.
    Zero,
}

/// What a NULL in a value column means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NullValue {
    /// There is no sample.
    #[default]
    Skip,
    /// The value is 0.
    Zero,
    /// The query fails.
    Error,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FamilyType {
    Counter,
    Gauge,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    name: Spanned<String>,
    sql: Option<Spanned<String>>,
    sql_file: Option<Spanned<String>>,
    timeout: Option<GoDuration>,
    lock_timeout: Option<GoDuration>,
    max_rows: Option<usize>,
    max_series: Option<usize>,
    #[serde(default)]
    null_value: NullValue,
    emit: Vec<Emit>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Emit {
    family: Spanned<String>,
    value: Option<String>,
    pivot: Option<Pivot>,
    /// Label columns; a column has the label's name, or `{label: column}` says which.
    #[serde(default)]
    labels: Vec<LabelColumn>,
    #[serde(default)]
    static_labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pivot {
    label: String,
    columns: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum LabelColumn {
    Same(String),
    Renamed(BTreeMap<String, String>),
}

/// A definition that makes sense.
#[derive(Debug)]
pub struct Definition {
    /// Where to run the queries.
    pub database: Database,
    /// What to run.
    pub queries: Vec<QueryDefinition>,
    /// What the queries fill, by name.
    pub families: BTreeMap<String, Arc<FamilyDefinition>>,
    /// Tells one definition from another: the beginning of SHA-256 over the file and its SQL files, in hexadecimal.
    pub hash: String,
}

/// A family, shared by all queries that fill it.
#[derive(Debug)]
pub struct FamilyDefinition {
    /// Name, type, help, unit.
    pub desc: Desc,
    /// The labels by name.
    pub labels: BTreeMap<String, Label>,
    /// Whether the series that the domains allow are there at 0.
    pub init_zero: bool,
    /// Samples that no domain took.
    pub rejections: Rejections,
}

/// A query and what its result means.
#[derive(Debug)]
pub struct QueryDefinition {
    /// Name in metrics and messages.
    pub name: String,
    /// One statement.
    pub sql: String,
    /// The server cancels it after this time.
    pub timeout: Duration,
    /// The server cancels it after waiting this long for one lock.
    pub lock_timeout: Duration,
    /// One row more, and the query fails.
    pub max_rows: usize,
    /// One series of a family more, and the query fails.
    pub max_series: usize,
    /// What a NULL value means.
    pub null_value: NullValue,
    /// What is made of each row.
    pub emit: Vec<Emission>,
}

/// One family that a query fills.
#[derive(Debug)]
pub struct Emission {
    /// The family.
    pub family: Arc<FamilyDefinition>,
    /// Labels whose values are columns: label and column.
    pub labels: Vec<(String, String)>,
    /// Labels whose values are fixed: label and value.
    pub static_labels: Vec<(String, String)>,
    /// Where samples come from: a column, or several with a value of the pivot's label each.
    pub values: Values,
}

impl Emission {
    /// Number of series that are there before any row.
    fn initial_series(&self) -> usize {
        let pivot = match &self.values {
            Values::Column(_) => 1,
            Values::Pivot { columns, .. } => columns.len(),
        };
        let values =
            |label: &String| self.family.labels.get(label)?.domain().closed().map(|values| values.len());
        let product =
            self.labels.iter().filter_map(|(label, _)| values(label)).fold(pivot, usize::saturating_mul);
        if self.family.init_zero { product } else { 0 }
    }
}

/// Value columns.
#[derive(Debug)]
pub enum Values {
    /// One column.
    Column(String),
    /// Each column is a value of the label.
    Pivot {
        /// The label.
        label: String,
        /// The columns, whose names are its values.
        columns: Vec<String>,
    },
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
    let families = check.families(&file.families)?;
    let mut hash = Sha256::new_with_prefix(text);
    let mut names = BTreeSet::new();
    let mut queries = Vec::new();
    for query in &file.queries {
        if !names.insert(&query.name.value) {
            return check.fail(&query.name, format!("query {:?} stands twice; rename one", query.name.value));
        }
        if query.name.value.is_empty() || query.emit.is_empty() {
            return check.fail(&query.name, "a query needs a name, and at least one family under emit");
        }
        let (place, sql) = match (&query.sql, &query.sql_file) {
            (Some(sql), None) => (sql, sql.value.clone()),
            (None, Some(file)) => (file, read(&file.value)?),
            _ => {
                return check
                    .fail(&query.name, format!("query {:?} needs either sql or sql_file", query.name.value));
            }
        };
        if query.sql_file.is_some() {
            hash.update(&sql);
        }
        let sql = match statement::single(&sql) {
            Ok(sql) => sql.to_owned(),
            Err(problem) => return check.fail(place, format!("query {:?}: {problem}", query.name.value)),
        };
        let emit: Vec<Emission> =
            query.emit.iter().map(|emit| check.emission(emit, &families)).collect::<Result<_, _>>()?;
        let max_series = query.max_series.unwrap_or(file.defaults.max_series);
        if let Some(emission) = emit.iter().find(|emission| emission.initial_series() > max_series) {
            let (name, count) = (&emission.family.desc.name, emission.initial_series());
            let message =
                format!("init: zero makes {count} series of {name}, more than max_series = {max_series}");
            return check.fail(&query.name, message);
        }
        queries.push(QueryDefinition {
            name: query.name.value.clone(),
            sql,
            timeout: query.timeout.unwrap_or(file.defaults.timeout).get(),
            lock_timeout: query.lock_timeout.unwrap_or(file.defaults.lock_timeout).get(),
            max_rows: query.max_rows.unwrap_or(file.defaults.max_rows),
            max_series,
            null_value: query.null_value,
            emit,
        });
    }
    let hash = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(Definition { database: file.database, queries, families, hash })
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

    fn families(&self, families: &[Family]) -> Result<BTreeMap<String, Arc<FamilyDefinition>>, ConfigError> {
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
        Ok(known)
    }

    fn emission(
        &self,
        emit: &Emit,
        families: &BTreeMap<String, Arc<FamilyDefinition>>,
    ) -> Result<Emission, ConfigError> {
        let name = emit.family.value.as_str();
        let Some(family) = families.get(name) else {
            return self.fail(&emit.family, format!("family {name:?} is not declared under families"));
        };
        let values = match (&emit.value, &emit.pivot) {
            (Some(column), None) => Values::Column(column.clone()),
            (None, Some(pivot)) => {
                Values::Pivot { label: pivot.label.clone(), columns: pivot.columns.clone() }
            }
            _ => return self.fail(&emit.family, format!("{name} needs either a value column or a pivot")),
        };
        let mut labels = Vec::new();
        for label in &emit.labels {
            match label {
                LabelColumn::Same(label) => labels.push((label.clone(), label.clone())),
                LabelColumn::Renamed(map) => labels.extend(map.clone()),
            }
        }
        let pivot_label = match &values {
            Values::Pivot { label, .. } => Some(label),
            Values::Column(_) => None,
        };
        let given: Vec<&String> = labels
            .iter()
            .map(|(label, _)| label)
            .chain(emit.static_labels.keys())
            .chain(pivot_label)
            .collect();
        let distinct: BTreeSet<&String> = given.iter().copied().collect();
        let declared: BTreeSet<&String> = family.labels.keys().collect();
        if distinct != declared || distinct.len() < given.len() {
            return self.fail(
                &emit.family,
                format!(
                    "{name} is declared with labels {declared:?}, this gives {given:?}; each is given once"
                ),
            );
        }
        if family.init_zero
            && let Some((label, _)) =
                labels.iter().find(|(label, _)| family.labels[label].domain().closed().is_none())
        {
            return self.fail(
                &emit.family,
                format!("{name} has init: zero, which needs the values of the label {label:?}"),
            );
        }
        let static_labels = emit.static_labels.clone().into_iter().collect();
        Ok(Emission { family: Arc::clone(family), labels, static_labels, values })
    }
}

impl Family {
    /// The family, if it keeps to the rules of the exposition formats and of promtool.
    fn definition(&self) -> Result<FamilyDefinition, String> {
        let name = self.name.value.as_str();
        if !is_metric_name(name) || name.contains(':') {
            return Err(format!("{name:?} is not a metric name; use letters, digits and _"));
        }
        if let Some(prefix) = RESERVED.iter().find(|prefix| name.starts_with(**prefix)) {
            return Err(format!("names that start with {prefix} are the exporter's own; rename {name}"));
        }
        let counter = matches!(self.kind, FamilyType::Counter);
        if counter && !name.ends_with("_total") {
            return Err(format!("a counter ends in _total; rename {name}, or make it a gauge"));
        }
        if !counter && let Some(suffix) = COUNTER_SUFFIXES.iter().find(|suffix| name.ends_with(**suffix)) {
            return Err(format!("a gauge does not end in {suffix}; rename {name}"));
        }
        if self.help.trim().is_empty() {
            return Err(format!("{name} needs a help text"));
        }
        let base = name.strip_suffix("_total").unwrap_or(name);
        if let Some(unit) = &self.unit
            && !base.strip_suffix(unit.as_str()).is_some_and(|front| front.ends_with('_'))
        {
            return Err(format!(
                "the unit of {name} is not the end of its name; write …_{unit}, or leave it out"
            ));
        }
        if counter && self.init == Init::Zero {
            return Err(format!("{name}: init: zero is for gauges; a counter's zero comes from its query"));
        }
        let mut labels = BTreeMap::new();
        for (label, domain) in self.labels.domains() {
            if !is_label_name(label) || label.starts_with("__") || RESERVED_LABELS.contains(&label.as_str()) {
                return Err(format!("{label:?} of {name} is not a label name, or a reserved one"));
            }
            domain.check().map_err(|problem| format!("label {label} of {name}: {problem}"))?;
            if labels.insert(label.clone(), Label::new(domain)).is_some() {
                return Err(format!("label {label} of {name} stands twice"));
            }
        }
        let kind = if counter { Kind::Counter } else { Kind::Gauge };
        let mut desc = Desc::new(kind, name.to_owned(), self.help.clone());
        if let Some(unit) = &self.unit {
            desc = desc.with_unit(unit.clone());
        }
        let init_zero = self.init == Init::Zero;
        Ok(FamilyDefinition { desc, labels, init_zero, rejections: Rejections::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
version: 1
families:
  - {name: deals, type: gauge, help: Deals., labels: [status, kind]}
  - {name: users, type: gauge, help: Users., labels: [state]}
queries:
  - name: deals
    sql: SELECT status, count(*) AS deals FROM deals GROUP BY 1;
    timeout: 5s
    emit:
      - {family: deals, value: deals, labels: [status], static_labels: {kind: car}}
  - name: users
    sql_file: users.sql
    emit:
      - {family: users, pivot: {label: state, columns: [active, inactive]}}
";

    fn read(text: &str) -> Result<Definition, ConfigError> {
        parse(text, "metrics.yml", |file| Ok(format!("SELECT 1 AS active, 2 AS inactive -- {file}")))
    }

    #[test]
    fn a_good_definition() {
        let definition = read(GOOD).unwrap();
        assert_eq!(definition.database.name, "main");
        let [deals, users] = &definition.queries[..] else { panic!("{definition:?}") };
        assert_eq!(deals.sql, "SELECT status, count(*) AS deals FROM deals GROUP BY 1");
        assert_eq!((deals.timeout.as_secs(), deals.max_rows), (5, 500));
        assert_eq!(deals.emit[0].static_labels, [("kind".to_owned(), "car".to_owned())]);
        assert!(users.sql.ends_with("users.sql"));
        assert_eq!(definition.hash.len(), 16);
        assert_ne!(definition.hash, read(&GOOD.replace("Users.", "Accounts.")).unwrap().hash);
    }

    #[test]
    fn mistakes_are_shown_with_their_place() {
        for (old, new, expected) in [
            ("version: 1", "version: 2", &["metrics.yml:2:", "version 1"][..]),
            ("name: users, type", "name: deals, type", &["metrics.yml:5:", "family deals stands twice"]),
            ("- name: users\n", "- name: deals\n", &["metrics.yml:12:", "query \"deals\" stands twice"]),
            ("family: users", "family: uesrs", &["metrics.yml:15:", "\"uesrs\" is not declared"]),
            ("type: gauge, help: Users", "type: counter, help: Users", &["_total"]),
            ("name: users, type", "name: process_x, type", &["process_"]),
            ("name: users, type", "name: us-ers, type", &["us-ers"]),
            (", labels: [status]", "", &["deals is declared with labels", "status"]),
            ("GROUP BY 1;", "GROUP BY 1; DROP TABLE deals", &["more than one statement"]),
            ("timeout: 5s", "timeout: 5", &["duration"]),
            ("timeout: 5s", "timeuot: 5s", &["timeuot", "metrics.yml:9:"]),
            ("value: deals, ", "", &["either a value column or a pivot"]),
            ("name: users, type", "name: users_count, type", &["metrics.yml:5:", "_count"]),
            ("help: Users.", "help: ''", &["users needs a help text"]),
            ("help: Users.", "help: Users., unit: seconds", &["unit of users"]),
            ("labels: [state]}", "labels: [le]}", &["\"le\"", "reserved"]),
            ("labels: [state]}", "labels: [__x]}", &["__x"]),
            ("labels: [state]}", "labels: [state, state]}", &["stands twice"]),
            ("labels: [state]}", "labels: {state: {max: 0}}}", &["label state of users", "at least 1"]),
            ("labels: [state]}", "labels: {state: {most: 3}}}", &["metrics.yml:5:", "{values, max, other}"]),
            ("labels: [status, kind]", "init: zero, labels: [status, kind]", &["init: zero", "\"status\""]),
            ("labels: [status], static", "labels: [status, kind], static", &["each is given once"]),
        ] {
            assert!(GOOD.contains(old), "{old}");
            let error = read(&GOOD.replacen(old, new, 1)).unwrap_err().to_string();
            for word in expected {
                assert!(error.contains(word), "{new}: {error}");
            }
        }
    }

    #[test]
    fn the_shipped_definition_is_good() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/autodealgenie.yml");
        assert!(load(&path).unwrap().queries.len() >= 5);
    }
}
