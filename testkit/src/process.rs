//! A child process with its own log file: waits for conditions with a deadline, shows the end of the log when
//! something goes wrong, is ended on drop and dies with us.
//!
//! The child is started through util-linux' `setpriv`, which sets the parent death signal and drops root. The
//! kernel sends that signal when the *thread* that forked ends, so all children are started from one thread
//! that lives as long as the process.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{secrets, user::Account};

/// How often a condition is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(10);
/// How many lines of the log an error shows.
const LOG_LINES: usize = 30;

type Job = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts `command` from the thread that lives as long as the process.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, reply) in queue {
                // The receiver waits below, so this fails only when its thread was torn down with the process.
                let _ = reply.send(command.spawn());
            }
        });
        jobs
    });
    let (reply, answer) = mpsc::channel();
    let gone = || io::Error::other("the thread that starts processes is gone");
    spawner.send((command, reply)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

/// What to start and how.
#[derive(Clone, Debug)]
pub struct ProcessBuilder {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    log: PathBuf,
    folder: Option<PathBuf>,
    stop_signal: Signal,
    grace: Duration,
    unprivileged: bool,
    detached: bool,
}

impl ProcessBuilder {
    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts it in this folder.
    #[must_use]
    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// The signal that asks it to end: SIGTERM unless said otherwise.
    #[must_use]
    pub fn stop_signal(mut self, signal: Signal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// How long it may take to end before it is killed: 5 s unless said otherwise.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Runs it as the unprivileged account when we are root.
    #[must_use]
    pub fn unprivileged(mut self) -> Self {
        self.unprivileged = true;
        self
    }

    /// Lets it outlive us, in a session of its own. Dropping the guard still ends it: see [`Process::leave`].
    #[must_use]
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// The passwords it is given.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let environment = self.env.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        secrets::given(self.args.iter().map(OsString::as_os_str), environment)
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the log cannot be created or the program cannot be started.
    pub fn spawn(self) -> Result<Process> {
        if let Some(folder) = self.log.parent() {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let log =
            File::create(&self.log).with_context(|| format!("creating the log {}", self.log.display()))?;
        let errors = log.try_clone().context("sharing the log between stdout and stderr")?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = spawn_from_lasting_thread(command).with_context(|| {
            format!("starting {} ({}, through setpriv of util-linux)", self.name, self.program.display())
        })?;
        Ok(Process { settings: self, child: Some(child), exited: None })
    }

    fn command(&self) -> Command {
        let mut command = if self.detached {
            // setsid keeps the pid: it forks only when it leads a process group already.
            let mut command = Command::new("setsid");
            command.args(["--", "setpriv"]);
            command
        } else {
            let mut command = Command::new("setpriv");
            // Its own group, so that Ctrl-C in a terminal reaches us and we end our children in order.
            command.arg("--pdeathsig=KILL").process_group(0);
            command
        };
        if let Some(account) = Account::unprivileged().filter(|_| self.unprivileged) {
            command.args(account.setpriv_args());
            // The caller's folder may be closed to the account.
            command.current_dir("/");
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        // setpriv wants at least one option, and this one changes nothing.
        command.arg("--inh-caps=-all").arg("--").arg(&self.program).args(&self.args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// A running child process. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    settings: ProcessBuilder,
    child: Option<Child>,
    exited: Option<ExitStatus>,
}

impl Process {
    /// A process called `name` in messages; stdout and stderr go to the file `log`.
    pub fn builder(
        name: impl Into<String>,
        program: impl Into<PathBuf>,
        log: impl Into<PathBuf>,
    ) -> ProcessBuilder {
        ProcessBuilder {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            log: log.into(),
            folder: None,
            stop_signal: Signal::SIGTERM,
            grace: Duration::from_secs(5),
            unprivileged: false,
            detached: false,
        }
    }

    /// Its name in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Its process id, also after it ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// The file that holds its stdout and stderr.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.settings.log
    }

    /// All it has written to stdout and stderr.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.settings.log).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        if self.exited.is_none()
            && let Some(child) = &mut self.child
        {
            self.exited = child.try_wait().with_context(|| format!("waiting for {}", self.settings.name))?;
        }
        Ok(self.exited)
    }

    /// Waits until `condition` gives a value. `what` completes "waiting for …".
    ///
    /// # Errors
    /// When the process ends first or `limit` passes; the error shows the end of the log.
    pub async fn wait_until<T, F, C>(&mut self, what: &str, limit: Duration, mut condition: F) -> Result<T>
    where
        F: FnMut() -> C,
        C: Future<Output = Option<T>>,
    {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(value) = condition().await {
                return Ok(value);
            }
            if let Some(status) = self.exit_status()? {
                return Err(self.failure(&format!("ended with {status} while waiting for {what}")));
            }
            if Instant::now() >= deadline {
                return Err(self.failure(&format!("waited {limit:?} in vain for {what}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until something accepts connections on `address`.
    ///
    /// # Errors
    /// As [`Process::wait_until`].
    pub async fn wait_for_port(&mut self, address: SocketAddr, limit: Duration) -> Result<()> {
        self.wait_until(&format!("{address} to accept connections"), limit, || async move {
            TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok().map(drop)
        })
        .await
    }

    /// Waits until the log has a line that contains `text`, and gives that line.
    ///
    /// # Errors
    /// As [`Process::wait_until`].
    pub async fn wait_for_log(&mut self, text: &str, limit: Duration) -> Result<String> {
        let log = self.settings.log.clone();
        self.wait_until(&format!("a log line with {text:?}"), limit, || {
            let log = fs::read(&log).unwrap_or_default();
            let line =
                String::from_utf8_lossy(&log).lines().find(|line| line.contains(text)).map(str::to_owned);
            async { line }
        })
        .await
    }

    /// Waits until it ended by itself.
    ///
    /// # Errors
    /// When `limit` passes first.
    pub async fn wait_for_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exit_status()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(self.failure(&format!("still runs after {limit:?}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// An error about this process that ends with the last lines of its log.
    #[must_use]
    pub fn failure(&self, what: &str) -> anyhow::Error {
        let Self { settings, .. } = self;
        match self.log_tail() {
            tail if tail.is_empty() => {
                anyhow!("{} {what}; its log {} is empty", settings.name, settings.log.display())
            }
            tail => {
                anyhow!("{} {what}; its log {} ends with:\n{tail}", settings.name, settings.log.display())
            }
        }
    }

    /// Sends a signal to it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.exit_status()?.is_some() {
            bail!("{} has ended, {signal} cannot reach it", self.settings.name);
        }
        let pid = self.raw_pid().context("no process")?;
        kill(pid, signal).with_context(|| format!("sending {signal} to {}", self.settings.name))
    }

    /// Stops it from running (SIGSTOP): its sockets stay open and nobody answers.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it run again (SIGCONT).
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Asks it to end, kills it when it does not within its grace, and says how it ended.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.stop_by(self.settings.stop_signal)
    }

    /// As [`Process::stop`], with another signal.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn stop_by(&mut self, signal: Signal) -> Result<ExitStatus> {
        let deadline = Instant::now() + self.settings.grace;
        if self.exit_status()?.is_none() {
            self.signal(signal)?;
            // A paused process acts on a signal only when it runs again.
            let _ = self.signal(Signal::SIGCONT);
        }
        loop {
            if let Some(status) = self.exit_status()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                self.signal(Signal::SIGKILL)?;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Leaves it running and gives its pid. For processes started with [`ProcessBuilder::detached`].
    #[must_use]
    pub fn leave(mut self) -> u32 {
        self.child.take().map_or(0, |child| child.id())
    }

    fn raw_pid(&self) -> Option<Pid> {
        self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok()).map(Pid::from_raw)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.is_some() {
            // Nothing is left to do about a failure here: the death signal is the net below.
            let _ = self.stop();
        }
    }
}

/// The pids of the direct children of `parent`, from `/proc`.
#[must_use]
pub fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|&pid| Stat::of(pid).is_some_and(|stat| stat.parent == parent))
        .collect()
}

/// What `/proc/PID/stat` tells about a process (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The parent's pid.
    pub parent: u32,
    /// State letter: `R`, `S`, `D`, `T` (stopped), `Z` (ended, not yet waited for), …
    pub state: char,
    /// CPU time of all its threads.
    pub cpu: Duration,
    /// CPU time of its children that ended and that it waited for.
    pub children_cpu: Duration,
    /// When it started, in clock ticks since boot: with the pid it names a process for good.
    pub start_time: u64,
}

/// Length of a tick: `USER_HZ` is 100 wherever Linux runs.
const TICK: Duration = Duration::from_millis(10);

impl Stat {
    /// Reads it; `None` when there is no such process.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the command in parentheses and may itself hold blanks and parentheses.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        // Numbered as in the manual.
        let field = |number: usize| fields.get(number - 3).copied();
        let ticks = |number| field(number)?.parse::<u32>().ok();
        Some(Self {
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            cpu: TICK * (ticks(14)? + ticks(15)?),
            children_cpu: TICK * (ticks(16)? + ticks(17)?),
            start_time: field(22)?.parse().ok()?,
        })
    }
}
