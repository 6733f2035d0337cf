//! Starts the parts of the stack one after the other and waits until each answers.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;
use testkit::{
    http,
    postgres::{EXPORTER, EXPORTER_PASSWORD, Postgres},
    process::{Process, ProcessBuilder, children},
    proxy::FaultProxy,
    redis::Redis,
    servers::{self, Installed, workspace_root},
    user,
};

use super::{
    alertmanager,
    drill::Drill,
    log_path, port, prometheus,
    state::{Identity, PartState, State},
};
use tokio_postgres::Client;

use crate::{progress::step, traffic::history};

const START_LIMIT: Duration = Duration::from_secs(60);
/// Prometheus spreads first scrapes over its interval of 15 s; a slow machine gets a few more.
const SCRAPE_LIMIT: Duration = Duration::from_secs(90);

/// The role and database of the backend, and the role of the business exporter: passwords of a development stack
/// that listens on this machine only.
pub(crate) const OWNER: &str = "autodealgenie";
const READER: &str = "business";

/// Programs of this workspace.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) backend: PathBuf,
    pub(crate) pg_exporter: PathBuf,
    pub(crate) redis_exporter: PathBuf,
    pub(crate) business_exporter: PathBuf,
    /// For the traffic. The build may have replaced the file of the program that runs now.
    pub(crate) xtask: PathBuf,
}

/// What holds a part: dropping it ends the part.
enum Guard {
    Process(Process),
    Postgres(Box<Postgres>),
    Redis(Box<Redis>),
}

impl Guard {
    fn leave(self) {
        match self {
            Self::Process(process) => drop(process.leave()),
            Self::Postgres(postgres) => drop(postgres.leave()),
            Self::Redis(redis) => drop(redis.leave()),
        }
    }
}

/// How a part that speaks HTTP is started.
#[derive(Clone)]
struct Served {
    name: String,
    job: Option<String>,
    builder: ProcessBuilder,
    port: u16,
    path: String,
}

/// Connections of the backend in a drill: when PostgreSQL answers late, many requests wait for it.
const DRILL_POOL: &str = "40";

/// A stack being started or running.
pub(crate) struct Stack {
    folder: PathBuf,
    detach: bool,
    drill: Option<Drill>,
    guards: Vec<Guard>,
    served: Vec<Served>,
    /// In a drill, the backend's way to PostgreSQL.
    pub(crate) way: Option<FaultProxy>,
    pub(crate) state: State,
}

impl Drop for Stack {
    fn drop(&mut self) {
        // The last started goes first: nobody loses what it depends on before it ends.
        while let Some(guard) = self.guards.pop() {
            drop(guard);
        }
    }
}

impl Stack {
    pub(crate) fn new(folder: PathBuf, detach: bool) -> Self {
        let runner = if detach { None } else { Identity::of(std::process::id()) };
        Self {
            folder,
            detach,
            drill: None,
            guards: Vec::new(),
            served: Vec::new(),
            way: None,
            state: State { runner, parts: Vec::new() },
        }
    }

    /// Makes it a drill.
    pub(crate) fn drill(mut self, drill: Drill) -> Self {
        self.drill = Some(drill);
        self
    }

    /// Starts everything but the traffic, and waits until Prometheus has scraped every target.
    pub(crate) async fn start(&mut self, programs: &Programs, rate: f64, history: Option<u32>) -> Result<()> {
        let (postgres, monitoring) = step("find or fetch the servers", async {
            let postgres = servers::default_postgres().await?;
            servers::get("redis-7.0").await?;
            anyhow::Ok((postgres, servers::get("monitoring").await?))
        })
        .await?;

        let database = step("start postgresql", self.postgres(&postgres)).await?;
        let redis = step("start redis", self.redis()).await?;
        let backend = port(8000)?;
        let backend_url = format!("http://127.0.0.1:{backend}");
        let mut way = database.clone();
        let mut builder = self
            .program("autodealgenie-backend", &programs.backend)
            .args(["--listen", &format!("127.0.0.1:{backend}")])
            .env("REDIS_URL", &redis);
        if let Some(drill) = &self.drill {
            let proxy = FaultProxy::start(database.parse().context("the address of PostgreSQL")?)?;
            way = proxy.addr().to_string();
            self.way = Some(proxy);
            builder = builder.args(["--pool-size", DRILL_POOL]);
            if let Some(extras) = &drill.extras {
                builder = builder.args(["--llm-url", &extras.model, "--vehicle-data-url", &extras.listings]);
            }
        }
        let builder = builder.env("DATABASE_URL", format!("postgresql://{OWNER}:{OWNER}@{way}/{OWNER}"));
        self.serve("autodealgenie-backend", Some("autodealgenie-backend"), builder, backend, "/health")
            .await?;

        if let Some(days) = history {
            // The backend has made its tables by now, and the ledger is not there yet.
            history::rows(&self.owner().await?, days).await?;
        }

        let at = port(9187)?;
        // Off by default as in postgres_exporter, and read by alerts. The password is in no command line.
        let builder = self
            .program("pg-exporter", &programs.pg_exporter)
            .args([
                "--collector.stat_statements",
                "--collector.database_wraparound",
                "--collector.postmaster",
            ])
            .env("DATA_SOURCE_URI", format!("{database}/{OWNER}?sslmode=disable"))
            .env("DATA_SOURCE_USER", EXPORTER)
            .env("DATA_SOURCE_PASS", EXPORTER_PASSWORD);
        self.exporter("pg-exporter", "postgres", builder, at).await?;

        let at = port(9121)?;
        let builder = self.program("redis-exporter", &programs.redis_exporter).args(["--url", &redis]);
        self.exporter("redis-exporter", "redis", builder, at).await?;

        let at = port(9188)?;
        let config = workspace_root()?.join("exporters/business-exporter/config/autodealgenie.yml");
        step("install the ledger", self.install_ledger(&programs.business_exporter, &config)).await?;
        let builder =
            self.program("business-exporter", &programs.business_exporter).arg("--config").arg(config).env(
                "DATABASE_URL",
                format!("postgresql://{READER}:{READER}@{database}/{OWNER}?sslmode=disable"),
            );
        self.exporter("business-exporter", "business", builder, at).await?;

        let at = port(9100)?;
        let builder = monitoring
            .process("node-exporter", "prometheus-node-exporter", log_path(&self.folder, "node-exporter"))
            .arg(format!("--web.listen-address=127.0.0.1:{at}"));
        self.serve("node-exporter", Some("node"), builder, at, "/metrics").await?;

        self.alertmanager(&monitoring).await?;
        if rate > 0.0 {
            let builder = self.program("traffic", &programs.xtask).args(["traffic", "--url", &backend_url]);
            let builder = builder.args(["--rate", &rate.to_string()]);
            self.keep("traffic", None, backend_url, builder.spawn_as(self.detach)?)?;
        }
        let prometheus = self.prometheus(&monitoring, history).await?;
        self.wait_for_targets(&prometheus).await
    }

    /// Leaves everything running.
    pub(crate) fn leave(mut self) {
        self.guards.drain(..).for_each(Guard::leave);
    }

    /// Its PostgreSQL.
    pub(crate) fn database(&mut self) -> Result<&mut Postgres> {
        let server = self.guards.iter_mut().find_map(|guard| match guard {
            Guard::Postgres(server) => Some(server.as_mut()),
            _ => None,
        });
        server.context("PostgreSQL does not run")
    }

    /// Its Redis.
    pub(crate) fn cache(&mut self) -> Result<&mut Redis> {
        let server = self.guards.iter_mut().find_map(|guard| match guard {
            Guard::Redis(server) => Some(server.as_mut()),
            _ => None,
        });
        server.context("Redis does not run")
    }

    /// The process of a part that was started as one, with its children.
    pub(crate) fn processes(&self, name: &str) -> Result<Vec<u32>> {
        let part = self.state.parts.iter().find(|part| part.name == name);
        let pid = part.with_context(|| format!("the stack has no {name}"))?.process.pid;
        Ok(children(pid).into_iter().chain([pid]).collect())
    }

    /// Ends a part that was started as a process.
    pub(crate) async fn stop(&self, name: &str, signal: Signal) -> Result<()> {
        let part = self.state.parts.iter().find(|part| part.name == name);
        part.with_context(|| format!("the stack has no {name}"))?.process.end(signal).await
    }

    /// Starts a part again that was stopped.
    pub(crate) async fn restart(&mut self, name: &str) -> Result<()> {
        let served = self.served.iter().find(|served| served.name == name);
        let Served { name, job, builder, port, path } =
            served.with_context(|| format!("the stack serves no {name}"))?.clone();
        self.guards.retain(|guard| !matches!(guard, Guard::Process(process) if process.name() == name));
        self.state.parts.retain(|part| part.name != name);
        self.serve(&name, job.as_deref(), builder, port, &path).await
    }

    /// Lets Prometheus scrape other targets of a job too.
    pub(crate) fn add_targets(&self, job: &str, addresses: &[String]) -> Result<()> {
        let part = self.state.parts.iter().find(|part| part.job.as_deref() == Some(job));
        let first = part.and_then(|part| part.url.strip_prefix("http://")).unwrap_or_default().to_owned();
        let folder = self.folder.join("prometheus/targets");
        let addresses: Vec<&str> = [&first].into_iter().chain(addresses).map(String::as_str).collect();
        prometheus::write_targets(&folder, job, &addresses)
    }

    /// The first part that has ended, with the end of its log.
    pub(crate) fn ended(&self) -> Option<anyhow::Error> {
        let part = self.state.parts.iter().find(|part| !part.process.alive())?;
        Some(anyhow!(
            "{} has ended; its log {} ends with:\n{}",
            part.name,
            part.log.display(),
            tail(&part.log)
        ))
    }

    fn program(&self, name: &str, program: &Path) -> ProcessBuilder {
        Process::builder(name, program, log_path(&self.folder, name))
    }

    fn data(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join("data").join(name);
        user::make_folder(&folder).with_context(|| format!("creating {}", folder.display()))?;
        Ok(folder)
    }

    /// Starts PostgreSQL with the roles and the database of the stack, and gives its address.
    async fn postgres(&mut self, installed: &Installed) -> Result<String> {
        let parent = self.folder.join("data");
        std::fs::create_dir_all(&parent).with_context(|| format!("creating {}", parent.display()))?;
        let log = log_path(&self.folder, "postgresql");
        let mut builder = Postgres::builder()
            // Named after the release: another one cannot read the files.
            .data(parent.join(&installed.name))
            .log(&log)
            .port(port(5432)?)
            .preload("pg_stat_statements");
        if self.detach {
            builder = builder.detached();
        }
        let server = builder.start().await?;
        prepare_database(&server).await?;
        let address = server.addr().to_string();
        let pid = server.pid().context("PostgreSQL has no process")?;
        self.guards.push(Guard::Postgres(Box::new(server)));
        self.note("postgresql", None, format!("postgresql://{address}/{OWNER}"), pid, log, true)?;
        Ok(address)
    }

    /// Has the events of the business exporter's definition counted, as the owner of the tables.
    async fn install_ledger(&mut self, program: &Path, config: &Path) -> Result<()> {
        let mut ddl = Command::new(program);
        ddl.arg("--config").arg(config).args(["ddl", "--install", "--grants", READER]);
        let output = ddl.output().with_context(|| format!("running {}", program.display()))?;
        ensure!(
            output.status.success(),
            "{ddl:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let sql = String::from_utf8(output.stdout).context("the SQL is not UTF-8")?;
        self.owner().await?.batch_execute(&sql).await.context("installing the ledger")
    }

    /// A connection to the database as its owner.
    pub(crate) async fn owner(&mut self) -> Result<Client> {
        self.database()?.client_as(OWNER, OWNER, OWNER).await
    }

    /// Starts Redis and gives its URL.
    async fn redis(&mut self) -> Result<String> {
        let log = log_path(&self.folder, "redis");
        let mut builder = Redis::builder()
            .data(self.data("redis")?)
            .log(&log)
            .port(port(6379)?)
            // Without a limit there is nothing to compare the use of memory with.
            .args(["--maxmemory", "256mb"]);
        if self.detach {
            builder = builder.detached();
        }
        let server = builder.start().await?;
        let (url, pid) = (server.url(), server.pid().context("Redis has no process")?);
        self.guards.push(Guard::Redis(Box::new(server)));
        self.note("redis", None, url.clone(), pid, log, false)?;
        Ok(url)
    }

    async fn exporter(&mut self, name: &str, job: &str, builder: ProcessBuilder, at: u16) -> Result<()> {
        let builder = builder.args(["--web.listen-address", &format!("127.0.0.1:{at}")]);
        self.serve(name, Some(job), builder, at, "/metrics").await
    }

    async fn alertmanager(&mut self, installed: &Installed) -> Result<()> {
        let (at, data) = (port(9093)?, self.data("alertmanager")?);
        let config = alertmanager::configure(&self.folder.join("alertmanager"), self.drill.as_ref())?;
        let builder = installed
            .process("alertmanager", "prometheus-alertmanager", log_path(&self.folder, "alertmanager"))
            .current_dir(installed.root.join("usr/share/prometheus/alertmanager"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{at}"))
            // One node: no gossip.
            .arg("--cluster.listen-address=");
        self.serve("alertmanager", Some("alertmanager"), builder, at, "/-/ready").await
    }

    /// Starts Prometheus with every other part as target, and gives its URL.
    async fn prometheus(&mut self, installed: &Installed, history: Option<u32>) -> Result<String> {
        let (at, data) = (port(9090)?, self.data("prometheus")?);
        let mut targets: Vec<(String, String)> = self
            .state
            .parts
            .iter()
            .filter_map(|part| Some((part.job.clone()?, part.url.strip_prefix("http://")?.to_owned())))
            .collect();
        targets.push(("prometheus".to_owned(), format!("127.0.0.1:{at}")));
        if let Some(days) = history {
            let instances = targets.iter().cloned().collect();
            let (client, scratch) = (self.owner().await?, self.data("history")?);
            history::blocks(&client, days, &instances, installed, &scratch, &data).await?;
        }
        let config = prometheus::configure(&self.folder.join("prometheus"), &targets, self.drill.as_ref())?;
        let mut builder = installed
            .process("prometheus", "prometheus", log_path(&self.folder, "prometheus"))
            .current_dir(installed.root.join("usr/share/prometheus/web"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .args(["--storage.tsdb.retention.time=30d", "--storage.tsdb.retention.size=10GB"])
            .arg("--enable-feature=exemplar-storage")
            .arg(format!("--web.listen-address=127.0.0.1:{at}"))
            .env("ENVIRONMENT", "development")
            .env("REPLICA", "a");
        if let Some(drill) = &self.drill {
            builder = builder.arg(format!("--rules.alert.resend-delay={}", drill.shortened(60)));
        }
        self.serve("prometheus", Some("prometheus"), builder, at, "/-/ready").await?;
        Ok(format!("http://127.0.0.1:{at}"))
    }

    /// Starts a part that speaks HTTP on the port `at` and waits until it answers `path` with 200.
    async fn serve(
        &mut self,
        name: &str,
        job: Option<&str>,
        builder: ProcessBuilder,
        at: u16,
        path: &str,
    ) -> Result<()> {
        let url = format!("http://127.0.0.1:{at}");
        let page = format!("{url}{path}");
        self.served.retain(|served| served.name != name);
        self.served.push(Served {
            name: name.to_owned(),
            job: job.map(str::to_owned),
            builder: builder.clone(),
            port: at,
            path: path.to_owned(),
        });
        let mut process = builder.spawn_as(self.detach)?;
        step(&format!("start {name}"), async {
            let answers = || async { http::get(&page).await.ok().filter(|answer| answer.status == 200) };
            process.wait_until(&format!("{page} to answer 200"), START_LIMIT, answers).await
        })
        .await?;
        self.keep(name, job, url, process)
    }

    fn keep(&mut self, name: &str, job: Option<&str>, url: String, process: Process) -> Result<()> {
        let (pid, log) = (process.pid(), process.log_path().to_owned());
        self.guards.push(Guard::Process(process));
        self.note(name, job, url, pid, log, false)
    }

    /// Adds a part to the state. Written at once: `down` finds it even when we are killed.
    fn note(
        &mut self,
        name: &str,
        job: Option<&str>,
        url: String,
        pid: u32,
        log: PathBuf,
        interrupt: bool,
    ) -> Result<()> {
        let process = Identity::of(pid).with_context(|| format!("{name} ended; its log:\n{}", tail(&log)))?;
        let part =
            PartState { name: name.to_owned(), job: job.map(str::to_owned), url, process, log, interrupt };
        self.state.parts.push(part);
        self.state.write(&self.folder)
    }

    async fn wait_for_targets(&self, url: &str) -> Result<()> {
        let wanted: Vec<&PartState> = self.state.parts.iter().filter(|part| part.job.is_some()).collect();
        let what = format!("wait until Prometheus has scraped all {} targets", wanted.len());
        step(&what, async {
            let deadline = tokio::time::Instant::now() + SCRAPE_LIMIT;
            loop {
                let targets = prometheus::targets(url).await?;
                let health =
                    |part: &PartState| targets.iter().find(|target| Some(&target.job) == part.job.as_ref());
                let missing: Vec<_> = wanted
                    .iter()
                    .filter(|part| health(part).is_none_or(|target| target.health != "up"))
                    .collect();
                if missing.is_empty() {
                    return Ok(());
                }
                if let Some(error) = self.ended() {
                    return Err(error);
                }
                if tokio::time::Instant::now() >= deadline {
                    let words = missing.iter().map(|part| {
                        let error =
                            health(part).map_or("not discovered", |target| target.last_error.as_str());
                        format!("{}: {error}; its log ends with:\n{}", part.name, tail(&part.log))
                    });
                    bail!("not up after {SCRAPE_LIMIT:?}: {}", words.collect::<Vec<_>>().join("\n"));
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        })
        .await
    }
}

trait SpawnAs {
    fn spawn_as(self, detached: bool) -> Result<Process>;
}

impl SpawnAs for ProcessBuilder {
    fn spawn_as(self, detached: bool) -> Result<Process> {
        if detached { self.detached().spawn() } else { self.spawn() }
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text =
        std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Makes the roles and the database, unless an earlier `up` did.
async fn prepare_database(server: &Postgres) -> Result<()> {
    for role in [OWNER, READER] {
        if server.psql(&format!("SELECT 1 FROM pg_roles WHERE rolname = '{role}'")).await?.is_none() {
            server.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD '{role}'")).await?;
        }
    }
    if server.psql(&format!("SELECT 1 FROM pg_database WHERE datname = '{OWNER}'")).await?.is_none() {
        server.sql(&format!("CREATE DATABASE {OWNER} OWNER {OWNER}")).await?;
    }
    let client = server.client_as("postgres", "", OWNER).await?;
    client
        .batch_execute(&format!(
            "GRANT CREATE, USAGE ON SCHEMA public TO {OWNER};
             ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public GRANT SELECT ON TABLES TO {READER};
             GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER};
             CREATE EXTENSION IF NOT EXISTS pg_stat_statements;"
        ))
        .await
        .context("preparing the database")
}
