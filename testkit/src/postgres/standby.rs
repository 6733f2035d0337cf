//! Standbys: servers that start from the template, too, and follow another one from its first WAL on.

use std::{net::SocketAddr, path::Path};

use anyhow::Result;

use super::{Postgres, PostgresBuilder};

/// The setting that says where WAL comes from, and its value.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    pub(super) setting: &'static str,
    pub(super) value: String,
}

impl Postgres {
    /// A hot standby that streams from this server, which may be a standby itself: same version and settings.
    ///
    /// # Errors
    /// As [`PostgresBuilder::start`].
    pub async fn standby(&self) -> Result<Self> {
        self.standby_via(self.addr()).await
    }

    /// As [`Postgres::standby`], by way of another address, say a proxy's.
    ///
    /// # Errors
    /// As [`PostgresBuilder::start`].
    pub async fn standby_via(&self, address: SocketAddr) -> Result<Self> {
        let (host, port) = (address.ip(), address.port());
        let value = format!("host={host} port={port} user=postgres application_name=testkit_standby");
        self.follower(Upstream { setting: "primary_conninfo", value }).await
    }

    /// A hot standby that takes WAL from a folder of archived segments and streams from nobody.
    ///
    /// # Errors
    /// As [`PostgresBuilder::start`].
    pub async fn standby_of_archive(&self, archive: &Path) -> Result<Self> {
        let value = format!("cp {}/%f %p", archive.display());
        self.follower(Upstream { setting: "restore_command", value }).await
    }

    async fn follower(&self, upstream: Upstream) -> Result<Self> {
        PostgresBuilder {
            version: self.settings.version,
            settings: self.settings.settings.clone(),
            hba: self.settings.hba.clone(),
            upstream: Some(upstream),
            ..PostgresBuilder::default()
        }
        .start()
        .await
    }
}
