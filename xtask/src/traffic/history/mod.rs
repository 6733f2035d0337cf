//! A past for a new stack: rows as users would have made them, and the series that Prometheus would have stored
//! meanwhile. The rows come before the ledger of the business exporter, which counts from its installation on.

mod series;

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use testkit::{process::Process, servers::Installed};
use tokio_postgres::Client;

use self::series::Past;
use crate::progress::{overwrite, say, step};

/// A day of series is a second's work.
const LIMIT: Duration = Duration::from_secs(300);

/// Where each job is scraped: label `instance`.
pub(crate) type Instances = BTreeMap<String, String>;

/// Fills the tables with what happened in the last `days` days.
pub(crate) async fn rows(client: &Client, days: u32) -> Result<()> {
    let ledger = client.query_one("SELECT to_regnamespace('business_exporter') IS NOT NULL", &[]).await;
    let counted: bool = ledger.context("looking for the ledger")?.get(0);
    ensure!(
        !counted,
        "the ledger of this database counts already and would take a past for news: `--history` needs a new `--dir`"
    );
    let sql = include_str!("rows.sql").replace("$days", &days.to_string());
    step(&format!("fill the tables with {days} days"), async {
        client.batch_execute(&sql).await.context("filling the tables")
    })
    .await
}

/// Writes the series of the last `days` days, which fit the rows, into the folder `blocks` of a Prometheus.
pub(crate) async fn blocks(
    client: &Client,
    days: u32,
    instances: &Instances,
    monitoring: &Installed,
    scratch: &Path,
    blocks: &Path,
) -> Result<()> {
    let past = Past::read(client, days).await?;
    let all = past.series(instances);
    let start = std::time::Instant::now();
    // A file a day: promtool reads its file once for every two hours in it.
    for day in 0..days {
        if !overwrite(&format!("  ..   store {} series, day {} of {days}", all.len(), day + 1))
            && day % 10 == 9
        {
            say(&format!("  ..   store {} series, day {} of {days}", all.len(), day + 1));
        }
        let file = scratch.join("history.om");
        fs::write(&file, past.day(&all, day)).with_context(|| format!("writing {}", file.display()))?;
        promtool(monitoring, scratch, &file, blocks).await?;
        fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
    }
    overwrite("");
    say(&format!(
        "  ok   store {} series of {days} days ({:.1} s)",
        all.len(),
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}

async fn promtool(monitoring: &Installed, scratch: &Path, file: &Path, blocks: &Path) -> Result<()> {
    let mut process: Process = monitoring
        .process("promtool", "promtool", scratch.join("promtool.log"))
        .args(["tsdb", "create-blocks-from", "openmetrics", "--quiet"])
        .arg(file)
        .arg(blocks)
        .spawn()?;
    let status = process.wait_for_exit(LIMIT).await?;
    ensure!(status.success(), process.failure("promtool could not store the series"));
    Ok(())
}
