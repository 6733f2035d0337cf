//! All databases of a definition on one page, and the definition that may be read again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use exporter_kit::app::{Handler, Reload, json};
use exporter_kit::collector::BoxFuture;
use exporter_kit::page::Page;
use exporter_kit::scrape::{Pages, Scraper, Selection};
use exporter_kit::telemetry::build_info;
use exporter_kit::telemetry::process::{self, Network};
use exposition::{Desc, Snapshot};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::definition::{self, Definitions, Families};
use crate::source::Queries;
use crate::target::Target;

const REJECTED: Desc = Desc::counter(
    "business_exporter_label_rejected_total",
    "Samples that were not shown because a label's value is not among those of the definition.",
);
const DUPLICATES: Desc = Desc::counter(
    "business_exporter_duplicate_samples_dropped_total",
    "Samples that were not shown because the page had a series with the same labels.",
);
const CONFIG: Desc = Desc::info(
    "business_exporter_config_info",
    "The definition that is loaded, by the beginning of its SHA-256. Always 1.",
);
const RELOAD: Desc = Desc::gauge(
    "business_exporter_config_last_reload_successful",
    "Whether the last reading of the definition was successful.",
);
const RELOAD_TIME: Desc = Desc::gauge(
    "business_exporter_config_last_reload_success_timestamp_seconds",
    "When the definition was read successfully last, in Unix time.",
);

/// What is served.
pub struct Exporter {
    config: PathBuf,
    max_series: Option<usize>,
    loaded: RwLock<Arc<Loaded>>,
    failed: AtomicBool,
    duplicates: AtomicU64,
}

/// A definition at work.
pub struct Loaded {
    databases: Vec<Arc<Scraper<Queries>>>,
    families: Families,
    const_labels: BTreeMap<String, String>,
    /// The definition as it works, without secrets.
    effective: serde_json::Value,
    hash: String,
    at: SystemTime,
}

impl Loaded {
    /// Nothing is opened yet.
    ///
    /// # Errors
    /// When a database's secrets cannot be read or used.
    pub fn new(definitions: Definitions, max_series: Option<usize>) -> anyhow::Result<Loaded> {
        let effective = definitions.effective();
        let Definitions { databases, families, const_labels, hash } = definitions;
        let scraper = |definition: definition::Definition| {
            let name = definition.database.name.clone();
            let target = Target::new(&definition.database).with_context(|| format!("database {name}"))?;
            let queries = Queries::new(target, definition);
            Ok(Scraper::with_max_series(queries, |_| {}, max_series))
        };
        let databases = databases.into_iter().map(scraper).collect::<anyhow::Result<_>>()?;
        Ok(Loaded { databases, families, const_labels, effective, hash, at: SystemTime::now() })
    }

    /// What all databases say.
    pub async fn page(&self, selection: &Selection, deadline: Instant) -> Snapshot {
        let pages = self.databases.iter().map(|database| database.scrape(selection.clone(), deadline));
        let mut page = Snapshot::new();
        for of_database in join_all(pages).await {
            page.append(of_database.snapshot().clone());
        }
        self.label(&mut page);
        page.seal();
        page
    }

    /// Puts the labels that every sample has on what is on a page.
    fn label(&self, page: &mut Snapshot) {
        if !self.const_labels.is_empty() {
            let labels = self.const_labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            page.add_labels(&labels.collect::<Vec<_>>());
        }
    }

    /// What failed in the last pass, a sentence each.
    pub fn failures(&self) -> Vec<String> {
        self.databases.iter().flat_map(|database| database.source().failures()).collect()
    }

    fn enabled(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> =
            self.databases.iter().flat_map(|database| database.enabled()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Exporter {
    /// Begins with a definition that was read from this file.
    pub fn new(config: PathBuf, max_series: Option<usize>, loaded: Loaded) -> Arc<Exporter> {
        for database in &loaded.databases {
            database.source().start_background();
        }
        let loaded = RwLock::new(Arc::new(loaded));
        let (failed, duplicates) = Default::default();
        Arc::new(Exporter { config, max_series, loaded, failed, duplicates })
    }

    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers with the definition as it works, without secrets.
    pub fn config(self: &Arc<Self>) -> Handler {
        let exporter = Arc::clone(self);
        Arc::new(move |_| {
            let loaded = exporter.loaded();
            Box::pin(async move { json(&loaded.effective) })
        })
    }

    /// Reads the definition again. One that cannot be used leaves everything as it is.
    pub fn reload(self: &Arc<Self>) -> Reload {
        let exporter = Arc::clone(self);
        Arc::new(move || {
            let exporter = Arc::clone(&exporter);
            async move {
                let (config, max_series) = (exporter.config.clone(), exporter.max_series);
                // Files may be on a slow disk, and a secret may come from a program.
                let read = move || Loaded::new(definition::load(&config)?, max_series);
                let read = tokio::task::spawn_blocking(read).await.map_err(anyhow::Error::from).flatten();
                exporter.failed.store(read.is_err(), Ordering::Relaxed);
                exporter.replace(read.map_err(|error| format!("{error:#}"))?);
                Ok(())
            }
            .boxed()
        })
    }

    fn replace(&self, loaded: Loaded) {
        let mut current = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        for database in &loaded.databases {
            let same =
                |older: &&Arc<Scraper<Queries>>| older.source().database() == database.source().database();
            if let Some(older) = current.databases.iter().find(same) {
                database.source().inherit(older.source());
            }
            database.source().start_background();
        }
        *current = Arc::new(loaded);
    }

    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    fn finish(&self, loaded: &Loaded, page: &mut Snapshot) {
        let dropped = page.duplicates();
        let duplicates = self.duplicates.fetch_add(dropped, Ordering::Relaxed) + dropped;
        let mut own = Snapshot::new();
        let table = own.table(&["family"]);
        let rejected = table.column(&REJECTED);
        for (name, family) in &loaded.families {
            table.row(&[name]).set(rejected, family.rejections.get() as f64);
        }
        own.sample(&DUPLICATES, duplicates as f64);
        let table = own.table(&["hash"]);
        let config = table.column(&CONFIG);
        table.row(&[&loaded.hash]).set(config, 1.0);
        own.sample(&RELOAD, f64::from(u8::from(!self.failed.load(Ordering::Relaxed))));
        own.sample(&RELOAD_TIME, loaded.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        process::append(&mut own, Network::Namespace);
        own.append(build_info("business_exporter", &[]));
        loaded.label(&mut own);
        page.append(own);
    }
}

impl Pages for Exporter {
    fn enabled(&self) -> Vec<&'static str> {
        self.loaded().enabled()
    }

    fn page(self: Arc<Self>, selection: Selection, deadline: Instant) -> BoxFuture<'static, Arc<Page>> {
        async move {
            let loaded = self.loaded();
            let mut page = loaded.page(&selection, deadline).await;
            self.finish(&loaded, &mut page);
            Arc::new(Page::new(page))
        }
        .boxed()
    }
}
