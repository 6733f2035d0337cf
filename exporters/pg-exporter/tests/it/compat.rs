//! Families, types and labels of postgres_exporter, row by row of its table, on every PostgreSQL: a primary and a standby
//! where everything has something to say. What is not there is waived, with a reason.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use exposition::{Kind, Page};
use rstest::rstest;
use testkit::postgres::{self, Postgres, Version};

use crate::{all_collectors, exporter, failed, rows_of};

const TABLE: &str = include_str!("../data/postgres_exporter-0.19.1.tsv");
const CHANGES: &str = include_str!("../data/postgres_exporter-0.20.tsv");
const DOCUMENTATION: &str = include_str!("../../../../docs/compatibility.md");
const WAIVERS: &str = include_str!("../data/waivers.tsv");

/// How long vacuums, archivers and standbys may take to have something to show.
const LIMIT: Duration = Duration::from_secs(60);

/// A family of the peer.
#[derive(Debug)]
struct Row {
    family: &'static str,
    kind: Kind,
    labels: BTreeSet<&'static str>,
    default: bool,
    since: u32,
    until: u32,
}

/// The table, without the row that stands for all settings.
fn table() -> Vec<Row> {
    let bound =
        |text: &str, open: u32| text.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(open);
    let row = |columns: [&'static str; 7]| {
        let [family, kind, labels, _, default, since, until] = columns;
        let kind = match kind {
            "counter" => Kind::Counter,
            "gauge" => Kind::Gauge,
            "histogram" => Kind::Histogram,
            "summary" => Kind::Summary,
            "untyped" => Kind::Unknown,
            other => panic!("{family} is of the unknown type {other}"),
        };
        let labels = labels.split(',').filter(|label| !label.is_empty()).collect();
        Row {
            family,
            kind,
            labels,
            default: default == "on",
            since: bound(since, 0),
            until: bound(until, u32::MAX),
        }
    };
    rows_of::<7>(TABLE).filter(|[family, ..]| !family.contains('<')).map(row).collect()
}

/// Whether a name of a data file, which may be a prefix, means a family.
fn means(name: &str, family: &str) -> bool {
    name.strip_suffix('*').map_or(name == family, |prefix| family.starts_with(prefix))
}

fn waived(family: &str, server: &str) -> bool {
    rows_of::<3>(WAIVERS).any(|[name, of, _]| means(name, family) && (of == "*" || of == server))
}

/// The row as 0.20 has it; none where the family is gone.
fn in_0_20(row: &Row) -> Option<(&'static str, BTreeSet<&'static str>)> {
    let Some([_, name, without]) = rows_of::<3>(CHANGES).find(|[name, ..]| means(name, row.family)) else {
        return Some((row.family, row.labels.clone()));
    };
    let mut labels = row.labels.clone();
    labels.remove(without);
    match name {
        "-" => None,
        "=" => Some((row.family, labels)),
        name => Some((name, labels)),
    }
}

/// What differs between a page and the table of a version of the peer.
fn differences(page: &Page, rows: &[Row], compat: &str, major: u32, server: &str) -> Vec<String> {
    let mut found = Vec::new();
    for row in rows {
        let expected = if compat == "0.19" { Some((row.family, row.labels.clone())) } else { in_0_20(row) };
        let applies = (row.since..=row.until).contains(&major) && !waived(row.family, server);
        let (name, labels) = match expected {
            Some(expected) if applies => expected,
            _ => {
                if page.samples(row.family).next().is_some() {
                    found.push(format!("{}: there, and should not be", row.family));
                }
                continue;
            }
        };
        let Some(family) = page.family(name).filter(|family| !family.samples.is_empty()) else {
            found.push(format!("{name}: missing"));
            continue;
        };
        if family.kind != Some(row.kind) {
            found.push(format!("{name}: type {:?} instead of {:?}", family.kind, row.kind));
        }
        for sample in &family.samples {
            let names = sample.labels.iter().map(|(name, _)| name.as_str());
            // The bounds of a histogram are not among the peer's labels.
            let ours: BTreeSet<&str> =
                names.filter(|name| row.kind != Kind::Histogram || *name != "le").collect();
            if ours != labels {
                found.push(format!("{name}: labels {ours:?} instead of {labels:?}"));
                break;
            }
        }
    }
    found
}

/// A primary, its standby, and a standby of that one. On the primary and the first standby everything happens at once that
/// the peer has families for: logical and physical slots, archiving, an autovacuum that pauses after every page.
async fn eventful(major: u32) -> anyhow::Result<[Postgres; 3]> {
    let primary = Postgres::builder()
        .version(Version::Major(major))
        .setting("wal_level", "logical")
        .setting("max_slot_wal_keep_size", "1GB")
        .setting("archive_mode", "always")
        .setting("archive_command", "true")
        .setting("autovacuum_naptime", "1s")
        .setting("autovacuum_vacuum_cost_delay", "100ms")
        .setting("autovacuum_vacuum_cost_limit", "1")
        .preload("pg_stat_statements")
        .start()
        .await?;
    // Not in one transaction with what writes.
    primary.sql("SELECT pg_create_logical_replication_slot('logical', 'pgoutput')").await?;
    primary
        .sql(
            "CREATE EXTENSION pg_stat_statements; CREATE EXTENSION pg_buffercache;
             SELECT pg_create_physical_replication_slot('repmgr_slot_1', true);
             CREATE TABLE deals (id int PRIMARY KEY, note text);
             INSERT INTO deals SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g;
             DELETE FROM deals WHERE id % 2 = 0",
        )
        .await?;
    let standby = primary.standby().await?;
    let cascaded = standby.standby().await?;
    standby.sql("SELECT pg_create_physical_replication_slot('repmgr_slot_1', true)").await?;
    for server in [&standby, &cascaded] {
        server.sql("ALTER SYSTEM SET primary_slot_name = 'repmgr_slot_1'").await?;
        server.sql("SELECT pg_reload_conf()").await?;
    }
    primary.sql("SELECT pg_switch_wal()").await?;
    Ok([primary, standby, cascaded])
}

fn queries(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("queries.yaml");
    std::fs::write(&path, "mine: {query: SELECT 1 AS value, metrics: [{value: {usage: GAUGE}}]}")?;
    Ok(format!("--extend.query-path={}", path.display()))
}

/// The families of the server's own settings, by the peer's rules.
async fn settings(server: &Postgres) -> anyhow::Result<BTreeSet<String>> {
    let names = server
        .psql(
            "SELECT string_agg('pg_settings_' || translate(name, '.-', '__')
                               || CASE WHEN unit IN ('ms', 's', 'min', 'h', 'd') THEN '_seconds'
                                       WHEN unit IS NOT NULL THEN '_bytes' ELSE '' END, ' ')
             FROM pg_settings WHERE vartype IN ('bool', 'integer', 'real')",
        )
        .await?;
    Ok(names.unwrap_or_default().split(' ').map(str::to_owned).collect())
}

#[rstest]
#[case(13)]
#[case(14)]
#[case(15)]
#[case(16)]
#[case(17)]
#[case(18)]
#[tokio::test]
async fn every_row_of_the_peers_table(#[case] major: u32) -> anyhow::Result<()> {
    if !postgres::in_full(major) {
        return Ok(());
    }
    let [primary, standby, _cascaded] = eventful(major).await?;
    let folder = tempfile::tempdir()?;
    let queries = queries(folder.path())?;
    let all = all_collectors();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let all = [&all[..], &["--collector.stat_statements.include_query", &queries]].concat();
    let every = table();
    let by_default: Vec<Row> = table().into_iter().filter(|row| row.default).collect();
    for (server, name) in [(&primary, "primary"), (&standby, "standby")] {
        for (compat, arguments, rows) in
            [("0.19", &all[..], &every), ("0.20", &all[..], &every), ("0.20", &[], &by_default)]
        {
            let compat_flag = format!("--compat={compat}");
            let exporter = exporter(&server.dsn(), &[arguments, &[&compat_flag]].concat()).await?;
            let deadline = Instant::now() + LIMIT;
            loop {
                let page = exporter.scrape(20.0).await?;
                let differences = differences(&page, rows, compat, major, name);
                if differences.is_empty() && failed(&page).is_empty() {
                    let ours = page.families.iter().map(|family| family.name.clone());
                    let ours: BTreeSet<String> =
                        ours.filter(|name| name.starts_with("pg_settings_")).collect();
                    assert_eq!(ours, settings(server).await?);
                    break;
                }
                assert!(
                    Instant::now() < deadline,
                    "{major} {name} --compat={compat}: {differences:#?} {:?}",
                    failed(&page)
                );
            }
        }
    }
    Ok(())
}

#[test]
fn the_tables_are_whole_and_every_line_of_theirs_is_used() {
    let table = table();
    assert!(table.len() > 400, "{}", table.len());
    for [name, _, reason] in rows_of::<3>(WAIVERS) {
        let used = table.iter().any(|row| means(name, row.family) && row.until >= postgres::MAJORS[0]);
        assert!(used && !reason.is_empty(), "{name}");
    }
    for [name, ..] in rows_of::<3>(CHANGES) {
        assert!(table.iter().any(|row| means(name, row.family)), "{name}");
    }
}

#[test]
fn every_test_that_the_documentation_names_exists() {
    let words =
        DOCUMENTATION.split('`').filter(|word| word.contains("::") && !word.contains(char::is_whitespace));
    let mut named = 0;
    for (module, test) in words.filter_map(|word| word.split_once("::")) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(module).with_extension("rs");
        let source = std::fs::read_to_string(&path).expect("the file of the test");
        assert!(source.contains(&format!("fn {test}(")), "{module} has no test {test}");
        named += 1;
    }
    assert!(named > 15, "{named}");
}
