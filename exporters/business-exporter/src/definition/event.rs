//! Events as the file has them: what happens to rows of a table, and what is counted then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use exporter_kit::config::{ConfigError, GoDuration, Spanned};
use exposition::Kind;
use pg_client::statement;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::family::{FamilyDefinition, Init};
use super::{Check, Families};

/// Longest name of an event: it becomes part of the names of a trigger and of a function, which the server cuts.
const LONGEST_NAME: usize = 36;

/// How events are counted.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Counters {
    /// How events are found
    pub mode: Mode,
    /// Schema that holds the ledger or the watermarks; default: `business_exporter`
    #[serde(serialize_with = "name_of_schema")]
    #[schemars(with = "Option<String>")]
    schema: Option<Spanned<String>>,
    /// How often tables are counted in mode `snapshot`, at most: that reads whole tables
    #[schemars(with = "String")]
    pub snapshot_interval: GoDuration,
    /// How often deltas of the ledger are folded into totals, at most
    #[schemars(with = "String")]
    pub fold_interval: GoDuration,
    /// How long a value below the last one shown is held before counting starts again at 0
    #[schemars(with = "String")]
    pub regress_grace: GoDuration,
    /// A value further below the last one shown than this is not held: counting starts again at once
    pub regress_max: f64,
    /// How long the last values are shown while the database does not answer
    #[schemars(with = "String")]
    pub hold_max: GoDuration,
    /// One series of a family more is rejected
    pub max_series: usize,
    /// How often stocks are compared with their counters, and late rows looked for, at most: that reads whole tables
    #[schemars(with = "String")]
    pub reconcile_interval: GoDuration,
}

#[expect(clippy::ref_option, reason = "the shape that serde wants")]
fn name_of_schema<S: Serializer>(schema: &Option<Spanned<String>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(schema.as_ref().map_or(SCHEMA, |schema| &schema.value))
}

/// Schema that holds the ledger unless the file says another.
const SCHEMA: &str = "business_exporter";

impl Default for Counters {
    fn default() -> Counters {
        let seconds = |seconds| GoDuration(Duration::from_secs(seconds));
        Counters {
            mode: Mode::default(),
            schema: None,
            snapshot_interval: seconds(30),
            fold_interval: seconds(30),
            regress_grace: seconds(600),
            regress_max: 1000.0,
            hold_max: seconds(300),
            max_series: 300,
            reconcile_interval: seconds(3600),
        }
    }
}

impl Counters {
    /// Schema that holds the ledger: a name that needs no quotes.
    pub fn schema(&self) -> &str {
        self.schema.as_ref().map_or(SCHEMA, |schema| &schema.value)
    }
}

/// How events are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The strongest of the others that the role can use.
    #[default]
    Auto,
    /// Triggers count in the application's transactions: exact for everything.
    Ledger,
    /// New rows are found by their ids, and what was counted is kept in a schema of the exporter's: exact for inserts of
    /// rows that outlive a refresh.
    Checkpoint,
    /// Whole tables are counted: for inserts into tables that only grow, and never exact.
    Snapshot,
}

impl Mode {
    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::Ledger => "ledger",
            Mode::Checkpoint => "checkpoint",
            Mode::Snapshot => "snapshot",
        }
    }
}

/// An event as it is written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Event {
    /// Name in metrics, and part of the trigger's: at most 36 of a-z, 0-9 and _
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// Which database, if there are several
    #[schemars(with = "Option<String>")]
    pub(super) database: Option<Spanned<String>>,
    /// The table, as `schema.table`
    #[schemars(with = "String")]
    table: Spanned<String>,
    /// The column that tells rows apart; default: `id`
    #[schemars(with = "Option<String>")]
    key: Option<Spanned<String>>,
    /// What happens to a row; expressions see it as `n` afterwards, and as `o` before
    on: Operation,
    /// SQL condition on the rows that count
    #[schemars(with = "Option<String>")]
    when: Option<Spanned<String>>,
    /// What is counted
    emit: Vec<Emit>,
}

/// What happens to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// It is there for the first time; expressions see it as `n`.
    Insert,
    /// It is changed; expressions see it as `o` before and `n` after.
    Update,
    /// It is gone; expressions see it as `o`.
    Delete,
}

impl Operation {
    /// As SQL spells it, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "EventEmit")]
struct Emit {
    /// The counter or histogram
    #[schemars(with = "String")]
    family: Spanned<String>,
    /// SQL condition, beside the event's own
    #[schemars(with = "Option<String>")]
    when: Option<Spanned<String>>,
    /// SQL expression of each label; NULL is `unknown`
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    labels: BTreeMap<String, Spanned<String>>,
    /// SQL expression of what a histogram observes; NULL is skipped
    #[schemars(with = "Option<String>")]
    value: Option<Spanned<String>>,
    /// SQL expression of what a counter adds, instead of 1; NULL is skipped
    #[schemars(with = "Option<String>")]
    add: Option<Spanned<String>>,
}

/// An event and what it counts. All expressions are SQL that is checked to stay inside its parentheses.
#[derive(Clone, Debug)]
pub struct EventDefinition {
    /// Name in metrics, and part of the trigger's name.
    pub name: String,
    /// Schema and name of the table.
    pub table: (String, String),
    /// The column that tells rows apart.
    pub key: String,
    /// What happens.
    pub on: Operation,
    /// Which rows count; all without it.
    pub when: Option<String>,
    /// What is counted.
    pub emit: Vec<EventEmission>,
}

/// One family that an event adds to.
#[derive(Clone, Debug)]
pub struct EventEmission {
    /// The family.
    pub family: Arc<FamilyDefinition>,
    /// Which rows count, beside the event's own condition.
    pub when: Option<String>,
    /// Expressions of the labels, in the order of the family's labels.
    pub labels: Vec<String>,
    /// What is observed or added for each row; without it each row adds 1.
    pub value: Option<String>,
}

impl Event {
    pub(super) fn definition(
        &self,
        check: &Check<'_>,
        families: &Families,
    ) -> Result<EventDefinition, ConfigError> {
        let name = &self.name.value;
        if !is_identifier(name) || name.len() > LONGEST_NAME {
            let message =
                format!("{name:?} cannot name an event; use at most {LONGEST_NAME} of a-z, 0-9 and _");
            return check.fail(&self.name, message);
        }
        if self.emit.is_empty() {
            return check.fail(&self.name, format!("event {name:?} needs at least one family under emit"));
        }
        let table = check.table(&self.table)?;
        if let Some(key) = self.key.as_ref().filter(|key| !is_plain(&key.value)) {
            return check.fail(key, "the key is the name of one column");
        }
        Ok(EventDefinition {
            name: name.clone(),
            table,
            key: self.key.as_ref().map_or("id", |key| &key.value).to_owned(),
            on: self.on,
            when: self.when.as_ref().map(|when| check.expression(when)).transpose()?,
            emit: self.emit.iter().map(|emit| emit.emission(check, families)).collect::<Result<_, _>>()?,
        })
    }
}

impl Emit {
    fn emission(&self, check: &Check<'_>, families: &Families) -> Result<EventEmission, ConfigError> {
        let family = check.family(&self.family, families)?;
        let name = &family.desc.name;
        let value = match (family.desc.kind, &self.value, &self.add) {
            (Kind::Histogram, Some(value), None) => Some(value),
            (Kind::Counter, None, add) => add.as_ref(),
            (Kind::Histogram, ..) => {
                return check
                    .fail(&self.family, format!("{name} is a histogram: it needs a value, and no add"));
            }
            (Kind::Counter, ..) => {
                let message = format!("{name} is a counter: leave value out, or write add to add it up");
                return check.fail(&self.family, message);
            }
            _ => {
                return check
                    .fail(&self.family, format!("{name} is not a counter or histogram, which events fill"));
            }
        };
        check.labels(&self.family, &family, &self.labels.keys().collect::<Vec<_>>())?;
        let open = family.labels.iter().find(|(_, label)| !label.domain().is_closed());
        if family.init == Some(Init::Zero)
            && let Some((label, _)) = open
        {
            let message = format!("{name} has init: zero, which needs the values of the label {label:?}");
            return check.fail(&self.family, message);
        }
        Ok(EventEmission {
            when: self.when.as_ref().map(|when| check.expression(when)).transpose()?,
            labels: self.labels.values().map(|label| check.expression(label)).collect::<Result<_, _>>()?,
            value: value.map(|value| check.expression(value)).transpose()?,
            family,
        })
    }
}

impl EventDefinition {
    /// The table, as metrics and state have it.
    pub fn source(&self) -> String {
        format!("{}.{}", self.table.0, self.table.1)
    }
}

impl Check<'_> {
    /// That a table of which it is said that it only grows has no event that says otherwise.
    pub(super) fn append_only(&self, event: &Event, events: &[EventDefinition]) -> Result<(), ConfigError> {
        let Some(definition) = events.iter().find(|definition| definition.name == event.name.value) else {
            return Ok(());
        };
        let grows = definition.emit.iter().find(|emission| emission.family.append_only);
        let changes =
            |other: &&EventDefinition| other.table == definition.table && other.on != Operation::Insert;
        match (grows, events.iter().find(changes)) {
            (Some(grows), Some(other)) => {
                let message = format!(
                    "{} has append_only, but rows of {} change: there is the event {:?}",
                    grows.family.desc.name,
                    definition.source(),
                    other.name
                );
                self.fail(&event.name, message)
            }
            _ => Ok(()),
        }
    }

    /// Schema and name of a table.
    pub(super) fn table(&self, table: &Spanned<String>) -> Result<(String, String), ConfigError> {
        match table.value.split_once('.') {
            Some((schema, name)) if is_plain(schema) && is_plain(name) => {
                Ok((schema.to_owned(), name.to_owned()))
            }
            _ => self.fail(table, "write the table as schema.table"),
        }
    }

    /// An SQL expression that cannot leave the parentheses around it.
    pub(super) fn expression(&self, text: &Spanned<String>) -> Result<String, ConfigError> {
        match statement::single(&text.value) {
            Ok(expression) if !expression.contains(FUNCTION_QUOTE) => Ok(expression.to_owned()),
            Ok(_) => self.fail(text, format!("the text {FUNCTION_QUOTE} is the exporter's own")),
            Err(problem) => self.fail(text, problem),
        }
    }

    /// That no family is filled by both queries and events: they count differently.
    pub(super) fn fed_once(&self, event: &Event, from_queries: &BTreeSet<String>) -> Result<(), ConfigError> {
        match event.emit.iter().map(|emit| &emit.family).find(|family| from_queries.contains(&family.value)) {
            Some(family) => self
                .fail(family, format!("family {:?} is filled by a query already; use another", family.value)),
            None => Ok(()),
        }
    }

    /// That the schema is a plain name.
    pub(super) fn counters(&self, counters: &Counters) -> Result<(), ConfigError> {
        match counters.schema.as_ref().filter(|schema| !is_identifier(&schema.value)) {
            None => Ok(()),
            Some(schema) => self.fail(schema, "the schema is a name of a-z, 0-9 and _"),
        }
    }
}

/// Quotes the body of a trigger's function.
pub const FUNCTION_QUOTE: &str = "$business_exporter$";

/// A name that needs no quotes.
fn is_identifier(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// A name that can stand in double quotes and in single ones.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|one| one.is_alphanumeric() || matches!(one, '_' | ' ' | '-'))
}
