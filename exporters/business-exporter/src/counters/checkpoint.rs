//! Counts inserts without triggers: new rows are found by their ids, which a sequence gives out.
//!
//! Transactions do not commit in the order of their ids, so that an id is no watermark by itself. But an INSERT holds its
//! lock on the table from before it takes an id until after its row is visible. So at each step these are read, in this
//! order: the last id that was given out, then who holds such a lock, then, in one snapshot, the rows. Of every id at or
//! below that last one, the transaction was among the holders, or its row is in the snapshot. Once none of these holders
//! is left, nothing can appear at or below that id any more: it is *settled*. Rows above it that were counted are
//! remembered one by one.
//!
//! What is remembered is in the same database, in the transaction that counts: it is lost and restored with the rows.
//! A step of one replica is void when another made one since it looked (`turn`): what it knows of the holders may be
//! older than what the other has noted.

use std::collections::BTreeMap;

use pg_client::{Row, Rows};

use super::observations::{self, table};
use crate::definition::{Definition, EventDefinition, FUNCTION_QUOTE, Operation};

/// Most barriers of a table. When a writer stays open, more would only say later what these say.
const MAX_BARRIERS: u32 = 100;

/// Locks that an INSERT takes, and stronger ones.
const WRITING: &str = "'RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'";

/// The statements of a definition.
pub(super) struct Checkpoint {
    schema: String,
    /// Of each table: where things stand.
    pub(super) look: String,
    /// Of each table: who may still bring rows.
    pub(super) holders: String,
    sources: BTreeMap<String, Source>,
}

/// A table with events.
struct Source {
    /// Quoted.
    table: String,
    key: String,
    events: Vec<EventDefinition>,
}

/// Where things stand with one table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Standing {
    pub(super) source: String,
    /// Why its inserts cannot be counted.
    pub(super) problem: Option<String>,
    /// The last id that was given out.
    last: i64,
    /// Absent before the first step.
    mark: Option<Mark>,
    /// Seconds since something was settled.
    pub(super) age: Option<f64>,
    /// Whether late rows are to be looked for.
    audit: bool,
    /// Rows that came at or below what was settled.
    pub(super) late: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Mark {
    turn: i64,
    settled: i64,
    audits: i64,
}

impl Checkpoint {
    /// For the inserts of a definition.
    pub(super) fn new(definition: &Definition) -> Checkpoint {
        let schema = definition.counters.schema().to_owned();
        let mut sources: BTreeMap<String, Source> = BTreeMap::new();
        for event in definition.events.iter().filter(|event| event.on == Operation::Insert) {
            let source = sources.entry(event.source()).or_insert_with(|| Source {
                table: table(event),
                key: event.key.clone(),
                events: Vec::new(),
            });
            source.events.push(event.clone());
        }
        let list = |row: &dyn Fn(&String, &Source) -> String| {
            sources.iter().map(|(name, source)| row(name, source)).collect::<Vec<_>>().join(", ")
        };
        let interval = definition.counters.reconcile_interval.get().as_secs_f64();
        let look =
            look(&schema, &list(&|name, s| format!("('{name}', '{}', '{}')", s.table, s.key)), interval);
        let holders = holders(&list(&|name, source| format!("('{name}', '{}')", source.table)));
        Checkpoint { schema, look, holders, sources }
    }

    /// What [`Checkpoint::look`] found.
    pub(super) fn standing(rows: &Rows) -> Vec<Standing> {
        let whole = |row: Row<'_>, column: usize| row.get(column)?.parse::<i64>().ok();
        rows.iter()
            .filter_map(|row| {
                let mark = match [2, 3, 4].map(|column| whole(row, column)) {
                    [Some(turn), Some(settled), Some(audits)] => Some(Mark { turn, settled, audits }),
                    _ => None,
                };
                let last = whole(row, 1);
                let mut problem = row.get(8).map(str::to_owned);
                if let (Some(last), Some(mark)) = (last, mark)
                    && last < mark.settled
                {
                    problem = problem.or(Some(format!(
                        "its sequence is at {last}, before {}, up to where rows were counted; \
                         delete its row of the watermarks to count from now on",
                        mark.settled
                    )));
                }
                Some(Standing {
                    source: row.get(0)?.to_owned(),
                    last: last.unwrap_or_default(),
                    mark,
                    age: row.float(5),
                    late: row.float(6).unwrap_or_default(),
                    audit: row.get(7) == Some("t"),
                    problem,
                })
            })
            .collect()
    }

    /// The step of a table: counts what is new, and settles what can be.
    pub(super) fn step(&self, standing: &Standing, holders: &str) -> Option<String> {
        let (schema, name) = (&self.schema, &standing.source);
        let source = self.sources.get(name)?;
        let last = standing.last;
        // The server's own text: virtual transactions in braces.
        let holders = holders.replace('\'', "");
        let first = format!(
            "INSERT INTO {schema}.watermark (source, settled)
    SELECT '{name}', greatest({last}, max(n.\"{}\")) FROM {} AS n ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN RETURN; END IF;",
            source.key, source.table
        );
        let settle = format!(
            "INSERT INTO {schema}.barrier (source, hi, holders) SELECT '{name}', {last}, '{holders}'
    WHERE (SELECT count(*) FROM {schema}.barrier WHERE source = '{name}') < {MAX_BARRIERS}
    ON CONFLICT DO NOTHING;
    UPDATE {schema}.barrier SET holders = ARRAY(
        SELECT unnest(holders) INTERSECT SELECT unnest('{holders}'::text[])) WHERE source = '{name}';
    SELECT max(hi) INTO business_exporter_settled FROM {schema}.barrier
    WHERE source = '{name}' AND holders = '{{}}';
    IF business_exporter_settled IS NOT NULL THEN
        UPDATE {schema}.watermark
        SET settled = greatest(settled, business_exporter_settled), settled_at = clock_timestamp()
        WHERE source = '{name}';
        DELETE FROM {schema}.barrier WHERE source = '{name}' AND hi <= business_exporter_settled;
        DELETE FROM {schema}.seen WHERE source = '{name}' AND id <= business_exporter_settled;
    END IF;"
        );
        let count = match standing.mark {
            // Counting begins: what was there, or under way, is not counted.
            None => first,
            Some(Mark { turn, settled, .. }) => {
                let above = format!("n.\"{}\" > {settled}", source.key);
                let new = format!(
                    "{above} AND NOT EXISTS (SELECT FROM {schema}.seen AS s WHERE s.source = '{name}' AND s.id = n.\"{}\")",
                    source.key
                );
                let from = observations::From::Table(&new);
                let events: Vec<String> =
                    source.events.iter().map(|event| observations::of_event(event, &from)).collect();
                format!(
                    "UPDATE {schema}.watermark SET turn = turn + 1 WHERE source = '{name}' AND turn = {turn};
    IF NOT FOUND THEN RETURN; END IF;
    INSERT INTO {schema}.total AS t (family, labels, le, n, s)
    SELECT family, labels, le, count(*), sum(value) FROM ({}
    ) AS events GROUP BY family, labels, le ORDER BY family, labels, le
    ON CONFLICT (family, labels, le) DO UPDATE SET n = t.n + excluded.n, s = t.s + excluded.s;
    INSERT INTO {schema}.seen (source, id) SELECT '{name}', n.\"{}\" FROM {} AS n WHERE {above}
    ON CONFLICT DO NOTHING;",
                    events.join("\n        UNION ALL"),
                    source.key,
                    source.table
                )
            }
        };
        Some(format!(
            "SET LOCAL transaction_isolation = 'repeatable read'; {WRITE}
DO {FUNCTION_QUOTE}
DECLARE
    business_exporter_settled bigint;
BEGIN
    {count}
    {settle}
EXCEPTION WHEN serialization_failure THEN
    NULL; -- Another replica made this step.
END
{FUNCTION_QUOTE}"
        ))
    }

    /// What looks for late rows in a table, if it is time: the rows at or below an id that was settled can only become
    /// fewer. It reads the table's ids.
    pub(super) fn audit(&self, standing: &Standing) -> Option<String> {
        let (schema, name) = (&self.schema, &standing.source);
        let (source, mark) = (self.sources.get(name)?, standing.mark.filter(|_| standing.audit)?);
        let Source { table, key, .. } = source;
        Some(format!(
            "{WRITE}
UPDATE {schema}.watermark AS w
SET late = w.late + CASE WHEN v.audits > 0 THEN greatest(0, c.before - v.audited_rows) ELSE 0 END,
    audits = w.audits + 1, audited_at = clock_timestamp(), audited = v.settled, audited_rows = c.now
FROM {schema}.watermark AS v CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE n.\"{key}\" <= v.audited) AS before, count(*) AS now
    FROM {table} AS n WHERE n.\"{key}\" <= v.settled
) AS c
WHERE w.source = '{name}' AND v.source = '{name}' AND w.audits = {}",
            mark.audits
        ))
    }
}

/// Names mean what they mean in a trigger, and this may write.
const WRITE: &str = "SET LOCAL transaction_read_only = off; SET LOCAL search_path = pg_catalog, pg_temp;";

fn look(schema: &str, sources: &str, interval: f64) -> String {
    format!(
        "SELECT s.source,
       CASE WHEN pg_catalog.has_sequence_privilege(q.sequence, 'SELECT, USAGE')
            THEN coalesce(pg_catalog.pg_sequence_last_value(q.sequence), p.seqstart - 1) END,
       w.turn, w.settled, w.audits, extract(epoch FROM pg_catalog.clock_timestamp() - w.settled_at), w.late,
       w.settled_at IS NOT NULL AND pg_catalog.clock_timestamp() >= w.audited_at + interval '{interval} s',
       CASE WHEN q.relation IS NULL THEN 'there is no such table'
            WHEN pg_catalog.pg_is_in_recovery() THEN 'the server is a standby'
            WHEN q.sequence IS NULL THEN 'its key has no sequence'
            WHEN NOT pg_catalog.has_sequence_privilege(q.sequence, 'SELECT, USAGE')
            THEN 'the role may not read the sequence ' || q.sequence::text
            WHEN p.seqcache > 1 THEN 'its sequence has CACHE ' || p.seqcache
            WHEN p.seqincrement < 1 THEN 'its sequence counts down'
            WHEN p.seqcycle THEN 'its sequence starts again'
            WHEN EXISTS (SELECT FROM pg_catalog.pg_inherits AS i
                         WHERE i.inhparent = q.relation
                           AND pg_catalog.pg_get_serial_sequence(i.inhrelid::regclass::text, s.key)::regclass <> q.sequence)
            THEN 'a partition has a sequence of its own' END
FROM (VALUES {sources}) AS s (source, name, key)
CROSS JOIN LATERAL (
    SELECT r.relation, CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
                                         WHERE a.attrelid = r.relation AND a.attname = s.key AND NOT a.attisdropped)
           THEN pg_catalog.pg_get_serial_sequence(s.name, s.key)::regclass END AS sequence
    FROM (SELECT pg_catalog.to_regclass(s.name) AS relation) AS r
) AS q
LEFT JOIN pg_catalog.pg_sequence AS p ON p.seqrelid = q.sequence
LEFT JOIN {schema}.watermark AS w ON w.source = s.source"
    )
}

fn holders(sources: &str) -> String {
    format!(
        "WITH RECURSIVE tree (source, relation) AS (
    SELECT s.source, pg_catalog.to_regclass(s.name)::oid FROM (VALUES {sources}) AS s (source, name)
    UNION SELECT t.source, i.inhrelid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.relation
)
SELECT t.source, coalesce(pg_catalog.array_agg(DISTINCT l.virtualtransaction)
                          FILTER (WHERE l.virtualtransaction IS NOT NULL), '{{}}')
FROM tree AS t LEFT JOIN pg_catalog.pg_locks AS l
     ON l.locktype = 'relation' AND l.granted AND l.relation = t.relation AND l.mode IN ({WRITING})
    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
GROUP BY t.source"
    )
}
