//! `/sd`: the servers that the configured one knows, for Prometheus' HTTP service discovery: nodes of its cluster, or the
//! masters, replicas and sentinels that a Sentinel watches, or the replicas of a master. Those that are known to be down
//! are left out.

use std::collections::BTreeMap;

use redis::Value;
use tokio::time::Instant;

use crate::address::bracketed;
use crate::cluster_nodes::View;
use crate::connection::Target;
use crate::error::ReplyError;
use crate::info::{Info, part};
use crate::request::{Request, items, text, texts};
use crate::session::Session;

/// Labels, by name.
pub type Labels = BTreeMap<&'static str, String>;

/// A server that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// `redis://host:port`, or `rediss://` when the server that told of it is reached so.
    pub url: String,
    /// What is known of it, as `__meta_redis_*`.
    pub labels: Labels,
}

/// Flags of SENTINEL's replies that mean that a server cannot be reached.
const DOWN: &[&str] = &["s_down", "o_down", "disconnected"];

/// Asks the server for all that it knows, itself included.
///
/// # Errors
/// Whatever keeps it from answering.
pub async fn find(
    target: &std::sync::Arc<Target>,
    by_hostname: bool,
    deadline: Instant,
) -> Result<Vec<Found>, ReplyError> {
    let session = Session::open(std::sync::Arc::clone(target), deadline).await?;
    let facts = session.read_facts().await?;
    let finder = Finder { target, tls: target.address().is_tls() };
    let mut found = if facts.server.sentinel {
        finder.sentinel(&session, &facts.server.masters).await?
    } else if facts.server.cluster {
        let reply = session.ask(Request::ClusterNodes).await?;
        let view = View::parse(&text(&reply).ok_or_else(|| ReplyError::unexpected("CLUSTER NODES"))?);
        finder.cluster(&view, by_hostname)
    } else {
        finder.replication(&facts.info)
    };
    found.sort();
    found.dedup();
    Ok(found)
}

struct Finder<'a> {
    target: &'a Target,
    tls: bool,
}

impl Finder<'_> {
    fn at(&self, host: &str, port: &str, labels: &[(&'static str, &str)]) -> Found {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned()));
        Found {
            url: format!("{scheme}://{}:{port}", bracketed(host)),
            labels: labels.chain([("__meta_redis_tls", self.tls.to_string())]).collect(),
        }
    }

    /// The server that was asked.
    fn own(&self, labels: &[(&'static str, &str)]) -> Found {
        let place = self.target.address().host_and_port();
        let (host, port) = place.rsplit_once(':').unwrap_or((&place, "6379"));
        self.at(host.trim_start_matches('[').trim_end_matches(']'), port, labels)
    }

    fn cluster(&self, view: &View, by_hostname: bool) -> Vec<Found> {
        let reachable = view.0.iter().filter(|node| node.is_reachable() || node.is("myself"));
        let found = reachable.map(|node| {
            let slots = node.slots.count().to_string();
            let labels = [
                ("__meta_redis_role", node.role()),
                ("__meta_redis_node_id", &node.id),
                ("__meta_redis_shard", view.shard(node)),
                ("__meta_redis_slots", &slots),
            ];
            match node.host(by_hostname) {
                "" => self.own(&labels),
                host => self.at(host, &node.port.to_string(), &labels),
            }
        });
        found.collect()
    }

    /// A master and its replicas, or a replica and its master.
    fn replication(&self, info: &Info) -> Vec<Found> {
        let role = info.get("role").unwrap_or_default();
        let mut found = vec![self.own(&[("__meta_redis_role", role)])];
        if role == "slave"
            && info.get("master_link_status") == Some("up")
            && let (Some(host), Some(port)) = (info.get("master_host"), info.get("master_port"))
        {
            found.push(self.at(host, port, &[("__meta_redis_role", "master")]));
        }
        let is_replica = |key: &str| {
            key.strip_prefix("slave").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        };
        for field in info.section("Replication").filter(|field| is_replica(field.key)) {
            if let (Some(host), Some(port), Some("online")) =
                (part(field.value, "ip"), part(field.value, "port"), part(field.value, "state"))
            {
                found.push(self.at(host, port, &[("__meta_redis_role", "slave")]));
            }
        }
        found
    }

    async fn sentinel(&self, session: &Session, masters: &[String]) -> Result<Vec<Found>, ReplyError> {
        let mut found = vec![self.own(&[("__meta_redis_role", "sentinel")])];
        let of = |master: &String| {
            [Request::SentinelSlaves(master.clone()), Request::SentinelSentinels(master.clone())]
        };
        let requests = masters.iter().flat_map(of).chain([Request::SentinelMasters]).collect();
        let replies = session.ask_all(requests).await;
        for (request, reply) in &replies {
            let reply = reply.as_deref().map_err(Clone::clone)?;
            let (role, master) = match request {
                Request::SentinelSlaves(master) => ("slave", master.as_str()),
                Request::SentinelSentinels(_) => ("sentinel", ""),
                _ => ("master", ""),
            };
            self.entries(request, reply, role, master, &mut found)?;
        }
        Ok(found)
    }

    /// Entries of one reply. A sentinel watches several masters, so it has no master's name.
    fn entries(
        &self,
        request: &Request,
        reply: &Value,
        role: &str,
        master: &str,
        found: &mut Vec<Found>,
    ) -> Result<(), ReplyError> {
        for entry in items(reply).ok_or_else(|| ReplyError::unexpected(request.name()))? {
            let fields = texts(request, entry)?;
            let get = |key| fields.iter().find(|(name, _)| name == key).map_or("", |(_, value)| &**value);
            if get("flags").split(',').any(|flag| DOWN.contains(&flag)) {
                continue;
            }
            let master = if role == "master" { get("name") } else { master };
            let named = [("__meta_redis_role", role), ("__meta_redis_master_name", master)];
            let labels: Vec<_> = named.into_iter().filter(|(_, value)| !value.is_empty()).collect();
            found.push(self.at(get("ip"), get("port"), &labels));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::address::{Address, Credentials, TlsFiles};
    use crate::request::tests::value;

    fn target() -> Target {
        let address = Address::parse("seed:7", &Credentials::default(), &TlsFiles::default()).unwrap();
        Target::new(address, Arc::default(), true)
    }

    #[test]
    fn nodes_that_failed_are_left_out_and_one_without_an_address_is_the_one_asked() {
        let view = View::parse(
            "a :7@17 myself,master - 0 0 1 connected 0-9\n\
             b ::1:8@18,,shard-id=s slave a 0 1 1 connected\n\
             c 10.0.0.3:9@19 master,fail - 1 1 3 disconnected\n\
             d 10.0.0.4:9@19 handshake - 1 1 3 disconnected\n",
        );
        let target = target();
        let found = Finder { target: &target, tls: true }.cluster(&view, false);
        let urls: Vec<&str> = found.iter().map(|found| found.url.as_str()).collect();
        assert_eq!(urls, ["rediss://seed:7", "rediss://[::1]:8"]);
        let expected = [
            ("__meta_redis_node_id", "b"),
            ("__meta_redis_role", "slave"),
            ("__meta_redis_shard", "s"),
            ("__meta_redis_slots", "0"),
            ("__meta_redis_tls", "true"),
        ];
        assert_eq!(found[1].labels, expected.map(|(name, value)| (name, value.to_owned())).into());
    }

    proptest! {
        #[test]
        fn nothing_panics(reply in value(), info in "[a-z0-9:=,.\\n#]{0,200}") {
            let target = target();
            let finder = Finder { target: &target, tls: false };
            let _ = finder.entries(&Request::SentinelMasters, &reply, "master", "", &mut Vec::new());
            let _ = finder.replication(&Info::parse(info));
        }
    }
}
