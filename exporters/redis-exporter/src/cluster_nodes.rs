//! The nodes of a cluster, from CLUSTER NODES, for `/discover-cluster-nodes`.

/// One node as the asked one knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// IP address; empty when it is unknown.
    pub ip: String,
    /// Port for clients.
    pub port: u16,
    /// Name that the node announces, if any.
    pub hostname: Option<String>,
    /// `master`, `slave`, `fail` and others.
    pub flags: Vec<String>,
}

impl Node {
    /// Whether the node can be connected to, as far as the asked one knows.
    pub fn is_reachable(&self) -> bool {
        let gone = |flag: &String| matches!(flag.as_str(), "fail" | "fail?" | "handshake" | "noaddr");
        let placed = !self.ip.is_empty() || self.hostname.is_some();
        placed && !self.flags.iter().any(gone)
    }

    /// `host:port`; by name when wanted and known.
    pub fn address(&self, by_hostname: bool) -> String {
        let host = self.hostname.as_deref().filter(|_| by_hostname || self.ip.is_empty());
        match host.unwrap_or(&self.ip) {
            ip if ip.contains(':') => format!("[{ip}]:{}", self.port),
            host => format!("{host}:{}", self.port),
        }
    }
}

/// Reads the reply: lines of `id ip:port@bus[,hostname] flags master …`. Lines of another shape are skipped.
pub fn parse(text: &str) -> Vec<Node> {
    let node = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (address, flags) = (words.next()?, words.next()?);
        let mut parts = address.split(',');
        let (ip, port) = parts.next()?.split('@').next()?.rsplit_once(':')?;
        let hostname = parts.next().filter(|name| !name.is_empty() && *name != "?");
        Some(Node {
            ip: ip.to_owned(),
            port: port.parse().ok()?,
            hostname: hostname.map(str::to_owned),
            flags: flags.split(',').map(str::to_owned).collect(),
        })
    };
    text.lines().filter_map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nodes_are_read_and_those_gone_are_known() {
        let nodes = parse(
            "a1 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-5460\n\
             a2 ::1:7001@17001,db.example,shard-id=9 slave a1 0 1 1 connected\n\
             a3 10.0.0.3:7002@17002 master,fail - 1 1 3 disconnected\n\
             a4 :0@0 master,noaddr - 1 1 3 disconnected\nnonsense\n",
        );
        let shown: Vec<_> =
            nodes.iter().map(|node| (node.is_reachable(), node.address(false), node.address(true))).collect();
        let text = str::to_owned;
        assert_eq!(
            shown,
            [
                (true, text("127.0.0.1:7000"), text("127.0.0.1:7000")),
                (true, text("[::1]:7001"), text("db.example:7001")),
                (false, text("10.0.0.3:7002"), text("10.0.0.3:7002")),
                (false, text(":0"), text(":0")),
            ]
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for node in parse(&String::from_utf8_lossy(&bytes)) {
                let _ = (node.is_reachable(), node.address(true));
            }
        }

        #[test]
        fn every_address_is_read_back(ip in "[0-9.]{1,12}|[0-9a-f:]{3,12}", port in 1_u16..) {
            let nodes = parse(&format!("id {ip}:{port}@1 master - 0 0 1 connected"));
            prop_assert_eq!((nodes[0].ip.as_str(), nodes[0].port), (ip.as_str(), port));
        }
    }
}
