//! Redis and Valkey servers of their own for a test: standalone, replica, cluster, and watched by sentinels.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;

use crate::{
    free_port,
    process::Process,
    servers::{self, Installed},
    user,
};

const START_LIMIT: Duration = Duration::from_secs(30);
const PORT_ATTEMPTS: u32 = 5;
/// The cluster bus listens on the port plus this.
const BUS_OFFSET: u16 = 10_000;

/// Which binaries to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// Redis 6.2.
    Redis62,
    /// Redis 7.0, Debian 12's.
    #[default]
    Redis70,
    /// Redis Stack 7.4.
    Redis74,
    /// Redis 8.2.
    Redis82,
    /// Redis 8.6.
    Redis86,
    /// Valkey 9.
    Valkey9,
}

impl Version {
    /// Every version that the tests know, oldest first.
    pub const ALL: [Self; 6] =
        [Self::Redis62, Self::Redis70, Self::Redis74, Self::Redis82, Self::Redis86, Self::Valkey9];

    /// Name in the table of servers, and the binary.
    const fn server(self) -> (&'static str, &'static str) {
        match self {
            Self::Redis62 => ("redis-6.2", "redis-server"),
            Self::Redis70 => ("redis-7.0", "redis-server"),
            Self::Redis74 => ("redis-7.4", "redis-server"),
            Self::Redis82 => ("redis-8.2", "redis-server"),
            Self::Redis86 => ("redis-8.6", "redis-server"),
            Self::Valkey9 => ("valkey-9", "valkey-server"),
        }
    }

    /// Its binaries, and what came with them.
    ///
    /// # Errors
    /// As [`servers::get`].
    pub async fn installed(self) -> Result<Installed> {
        servers::get(self.server().0).await
    }
}

/// What to start.
#[derive(Clone, Debug, Default)]
pub struct RedisBuilder {
    version: Version,
    args: Vec<String>,
    password: Option<String>,
    replica_of: Option<(SocketAddr, Option<String>)>,
    cluster: bool,
    sentinel: Option<String>,
    port: Option<u16>,
    data: Option<PathBuf>,
    log: Option<PathBuf>,
    detached: bool,
}

impl RedisBuilder {
    /// Which binaries to run.
    #[must_use]
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Adds command line arguments, as `--maxmemory 10mb`.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Asks every client for this password.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Replicates another server; the start waits until the first synchronisation is done.
    #[must_use]
    pub fn replica_of(mut self, primary: &Redis) -> Self {
        self.replica_of = Some((primary.addr(), primary.settings.password.clone()));
        self
    }

    /// Runs on this port instead of a free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Keeps its data in this folder instead of in a temporary one.
    #[must_use]
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = Some(folder.into());
        self
    }

    /// Writes its log to this file instead of into the temporary folder.
    #[must_use]
    pub fn log(mut self, file: impl Into<PathBuf>) -> Self {
        self.log = Some(file.into());
        self
    }

    /// Lets it outlive us: see [`Redis::leave`].
    #[must_use]
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// Starts it and waits until it answers PING.
    ///
    /// # Errors
    /// When the binaries cannot be had or the server does not come up; shows the end of its log.
    pub async fn start(self) -> Result<Redis> {
        let installed = self.version.installed().await?;
        let folder = tempfile::Builder::new()
            .prefix("testkit-redis-")
            .tempdir()
            .context("creating a folder for a Redis server")?;
        user::give(folder.path()).context("giving the folder to the account of the server")?;
        let attempts = if self.port.is_some() { 1 } else { PORT_ATTEMPTS };
        let mut server = Redis { process: None, settings: self, installed, port: 0, folder };
        for attempt in 1.. {
            server.port = match server.settings.port {
                Some(port) => port,
                None if server.settings.cluster => free_port_with_bus()?,
                None => free_port().context("looking for a free port")?,
            };
            match server.run().await {
                Ok(()) => break,
                Err(error) if attempt < attempts && format!("{error:#}").contains("in use") => {}
                Err(error) => return Err(error),
            }
        }
        if server.settings.replica_of.is_some() {
            server.wait_for_info("master_link_status:up").await?;
        }
        Ok(server)
    }
}

/// A running server. Dropping it ends the server and removes its data.
#[derive(Debug)]
pub struct Redis {
    // Fields drop in this order: the process ends before its folder goes.
    process: Option<Process>,
    settings: RedisBuilder,
    installed: Installed,
    port: u16,
    folder: TempDir,
}

impl Redis {
    /// Starts the default version with default settings.
    ///
    /// # Errors
    /// As [`RedisBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// A server to configure.
    #[must_use]
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// Its port of 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// `redis://127.0.0.1:PORT`, with the password if it has one.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_at(self.addr())
    }

    /// As [`Redis::url`], by way of another address, say a proxy's.
    #[must_use]
    pub fn url_at(&self, addr: SocketAddr) -> String {
        match &self.settings.password {
            Some(password) => format!("redis://:{password}@{addr}"),
            None => format!("redis://{addr}"),
        }
    }

    /// Its password, if it asks for one.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.settings.password.as_deref()
    }

    /// All it has logged since it was last started.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Its pid; `None` while it is stopped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Sends one command and gives the reply.
    ///
    /// # Errors
    /// When there is no reply within 10 s, and when the reply is an error.
    pub fn command(&self, words: &[&str]) -> Result<Value> {
        let shown = words.first().copied().unwrap_or_default();
        let answer = || -> Result<Value> {
            let mut connection = Connection::open(self.addr())?;
            if let Some(password) = &self.settings.password {
                connection.call(&["AUTH", password])?;
            }
            connection.call(words)
        };
        answer().with_context(|| format!("{shown} at {} {}", self.installed.name, self.addr()))
    }

    /// Makes an ACL user, as `acl_user("exporter", "secret", &["+info", "~*"])`, and gives the URL to log in with.
    ///
    /// # Errors
    /// As [`Redis::command`].
    pub fn acl_user(&self, name: &str, password: &str, rules: &[&str]) -> Result<String> {
        let secret = format!(">{password}");
        let mut words = vec!["ACL", "SETUSER", name, "on", secret.as_str()];
        words.extend(rules);
        self.command(&words)?;
        Ok(format!("redis://{name}:{password}@{}", self.addr()))
    }

    /// Waits until `INFO` contains `text`, as `master_link_status:up`.
    ///
    /// # Errors
    /// When it does not within the time a start may take.
    pub async fn wait_for_info(&mut self, text: &str) -> Result<()> {
        self.wait_for_reply(&["INFO"], text).await
    }

    /// Waits until the reply to a command contains `text`.
    ///
    /// # Errors
    /// When it does not within the time a start may take.
    pub async fn wait_for_reply(&mut self, words: &[&str], text: &str) -> Result<()> {
        let mut process =
            self.process.take().with_context(|| format!("{} is stopped", self.installed.name))?;
        let what = format!("{} to answer {text:?}", words.join(" "));
        let result = process
            .wait_until(&what, START_LIMIT, || {
                let found = self.command(words).is_ok_and(|reply| reply.text().contains(text));
                async move { found.then_some(()) }
            })
            .await;
        self.process = Some(process);
        result
    }

    /// Ends the server and keeps its port for [`Redis::restart`].
    ///
    /// # Errors
    /// When the kernel does not tell how it ended.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop()?;
        }
        Ok(())
    }

    /// Starts it again on the same port, ending it first if it runs.
    ///
    /// # Errors
    /// As [`RedisBuilder::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.run().await
    }

    /// Freezes it: connections stay open and nobody answers.
    ///
    /// # Errors
    /// When it is not running.
    pub fn pause(&mut self) -> Result<()> {
        let name = &self.installed.name;
        self.process.as_mut().with_context(|| format!("{name} is stopped"))?.pause()
    }

    /// Lets it run again.
    ///
    /// # Errors
    /// When it is not running.
    pub fn resume(&mut self) -> Result<()> {
        let name = &self.installed.name;
        self.process.as_mut().with_context(|| format!("{name} is stopped"))?.resume()
    }

    /// Leaves a detached server running and gives its pid.
    #[must_use]
    pub fn leave(mut self) -> Option<u32> {
        self.process.take().map(Process::leave)
    }

    async fn run(&mut self) -> Result<()> {
        let folder = self.folder.path();
        let log = self.settings.log.clone().unwrap_or_else(|| folder.join("log"));
        let (name, binary) = self.settings.version.server();
        let mut builder = self.installed.process(name, binary, log);
        if let Some(conf) = &self.settings.sentinel {
            // A sentinel rewrites its file, so it gets one of its own.
            let path = folder.join("sentinel.conf");
            fs::write(&path, conf).with_context(|| format!("writing {}", path.display()))?;
            user::give(&path).context("giving the sentinel its file")?;
            builder = builder.arg(path).arg("--sentinel");
        }
        let data = self.settings.data.as_deref().unwrap_or(folder);
        builder = builder
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no", "--dir"])
            .arg(data);
        if self.settings.sentinel.is_none() {
            builder = builder.args(["--save", "", "--appendonly", "no"]);
        }
        if self.settings.cluster {
            builder = builder.args(["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"]);
        }
        if let Some(password) = &self.settings.password {
            builder = builder.args(["--requirepass", password]);
        }
        if let Some((primary, password)) = &self.settings.replica_of {
            builder = builder.args(["--replicaof", "127.0.0.1", &primary.port().to_string()]);
            // Do not wait 5 s for more replicas before the first synchronisation.
            builder = builder.args(["--repl-diskless-sync-delay", "0"]);
            if let Some(password) = password {
                builder = builder.args(["--masterauth", password]);
            }
        }
        builder = builder.args(&self.settings.args);
        if self.settings.detached {
            builder = builder.detached();
        }
        self.process = Some(builder.spawn()?);
        self.wait_for_reply(&["PING"], "PONG").await
    }
}

/// Three nodes that share the 16,384 slots of a cluster, without replicas.
#[derive(Debug)]
pub struct RedisCluster {
    /// The nodes, in the order of their slots.
    pub nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts three nodes and waits until each says that the cluster is whole.
    ///
    /// # Errors
    /// As [`RedisBuilder::start`], and when the nodes do not find each other.
    pub async fn start(version: Version) -> Result<Self> {
        const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];
        let mut nodes: Vec<Redis> = Vec::with_capacity(SLOTS.len());
        for (epoch, (first, last)) in SLOTS.into_iter().enumerate() {
            let node = RedisBuilder { version, cluster: true, ..RedisBuilder::default() }.start().await?;
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(epoch + 1).to_string()])?;
            // One by one: ADDSLOTSRANGE came with 7.0.
            let slots: Vec<String> = (first..=last).map(|slot| slot.to_string()).collect();
            let words: Vec<&str> =
                ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
            node.command(&words)?;
            if let Some(known) = nodes.first() {
                node.command(&["CLUSTER", "MEET", "127.0.0.1", &known.port().to_string()])?;
            }
            nodes.push(node);
        }
        for node in &mut nodes {
            node.wait_for_reply(&["CLUSTER", "INFO"], "cluster_known_nodes:3").await?;
            node.wait_for_reply(&["CLUSTER", "INFO"], "cluster_state:ok").await?;
        }
        Ok(Self { nodes })
    }

    /// Starts a replica of one of the nodes and waits until all know it as that.
    ///
    /// # Errors
    /// As [`RedisBuilder::start`], and when it does not find its place.
    pub async fn add_replica(&mut self, of: usize) -> Result<Redis> {
        let master = self.nodes.get(of).context("the cluster has no such node")?;
        let (version, port) = (master.settings.version, master.port().to_string());
        let id = master.command(&["CLUSTER", "MYID"])?.text();
        let mut replica = RedisBuilder { version, cluster: true, ..RedisBuilder::default() }.start().await?;
        replica.command(&["CLUSTER", "MEET", "127.0.0.1", &port])?;
        replica.wait_for_reply(&["CLUSTER", "NODES"], &id).await?;
        replica.wait_for_reply(&["CLUSTER", "INFO"], "cluster_state:ok").await?;
        replica.command(&["CLUSTER", "REPLICATE", &id])?;
        replica.wait_for_info("master_link_status:up").await?;
        for node in &mut self.nodes {
            node.wait_for_reply(&["CLUSTER", "NODES"], &format!("slave {id}")).await?;
        }
        Ok(replica)
    }
}

/// A primary, a replica and three sentinels that watch the primary by the name `mymaster`.
#[derive(Debug)]
pub struct SentinelSetup {
    /// The three sentinels.
    pub sentinels: Vec<Redis>,
    /// The replica.
    pub replica: Redis,
    /// The primary.
    pub primary: Redis,
}

impl SentinelSetup {
    /// Starts everything and waits until each sentinel knows the replica and the other two sentinels.
    ///
    /// # Errors
    /// As [`RedisBuilder::start`], and when they do not find each other.
    pub async fn start(version: Version) -> Result<Self> {
        let primary = Redis::builder().version(version).start().await?;
        let replica = Redis::builder().version(version).replica_of(&primary).start().await?;
        let conf = format!(
            "sentinel monitor mymaster 127.0.0.1 {} 2\nsentinel down-after-milliseconds mymaster 2000\n",
            primary.port()
        );
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let builder = RedisBuilder { version, sentinel: Some(conf.clone()), ..RedisBuilder::default() };
            sentinels.push(builder.start().await?);
        }
        for sentinel in &mut sentinels {
            sentinel.wait_for_info("slaves=1,sentinels=3").await?;
        }
        Ok(Self { sentinels, replica, primary })
    }
}

/// A port that is free together with its cluster bus.
fn free_port_with_bus() -> Result<u16> {
    for _ in 0..200 {
        let port = free_port().context("looking for a free port")?;
        if let Some(bus) = port.checked_add(BUS_OFFSET)
            && TcpListener::bind(("127.0.0.1", bus)).is_ok()
        {
            return Ok(port);
        }
    }
    bail!("found no port that is free together with the one {BUS_OFFSET} above it");
}

/// A reply in the RESP2 protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// No value.
    Nil,
    /// An integer.
    Integer(i64),
    /// A simple or bulk string; bytes that are not UTF-8 are replaced.
    Text(String),
    /// An array.
    Array(Vec<Self>),
}

impl Value {
    /// Its text: an integer's digits, an array's members one a line, nothing for nil.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Nil => String::new(),
            Self::Integer(number) => number.to_string(),
            Self::Text(text) => text.clone(),
            Self::Array(members) => members.iter().map(Self::text).collect::<Vec<_>>().join("\n"),
        }
    }
}

struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    fn open(addr: SocketAddr) -> Result<Self> {
        let limit = Duration::from_secs(10);
        let stream = TcpStream::connect_timeout(&addr, limit).context("connecting")?;
        stream.set_read_timeout(Some(limit)).context("setting the read timeout")?;
        stream.set_write_timeout(Some(limit)).context("setting the write timeout")?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    fn call(&mut self, words: &[&str]) -> Result<Value> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.reader.get_mut().write_all(request.as_bytes()).context("sending")?;
        self.value()
    }

    fn value(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.reader.read_line(&mut line).context("reading the reply")?;
        let line = line.trim_end_matches(['\r', '\n']);
        let mut characters = line.chars();
        let kind = characters.next().ok_or_else(|| anyhow!("the server closed the connection"))?;
        let rest = characters.as_str();
        let number = || rest.parse::<i64>().with_context(|| format!("not a RESP number: {line:?}"));
        Ok(match kind {
            '+' => Value::Text(rest.to_owned()),
            '-' => bail!("the server said {rest}"),
            ':' => Value::Integer(number()?),
            '$' => match usize::try_from(number()?) {
                Err(_) => Value::Nil,
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.reader.read_exact(&mut bytes).context("reading the reply")?;
                    Value::Text(String::from_utf8_lossy(&bytes[..length]).into_owned())
                }
            },
            '*' => match usize::try_from(number()?) {
                Err(_) => Value::Nil,
                Ok(length) => Value::Array((0..length).map(|_| self.value()).collect::<Result<_>>()?),
            },
            _ => bail!("not RESP: {line:?}"),
        })
    }
}
