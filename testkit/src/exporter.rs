//! An exporter under test: its real binary on a free port.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{
    http::{self, Request, Response},
    process::{Process, ProcessBuilder},
};

const START_LIMIT: Duration = Duration::from_secs(20);

/// A running exporter. Dropping it ends it.
#[derive(Debug)]
pub struct Exporter {
    /// The process, for its log, its exit and signals.
    pub process: Process,
    address: SocketAddr,
    _folder: TempDir,
}

impl Exporter {
    /// Starts `binary` with `args` on a free port; `configure` may add to the process, say its environment.
    ///
    /// # Errors
    /// When it does not say within 20 s that it listens; the error shows its log.
    pub async fn start(
        binary: impl AsRef<Path>,
        args: &[&str],
        configure: impl FnOnce(ProcessBuilder) -> ProcessBuilder,
    ) -> Result<Self> {
        let folder = TempDir::new().context("making a folder for the exporter's log")?;
        let name = binary.as_ref().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let builder = Process::builder(name, binary.as_ref(), folder.path().join("log"))
            .args(["--web.listen-address=127.0.0.1:0"])
            .args(args);
        let mut process = configure(builder).spawn()?;
        let line = process.wait_for_log("msg=listening", START_LIMIT).await?;
        let address = line.split_whitespace().find_map(|field| field.strip_prefix("address="));
        let address = address.and_then(|text| text.parse().ok()).context("no address in the log line")?;
        Ok(Self { process, address, _folder: folder })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Fetches a path.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> Result<Response> {
        http::get(&self.url(path)).await
    }

    /// Scrapes `/metrics` as Prometheus does, with a timeout in the header, and parses the page strictly.
    ///
    /// # Errors
    /// When the answer is not 200 or the page is not clean.
    pub async fn scrape(&self, timeout_seconds: f64) -> Result<exposition::Page> {
        let response = Request::new(::http::Method::GET, self.url("/metrics"))
            .header("X-Prometheus-Scrape-Timeout-Seconds", timeout_seconds.to_string())
            .timeout(Duration::from_secs_f64(timeout_seconds))
            .send()
            .await?;
        anyhow::ensure!(response.status == 200, "status {}: {}", response.status, response.text);
        exposition::parse::page(&response.text)
            .with_context(|| format!("parsing the page\n{}", response.text))
    }
}
