//! A Docker engine of our own: its binaries are unpacked, not installed; its socket, data and log are in one folder; its
//! network, mounts and processes are in namespaces that end with it. So the standard ports are free there, no other engine
//! is touched, and nothing is left when it ends.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use testkit::{
    process::{Process, children},
    servers::{self, Installed, private_dir},
};

/// What runs first in the namespaces: the engine sees the machine's files, and mounts of its own stay its own.
const START: &str = "mount --make-rshared / && mount -t tmpfs tmpfs /run && ip link set lo up && exec \"$@\"";

/// The running engine. Dropping it ends it with every container.
pub(super) struct Engine {
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
    process: Process,
}

impl Engine {
    /// Starts it. Images of an earlier run are still there.
    pub(super) async fn start() -> Result<Self> {
        let engine = servers::get("docker-engine").await?;
        let tools = servers::get("docker-tools").await?;
        let compose = servers::get("compose").await?;
        let folder = private_dir("docker")?;
        let environment = environment(&folder, &engine, &tools, &compose)?;
        let at = |name: &str| folder.join(name).display().to_string();
        let mut builder = Process::builder("dockerd", "unshare", folder.join("dockerd.log"))
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            // The first process of a namespace has to wait for the orphans of containers.
            .arg("--")
            .arg(tools.binary("bin/tini-static"))
            .args(["--", "sh", "-c", START, "sh", "dockerd"])
            .args(["--data-root", &at("data"), "--exec-root", "/run/docker"])
            .args(["--pidfile", "/run/docker.pid", "--host", &format!("unix://{}", at("docker.sock"))]);
        for (name, value) in &environment {
            builder = builder.env(name, value);
        }
        let mut process = builder.spawn()?;
        process.wait_for_log("API listen on", Duration::from_secs(60)).await?;
        Ok(Self { folder, environment, process })
    }

    /// The folder that is ours.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A program with this engine as Docker's, in its network.
    pub(super) fn command(&self, words: &[&str]) -> Result<Command> {
        let init = children(self.process.pid()).first().copied().context("the engine has ended")?;
        let target = format!("--target={init}");
        Ok(self.outside(&[&["nsenter", "--net", &target, "--"], words].concat()))
    }

    /// A program with this engine as Docker's, in the network of everybody: the engine's has no way out.
    pub(super) fn outside(&self, words: &[&str]) -> Command {
        let (program, arguments) = words.split_first().unwrap_or((&"true", &[]));
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// What a program says; an error when it fails.
    pub(super) fn run(&self, words: &[&str]) -> Result<String> {
        run(&mut self.command(words)?)
    }

    /// How a program ends, whatever it says.
    pub(super) fn output(&self, words: &[&str]) -> Result<Output> {
        self.command(words)?.output().with_context(|| format!("running {}", words.join(" ")))
    }

    /// Ends it in order.
    pub(super) async fn stop(mut self) -> Result<()> {
        use nix::{
            sys::signal::{Signal, kill},
            unistd::Pid,
        };
        // `unshare` itself ignores signals.
        for child in children(self.process.pid()) {
            let pid = Pid::from_raw(i32::try_from(child).context("a pid")?);
            kill(pid, Signal::SIGTERM).context("ending the engine")?;
        }
        self.process.wait_for_exit(Duration::from_secs(60)).await.map(drop)
    }
}

/// Runs a command to its end and gives what it wrote to stdout.
pub(super) fn run(command: &mut Command) -> Result<String> {
    // Without the environment, which is long.
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let shown = words.join(" ");
    let output = command.output().with_context(|| format!("running {shown}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` ended with {}:\n{said}{errors}", output.status);
    }
    Ok(said)
}

/// The variables that the engine and its clients need.
fn environment(
    folder: &Path,
    engine: &Installed,
    tools: &Installed,
    compose: &Installed,
) -> Result<Vec<(&'static str, String)>> {
    let bin = fresh(folder, "bin")?;
    for name in
        ["iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"]
    {
        link(&tools.binary("sbin/xtables-legacy-multi"), &bin.join(name))?;
    }
    link(&tools.binary("bin/tini-static"), &bin.join("docker-init"))?;
    let plugins = fresh(folder, "client/cli-plugins")?;
    link(&compose.binary("docker-compose"), &plugins.join("docker-compose"))?;
    link(&engine.binary("libexec/docker/cli-plugins/docker-buildx"), &plugins.join("docker-buildx"))?;
    let mut path = vec![bin];
    for installed in [engine, tools] {
        path.extend(["sbin", "bin"].map(|name| installed.binary(name)));
    }
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let path = env::join_paths(path).context("joining PATH")?;
    let libraries =
        tools.env().map(|(_, folders)| folders.to_string_lossy().into_owned()).unwrap_or_default();
    let xtables = libraries
        .split(':')
        .map(|folder| format!("{folder}/xtables"))
        .find(|folder| Path::new(folder).exists());
    Ok(vec![
        ("PATH", path.to_string_lossy().into_owned()),
        ("LD_LIBRARY_PATH", libraries),
        ("XTABLES_LIBDIR", xtables.context("iptables came without its modules")?),
        ("DOCKER_HOST", format!("unix://{}", folder.join("docker.sock").display())),
        ("DOCKER_CONFIG", folder.join("client").display().to_string()),
        ("DEBOOTSTRAP_DIR", tools.root.join("usr/share/debootstrap").display().to_string()),
    ])
}

/// An empty folder.
pub(super) fn fresh(parent: &Path, name: &str) -> Result<PathBuf> {
    let folder = parent.join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    Ok(folder)
}

fn link(to: &Path, at: &Path) -> Result<()> {
    symlink(to, at).with_context(|| format!("linking {}", at.display()))
}
