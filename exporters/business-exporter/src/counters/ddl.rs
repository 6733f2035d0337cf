//! The SQL that installs the ledger: printed for the owner of the tables to run, never run by the exporter.
//!
//! For each event there is a statement trigger on its table whose function groups the rows of the statement and appends
//! the sums to `delta`, in the application's own transaction: an event is counted once, if it commits. Nothing in
//! there waits for another writer. `fold()` moves what is in `delta` to `total`, so a reader that sums both in one
//! snapshot sees the same before and after.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use sha2::{Digest, Sha256};

use super::observations::{self, table};
use super::stock;
use crate::definition::{Definition, EventDefinition, FUNCTION_QUOTE, Mode, Operation, StockDefinition};

/// Statements whose event could not be counted, by event.
pub const ERRORS: &str = "business_exporter_event_errors_total";
/// Tables of events that were emptied by TRUNCATE, which is no event of any row.
pub const TRUNCATED: &str = "business_exporter_table_truncated_total";

/// How long the installation waits for a table. While it waits, writers queue behind it.
const LOCK_TIMEOUT: &str = "5s";

/// The trigger of an event.
pub struct Trigger<'a> {
    /// Its name.
    pub name: String,
    /// The table, quoted.
    pub table: String,
    /// The event.
    pub event: &'a EventDefinition,
    /// The text of its function.
    body: String,
}

impl Trigger<'_> {
    /// SHA-256 of the function's text, in hexadecimal.
    pub fn hash(&self) -> String {
        Sha256::digest(&self.body).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The triggers of a definition.
pub fn triggers(definition: &Definition) -> Vec<Trigger<'_>> {
    let schema = definition.counters.schema();
    definition
        .events
        .iter()
        .map(|event| Trigger {
            name: format!("business_exporter_{}_{}", event.on.as_str(), event.name),
            table: table(event),
            event,
            body: body(schema, event),
        })
        .collect()
}

/// What makes the ledger, or brings an older one to this definition. Running it again changes nothing.
///
/// # Errors
/// Never in practice: text is written to memory.
pub fn install(definition: &Definition) -> Result<String, fmt::Error> {
    let schema = definition.counters.schema();
    let mut sql = String::new();
    let triggers = match definition.counters.mode {
        Mode::Checkpoint => {
            writeln!(
                sql,
                "-- Written by `business-exporter ddl --install` for mode: checkpoint. No table of the"
            )?;
            writeln!(sql, "-- application is touched: psql --set ON_ERROR_STOP=1 --file …")?;
            Vec::new()
        }
        _ => {
            writeln!(
                sql,
                "-- Written by `business-exporter ddl --install`. Run it as the owner of the tables, once for"
            )?;
            writeln!(sql, "-- each change of the definition: psql --set ON_ERROR_STOP=1 --file …")?;
            triggers(definition)
        }
    };
    transaction(&mut sql, &schema_sql(schema))?;
    let mut tables: BTreeMap<&str, Vec<&Trigger<'_>>> = BTreeMap::new();
    for trigger in &triggers {
        tables.entry(&trigger.table).or_default().push(trigger);
    }
    for (table, triggers) in tables {
        let stocks = definition.stocks.iter().filter(|stock| stock::table(stock) == table);
        transaction(&mut sql, &table_sql(schema, table, &triggers, &stocks.collect::<Vec<_>>())?)?;
    }
    transaction(&mut sql, &tidy_sql(schema, &triggers)?)?;
    Ok(sql)
}

/// What removes the ledger with all that it counted.
pub fn uninstall(definition: &Definition) -> String {
    let schema = definition.counters.schema();
    format!(
        "-- Written by `business-exporter ddl --uninstall`. What was counted is lost.\n\
         -- The triggers go with their functions.\n\
         DROP SCHEMA IF EXISTS {schema} CASCADE;\n"
    )
}

/// What lets a role read and fold the ledger, or keep watermarks, and no more.
pub fn grants(definition: &Definition, role: &str) -> String {
    let (schema, role) = (definition.counters.schema(), format!("\"{}\"", role.replace('"', "\"\"")));
    let mut sql = format!(
        "-- Written by `business-exporter ddl --grants`. What queries read is not in here.\n\
         GRANT USAGE ON SCHEMA {schema} TO {role};\n\
         GRANT SELECT ON {schema}.ledger, {schema}.total, {schema}.delta, {schema}.baseline TO {role};\n\
         GRANT EXECUTE ON FUNCTION {schema}.fold(), {schema}.restart(uuid, text) TO {role};\n"
    );
    if definition.counters.mode == Mode::Checkpoint {
        sql += &format!(
            "GRANT INSERT, UPDATE ON {schema}.total TO {role};\n\
             GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.watermark, {schema}.barrier, {schema}.seen TO {role};\n"
        );
    }
    for stock in &definition.stocks {
        sql += &format!("GRANT SELECT (\"{}\") ON {} TO {role};\n", stock.by, stock::table(stock));
    }
    sql
}

fn transaction(sql: &mut String, statements: &str) -> fmt::Result {
    writeln!(sql, "\nBEGIN;\nSET LOCAL lock_timeout = '{LOCK_TIMEOUT}';")?;
    writeln!(sql, "SET LOCAL client_min_messages = warning;")?;
    // What functions find at run time is found now, too.
    writeln!(sql, "SET LOCAL search_path = pg_catalog, pg_temp;")?;
    writeln!(sql, "{}\nCOMMIT;", statements.trim())
}

/// Runs with the owner's rights and finds nothing of the caller's.
const DEFINER: &str = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp";

fn schema_sql(schema: &str) -> String {
    format!(
        r"
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.ledger (
    only_row          boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch             uuid        NOT NULL DEFAULT gen_random_uuid(),
    reason            text        NOT NULL DEFAULT 'installed',
    started_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    system_identifier bigint      NOT NULL
);
INSERT INTO {schema}.ledger (system_identifier) SELECT system_identifier FROM pg_control_system()
ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS {schema}.delta (
    family text    NOT NULL,
    labels text[]  NOT NULL,
    le     float8  NOT NULL,
    n      bigint  NOT NULL,
    s      numeric NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE TABLE IF NOT EXISTS {schema}.total (
    family   text    NOT NULL,
    labels   text[]  NOT NULL,
    le       float8  NOT NULL,
    n        numeric NOT NULL,
    s        numeric NOT NULL,
    n_before numeric NOT NULL DEFAULT 0,
    s_before numeric NOT NULL DEFAULT 0,
    position bigint  NOT NULL GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (family, labels, le)
);

-- The rows of each stock that no counter explains, by value.
CREATE TABLE IF NOT EXISTS {schema}.baseline (stock text PRIMARY KEY, rows jsonb NOT NULL);

-- Without triggers: ids up to which every row was counted, by table (see `business-exporter ddl --grants`).
CREATE TABLE IF NOT EXISTS {schema}.watermark (
    source       text        PRIMARY KEY,
    turn         bigint      NOT NULL DEFAULT 0,
    settled      bigint      NOT NULL,
    settled_at   timestamptz,
    audits       bigint      NOT NULL DEFAULT 0,
    audited_at   timestamptz NOT NULL DEFAULT '-infinity',
    audited      bigint      NOT NULL DEFAULT 0,
    audited_rows bigint      NOT NULL DEFAULT 0,
    late         bigint      NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
-- An id that had been given out, and the transactions that may still bring a row at or below it.
CREATE TABLE IF NOT EXISTS {schema}.barrier (
    source  text   NOT NULL,
    hi      bigint NOT NULL,
    holders text[] NOT NULL,
    PRIMARY KEY (source, hi)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
-- Rows above the watermark that were counted.
CREATE TABLE IF NOT EXISTS {schema}.seen (
    source text   NOT NULL,
    id     bigint NOT NULL,
    PRIMARY KEY (source, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE OR REPLACE FUNCTION {schema}.move() RETURNS void LANGUAGE sql {DEFINER} AS $$
    WITH taken AS (DELETE FROM {schema}.delta RETURNING family, labels, le, n, s)
    INSERT INTO {schema}.total AS t (family, labels, le, n, s)
    SELECT family, labels, le, sum(n), sum(s) FROM taken GROUP BY family, labels, le ORDER BY family, labels, le
    ON CONFLICT (family, labels, le) DO UPDATE SET n = t.n + excluded.n, s = t.s + excluded.s
$$;

-- Starts every series again at 0, unless somebody did since the epoch that the caller saw.
CREATE OR REPLACE FUNCTION {schema}.restart(seen uuid, why text) RETURNS void LANGUAGE plpgsql {DEFINER} AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('{schema}', 0));
    UPDATE {schema}.ledger
    SET epoch = gen_random_uuid(), reason = why, started_at = clock_timestamp(),
        system_identifier = (SELECT c.system_identifier FROM pg_control_system() AS c)
    WHERE epoch = seen;
    IF FOUND THEN
        PERFORM {schema}.move();
        UPDATE {schema}.total SET n_before = n, s_before = s;
    END IF;
END
$$;

-- One at a time; who comes second has nothing to do. A ledger that was restored into another server is restarted.
CREATE OR REPLACE FUNCTION {schema}.fold() RETURNS void LANGUAGE plpgsql {DEFINER} AS $$
BEGIN
    IF pg_try_advisory_xact_lock(hashtextextended('{schema}', 0)) THEN
        PERFORM {schema}.restart(l.epoch, 'lineage')
        FROM {schema}.ledger AS l, pg_control_system() AS c WHERE c.system_identifier <> l.system_identifier;
        PERFORM {schema}.move();
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION {schema}.truncated() RETURNS trigger LANGUAGE plpgsql {DEFINER} AS $$
BEGIN
    INSERT INTO {schema}.delta (family, labels, le, n, s)
    VALUES ('{TRUNCATED}', ARRAY[TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME], 'Infinity', 1, 1);
    RETURN NULL;
END
$$;"
    )
}

/// Name of the trigger that notes a TRUNCATE.
const TRUNCATE_TRIGGER: &str = "business_exporter_truncate";

/// All functions and triggers of one table, which start to count at the same instant.
fn table_sql(
    schema: &str,
    table: &str,
    triggers: &[&Trigger<'_>],
    stocks: &[&StockDefinition],
) -> Result<String, fmt::Error> {
    let mut sql = String::new();
    for Trigger { event, body, .. } in triggers {
        // On no rows, so that only a mistake in an expression makes a difference.
        writeln!(sql, "SELECT count(*) AS {} FROM (\n    WITH {}", event.name, no_rows(event))?;
        writeln!(
            sql,
            "    SELECT family, labels, le, value FROM ({}) AS events\n) AS checked;",
            observations::of_event(event, &observations::From::Statement)
        )?;
        writeln!(sql, "CREATE OR REPLACE FUNCTION {schema}.event_{}() RETURNS trigger", event.name)?;
        writeln!(sql, "LANGUAGE plpgsql {DEFINER} AS {FUNCTION_QUOTE}{body}{FUNCTION_QUOTE};")?;
    }
    let names = triggers.iter().map(|trigger| trigger.name.as_str()).chain([TRUNCATE_TRIGGER]);
    let list = names.clone().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let count = triggers.len() + 1;
    writeln!(sql, "DO $do$\nBEGIN")?;
    writeln!(sql, "    IF (SELECT count(*) FROM pg_trigger WHERE tgrelid = '{table}'::regclass")?;
    let names_of_stocks: Vec<String> =
        stocks.iter().map(|stock| format!("'{}'", stock::name(stock))).collect();
    write!(sql, "        AND tgname IN ({list}) AND tgenabled = 'A') < {count}")?;
    for name in &names_of_stocks {
        write!(sql, "\n        OR NOT EXISTS (SELECT FROM {schema}.baseline WHERE stock = {name})")?;
    }
    writeln!(sql, " THEN")?;
    writeln!(sql, "        LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE;")?;
    let truncate =
        format!("AFTER TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {schema}.truncated()");
    let definitions = triggers.iter().map(|trigger| definition(schema, trigger)).chain([truncate]);
    for (name, definition) in names.zip(definitions) {
        writeln!(sql, "        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '{table}'::regclass")?;
        writeln!(sql, "            AND tgname = '{name}') THEN")?;
        writeln!(sql, "            CREATE TRIGGER {name} {definition};\n        END IF;")?;
        // Also for what a replication applies, which else would be missing here.
        writeln!(sql, "        ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name};")?;
    }
    for stock in stocks {
        writeln!(sql, "        {}", stock::baseline(schema, stock))?;
    }
    writeln!(sql, "    END IF;\nEND\n$do$;")?;
    Ok(sql)
}

fn definition(schema: &str, Trigger { event, table, .. }: &Trigger<'_>) -> String {
    let rows = match event.on {
        Operation::Insert => "NEW TABLE AS new_rows",
        Operation::Update => "OLD TABLE AS old_rows NEW TABLE AS new_rows",
        Operation::Delete => "OLD TABLE AS old_rows",
    };
    let operation = event.on.as_str().to_uppercase();
    format!(
        "AFTER {operation} ON {table} REFERENCING {rows} FOR EACH STATEMENT EXECUTE FUNCTION {schema}.event_{}()",
        event.name
    )
}

/// Removes the triggers and functions of events that the definition no longer has, and what everybody may.
fn tidy_sql(schema: &str, triggers: &[Trigger<'_>]) -> Result<String, fmt::Error> {
    let mut kept = String::new();
    for (index, Trigger { name, table, .. }) in triggers.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(kept, "{comma}('{name}', '{table}'), ('{TRUNCATE_TRIGGER}', '{table}')")?;
    }
    let kept = if kept.is_empty() { "(NULL::text, NULL::text)".to_owned() } else { kept };
    let functions: Vec<String> = triggers
        .iter()
        .map(|trigger| format!("'event_{}'", trigger.event.name))
        .chain(["''".to_owned()])
        .collect();
    let functions = functions.join(", ");
    Ok(format!(
        r"
DO $do$
DECLARE
    stale record;
BEGIN
    FOR stale IN
        SELECT t.tgname, t.tgrelid::regclass AS relation
        FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
        WHERE p.pronamespace = '{schema}'::regnamespace AND NOT t.tgisinternal
            AND NOT EXISTS (SELECT FROM (VALUES {kept}) AS k (name, relation)
                            WHERE k.name = t.tgname AND to_regclass(k.relation) = t.tgrelid)
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', stale.tgname, stale.relation);
    END LOOP;
    FOR stale IN
        SELECT p.oid::regprocedure AS routine FROM pg_proc AS p
        WHERE p.pronamespace = '{schema}'::regnamespace AND p.proname LIKE 'event\_%'
            AND p.proname NOT IN ({functions})
    LOOP
        EXECUTE format('DROP FUNCTION %s', stale.routine);
    END LOOP;
END
$do$;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {schema} FROM PUBLIC;"
    ))
}

/// The text of an event's function. Whatever goes wrong in it is counted and logged, and the application's statement
/// goes on.
fn body(schema: &str, event: &EventDefinition) -> String {
    let (name, sources) = (&event.name, observations::of_event(event, &observations::From::Statement));
    format!(
        r"
BEGIN
    INSERT INTO {schema}.delta (family, labels, le, n, s)
    SELECT family, labels, le, count(*), sum(value)
    FROM ({sources}
    ) AS events
    GROUP BY family, labels, le;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'business_exporter: event {name} was not counted: % [%]', SQLERRM, SQLSTATE;
    BEGIN
        INSERT INTO {schema}.delta (family, labels, le, n, s)
        VALUES ('{ERRORS}', ARRAY['{name}'], 'Infinity', 1, 1);
    EXCEPTION WHEN OTHERS THEN
        RAISE LOG 'business_exporter: the error of event {name} was not counted: % [%]', SQLERRM, SQLSTATE;
    END;
    RETURN NULL;
END
"
    )
}

/// The transition tables without rows, to check an event's expressions.
fn no_rows(event: &EventDefinition) -> String {
    let rows = |name: &str| format!("{name} AS (SELECT * FROM {} WHERE false)", table(event));
    match event.on {
        Operation::Insert => rows("new_rows"),
        Operation::Update => format!("{}, {}", rows("old_rows"), rows("new_rows")),
        Operation::Delete => rows("old_rows"),
    }
}
