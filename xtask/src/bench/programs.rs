//! The programs that are measured: ours as they are released, and the peers.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use testkit::{
    exporter::Exporter,
    peer::{Peer, RunningPeer},
};

/// An exporter's binary.
pub(super) enum Program {
    Ours(PathBuf),
    Peer(Peer),
}

impl Program {
    pub(super) async fn start(&self, args: &[&str], variable: (&str, &str)) -> Result<Running> {
        Ok(match self {
            Self::Ours(path) => Running::Ours(
                Exporter::start(path, args, |process| process.env(variable.0, variable.1)).await?,
            ),
            Self::Peer(peer) => Running::Peer(peer.start(args, &[variable]).await?),
        })
    }
}

/// A running exporter. Dropping it ends it.
pub(super) enum Running {
    Ours(Exporter),
    Peer(RunningPeer),
}

impl Running {
    pub(super) fn pid(&self) -> u32 {
        match self {
            Self::Ours(exporter) => exporter.process.pid(),
            Self::Peer(peer) => peer.process.pid(),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Ours(exporter) => exporter.address(),
            Self::Peer(peer) => peer.address,
        }
    }
}
