//! What is asked of the database to count events and to read what is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use pg_client::Rows;

use crate::counters::checkpoint::Checkpoint;
use crate::counters::series::Enums;
use crate::counters::{ddl, mode, stock, whole};
use crate::definition::Definition;

/// The statements of a definition.
pub(super) struct Statements {
    pub(super) mode: String,
    pub(super) fold: String,
    pub(super) read: String,
    pub(super) intact: String,
    /// Absent when no label has an enum.
    pub(super) enums: Option<String>,
    /// Name and statement of each stock.
    pub(super) stocks: Vec<(String, String)>,
    pub(super) checkpoint: Checkpoint,
    /// Of mode snapshot, by table.
    pub(super) whole: BTreeMap<String, String>,
}

impl Statements {
    pub(super) fn new(definition: &Definition, whole: &BTreeSet<String>) -> Statements {
        let schema = definition.counters.schema();
        let read = format!(
            "SELECT l.epoch, l.reason, (SELECT count(*) FROM {schema}.delta), \
                    v.family, pg_catalog.to_json(v.labels), v.le, v.n, v.s, v.position \
             FROM {schema}.ledger AS l LEFT JOIN ( \
                 SELECT family, labels, le, sum(n) AS n, min(position) AS position, \
                        sum(sum(s)) OVER (PARTITION BY family, labels) AS s \
                 FROM (SELECT family, labels, le, n - n_before AS n, s - s_before AS s, position FROM {schema}.total \
                       UNION ALL SELECT family, labels, le, n, s, NULL FROM {schema}.delta) AS parts \
                 GROUP BY family, labels, le) AS v ON true \
             ORDER BY v.position NULLS LAST, v.family, v.labels, v.le"
        );
        let mut triggers = String::new();
        for (index, trigger) in ddl::triggers(definition).iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let (event, table, name, hash) =
                (&trigger.event.name, &trigger.table, &trigger.name, trigger.hash());
            // Writing into a String cannot fail.
            let _ = write!(triggers, "{comma}('{event}', '{table}', '{name}', '{hash}')");
        }
        let intact = format!(
            "SELECT e.event, (p.oid IS NOT NULL)::text \
             FROM (VALUES {triggers}) AS e (event, relation, name, hash) \
             LEFT JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = pg_catalog.to_regclass(e.relation) \
                  AND t.tgname = e.name AND t.tgenabled = 'A' \
             LEFT JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid AND p.prosecdef AND e.hash = \
                  pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(p.prosrc, 'UTF8')), 'hex')"
        );
        let emissions = definition.events.iter().flat_map(|event| &event.emit);
        let labels = emissions.flat_map(|emission| emission.family.labels.values());
        let types: BTreeSet<&str> = labels.filter_map(|label| label.domain().enum_type.as_deref()).collect();
        let enums = (!types.is_empty()).then(|| {
            let types: Vec<String> = types.iter().map(|name| format!("('{name}')")).collect();
            format!(
                "SELECT e.name, v.enumlabel FROM (VALUES {}) AS e (name) \
                 JOIN pg_catalog.pg_enum AS v ON v.enumtypid = pg_catalog.to_regtype(e.name)",
                types.join(", ")
            )
        });
        let stocks = definition.stocks.iter();
        let stocks = stocks.map(|one| (stock::name(one), stock::reconcile(schema, one))).collect();
        Statements {
            mode: mode::statement(&definition.counters),
            fold: format!("SELECT {schema}.fold()"),
            read,
            intact,
            enums,
            stocks,
            checkpoint: Checkpoint::new(definition),
            whole: whole::statements(definition, &whole.iter().map(String::as_str).collect()),
        }
    }
}

/// The labels of each enum type by its name in the definition.
pub(super) fn values_of_enums(rows: &Rows) -> Enums {
    let mut values = Enums::new();
    for row in rows.iter() {
        if let (Some(name), Some(label)) = (row.get(0), row.get(1)) {
            values.entry(name.to_owned()).or_default().insert(label.to_owned());
        }
    }
    values
}
