//! `compare`: which series change when this exporter takes the place of another.

use exporter_kit::app::{Failure, OrFailure};
use exporter_kit::compare::{Changes, read};
use pg_client::Environment;

use super::{once, print};
use crate::cli::Cli;

/// What to compare with.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Page of the exporter in use: http://HOST:PORT/metrics, or a file
    #[arg(long, value_name = "URL")]
    old: String,
}

pub(super) async fn run(args: &Args, cli: &Cli, environment: &Environment) -> Result<(), Failure> {
    let old = read(&args.old, cli.web.scrape_timeout.get()).await.or_failed()?;
    let page = once::page(cli, environment).await?;
    let new = exposition::parse::page(&once::text(&page).await).or_failed()?;
    let changes = Changes::between(&old, &new);
    print(&changes.to_string());
    match changes.breaking() {
        0 => Ok(()),
        count => {
            Err(Failure::failed(anyhow::anyhow!("{count} families of the old page are missing or changed")))
        }
    }
}
