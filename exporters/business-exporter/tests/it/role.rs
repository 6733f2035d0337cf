//! What becomes of a role that may do more than an exporter needs.

use rstest::rstest;
use testkit::page::value;

use crate::support::{Definition, failure, server};

const TABLES: &str = "
CREATE TABLE t (a int, b int);
CREATE SEQUENCE s;
CREATE ROLE staff;
CREATE ROLE app;
GRANT SELECT ON t TO exporter;
CREATE SCHEMA business_exporter;
CREATE TABLE business_exporter.total (n int);
GRANT ALL ON business_exporter.total TO exporter";

const DEFINITION: &str = "
version: 1
database: {role_check: CHECK}
families: [{name: rows, type: gauge, help: A.}]
queries: [{name: rows, refresh: 1h, sql: SELECT count(*) AS v FROM public.t, emit: [{family: rows, value: v}]}]
";

fn definition(check: &str) -> anyhow::Result<Definition> {
    Definition::new(&DEFINITION.replace("CHECK", check))
}

/// What gives the role more, what is said of it, what is said to take it away, and what does if that is no statement.
type Case = (&'static str, &'static str, &'static str, Option<&'static str>);

const CASES: [Case; 14] = [
    (
        "GRANT INSERT, UPDATE ON t TO exporter",
        "may INSERT, UPDATE on public.t",
        "REVOKE INSERT, UPDATE ON public.t FROM exporter",
        None,
    ),
    (
        "GRANT TRUNCATE ON t TO PUBLIC",
        "may TRUNCATE on public.t",
        "REVOKE TRUNCATE ON public.t FROM PUBLIC",
        None,
    ),
    (
        "GRANT UPDATE (a, b) ON t TO exporter",
        "may UPDATE (a, b) on public.t",
        "REVOKE UPDATE (a, b) ON public.t FROM exporter",
        None,
    ),
    (
        "GRANT UPDATE ON SEQUENCE s TO exporter",
        "may UPDATE on public.s",
        "REVOKE UPDATE ON SEQUENCE public.s FROM exporter",
        None,
    ),
    ("ALTER ROLE exporter CREATEROLE", "has CREATEROLE", "ALTER ROLE exporter NOCREATEROLE", None),
    ("ALTER ROLE exporter CREATEDB", "has CREATEDB", "ALTER ROLE exporter NOCREATEDB", None),
    ("ALTER ROLE exporter REPLICATION", "has REPLICATION", "ALTER ROLE exporter NOREPLICATION", None),
    ("ALTER ROLE exporter BYPASSRLS", "has BYPASSRLS", "ALTER ROLE exporter NOBYPASSRLS", None),
    (
        "ALTER ROLE staff BYPASSRLS; GRANT staff TO exporter",
        "is a member of staff, which has BYPASSRLS",
        "REVOKE staff FROM exporter",
        None,
    ),
    (
        "GRANT pg_execute_server_program TO exporter",
        "is a member of pg_execute_server_program",
        "REVOKE pg_execute_server_program FROM exporter",
        None,
    ),
    // Whether it inherits or not.
    (
        "ALTER ROLE exporter NOINHERIT; ALTER ROLE staff NOBYPASSRLS; GRANT DELETE ON t TO staff; GRANT staff TO exporter",
        "may DELETE on public.t",
        "REVOKE DELETE ON public.t FROM staff",
        None,
    ),
    (
        "ALTER DATABASE postgres OWNER TO staff",
        "owns the database, as staff",
        "ALTER DATABASE postgres OWNER TO another role",
        Some("ALTER DATABASE postgres OWNER TO postgres"),
    ),
    (
        "CREATE SCHEMA mine AUTHORIZATION exporter",
        "owns the schema mine",
        "ALTER SCHEMA mine OWNER TO another role",
        Some("DROP SCHEMA mine"),
    ),
    (
        "ALTER TABLE t OWNER TO exporter",
        "owns public.t",
        "ALTER TABLE public.t OWNER TO another role",
        Some("ALTER TABLE t OWNER TO app; GRANT SELECT ON t TO exporter"),
    ),
];

/// Since PostgreSQL 14.
const WRITES_ALL: Case = (
    "GRANT pg_write_all_data TO exporter",
    "is a member of pg_write_all_data",
    "REVOKE pg_write_all_data FROM exporter",
    None,
);

#[rstest]
#[tokio::test]
async fn a_role_that_may_write_is_refused_with_what_to_revoke(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    server.sql(TABLES).await?;
    let strict = definition("strict")?;
    let refused = || {
        let output = strict.run(&["once"], Some(&server.dsn()))?;
        let (_, message) = failure(&output);
        let said =
            message.split_once("role_check: strict refuses the role: ").map(|(_, said)| said.to_owned());
        let is_shown = String::from_utf8(output.stdout)?.contains("\nrows 0\n");
        anyhow::ensure!(is_shown == said.is_none(), "{message}");
        anyhow::Ok(said)
    };
    // It reads, and writes in the schema of the counters.
    assert_eq!(refused()?, None);
    for (grant, what, remedy, other_remedy) in CASES.into_iter().chain((major >= 14).then_some(WRITES_ALL)) {
        server.sql(grant).await?;
        let said = refused()?.unwrap_or_default();
        assert!(said.contains(&format!("it {what} ({remedy})")), "{grant}: {said}");
        server.sql(other_remedy.unwrap_or(remedy)).await?;
        assert_eq!(refused()?, None, "after {grant}");
    }
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_role_is_looked_at_on_every_connection(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    server.sql(TABLES).await?;
    server.sql("GRANT INSERT ON t TO exporter").await?;
    let output = definition("off")?.run(&["check", "--connect"], Some(&server.dsn()))?;
    let printed = String::from_utf8(output.stdout.clone())?;
    assert!(output.status.success(), "{printed} {:?}", failure(&output));
    let warning = "# warning: the role may INSERT on public.t, which an exporter need not: \
                   REVOKE INSERT ON public.t FROM exporter";
    for line in [warning, "# query rows: Aggregate  (cost=", "\nrows 0\n"] {
        assert!(printed.contains(line), "{line} is missing: {printed}");
    }

    // Nor in the background; and what is revoked needs no restart.
    let strict = definition("strict")?;
    let refused = async |dsn: &str, what: &str| {
        let exporter = strict.exporter(dsn).await?;
        for _ in 0..2 {
            let page = exporter.scrape(10.0).await?;
            assert_eq!((page.value("rows", &[]), value(&page, "business_exporter_up", &[])?), (None, 0.0));
        }
        assert!(exporter.process.log().contains(what), "{}", exporter.process.log());
        anyhow::Ok(exporter)
    };
    let superuser = "it is a superuser (give the exporter a role of its own)";
    refused(&server.admin_dsn("postgres"), superuser).await?;
    let exporter = refused(&server.dsn(), "it may INSERT on public.t").await?;
    server.sql("REVOKE INSERT ON t FROM exporter").await?;
    assert_eq!(value(&exporter.scrape(10.0).await?, "business_exporter_up", &[])?, 1.0);

    server.sql("GRANT INSERT ON t TO exporter").await?;
    let exporter = definition("warn")?.exporter(&server.dsn()).await?;
    assert_eq!(value(&exporter.scrape(10.0).await?, "business_exporter_up", &[])?, 1.0);
    let log = exporter.process.log();
    assert!(log.contains("may INSERT on public.t") && log.contains("REVOKE INSERT ON public.t"), "{log}");
    Ok(())
}
