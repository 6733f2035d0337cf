//! One node of a cluster: a target like any other, with a scraper of its own and the key work of its slots.

use std::sync::Arc;

use exporter_kit::scrape::Scraper;
use tokio::task::JoinHandle;

use crate::address::Address;
use crate::connection::{Share, Target};
use crate::exporter::Exporter;
use crate::options::Options;

/// See the module.
pub(super) struct Node {
    /// Its identifier; empty for a seed.
    pub(super) id: String,
    pub(super) address: String,
    pub(super) target: Arc<Target>,
    pub(super) scraper: Arc<Scraper<Exporter>>,
    sampler: Option<JoinHandle<()>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(sampler) = &self.sampler {
            sampler.abort();
        }
    }
}

impl Node {
    /// A node. Nothing is sent yet but by its sampler, if there is one.
    pub(super) fn new(
        id: &str,
        (shown, address): (String, Address),
        options: &Arc<Options>,
        client_name: bool,
        max_series: Option<usize>,
        share: Share,
    ) -> anyhow::Result<Self> {
        let target = Arc::new(Target::new(address, Arc::clone(options), client_name));
        target.share(share);
        let exporter = Exporter::new(Some(Arc::clone(&target)), Arc::clone(options))?;
        // A seed has no key work.
        let sampler = exporter.sampler().filter(|_| !id.is_empty());
        let sampler = sampler.map(|sampler| tokio::spawn(sampler.run()));
        let scraper = Scraper::with_max_series(exporter, |_| {}, max_series);
        Ok(Self { id: id.to_owned(), address: shown, target, scraper, sampler })
    }
}
