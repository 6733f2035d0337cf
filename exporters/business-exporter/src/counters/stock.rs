//! Compares the counters of a table with its rows: what was there when the ledger was installed, and what was created or
//! moved in since, without what was moved out or deleted, is what must be there.

use crate::definition::StockDefinition;
use crate::domain::NULL_LABEL;

/// Its name in the ledger, in metrics and for people.
pub fn name(stock: &StockDefinition) -> String {
    let ((schema, table), by) = (&stock.table, &stock.by);
    format!("{schema}.{table}.{by}")
}

/// The table, quoted.
pub fn table(stock: &StockDefinition) -> String {
    let (schema, table) = &stock.table;
    format!("\"{schema}\".\"{table}\"")
}

/// The rows of the table now, by value.
fn rows(stock: &StockDefinition) -> String {
    let (table, by) = (table(stock), &stock.by);
    format!(
        "SELECT coalesce(\"{by}\"::text, '{NULL_LABEL}') AS value, count(*)::numeric AS n FROM {table} GROUP BY 1"
    )
}

/// By how much the counters changed the stock, by value.
fn counted(schema: &str, stock: &StockDefinition) -> String {
    let part = |family: &String, label: u8, sign: &str| {
        format!("SELECT labels[{label}] AS value, {sign}n AS n FROM everything WHERE family = '{family}'")
    };
    let mut parts = vec![part(&stock.created, 1, "")];
    if let Some(moved) = &stock.moved {
        // The labels are in the order of their names: from, to.
        parts.extend([part(moved, 2, ""), part(moved, 1, "-")]);
    }
    parts.extend(stock.deleted.iter().map(|deleted| part(deleted, 1, "-")));
    format!(
        "WITH everything AS (SELECT family, labels, n FROM {schema}.total \
                             UNION ALL SELECT family, labels, n FROM {schema}.delta) \
         SELECT value, sum(n) AS n FROM ({}) AS parts GROUP BY value",
        parts.join(" UNION ALL ")
    )
}

/// A statement that notes what of the rows the counters do not explain. Nobody may write to the table meanwhile.
pub fn baseline(schema: &str, stock: &StockDefinition) -> String {
    let (name, rows, counted) = (name(stock), rows(stock), counted(schema, stock));
    format!(
        "INSERT INTO {schema}.baseline (stock, rows)
            SELECT '{name}', coalesce(jsonb_object_agg(value, n), '{{}}')
            FROM (SELECT value, sum(n) AS n
                  FROM (({rows}) UNION ALL SELECT value, -n FROM ({counted}) AS counted) AS compared
                  GROUP BY value) AS unexplained
            ON CONFLICT (stock) DO UPDATE SET rows = excluded.rows;"
    )
}

/// A statement that gives for each value the rows there are and those there must be, in one snapshot.
pub fn reconcile(schema: &str, stock: &StockDefinition) -> String {
    let (name, rows, counted) = (name(stock), rows(stock), counted(schema, stock));
    format!(
        "SELECT value, sum(there), sum(due), sum(there) - sum(due) FROM ( \
             SELECT value, n AS there, 0 AS due FROM ({rows}) AS rows \
             UNION ALL SELECT value, 0, n FROM ({counted}) AS counted \
             UNION ALL SELECT b.key, 0, b.value::numeric \
                 FROM {schema}.baseline, pg_catalog.jsonb_each_text(rows) AS b WHERE stock = '{name}' \
         ) AS compared GROUP BY value ORDER BY value"
    )
}
