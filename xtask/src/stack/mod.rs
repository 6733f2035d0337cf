//! The development stack: its folder, its parts and how they are ended.

pub(crate) mod alertmanager;
pub(crate) mod drill;
pub(crate) mod prometheus;
pub(crate) mod start;
pub(crate) mod state;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use testkit::{free_port, servers};

use self::state::State;

/// The option that every command of the stack has.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Location {
    /// Folder for data, logs and state [default: target/stack]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

impl Location {
    /// The folder, made if missing.
    pub(crate) fn folder(&self) -> Result<PathBuf> {
        let Some(folder) = &self.dir else { return servers::private_dir("stack") };
        std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        folder.canonicalize().with_context(|| format!("finding {}", folder.display()))
    }
}

/// The options of commands that ask a Prometheus.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Prometheus {
    /// The Prometheus to ask [default: the one of the stack]
    #[arg(long, value_name = "URL")]
    prometheus: Option<String>,
    #[command(flatten)]
    location: Location,
}

impl Prometheus {
    /// Its URL, without a slash at the end.
    pub(crate) fn url(&self) -> Result<String> {
        match &self.prometheus {
            Some(url) => Ok(url.trim_end_matches('/').to_owned()),
            None => State::url(&self.location.folder()?, "prometheus"),
        }
    }
}

/// `standard` when nobody listens there, else a free port.
pub(crate) fn port(standard: u16) -> Result<u16> {
    if TcpListener::bind(("127.0.0.1", standard)).is_ok() {
        return Ok(standard);
    }
    free_port().context("looking for a free port")
}

/// Where a part's log is.
pub(crate) fn log_path(folder: &Path, part: &str) -> PathBuf {
    folder.join("log").join(format!("{part}.log"))
}

/// Makes `to` a copy of the folder `from` and of nothing else.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("removing {}", to.display()))?;
    }
    fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry.with_context(|| format!("reading {}", from.display()))?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("copying to {}", target.display()))?;
        }
    }
    Ok(())
}
