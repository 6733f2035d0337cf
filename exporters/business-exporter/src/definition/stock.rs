//! Stocks as the file has them: what the counters of a table are compared with, row by row.

use exporter_kit::config::{ConfigError, Spanned};
use schemars::JsonSchema;
use serde::Deserialize;

use super::event::{EventDefinition, EventEmission, Operation};
use super::{Check, event};

/// A stock as it is written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Stock {
    /// Which database, if there are several
    #[schemars(with = "Option<String>")]
    pub(super) database: Option<Spanned<String>>,
    /// The table, as `schema.table`
    #[schemars(with = "String")]
    pub(super) table: Spanned<String>,
    /// The column whose values tell the rows apart
    #[schemars(with = "String")]
    by: Spanned<String>,
    /// Counter of its inserts, with the value as its only label
    #[schemars(with = "String")]
    created: Spanned<String>,
    /// Counter of its updates, with the labels `from` and `to`
    #[schemars(with = "Option<String>")]
    moved: Option<Spanned<String>>,
    /// Counter of its deletions, with the value as its only label
    #[schemars(with = "Option<String>")]
    deleted: Option<Spanned<String>>,
}

/// The rows of a table by the value of a column, and the counters that say how many there must be: those that were there
/// before, and those created or moved in, without those moved out or deleted.
#[derive(Debug)]
pub struct StockDefinition {
    /// Schema and name of the table.
    pub table: (String, String),
    /// The column.
    pub by: String,
    /// Counter with the value as its only label.
    pub created: String,
    /// Counter with the labels `from` and `to`.
    pub moved: Option<String>,
    /// Counter with the value as its only label.
    pub deleted: Option<String>,
}

impl Stock {
    pub(super) fn definition(
        &self,
        check: &Check<'_>,
        events: &[EventDefinition],
    ) -> Result<StockDefinition, ConfigError> {
        let table = check.table(&self.table)?;
        if !event::is_plain(&self.by.value) {
            return check.fail(&self.by, "the rows of a stock are told apart by the name of one column");
        }
        let counter = |family: &Spanned<String>, on: Operation, labels: &[&str]| {
            let fits = |event: &&EventDefinition| event.on == on && event.table == table;
            let counts = |emission: &&EventEmission| {
                let names = emission.family.labels.keys().map(String::as_str);
                emission.family.desc.name == family.value
                    && emission.value.is_none()
                    && (labels.is_empty() && names.len() == 1 || names.eq(labels.iter().copied()))
            };
            match events.iter().filter(fits).flat_map(|event| &event.emit).find(counts) {
                Some(_) => Ok(family.value.clone()),
                None => {
                    let wanted =
                        if labels.is_empty() { "one label".to_owned() } else { format!("labels {labels:?}") };
                    let message = format!(
                        "{:?} is not a counter with {wanted} that an event on {} of {} adds 1 to",
                        family.value,
                        on.as_str(),
                        self.table.value
                    );
                    check.fail(family, message)
                }
            }
        };
        let moved = self.moved.as_ref().map(|family| counter(family, Operation::Update, &["from", "to"]));
        let deleted = self.deleted.as_ref().map(|family| counter(family, Operation::Delete, &[]));
        Ok(StockDefinition {
            created: counter(&self.created, Operation::Insert, &[])?,
            moved: moved.transpose()?,
            deleted: deleted.transpose()?,
            by: self.by.value.clone(),
            table,
        })
    }
}
