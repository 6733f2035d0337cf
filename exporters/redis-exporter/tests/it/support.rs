//! Scraping with the exporter in this process.

use std::sync::Arc;
use std::time::Duration;

use exporter_kit::scrape::{Scraper, Selection};
use exposition::{Page, parse, text};
use redis_exporter::address::{Address, Credentials, TlsFiles};
use redis_exporter::connection::Target;
use redis_exporter::exporter::Exporter;
use redis_exporter::options::Options;
use tokio::time::Instant;

/// A scraper of the server at an address.
pub(crate) fn scraper(address: &str, options: Options) -> Arc<Scraper<Exporter>> {
    scraper_with(address, options, &Credentials::default())
}

/// A scraper of the server at an address with credentials.
pub(crate) fn scraper_with(
    address: &str,
    options: Options,
    credentials: &Credentials,
) -> Arc<Scraper<Exporter>> {
    scraper_of(Address::parse(address, credentials, &TlsFiles::default()).unwrap(), options)
}

/// A scraper of the server at a parsed address.
pub(crate) fn scraper_of(address: Address, options: Options) -> Arc<Scraper<Exporter>> {
    let options = Arc::new(options);
    let target = Arc::new(Target::new(address, Arc::clone(&options), true));
    Scraper::new(Exporter::new(Some(target), options).unwrap(), |_| {})
}

/// One scrape with a generous deadline.
pub(crate) async fn scrape(scraper: &Arc<Scraper<Exporter>>) -> Page {
    scrape_within(scraper, Duration::from_secs(20)).await
}

/// One scrape.
pub(crate) async fn scrape_within(scraper: &Arc<Scraper<Exporter>>, limit: Duration) -> Page {
    let page = scraper.scrape(Selection::ALL, Instant::now() + limit).await;
    read(&page)
}

/// A page as it is served, parsed.
pub(crate) fn read(page: &exporter_kit::page::Page) -> Page {
    let mut out = String::new();
    text::encode(page.snapshot(), &mut out);
    parse::page(&out).unwrap_or_else(|error| panic!("{error:?} in\n{out}"))
}
