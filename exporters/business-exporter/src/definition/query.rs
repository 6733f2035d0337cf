//! Queries as the file has them: SQL, limits, and what is made of the rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use exporter_kit::config::{ConfigError, GoDuration, Spanned};
use exposition::Kind;
use pg_client::statement;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::is_plain;
use super::family::{FamilyDefinition, Init};
use super::schedule::Schedule;
use super::{Check, Defaults, Families};

/// A query as it is written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// Name in metrics
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// Which database, if there are several
    #[schemars(with = "Option<String>")]
    pub(super) database: Option<Spanned<String>>,
    /// Where it makes sense; elsewhere it is not run, and that is no failure
    #[serde(default)]
    requires: Requirements,
    /// One reading statement
    #[schemars(with = "Option<String>")]
    sql: Option<Spanned<String>>,
    /// File with the statement instead, relative to this one
    #[schemars(with = "Option<String>")]
    pub(super) sql_file: Option<Spanned<String>>,
    /// Runs in the background with this pause between, and scrapes show the last result; default: in each scrape
    #[schemars(with = "Option<String>")]
    refresh: Option<Spanned<GoDuration>>,
    /// Runs in the background at these times, in UTC, and once when the exporter starts: minute, hour, day, month, weekday
    #[schemars(with = "Option<String>")]
    cron: Option<Spanned<String>>,
    /// As in `defaults`
    #[schemars(with = "Option<String>")]
    timeout: Option<GoDuration>,
    /// As in `defaults`
    #[schemars(with = "Option<String>")]
    lock_timeout: Option<GoDuration>,
    /// As in `defaults`
    max_rows: Option<usize>,
    /// As in `defaults`
    max_series: Option<usize>,
    /// As in `defaults`
    max_cost: Option<f64>,
    /// What a NULL in a column of values means
    #[serde(default)]
    null_value: NullValue,
    /// What is made of each row
    emit: Vec<Emit>,
}

/// Where a query makes sense. Elsewhere it is not run, which is no failure.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Requirements {
    /// PostgreSQL of this major release or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<u32>,
    /// PostgreSQL of this major release or earlier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_version: Option<u32>,
    /// A server of this role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// An extension that is installed in the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension: Option<String>,
    /// A table, view or other relation that exists, as `schema.name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relation: Option<String>,
}

impl Requirements {
    /// That names can stand in SQL, and that some version fits.
    fn check(&self) -> Result<(), String> {
        if let Some(name) = self.extension.as_ref().filter(|name| !is_plain(name)) {
            return Err(format!("{name:?} is not the name of an extension"));
        }
        if let Some(name) = &self.relation
            && !name.split_once('.').is_some_and(|(schema, name)| is_plain(schema) && is_plain(name))
        {
            return Err(format!("write the relation as schema.name, not as {name:?}"));
        }
        match (self.min_version, self.max_version) {
            (Some(min), Some(max)) if min > max => {
                Err(format!("no version is {min} or later and {max} or earlier"))
            }
            (min, max) => match [min, max].into_iter().flatten().find(|version| *version >= 1000) {
                Some(version) => Err(format!("versions are major releases such as 15, not {version}")),
                None => Ok(()),
            },
        }
    }
}

/// What a server is to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It replays what another one writes.
    Standby,
}

/// What a NULL in a value column means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
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

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "QueryEmit")]
struct Emit {
    /// The family
    #[schemars(with = "String")]
    family: Spanned<String>,
    /// SQL condition on the rows that fill it, over the columns of the query
    #[schemars(with = "Option<String>")]
    when: Option<Spanned<String>>,
    /// The column of the values
    value: Option<String>,
    /// Several columns of values instead, each for one value of a label
    pivot: Option<Pivot>,
    /// The column of a stateset's current state
    state: Option<String>,
    /// The column of a histogram's upper bounds, one a row; NULL is `+Inf`
    le: Option<String>,
    /// The column of the observations above the bound before and up to this one
    count: Option<String>,
    /// The column of their sum
    sum: Option<String>,
    /// Columns that have the labels' names, or `{label: column}`; NULL is `unknown`
    #[serde(default)]
    labels: Vec<LabelColumn>,
    /// Labels with a fixed value
    #[serde(default)]
    static_labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Pivot {
    /// The label
    label: String,
    /// The columns, whose names are the label's values
    columns: Vec<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum LabelColumn {
    Same(String),
    Renamed(BTreeMap<String, String>),
}

/// A query and what its result means.
#[derive(Debug)]
pub struct QueryDefinition {
    /// Name in metrics and messages.
    pub name: String,
    /// Where it is run.
    pub requires: Requirements,
    /// One statement.
    pub sql: String,
    /// When it runs in the background, so that scrapes show its last result; without it, it runs in each scrape.
    pub schedule: Option<Schedule>,
    /// How long the last result of a query in the background outlives the first failure after it.
    pub hold_max: Duration,
    /// The server cancels it after this time.
    pub timeout: Duration,
    /// The server cancels it after waiting this long for one lock.
    pub lock_timeout: Duration,
    /// One row more, and the query fails.
    pub max_rows: usize,
    /// One series of a family more, and the query fails.
    pub max_series: usize,
    /// It is not run when the planner expects more, in the units of `EXPLAIN`.
    pub max_cost: Option<f64>,
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
    /// SQL condition on the rows that fill it.
    pub when: Option<String>,
    /// Labels whose values are columns: label and column.
    pub labels: Vec<(String, String)>,
    /// Labels whose values are fixed: label and value.
    pub static_labels: Vec<(String, String)>,
    /// Where samples come from: a column, or several with a value of the pivot's label each.
    pub values: Values,
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
    /// Each row is one bucket.
    Buckets {
        /// The column of upper bounds; NULL is +Inf.
        le: String,
        /// The column of observations above the bound before, up to this one.
        count: String,
        /// The column of their sum.
        sum: Option<String>,
    },
    /// The column has the current state.
    State(String),
    /// The value is 1.
    Info,
}

impl Emission {
    /// Whether the series that the domains allow are there at 0.
    pub fn init_zero(&self) -> bool {
        self.family.init == Some(Init::Zero)
    }

    /// Number of series that are there before any row.
    fn initial_series(&self) -> usize {
        let pivot = match &self.values {
            Values::Pivot { columns, .. } => columns.len(),
            _ => 1,
        };
        let values =
            |label: &String| self.family.labels.get(label)?.domain().closed().map(|values| values.len());
        let product =
            self.labels.iter().filter_map(|(label, _)| values(label)).fold(pivot, usize::saturating_mul);
        if self.init_zero() { product } else { 0 }
    }
}

impl Query {
    /// The query; `file` is the text of its SQL file.
    pub(super) fn definition(
        &self,
        check: &Check<'_>,
        defaults: &Defaults,
        families: &Families,
        file: Option<&str>,
    ) -> Result<QueryDefinition, ConfigError> {
        let name = &self.name.value;
        if name.is_empty() || self.emit.is_empty() {
            return check.fail(&self.name, "a query needs a name, and at least one family under emit");
        }
        let (place, sql) = match (&self.sql, &self.sql_file, file) {
            (Some(sql), None, _) => (sql, sql.value.as_str()),
            (None, Some(place), Some(text)) => (place, text),
            _ => return check.fail(&self.name, format!("query {name:?} needs either sql or sql_file")),
        };
        let sql = match statement::single(sql) {
            Ok(sql) => sql.to_owned(),
            Err(problem) => return check.fail(place, format!("query {name:?}: {problem}")),
        };
        let emit: Vec<Emission> =
            self.emit.iter().map(|emit| emit.emission(check, families)).collect::<Result<_, _>>()?;
        let max_series = self.max_series.unwrap_or(defaults.max_series);
        if let Some(emission) = emit.iter().find(|emission| emission.initial_series() > max_series) {
            let (name, count) = (&emission.family.desc.name, emission.initial_series());
            let message =
                format!("init: zero makes {count} series of {name}, more than max_series = {max_series}");
            return check.fail(&self.name, message);
        }
        self.requires.check().or_else(|problem| check.fail(&self.name, problem))?;
        if let Some(refresh) = self.refresh.as_ref().filter(|refresh| refresh.value.get().is_zero()) {
            return check.fail(
                refresh,
                "without a pause it would never rest; leave refresh out to run it in each scrape",
            );
        }
        let schedule = match (&self.refresh, &self.cron) {
            (Some(_), Some(cron)) => return check.fail(cron, "write either refresh or cron"),
            (Some(refresh), None) => Some(Schedule::Every(refresh.value.get())),
            (None, Some(cron)) => {
                Some(Schedule::cron(&cron.value).or_else(|problem| check.fail(cron, problem))?)
            }
            (None, None) => None,
        };
        Ok(QueryDefinition {
            name: name.clone(),
            requires: self.requires.clone(),
            sql,
            schedule,
            hold_max: defaults.hold_max.get(),
            timeout: self.timeout.unwrap_or(defaults.timeout).get(),
            lock_timeout: self.lock_timeout.unwrap_or(defaults.lock_timeout).get(),
            max_rows: self.max_rows.unwrap_or(defaults.max_rows),
            max_series,
            max_cost: self.max_cost.or(defaults.max_cost),
            null_value: self.null_value,
            emit,
        })
    }
}

impl Emit {
    fn emission(&self, check: &Check<'_>, families: &Families) -> Result<Emission, ConfigError> {
        let family = check.family(&self.family, families)?;
        let name = &family.desc.name;
        if family.desc.kind == Kind::Counter && family.init == Some(Init::Zero) {
            let message = "init: zero is for gauges and for what events fill; the zero of a counter that a query fills comes from its query";
            return check.fail(&self.family, format!("{name}: {message}"));
        }
        let values = self.values(check, &family)?;
        let mut labels = Vec::new();
        for label in &self.labels {
            match label {
                LabelColumn::Same(label) => labels.push((label.clone(), label.clone())),
                LabelColumn::Renamed(map) => labels.extend(map.clone()),
            }
        }
        let pivot_label = match &values {
            Values::Pivot { label, .. } => Some(label),
            _ => None,
        };
        let given: Vec<&String> = labels
            .iter()
            .map(|(label, _)| label)
            .chain(self.static_labels.keys())
            .chain(pivot_label)
            .collect();
        check.labels(&self.family, &family, &given)?;
        let domain = |label: &String| family.labels[label].domain();
        if let Some(label) = given.iter().find(|label| domain(label).enum_type.is_some()) {
            let message = format!(
                "the label {label:?} of {name} has an enum, which is for what events fill; list values, or select them with enum_range"
            );
            return check.fail(&self.family, message);
        }
        if family.init == Some(Init::Zero)
            && let Some((label, _)) = labels.iter().find(|(label, _)| domain(label).closed().is_none())
        {
            return check.fail(
                &self.family,
                format!("{name} has init: zero, which needs the values of the label {label:?}"),
            );
        }
        let static_labels = self.static_labels.clone().into_iter().collect();
        let when = self.when.as_ref().map(|when| check.expression(when)).transpose()?;
        Ok(Emission { family, when, labels, static_labels, values })
    }

    fn values(&self, check: &Check<'_>, family: &FamilyDefinition) -> Result<Values, ConfigError> {
        let name = &family.desc.name;
        let Emit { value, pivot, state, le, count, sum, .. } = self;
        let wanted = match family.desc.kind {
            Kind::Histogram | Kind::GaugeHistogram => match (le, count, value, pivot, state) {
                (Some(le), Some(count), None, None, None) => {
                    let (le, count, sum) = (le.clone(), count.clone(), sum.clone());
                    return Ok(Values::Buckets { le, count, sum });
                }
                _ => "the columns le and count, and may have sum",
            },
            Kind::StateSet => match (state, value, pivot) {
                (Some(state), None, None) if le.is_none() && count.is_none() && sum.is_none() => {
                    return Ok(Values::State(state.clone()));
                }
                _ => "a state column",
            },
            Kind::Info => {
                let columns = [value, state, le, count, sum];
                if pivot.is_none() && columns.iter().all(|column| column.is_none()) {
                    return Ok(Values::Info);
                }
                "labels and no value"
            }
            _ if [state, le, count, sum].iter().any(|column| column.is_some()) => {
                "either a value column or a pivot"
            }
            _ => match (value, pivot) {
                (Some(column), None) => return Ok(Values::Column(column.clone())),
                (None, Some(Pivot { label, columns })) => {
                    return Ok(Values::Pivot { label: label.clone(), columns: columns.clone() });
                }
                _ => "either a value column or a pivot",
            },
        };
        check.fail(&self.family, format!("{name} needs {wanted}"))
    }
}

impl Check<'_> {
    /// The family of that name.
    pub(super) fn family(
        &self,
        name: &Spanned<String>,
        families: &Families,
    ) -> Result<Arc<FamilyDefinition>, ConfigError> {
        match families.get(&name.value) {
            Some(family) => Ok(Arc::clone(family)),
            None => self.fail(name, format!("family {:?} is not declared under families", name.value)),
        }
    }

    /// That each label of the family is given once, and no other.
    pub(super) fn labels(
        &self,
        at: &Spanned<String>,
        family: &FamilyDefinition,
        given: &[&String],
    ) -> Result<(), ConfigError> {
        let distinct: BTreeSet<&String> = given.iter().copied().collect();
        let declared: BTreeSet<&String> = family.labels.keys().collect();
        if distinct == declared && distinct.len() == given.len() {
            return Ok(());
        }
        let name = &family.desc.name;
        self.fail(
            at,
            format!("{name} is declared with labels {declared:?}, this gives {given:?}; each is given once"),
        )
    }
}
