//! `cargo xtask peers`: fetches postgres_exporter, redis_exporter and sql_exporter, which tests and `bench` run beside ours.

use anyhow::Result;
use testkit::peer::PEERS;

use crate::progress::{print, step, table};

pub(crate) async fn run() -> Result<()> {
    let mut rows = vec![["PEER", "VERSION", "VARIABLE", "BINARY"].map(str::to_owned).to_vec()];
    for peer in PEERS {
        let binary = step(&format!("find or fetch {} {}", peer.name, peer.version), peer.binary()).await?;
        let cells = [peer.name, peer.version, peer.variable].map(str::to_owned);
        rows.push([cells.as_slice(), &[binary.display().to_string()]].concat());
    }
    table(&rows).iter().for_each(|line| print(line));
    Ok(())
}
