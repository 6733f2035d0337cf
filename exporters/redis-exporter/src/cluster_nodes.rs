//! The nodes of a cluster as one of them knows them, from CLUSTER NODES.

use std::collections::BTreeMap;

use tokio::time::{Instant, timeout_at};

use crate::connection::Target;
use crate::error::ReplyError;
use crate::request::{Request, text};
use crate::slots::Slots;

/// One node as the asked one knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its identifier, for life.
    pub id: String,
    /// IP address; empty when it is unknown.
    pub ip: String,
    /// Port for clients.
    pub port: u16,
    /// Name that the node announces, if any.
    pub hostname: Option<String>,
    /// `myself`, `master`, `slave`, `fail` and others.
    pub flags: Vec<String>,
    /// The identifier of its master, for a replica.
    pub master: Option<String>,
    /// The epoch of its slots.
    pub epoch: u64,
    /// What it serves.
    pub slots: Slots,
    /// Identifier of its shard, where the server tells it (Redis 7.2 and Valkey).
    pub shard: Option<String>,
}

impl Node {
    /// Whether it has a flag.
    pub fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|own| own == flag)
    }

    /// Whether the node has a place in the cluster, well or not: one that nobody has met yet, or knows no address of, has
    /// none.
    pub fn has_place(&self) -> bool {
        !self.is("handshake") && !self.is("noaddr") && (!self.ip.is_empty() || self.hostname.is_some())
    }

    /// Whether the node can be connected to, as far as the asked one knows.
    pub fn is_reachable(&self) -> bool {
        self.has_place() && !self.is("fail") && !self.is("fail?")
    }

    /// `master` or `slave`, as INFO calls it.
    pub fn role(&self) -> &'static str {
        if self.is("master") { "master" } else { "slave" }
    }

    /// The host to connect to; by name when wanted and known.
    pub fn host(&self, by_hostname: bool) -> &str {
        self.hostname.as_deref().filter(|_| by_hostname || self.ip.is_empty()).unwrap_or(&self.ip)
    }

    /// `host:port`.
    pub fn address(&self, by_hostname: bool) -> String {
        match self.host(by_hostname) {
            ip if ip.contains(':') => format!("[{ip}]:{}", self.port),
            host => format!("{host}:{}", self.port),
        }
    }
}

/// What one node says of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View(pub Vec<Node>);

/// What nodes must agree on: the master of each, and its slots.
pub type Agreement<'a> = BTreeMap<&'a str, (Option<&'a str>, &'a Slots)>;

impl View {
    /// Reads the reply: lines of `id ip:port@bus[,hostname[,shard-id=…]] flags master ping pong epoch link slots…`. Lines
    /// of another shape are skipped.
    pub fn parse(text: &str) -> Self {
        let node = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let (id, address, flags) = (words.next()?, words.next()?, words.next()?);
            let mut parts = address.split(',');
            let (ip, port) = parts.next()?.split('@').next()?.rsplit_once(':')?;
            let hostname = parts.next().filter(|name| !name.is_empty() && *name != "?");
            let master = words.next().filter(|master| *master != "-");
            let epoch = words.nth(2).and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
            Some(Node {
                id: id.to_owned(),
                ip: ip.to_owned(),
                port: port.parse().ok()?,
                hostname: hostname.map(str::to_owned),
                flags: flags.split(',').map(str::to_owned).collect(),
                master: master.map(str::to_owned),
                epoch,
                slots: Slots::parse(words.skip(1)),
                shard: parts.find_map(|part| part.strip_prefix("shard-id=")).map(str::to_owned),
            })
        };
        Self(text.lines().filter_map(node).collect())
    }

    /// Asks a node. A kept connection that died since the last time is replaced.
    ///
    /// # Errors
    /// Whatever keeps it from answering.
    pub async fn read(target: &Target, deadline: Instant) -> Result<Self, ReplyError> {
        let what = Request::ClusterNodes.name();
        let command = Request::ClusterNodes.command(target.options());
        let mut broken = None;
        loop {
            let link = target.link(broken, deadline).await?;
            let reply = timeout_at(deadline, link.send(command.clone())).await;
            match reply.map_err(|_| ReplyError::timeout(what))? {
                Err(failure) if broken.is_none() && failure.lost => broken = Some(link.number()),
                Err(failure) => return Err(failure.of(what)),
                Ok(reply) => {
                    return Ok(Self::parse(&text(&reply).ok_or_else(|| ReplyError::unexpected(what))?));
                }
            }
        }
    }

    /// The node that was asked.
    pub fn myself(&self) -> Option<&Node> {
        self.0.iter().find(|node| node.is("myself"))
    }

    /// A name for a node and its master or replicas: the shard's identifier, or, where the server does not tell it, the
    /// master's.
    pub fn shard<'a>(&self, node: &'a Node) -> &'a str {
        node.shard.as_deref().or(node.master.as_deref()).unwrap_or(&node.id)
    }

    /// What other nodes should see as well.
    pub fn agreement(&self) -> Agreement<'_> {
        let placed = self.0.iter().filter(|node| node.has_place());
        placed.map(|node| (node.id.as_str(), (node.master.as_deref(), &node.slots))).collect()
    }

    /// The epoch of each master's slots, on which nodes should agree as well.
    pub fn epochs(&self) -> BTreeMap<&str, u64> {
        let masters = self.0.iter().filter(|node| node.is("master") && node.has_place());
        masters.map(|node| (node.id.as_str(), node.epoch)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nodes_are_read_and_those_gone_are_known() {
        let view = View::parse(
            "a1 127.0.0.1:7000@17000 myself,master - 0 0 7 connected 0-5460 9000\n\
             a2 ::1:7001@17001,db.example,shard-id=9 slave a1 0 1 1 connected\n\
             a3 10.0.0.3:7002@17002 master,fail - 1 1 3 disconnected\n\
             a4 :0@0 master,noaddr - 1 1 3 disconnected\nnonsense\n",
        );
        let shown: Vec<_> = view
            .0
            .iter()
            .map(|node| (node.is_reachable(), node.has_place(), node.address(false), node.address(true)))
            .collect();
        let text = str::to_owned;
        assert_eq!(
            shown,
            [
                (true, true, text("127.0.0.1:7000"), text("127.0.0.1:7000")),
                (true, true, text("[::1]:7001"), text("db.example:7001")),
                (false, true, text("10.0.0.3:7002"), text("10.0.0.3:7002")),
                (false, false, text(":0"), text(":0")),
            ]
        );
        let myself = view.myself().unwrap();
        assert_eq!((myself.role(), myself.epoch, myself.slots.count()), ("master", 7, 5462));
        assert_eq!((view.shard(myself), view.shard(&view.0[1]), view.0[1].role()), ("a1", "9", "slave"));
        assert_eq!(view.agreement().len(), 3);
        assert_eq!(view.epochs(), [("a1", 7), ("a3", 3)].into());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let view = View::parse(&String::from_utf8_lossy(&bytes));
            for node in &view.0 {
                let _ = (node.is_reachable(), node.address(true), view.shard(node), view.agreement());
            }
        }

        #[test]
        fn every_address_is_read_back(ip in "[0-9.]{1,12}|[0-9a-f:]{3,12}", port in 1_u16..) {
            let view = View::parse(&format!("id {ip}:{port}@1 master - 0 0 1 connected"));
            prop_assert_eq!((view.0[0].ip.as_str(), view.0[0].port), (ip.as_str(), port));
        }
    }
}
