//! `--cluster`: every node of a cluster on one page. Nodes are found by asking any of several seeds, scraped side by side
//! within the deadline, and told apart by labels; a node that is down or slow costs its own samples only. What the nodes
//! say of each other is compared on every page, and is what the next page asks.

mod keys;
mod node;
mod summary;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exporter_kit::collector::BoxFuture;
use exporter_kit::page::Page;
use exporter_kit::scrape::{Pages, Selection};
use exposition::{Desc, Snapshot};
use futures_util::FutureExt;
use futures_util::future::{join, join_all, select_ok};
use tokio::time::Instant;

use self::keys::Keys;
use self::node::Node;
use self::summary::{Answer, Summary};
use crate::address::Address;
use crate::cluster_nodes::{self, View};
use crate::connection::{Share, Target};
use crate::options::Options;

/// Share of the time that nodes get: the rest is for putting their pages together.
const PATIENCE: f32 = 0.95;

/// Labels of every series of a node.
const LABELS: [&str; 4] = ["node", "node_id", "shard", "role"];

type Decorate = Box<dyn Fn(&mut Snapshot) + Send + Sync>;

/// How nodes are reached.
pub struct Settings {
    /// The nodes that are asked for the others.
    pub seeds: Vec<Address>,
    /// What is wanted of each node.
    pub options: Arc<Options>,
    /// Whether connections are named.
    pub client_name: bool,
    /// Whether nodes are reached by the names that they announce.
    pub by_hostname: bool,
    /// Series of one collector of one node.
    pub max_series: Option<usize>,
    /// Requests to `/scrape` that were refused.
    pub request_errors: Arc<AtomicU64>,
}

/// See the module.
pub struct Cluster {
    settings: Settings,
    seeds: Vec<Arc<Node>>,
    enabled: Vec<&'static str>,
    summary: Summary,
    keys: Keys,
    request_errors: Desc,
    decorate: Decorate,
    known: Mutex<Known>,
    /// Held while seeds are asked.
    discovering: tokio::sync::Mutex<()>,
}

/// What the last page found.
#[derive(Clone, Default)]
struct Known {
    view: View,
    nodes: Vec<Arc<Node>>,
    /// The seed that told of them: its login is theirs.
    seed: Option<Arc<Node>>,
}

impl Cluster {
    /// Nothing is sent yet. `decorate` adds what is the exporter's own.
    ///
    /// # Errors
    /// An option that cannot be used.
    pub fn new(
        settings: Settings,
        decorate: impl Fn(&mut Snapshot) + Send + Sync + 'static,
    ) -> anyhow::Result<Arc<Self>> {
        let seed = |address: &Address| {
            let place = (address.host_and_port(), address.clone());
            let Settings { options, client_name, max_series, .. } = &settings;
            Node::new("", place, options, *client_name, *max_series, Share::default()).map(Arc::new)
        };
        let seeds = settings.seeds.iter().map(seed).collect::<anyhow::Result<Vec<_>>>()?;
        let enabled = seeds.first().map(|seed| seed.scraper.enabled()).unwrap_or_default();
        Ok(Arc::new(Self {
            summary: Summary::new(&settings.options),
            keys: Keys::new(&settings.options),
            request_errors: settings
                .options
                .counter("target_scrape_request_errors_total", "Invalid requests to /scrape."),
            decorate: Box::new(decorate),
            known: Mutex::default(),
            discovering: tokio::sync::Mutex::default(),
            seeds,
            enabled,
            settings,
        }))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The nodes that the last page found, or that a seed names now; the seeds themselves when none does.
    async fn nodes(&self, deadline: Instant) -> Known {
        let found = || Some(self.known().clone()).filter(|known| !known.nodes.is_empty());
        if let Some(known) = found() {
            return known;
        }
        let _one_at_a_time = self.discovering.lock().await;
        if let Some(known) = found() {
            return known;
        }
        self.ask_seeds(deadline).await;
        found().unwrap_or_else(|| Known { nodes: self.seeds.clone(), ..Known::default() })
    }

    /// Where the nodes are, and how they are reached; the seeds when none tells of others.
    pub async fn targets(&self, deadline: Instant) -> Vec<(String, Arc<Target>)> {
        let nodes = self.nodes(deadline).await.nodes;
        nodes.iter().map(|node| (node.address.clone(), Arc::clone(&node.target))).collect()
    }

    /// Learns the nodes from the seed that answers first.
    async fn ask_seeds(&self, deadline: Instant) {
        let ask = |seed: &Arc<Node>| {
            let seed = Arc::clone(seed);
            async move { View::read(&seed.target, deadline).await.map(|view| (view, seed)) }.boxed()
        };
        match select_ok(self.seeds.iter().map(ask)).await {
            Ok(((view, seed), _)) => {
                self.known().seed = Some(seed);
                self.learn(view);
            }
            Err(error) => tracing::warn!(%error, "no seed tells the nodes of the cluster"),
        }
        // From now on each node has a connection of its own.
        self.seeds.iter().for_each(|seed| seed.target.give_up());
    }

    /// Keeps the nodes of a view: those known already stay connected, those gone are forgotten.
    fn learn(&self, view: View) {
        let mut known = self.known();
        let Some(seed) = known.seed.clone() else { return };
        let by_id: HashMap<&str, &Arc<Node>> =
            known.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
        let mut nodes = Vec::new();
        for described in view.0.iter().filter(|node| node.has_place()) {
            let share = self.share(&view, described);
            let address = described.address(self.settings.by_hostname);
            match by_id.get(described.id.as_str()).filter(|node| node.address == address) {
                Some(node) => {
                    node.target.share(share);
                    nodes.push(Arc::clone(node));
                }
                None => match self.node(seed.target.address(), described, address, share) {
                    Ok(node) => nodes.push(Arc::new(node)),
                    Err(error) => tracing::warn!(%error, "cannot use a node of the cluster"),
                },
            }
        }
        if !nodes.is_empty() {
            (known.view, known.nodes) = (view, nodes);
        }
    }

    fn node(
        &self,
        seed: &Address,
        described: &cluster_nodes::Node,
        shown: String,
        share: Share,
    ) -> anyhow::Result<Node> {
        let Settings { options, client_name, max_series, by_hostname, .. } = &self.settings;
        let address = seed.at(described.host(*by_hostname), described.port)?;
        Node::new(&described.id, (shown, address), options, *client_name, *max_series, share)
    }

    /// The key work of a node: that of its slots for a master; with `-skip-checkkeys-for-role-master` the first replica
    /// that is well does it.
    fn share(&self, view: &View, node: &cluster_nodes::Node) -> Share {
        if !self.settings.options.features.only_replicas {
            return Share { slots: node.slots.clone(), replica: false };
        }
        let Some(master) = &node.master else { return Share::default() };
        let mut replicas =
            view.0.iter().filter(|other| other.master.as_ref() == Some(master) && other.is_reachable());
        let first = replicas.next().is_some_and(|first| first.id == node.id);
        let of_master = view.0.iter().find(|other| other.id == *master).filter(|_| first);
        Share { slots: of_master.map(|master| master.slots.clone()).unwrap_or_default(), replica: true }
    }

    /// The page of the configured node, with the keys of all.
    async fn one_node(&self, selection: Selection, deadline: Instant) -> Arc<Page> {
        let started = Instant::now();
        let patience = started + deadline.saturating_duration_since(started).mul_f32(PATIENCE);
        let others = keys::selection(&selection, &self.enabled);
        let own = join_all(self.seeds.first().map(|seed| seed.scraper.scrape(selection, patience)));
        let (own, (answers, _)) = join(own, self.ask(&others, patience)).await;
        let mut page = Snapshot::new();
        own.iter().for_each(|own| page.append(own.snapshot().clone()));
        self.keys.write(&answers, &mut page);
        match summary::majority(&answers) {
            Some(view) => self.learn(view),
            None => self.known().nodes.clear(),
        }
        page.retain(|family| self.request_errors.name != family);
        page.sample(&self.request_errors, self.settings.request_errors.load(Ordering::Relaxed) as f64);
        (self.decorate)(&mut page);
        page.seal();
        Arc::new(Page::new(page))
    }

    /// What every node answers, and what the last page said of them.
    async fn ask(&self, selection: &Selection, deadline: Instant) -> (Vec<Answer>, View) {
        let known = self.nodes(deadline).await;
        let scrape = |node: &Arc<Node>| {
            let (node, selection) = (Arc::clone(node), selection.clone());
            async move {
                let page = node.scraper.scrape(selection, deadline).await;
                let view = node.target.take_view();
                Answer { node, page, view }
            }
        };
        (join_all(known.nodes.iter().map(scrape)).await, known.view)
    }

    async fn pass(&self, selection: Selection, deadline: Instant) -> Arc<Page> {
        let started = Instant::now();
        let patience = started + deadline.saturating_duration_since(started).mul_f32(PATIENCE);
        let (answers, known) = self.ask(&selection, patience).await;
        let mut page = Snapshot::new();
        for answer in &answers {
            page.append(self.of_node(answer, &known));
        }
        if selection == Selection::ALL {
            match summary::majority(&answers) {
                Some(view) => {
                    self.summary.write(&answers, &view, &mut page);
                    self.learn(view);
                }
                // Nobody answers: the cluster may have moved.
                None => self.known().nodes.clear(),
            }
            page.sample(&self.request_errors, self.settings.request_errors.load(Ordering::Relaxed) as f64);
        }
        (self.decorate)(&mut page);
        page.seal();
        Arc::new(Page::new(page))
    }

    /// What a node answered, with labels that say where it is in the cluster: by its own account, or, when it has none, by
    /// the last page's.
    fn of_node(&self, answer: &Answer, last: &View) -> Snapshot {
        let Answer { node, page, view } = answer;
        let own = view.as_ref().and_then(|view| Some((view, view.myself()?)));
        let told = || last.0.iter().find(|described| described.id == node.id).map(|node| (last, node));
        let (shard, role) =
            own.or_else(told).map_or(("", ""), |(view, described)| (view.shard(described), described.role()));
        let mut page = page.snapshot().clone();
        page.retain(|family| self.request_errors.name != family);
        let values = [&node.address, &node.id, shard, role];
        let labels: Vec<_> = LABELS.into_iter().zip(values).filter(|(_, value)| !value.is_empty()).collect();
        page.add_labels(&labels);
        page
    }
}

impl Pages for Cluster {
    fn enabled(&self) -> Vec<&'static str> {
        self.enabled.clone()
    }

    fn page(self: Arc<Self>, selection: Selection, deadline: Instant) -> BoxFuture<'static, Arc<Page>> {
        async move {
            if self.settings.options.features.one_node {
                self.one_node(selection, deadline).await
            } else {
                self.pass(selection, deadline).await
            }
        }
        .boxed()
    }
}
