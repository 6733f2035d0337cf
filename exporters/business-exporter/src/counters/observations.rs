//! SQL that turns rows of a table into what they add to families. The same expressions are put over the transition tables
//! of a trigger, over the rows above a watermark, and over a whole table.

use std::fmt::Write;

use crate::definition::{EventDefinition, EventEmission, Operation};
use crate::domain::NULL_LABEL;

/// Negative or endless values that were not counted, by family.
pub(super) const REFUSED: &str = "business_exporter_values_refused_total";

/// Largest value that is counted: more is nonsense, and would spoil a sum for ever.
const LARGEST: &str = "1e300";

/// Where the rows of an event are found.
pub(super) enum From<'a> {
    /// In the transition tables `old_rows` and `new_rows`.
    Statement,
    /// In the table, where this condition on `n` holds.
    Table(&'a str),
}

/// One row (`family`, `labels`, `le`, `value`) for each row of an event and family that it adds to.
pub(super) fn of_event(event: &EventDefinition, from: &From<'_>) -> String {
    let parts: Vec<String> = event.emit.iter().map(|emission| of_emission(event, emission, from)).collect();
    parts.join("\n        UNION ALL")
}

/// As [`of_event`], for one family.
pub(super) fn of_emission(event: &EventDefinition, emission: &EventEmission, from: &From<'_>) -> String {
    let family = &emission.family;
    let name = &family.desc.name;
    let labels: Vec<String> =
        emission.labels.iter().map(|label| format!("coalesce(({label}\n)::text, '{NULL_LABEL}')")).collect();
    let labels = format!("ARRAY[{}]::text[]", labels.join(", "));
    let key = &event.key;
    let (rows, condition) = match (from, event.on) {
        (From::Table(condition), _) => (format!("{} AS n", table(event)), Some(*condition)),
        (From::Statement, Operation::Insert) => ("new_rows AS n".to_owned(), None),
        (From::Statement, Operation::Update) => {
            (format!("old_rows AS o JOIN new_rows AS n ON n.\"{key}\" = o.\"{key}\""), None)
        }
        (From::Statement, Operation::Delete) => ("old_rows AS o".to_owned(), None),
    };
    let conditions = [condition, event.when.as_deref(), emission.when.as_deref()].into_iter().flatten();
    let conditions: Vec<String> = conditions.map(|condition| format!("({condition}\n)")).collect();
    let conditions =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let Some(value) = &emission.value else {
        return format!(
            "\n        SELECT '{name}' AS family, {labels} AS labels, 'Infinity'::float8 AS le, 1::numeric AS value
        FROM {rows}{conditions}"
        );
    };
    let mut bounds = String::new();
    for bound in &family.buckets {
        // Writing into a String cannot fail.
        let _ = write!(bounds, " WHEN value <= {bound} THEN {bound}");
    }
    format!(
        "\n        SELECT CASE WHEN fine THEN '{name}' ELSE '{REFUSED}' END AS family,
               CASE WHEN fine THEN labels ELSE ARRAY['{name}'] END AS labels,
               CASE WHEN NOT fine THEN 'Infinity'::float8{bounds} ELSE 'Infinity'::float8 END AS le,
               CASE WHEN fine THEN value ELSE 1 END AS value
        FROM (
            SELECT labels, value, value >= 0 AND value < {LARGEST}::numeric AS fine
            FROM (SELECT {labels} AS labels, ({value}\n)::numeric AS value FROM {rows}{conditions}) AS valued
            WHERE value IS NOT NULL
        ) AS judged"
    )
}

/// The table of an event, quoted.
pub(super) fn table(event: &EventDefinition) -> String {
    let (schema, table) = &event.table;
    format!("\"{schema}\".\"{table}\"")
}
