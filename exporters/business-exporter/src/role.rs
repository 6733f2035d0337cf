//! What a role may do that an exporter need not: it reads, and writes nowhere but in its own schema.

use exporter_kit::collector::{CollectError, Outcome};
use pg_client::{Limits, QueryError, Session};

use crate::definition::{Definition, RoleCheck};

/// What becomes of a role that may do more.
#[derive(Clone, Debug)]
pub struct RoleRule {
    check: RoleCheck,
    schema: String,
}

/// Something that the role may do, and what takes it away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// After "the role": `may INSERT into public.orders`.
    pub what: String,
    /// A statement.
    pub remedy: String,
}

/// Roles of the server whose members may write, or run programs.
const PREDEFINED: &str = "'pg_write_all_data', 'pg_write_server_files', 'pg_read_server_files',
    'pg_execute_server_program', 'pg_signal_backend', 'pg_create_subscription', 'pg_maintain'";

/// Privileges that change rows, or what happens when others change them.
const WRITING: &str = "'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER'";

impl RoleRule {
    /// That of a definition, whose schema of counters the role may write to.
    pub fn new(definition: &Definition) -> RoleRule {
        let (check, schema) = (definition.database.role_check, definition.counters.schema().to_owned());
        RoleRule { check, schema }
    }

    /// That the role of a session may be used, as long as the session is open. A session of which that is not known is
    /// given up, so that the next one is asked again.
    ///
    /// # Errors
    /// What the role may do, and what to revoke; or that the server does not say.
    pub async fn enforce(&self, session: &Session) -> Result<(), CollectError> {
        if self.check == RoleCheck::Off {
            return Ok(());
        }
        let mut unknown = Unknown(Some(session));
        let excesses = self.excesses(session).await.map_err(|error| {
            CollectError::new(Outcome::Error, format!("asking what the role may do: {}", error.message))
        })?;
        if self.check == RoleCheck::Strict && !excesses.is_empty() {
            let list: Vec<String> =
                excesses.iter().map(|excess| format!("it {} ({})", excess.what, excess.remedy)).collect();
            let message = format!("role_check: strict refuses the role: {}", list.join("; "));
            return Err(CollectError::new(Outcome::Permission, message));
        }
        for Excess { what, remedy } in &excesses {
            tracing::warn!(what, remedy, "the role may do more than an exporter needs");
        }
        unknown.0 = None;
        Ok(())
    }

    /// What the role may do that an exporter need not; the worst first, 20 at most.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn excesses(&self, session: &Session) -> Result<Vec<Excess>, QueryError> {
        let limits = Limits { read_only: true, ..Limits::default() };
        let rows = session.query(&statement(&self.schema), &limits).await?;
        let excess =
            |(what, remedy): (&str, &str)| Excess { what: what.to_owned(), remedy: remedy.to_owned() };
        Ok(rows.iter().filter_map(|row| Some(excess((row.get(0)?, row.get(1)?)))).collect())
    }
}

/// A session of which it is not known whether its role may be used. It is given up when this is dropped, also when nobody
/// waits for the answer any more.
struct Unknown<'a>(Option<&'a Session>);

impl Drop for Unknown<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.0 {
            session.retire();
        }
    }
}

/// Looks at every role that the session may become, whether it inherits from it or not.
fn statement(schema: &str) -> String {
    format!(
        "WITH me AS (SELECT r.oid, r.rolname, r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user),
mine AS (
    SELECT r.*, r.oid = me.oid AS is_me, me.rolname AS me
    FROM pg_catalog.pg_roles AS r CROSS JOIN me
    -- A superuser is a member of everything, which says nothing more.
    WHERE r.oid = me.oid OR NOT me.rolsuper AND pg_catalog.pg_has_role(r.oid, 'MEMBER')
),
schemas AS (
    SELECT n.oid, n.nspname, n.nspowner FROM pg_catalog.pg_namespace AS n
    WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', '{schema}')
),
relations AS (
    SELECT c.oid, c.relowner, c.relacl, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name,
           CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE '' END AS kind
    FROM pg_catalog.pg_class AS c JOIN schemas AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
),
grants AS (
    SELECT r.oid, r.name, r.kind, r.relowner, a.grantee, a.privilege_type AS privilege, '' AS columns
    FROM relations AS r CROSS JOIN LATERAL pg_catalog.aclexplode(r.relacl) AS a
    UNION ALL
    SELECT r.oid, r.name, r.kind, r.relowner, a.grantee, a.privilege_type,
           pg_catalog.format(' (%s)', pg_catalog.string_agg(pg_catalog.quote_ident(c.attname), ', ' ORDER BY c.attnum))
    FROM relations AS r JOIN pg_catalog.pg_attribute AS c ON c.attrelid = r.oid AND c.attacl IS NOT NULL
    CROSS JOIN LATERAL pg_catalog.aclexplode(c.attacl) AS a
    GROUP BY r.oid, r.name, r.kind, r.relowner, a.grantee, a.privilege_type
),
writing AS (
    SELECT g.name, g.kind, coalesce(pg_catalog.quote_ident(m.rolname), 'PUBLIC') AS grantee,
           pg_catalog.string_agg(g.privilege || g.columns, ', ' ORDER BY g.privilege) AS privileges
    FROM grants AS g LEFT JOIN mine AS m ON m.oid = g.grantee
    WHERE g.privilege IN ({WRITING}) AND (g.grantee = 0 OR m.oid IS NOT NULL) AND g.grantee <> g.relowner
    GROUP BY g.name, g.kind, m.rolname
),
found AS (
    SELECT 1 AS rank, CASE WHEN m.is_me THEN 'is a ' ELSE pg_catalog.format('is a member of %I, which is a ', m.rolname) END
           || 'superuser' AS what,
           CASE WHEN m.is_me THEN 'give the exporter a role of its own'
                ELSE pg_catalog.format('REVOKE %I FROM %I', m.rolname, m.me) END AS remedy
    FROM mine AS m WHERE m.rolsuper
    UNION ALL
    SELECT 2, CASE WHEN m.is_me THEN 'has ' ELSE pg_catalog.format('is a member of %I, which has ', m.rolname) END || a.name,
           CASE WHEN m.is_me THEN pg_catalog.format('ALTER ROLE %I NO%s', m.me, a.name)
                ELSE pg_catalog.format('REVOKE %I FROM %I', m.rolname, m.me) END
    FROM mine AS m CROSS JOIN LATERAL (VALUES (m.rolcreaterole, 'CREATEROLE'), (m.rolcreatedb, 'CREATEDB'),
         (m.rolreplication, 'REPLICATION'), (m.rolbypassrls, 'BYPASSRLS')) AS a (has, name)
    WHERE a.has AND NOT m.rolsuper
    UNION ALL
    SELECT 3, pg_catalog.format('is a member of %I', m.rolname), pg_catalog.format('REVOKE %I FROM %I', m.rolname, m.me)
    FROM mine AS m WHERE m.rolname IN ({PREDEFINED})
    UNION ALL
    SELECT 4, 'owns the database, as ' || m.rolname,
           pg_catalog.format('ALTER DATABASE %I OWNER TO another role', d.datname)
    FROM pg_catalog.pg_database AS d JOIN mine AS m ON m.oid = d.datdba
    WHERE d.datname = pg_catalog.current_database() AND NOT m.rolsuper
    UNION ALL
    SELECT 5, pg_catalog.format('owns the schema %I', s.nspname),
           pg_catalog.format('ALTER SCHEMA %I OWNER TO another role', s.nspname)
    FROM schemas AS s JOIN mine AS m ON m.oid = s.nspowner WHERE NOT m.rolsuper
    UNION ALL
    SELECT 6, 'owns ' || r.name, pg_catalog.format('ALTER %s%s OWNER TO another role', coalesce(nullif(r.kind, ''), 'TABLE '), r.name)
    FROM relations AS r JOIN mine AS m ON m.oid = r.relowner WHERE NOT m.rolsuper
    UNION ALL
    SELECT 7, pg_catalog.format('may %s on %s', w.privileges, w.name),
           pg_catalog.format('REVOKE %s ON %s%s FROM %s', w.privileges, w.kind, w.name, w.grantee)
    FROM writing AS w WHERE NOT EXISTS (SELECT FROM me WHERE me.rolsuper)
)
SELECT what, remedy FROM found ORDER BY rank, what LIMIT 20"
    )
}
