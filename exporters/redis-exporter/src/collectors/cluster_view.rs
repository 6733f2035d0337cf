//! `redis_cluster_node_*`: the node's own place in its cluster, from CLUSTER NODES. What it says of the others is kept for
//! the page of the whole cluster.

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Spec};
use exposition::{Desc, Snapshot};

use crate::cluster_nodes::View;
use crate::error::ReplyError;
use crate::options::Options;
use crate::request::{Request, text};
use crate::session::Session;

static SPEC: Spec = Spec {
    name: "cluster_view",
    doc: "What a node says of all nodes of its cluster, with --cluster",
    default_enabled: false,
};

pub(super) struct ClusterView {
    slots: Desc,
    epoch: Desc,
}

impl ClusterView {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            slots: options.gauge("cluster_node_slots", "Slots that the node serves, by its own account."),
            epoch: options.gauge("cluster_node_config_epoch", "Epoch of the slots that the node serves."),
        }
    }

    async fn read(&self, session: &Session) -> Result<Snapshot, CollectError> {
        let reply = session.ask(Request::ClusterNodes).await?;
        let unexpected = || ReplyError::unexpected(Request::ClusterNodes.name());
        let view = View::parse(&text(&reply).ok_or_else(unexpected)?);
        let mut page = Snapshot::new();
        let myself = view.myself().ok_or_else(unexpected)?;
        page.sample(&self.slots, myself.slots.count() as f64);
        page.sample(&self.epoch, myself.epoch as f64);
        session.target().see(view);
        Ok(page)
    }
}

impl Collector<Session> for ClusterView {
    fn spec(&self) -> &Spec {
        &SPEC
    }

    fn collect<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        Box::pin(self.read(session))
    }
}
