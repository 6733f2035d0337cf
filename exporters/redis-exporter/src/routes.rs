//! The paths of redis_exporter beside `/metrics` and `/scrape`.

use std::sync::Arc;
use std::time::Duration;

use exporter_kit::app::{Handler, text};
use http::StatusCode;
use redis::Cmd;
use tokio::time::{Instant, timeout_at};

use crate::cluster_nodes;
use crate::connection::Target;
use crate::error::ReplyError;

/// `/health`: whether this process answers; the server is not asked.
pub fn health() -> Handler {
    Arc::new(|_| Box::pin(async { text(StatusCode::OK, "ok") }))
}

/// `/discover-cluster-nodes`: the nodes that the configured one knows, as a list of targets. `by_hostname` is `None`
/// without `-is-cluster`: then there is nothing to discover.
pub fn discover(target: Option<Arc<Target>>, by_hostname: Option<bool>, timeout: Duration) -> Handler {
    Arc::new(move |_| {
        let target = target.clone();
        Box::pin(async move {
            let (Some(target), Some(by_hostname)) = (target, by_hostname) else {
                return text(StatusCode::BAD_REQUEST, "cluster discovery needs -is-cluster and a target\n");
            };
            match nodes(&target, by_hostname, Instant::now() + timeout).await {
                Ok(targets) => {
                    let body = serde_json::json!([{ "targets": targets, "labels": {} }]).to_string();
                    let mut reply = text(StatusCode::OK, body);
                    let json = http::HeaderValue::from_static("application/json");
                    reply.headers_mut().insert(http::header::CONTENT_TYPE, json);
                    reply
                }
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            }
        })
    })
}

/// The addresses of all nodes that can be connected to.
async fn nodes(target: &Target, by_hostname: bool, deadline: Instant) -> Result<Vec<String>, ReplyError> {
    const WHAT: &str = "CLUSTER NODES";
    let mut command = Cmd::new();
    command.arg("CLUSTER").arg("NODES");
    let mut broken = None;
    loop {
        let link = target.link(broken, deadline).await?;
        let reply = timeout_at(deadline, link.send(&command)).await;
        match reply.map_err(|_| ReplyError::timeout(WHAT))? {
            // A kept connection may have died since the last scrape.
            Err(error) if broken.is_none() && error.is_connection_dropped() => broken = Some(link.number()),
            Err(error) => return Err(ReplyError::new(WHAT, &error)),
            Ok(reply) => {
                let text = crate::request::text(&reply).ok_or_else(|| ReplyError::unexpected(WHAT))?;
                let scheme = if target.address().is_tls() { "rediss" } else { "redis" };
                let nodes = cluster_nodes::parse(&text);
                let reachable = nodes.iter().filter(|node| node.is_reachable());
                return Ok(reachable
                    .map(|node| format!("{scheme}://{}", node.address(by_hostname)))
                    .collect());
            }
        }
    }
}
