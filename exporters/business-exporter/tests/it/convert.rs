//! Definitions of other exporters: what `convert` prints runs, and gives the samples that theirs gives.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use exposition::Page;
use rstest::rstest;
use testkit::peer::{POSTGRES_EXPORTER, SQL_EXPORTER as JUSTWATCH_EXPORTER};
use testkit::postgres::{EXPORTER_PASSWORD, Postgres};

use crate::support::{Definition, failure, run, server};

const GOODS: &str = "
CREATE TABLE goods (kind text, pieces int, moved_in int, moved_out int, weight int);
INSERT INTO goods VALUES ('nut', 3, 10, 7, 500), ('nut', 2, 5, 3, 500), ('bolt', 7, 7, 0, NULL);
GRANT SELECT ON goods TO exporter";

fn sample_file(format: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/convert");
    folder.join(format!("{format}.yml")).display().to_string()
}

/// The page of the definition that the sample file of a format becomes, and the definition.
async fn converted(format: &str, server: &Postgres) -> anyhow::Result<(Page, String)> {
    let output = run(&["convert", "--from", format, &sample_file(format)], None)?;
    anyhow::ensure!(output.status.success(), "{:?}", failure(&output));
    let text = String::from_utf8(output.stdout)?;
    let output = Definition::new(&text)?.run(&["once"], Some(&server.dsn()))?;
    anyhow::ensure!(output.status.success(), "{text}\n{:?}", failure(&output));
    Ok((testkit::page::parse(&String::from_utf8(output.stdout)?)?, text))
}

/// All samples that are not the exporter's own, a line each.
fn samples(page: &Page, ignore: &str) -> BTreeSet<String> {
    let families = page.families.iter().filter(|family| !family.name.starts_with("business_exporter_"));
    families
        .flat_map(|family| &family.samples)
        .map(|sample| {
            let mut labels: Vec<_> = sample.labels.iter().filter(|(name, _)| name != ignore).collect();
            labels.sort();
            let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{} {} {}", sample.name, labels.join(","), sample.value)
        })
        .collect()
}

const SQL_EXPORTER: &str = "
shop_stock_count kind=nut,site=main 5
shop_stock_count kind=bolt,site=main 7
shop_moves direction=moved_in,kind=nut 15
shop_moves direction=moved_out,kind=nut 10
shop_moves direction=moved_in,kind=bolt 7
shop_moves direction=moved_out,kind=bolt 0
shop_kinds  2";

/// Of the connection in its sample file, whatever is connected.
const JUSTWATCH: &str = "
sql_stock col=pieces,database=none,driver=postgres,host=localhost,kind=nut,sql_job=shop,user=nobody 5
sql_stock col=pieces,database=none,driver=postgres,host=localhost,kind=bolt,sql_job=shop,user=nobody 7
sql_stock col=moved_in,database=none,driver=postgres,host=localhost,kind=nut,sql_job=shop,user=nobody 15
sql_stock col=moved_in,database=none,driver=postgres,host=localhost,kind=bolt,sql_job=shop,user=nobody 7
sql_kindsnow col=kinds,database=none,driver=postgres,host=localhost,sql_job=shop,user=nobody 2
sql_kindsnow col=kinds,database=none,driver=postgres,host=localhost,sql_job=nightly,user=nobody 2";

const QUERY_EXPORTER: &str = "
pieces database=shop,kind=nut,region=eu 5
pieces database=shop,kind=bolt,region=eu 7
moves_total database=shop,kind=nut,region=eu 15
moves_total database=shop,kind=bolt,region=eu 7
night database=shop,region=eu 7
state database=shop,region=eu,state=open 1
state database=shop,region=eu,state=closed 0";

const PG_EXPORTER: &str = "
shop_pieces_total sort=nut 5
shop_pieces_total sort=bolt 7
shop_weight_kg sort=nut 1
shop_weight_kg sort=bolt 0";

#[rstest]
#[tokio::test]
async fn converted_definitions_give_the_same_samples(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    server.sql(GOODS).await?;
    for (format, expected, notes) in [
        ("sql_exporter", SQL_EXPORTER, &["shop_fixed: static_value"][..]),
        ("justwatch", JUSTWATCH, &["shop: startup_sql is left out", "lost: there is no query"]),
        (
            "query_exporter",
            QUERY_EXPORTER,
            &["sizes: a histogram", "steps: it adds up", "chosen: it has parameters"],
        ),
        ("pg_exporter", PG_EXPORTER, &["shop_pieces: usage histogram"]),
    ] {
        let (page, text) = converted(format, &server).await?;
        let expected = expected.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        assert_eq!(samples(&page, ""), expected, "{format}:\n{text}");
        for note in notes {
            assert!(text.contains(&format!("# not the same: {note}")), "{note} is not in {text}");
        }
        assert!(!text.contains("nothing"), "a password: {text}");
    }
    Ok(())
}

/// The other exporter itself, on the same database.
#[rstest]
#[tokio::test]
async fn the_queries_of_postgres_exporter_give_its_samples(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    if !POSTGRES_EXPORTER.is_here().await {
        return Ok(());
    }
    server.sql(GOODS).await?;
    let (page, text) = converted("postgres_exporter", &server).await?;
    let file = format!("--extend.query-path={}", sample_file("postgres_exporter"));
    let peer = POSTGRES_EXPORTER
        .start(&[&file, "--disable-default-metrics"], &[("DATA_SOURCE_NAME", &server.dsn())])
        .await?;
    let mut theirs = samples(&peer.page().await?, "server");
    // There runonserver is without effect.
    theirs.retain(|sample| sample.starts_with("shop_") && !sample.starts_with("shop_future_one"));
    for start in [
        "shop_total_took_milliseconds  12.5",
        "shop_total_level  3",
        "shop_size_pieces_bucket kind=nut,le=2 1",
    ] {
        assert!(theirs.contains(start), "{start} is not in {theirs:#?}");
    }
    // Theirs leaves out texts.
    for (note, sample) in [
        ("shop_total_lasted_milliseconds: texts", "shop_total_lasted_milliseconds  90500"),
        ("shop_total_state: texts", "shop_total_state  1"),
    ] {
        assert!(text.contains(&format!("# not the same: {note}")), "{note} is not in {text}");
        assert!(theirs.insert(sample.to_owned()), "{sample}");
    }
    assert_eq!(samples(&page, "server"), theirs, "{text}");
    Ok(())
}

/// The other exporter itself, on the same database.
#[rstest]
#[tokio::test]
async fn the_jobs_of_sql_exporter_give_its_samples(
    #[values(13, 14, 15, 16, 17, 18)] major: u32,
) -> anyhow::Result<()> {
    let Some(server) = server(major).await? else { return Ok(()) };
    if !JUSTWATCH_EXPORTER.is_here().await {
        return Ok(());
    }
    server.sql(GOODS).await?;
    let address = server.dsn().replacen("postgresql:", "postgres:", 1);
    let text = std::fs::read_to_string(sample_file("justwatch"))?
        .replace("postgres://nobody:nothing@localhost/none?sslmode=disable", &address);
    let file = Definition::new(&text)?;
    let output = run(&["convert", "--from", "justwatch", &file.path()], None)?;
    let converted = String::from_utf8(output.stdout.clone())?;
    assert!(output.status.success() && !converted.contains(EXPORTER_PASSWORD), "{:?}", failure(&output));
    let output = Definition::new(&converted)?.run(&["once"], Some(&server.dsn()))?;
    let mut ours = samples(&testkit::page::parse(&String::from_utf8(output.stdout)?)?, "");
    // Theirs waits for the night.
    ours.retain(|sample| !sample.contains("sql_job=nightly"));

    let peer = JUSTWATCH_EXPORTER.start(&[&format!("--config.file={}", file.path())], &[]).await?;
    let deadline = Instant::now() + Duration::from_secs(30);
    let theirs = loop {
        let mut theirs = samples(&peer.page().await?, "");
        theirs.retain(|sample| sample.starts_with("sql_stock") || sample.starts_with("sql_kindsnow"));
        // Its queries run one after the other.
        if theirs.iter().any(|sample| sample.starts_with("sql_kindsnow")) {
            break theirs;
        }
        anyhow::ensure!(Instant::now() < deadline, "never ran:\n{}", peer.process.log());
    };
    assert_eq!(ours, theirs, "{converted}");
    Ok(())
}

#[test]
fn what_is_no_file_of_the_format_is_named() -> anyhow::Result<()> {
    let file = sample_file("sql_exporter");
    let (code, message) = failure(&run(&["convert", "--from", "query_exporter", &file], None)?);
    assert_eq!(code, Some(64), "{message}");
    assert!(message.contains("sql_exporter.yml") && message.contains("databases"), "{message}");
    let (code, message) = failure(&run(&["convert", "--from", "nonsense", &file], None)?);
    assert_eq!((code, message.contains("pg_exporter")), (Some(2), true), "{message}");
    Ok(())
}
