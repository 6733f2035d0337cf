//! `cargo xtask compose-test`: docker-compose.yml for real, on an engine of its own. Published images have stand-ins of the
//! same programs (Debian's packages), the programs of this repository are built here and put into the Dockerfile's images.

mod checks;
mod engine;
mod images;
mod overlays;

use std::{
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;
use serde_json::Value;
use testkit::servers::workspace_root;
use tokio::time::Instant;

use self::engine::Engine;
use crate::{
    progress::{say, step},
    secrets,
};

/// Run docker-compose.yml on a Docker engine of its own and check that it holds what it promises
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave the engine and the stack running until Ctrl-C, also when a check fails
    #[arg(long)]
    keep: bool,
    /// One part only [default: both]
    #[arg(long, value_enum)]
    part: Option<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// docker-compose.yml
    Base,
    /// docker/*.yml on top of it
    Overlays,
}

/// How long services may take to become healthy, and scrapes to arrive.
const LIMIT: Duration = Duration::from_secs(180);

pub(crate) async fn run(args: &Args) -> Result<()> {
    if !Uid::effective().is_root() {
        bail!("a Docker engine needs root: run `cargo xtask compose-test` as root");
    }
    let engine = step("start a Docker engine", Engine::start()).await?;
    let stand_ins = images::prepare(&engine).await?;
    let mut project = Project::new(engine, stand_ins)?;
    project.down()?;
    let checked = check(&mut project, args.part).await;
    if args.keep {
        say(&format!("DOCKER_HOST=unix://{}/docker.sock; Ctrl-C ends it", project.engine.folder().display()));
        tokio::signal::ctrl_c().await.context("waiting for Ctrl-C")?;
    } else if checked.is_err() {
        // What the services said is gone with them.
        let logs = project.engine.folder().join("services.log");
        let said = project.compose(&["logs", "--no-color", "--timestamps"])?;
        std::fs::write(&logs, said).with_context(|| format!("writing {}", logs.display()))?;
        say(&format!("the services' logs are in {}", logs.display()));
    }
    project.down()?;
    project.engine.stop().await?;
    checked
}

async fn check(project: &mut Project, part: Option<Part>) -> Result<()> {
    if part != Some(Part::Overlays) {
        checks::run(project).await?;
    }
    if part != Some(Part::Base) {
        overlays::run(project).await?;
    }
    Ok(())
}

/// The project of docker-compose.yml on the engine.
struct Project {
    engine: Engine,
    root: PathBuf,
    secrets: PathBuf,
    /// The file that replaces images, and overlays.
    files: Vec<PathBuf>,
    /// How the port of Prometheus is spoken to: scheme, and what curl is told.
    web: (&'static str, Vec<String>),
    port: u16,
}

impl Project {
    fn new(engine: Engine, stand_ins: PathBuf) -> Result<Self> {
        let secrets = engine::fresh(engine.folder(), "secrets")?;
        secrets::make(&secrets, false)?;
        let root = workspace_root()?;
        let files = vec![root.join("docker-compose.yml"), stand_ins];
        Ok(Self { engine, root, secrets, files, web: ("http", Vec::new()), port: 9090 })
    }

    /// Adds an overlay.
    fn overlay(&mut self, name: &str) -> Result<()> {
        self.files.push(self.root.join(format!("docker/{name}.yml")));
        self.files.push(images::of_overlay(self.engine.folder(), name)?);
        Ok(())
    }

    fn without_overlays(&mut self) {
        self.files.truncate(2);
        self.web = ("http", Vec::new());
        self.port = 9090;
    }

    /// `docker compose` with these words.
    fn compose(&self, words: &[&str]) -> Result<String> {
        engine::run(&mut self.compose_command(words)?)
    }

    fn compose_command(&self, words: &[&str]) -> Result<std::process::Command> {
        let mut command = self.engine.command(&["docker", "compose"])?;
        for file in &self.files {
            command.arg("--file").arg(file);
        }
        command.arg("--project-directory").arg(&self.root).args(words).env("SECRETS", &self.secrets);
        Ok(command)
    }

    /// Runs a command in a service's container, whatever comes of it.
    fn exec(&self, service: &str, words: &[&str]) -> Result<Output> {
        let mut command = self.compose_command(&[&["exec", "-T", service], words].concat())?;
        command.output().with_context(|| format!("running {} in {service}", words.join(" ")))
    }

    /// Ends everything and removes its data.
    fn down(&self) -> Result<()> {
        self.compose(&["--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "20"])
            .map(drop)
    }

    /// Starts what does not run and waits until all of it is healthy.
    fn up(&self, words: &[&str]) -> Result<()> {
        let wait = LIMIT.as_secs().to_string();
        self.compose(&[&["up", "--detach", "--wait", "--wait-timeout", &wait], words].concat()).map(drop)
    }

    /// Ids of the containers.
    fn containers(&self) -> Result<Vec<String>> {
        Ok(self.compose(&["ps", "--all", "--quiet"])?.split_whitespace().map(str::to_owned).collect())
    }

    /// What the published port of Prometheus answers to a query.
    fn query(&self, query: &str) -> Result<Vec<Value>> {
        let (scheme, options) = &self.web;
        let (encoded, url) =
            (format!("query={query}"), format!("{scheme}://localhost:{}/api/v1/query", self.port));
        // -q: what would be in somebody's home.
        let mut words = vec!["curl", "-q", "--silent", "--show-error", "--fail-with-body"];
        words.extend(options.iter().map(String::as_str));
        words.extend(["--data-urlencode", &encoded, &url]);
        let answer = self.engine.run(&words)?;
        let mut answer: Value = serde_json::from_str(&answer).context("Prometheus' answer")?;
        match answer["data"]["result"].take() {
            Value::Array(samples) => Ok(samples),
            _ => bail!("Prometheus says to {query}: {answer}"),
        }
    }

    /// The only value of a query; `None` when there is none.
    fn value(&self, query: &str) -> Result<Option<f64>> {
        let samples = self.query(query)?;
        let value = samples.first().and_then(|sample| sample["value"][1].as_str()?.parse().ok());
        Ok(value)
    }

    /// Waits until the value of a query is as wanted.
    async fn wait_for(&self, query: &str, wanted: impl Fn(f64) -> bool) -> Result<f64> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let value = self.value(query)?;
            match value {
                Some(value) if wanted(value) => return Ok(value),
                value if Instant::now() >= deadline => bail!("{query} is {value:?} after {LIMIT:?}"),
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// The only column of the only row of a query, as superuser.
    fn sql(&self, query: &str) -> Result<String> {
        let output = self.psql("postgres", query)?;
        if !output.status.success() {
            bail!("{query}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// A statement in a role of the database.
    fn psql(&self, role: &str, statement: &str) -> Result<Output> {
        let words =
            ["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-U", role, "-d", "autodealgenie", "-c", statement];
        self.exec("postgres", &words)
    }

    fn secret(&self, name: &str) -> Result<String> {
        let path = self.secrets.join(name);
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(&self.root).join(name)
    }
}
