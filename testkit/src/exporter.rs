//! An exporter under test: its real binary on a free port. It must not tell the passwords it was given: every page that
//! a test gets from it is searched for them, and its log when it ends.

use std::{net::SocketAddr, path::Path, thread, time::Duration};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{
    http::{Request, Response},
    process::{Process, ProcessBuilder},
    secrets,
};

const START_LIMIT: Duration = Duration::from_secs(20);

/// A running exporter. Dropping it ends it.
#[derive(Debug)]
pub struct Exporter {
    /// The process, for its log, its exit and signals.
    pub process: Process,
    address: SocketAddr,
    secrets: Vec<String>,
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
        let builder = configure(builder);
        let secrets = builder.secrets();
        let mut process = builder.spawn()?;
        let line = process.wait_for_log("msg=listening", START_LIMIT).await?;
        let address = line.split_whitespace().find_map(|field| field.strip_prefix("address="));
        let address = address.and_then(|text| text.parse().ok()).context("no address in the log line")?;
        Ok(Self { process, address, secrets, _folder: folder })
    }

    /// It was given this secret, too, say in a file.
    #[must_use]
    pub fn with_secret(mut self, secret: impl Into<String>) -> Self {
        self.secrets.push(secret.into());
        self
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path, for others; tests fetch with [`get`](Self::get) and [`send`](Self::send), which look for
    /// passwords.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Fetches a path.
    ///
    /// # Errors
    /// When there is no answer, or a password is in it.
    pub async fn get(&self, path: &str) -> Result<Response> {
        self.send(Request::new(::http::Method::GET, self.url(path))).await
    }

    /// Sends a request to it.
    ///
    /// # Errors
    /// When there is no answer, or a password is in it.
    pub async fn send(&self, request: Request) -> Result<Response> {
        self.checked(request.send().await?)
    }

    /// An answer of it that was fetched elsewhere.
    ///
    /// # Errors
    /// When a password is in it.
    pub fn checked(&self, response: Response) -> Result<Response> {
        match secrets::find(&self.secrets, &response.text) {
            Some(line) => bail!("{} tells a password: {line}", self.process.name()),
            None => Ok(response),
        }
    }

    /// Scrapes `/metrics` as Prometheus does, with a timeout in the header, and parses the page strictly.
    ///
    /// # Errors
    /// When the answer is not 200, the page is not clean, or a password is in it.
    pub async fn scrape(&self, timeout_seconds: f64) -> Result<exposition::Page> {
        let request = Request::new(::http::Method::GET, self.url("/metrics"))
            .header("X-Prometheus-Scrape-Timeout-Seconds", timeout_seconds.to_string())
            .timeout(Duration::from_secs_f64(timeout_seconds));
        let response = self.send(request).await?;
        anyhow::ensure!(response.status == 200, "status {}: {}", response.status, response.text);
        exposition::parse::page(&response.text)
            .with_context(|| format!("parsing the page\n{}", response.text))
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // A failure to end it is nothing to do about: its folder goes anyway.
        let _ = self.process.stop();
        let log = self.process.log();
        if let Some(line) = secrets::find(&self.secrets, &log)
            && !thread::panicking()
        {
            panic!("{} logs a password: {line}", self.process.name());
        }
    }
}
