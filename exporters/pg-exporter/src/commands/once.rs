//! `once`: the page of one scrape.

use std::sync::Arc;

use exporter_kit::app::{Failure, OrFailure};
use exporter_kit::page::Page;
use exposition::{Encoding, Format};
use pg_client::Environment;
use tokio::time::Instant;

use super::print;
use crate::cli::Cli;
use crate::exporter::{target, user_queries};

pub(super) async fn run(cli: &Cli, environment: &Environment) -> Result<(), Failure> {
    let page = page(cli, environment).await?;
    print(&text(&page).await);
    let parsed = exposition::parse::page(&text(&page).await).or_failed()?;
    match parsed.value("pg_up", &[]) {
        Some(1.0) => Ok(()),
        _ => Err(Failure::failed(anyhow::anyhow!("the server did not answer; the log has the reason"))),
    }
}

/// One scrape of the servers.
pub(super) async fn page(cli: &Cli, environment: &Environment) -> Result<Arc<Page>, Failure> {
    let queries = user_queries(cli).or_misconfigured()?;
    let target = target(cli, environment, &queries, |_| {}).or_misconfigured()?;
    Ok(target.scrape(Instant::now() + cli.web.scrape_timeout.get()).await)
}

/// The page as text.
pub(super) async fn text(page: &Page) -> String {
    String::from_utf8_lossy(&page.body(Format::Text, Encoding::Identity).await).into_owned()
}
