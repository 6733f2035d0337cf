//! The paths of redis_exporter beside `/metrics` and `/scrape`.

use std::sync::Arc;
use std::time::Duration;

use exporter_kit::app::{Handler, text};
use http::StatusCode;
use tokio::time::Instant;

use crate::cluster_nodes::View;
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
    let view = View::read(target, deadline).await?;
    let scheme = if target.address().is_tls() { "rediss" } else { "redis" };
    let reachable = view.0.iter().filter(|node| node.is_reachable());
    Ok(reachable.map(|node| format!("{scheme}://{}", node.address(by_hostname))).collect())
}
