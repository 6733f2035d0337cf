//! Measures exporters side by side on one server, from outside: scrapes on a kept connection, CPU time by the
//! processes' own clocks, round trips by a proxy. They take turns, so that what else the machine does hits all of them alike.

use std::{
    fs,
    net::SocketAddr,
    sync::Barrier,
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use memchr::memmem;
use nix::{time::ClockId, unistd::Pid};
use testkit::{
    process::{Stat, children},
    proxy::{FaultProxy, Mode},
};

use super::{
    programs::{Program, Running},
    report::Figures,
    scraper::Scraper,
};
use crate::progress::step;

/// How long an exporter is scraped before the next one's turn.
const TURN: Duration = Duration::from_millis(500);
/// What a server may still do for a scrape that is answered: ending a session.
const SETTLE: Duration = Duration::from_millis(50);
/// The round-trip time of a server that is far away.
const FAR: Duration = Duration::from_millis(20);
/// Scrapes that are counted by the proxy, and those of a server that is far away: fewer when they take very long.
const COUNTED: u32 = 3;
const FAR_SCRAPES: usize = 15;
const VERY_LONG: Duration = Duration::from_secs(10);
/// Clients that ask at once, and again as soon as they have a page, and how many pages each of them gets.
const CROWD: usize = 16;
const CROWD_SCRAPES: usize = 10;
/// Clients that ask once at the same time, and how often they do. Who would take long for so many scrapes one after the
/// other is not asked.
const AT_ONCE: u32 = 50;
const AT_ONCE_ROUNDS: usize = 3;

/// A server to scrape.
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// The process all of whose children belong to the server.
    pub(super) pid: u32,
    /// The variable in which exporters look for the server.
    pub(super) variable: &'static str,
    /// Its value for the server at an address.
    pub(super) value: Box<dyn Fn(SocketAddr) -> String + Send + Sync>,
    /// A line that is on the page of a scrape that worked.
    pub(super) up: &'static str,
}

/// An exporter with its flags.
pub(super) struct Subject<'a> {
    pub(super) title: &'a str,
    pub(super) program: &'a Program,
    pub(super) args: Vec<&'a str>,
}

impl Subject<'_> {
    async fn start(&self, target: &Target, server: SocketAddr) -> Result<Running> {
        self.program
            .start(&self.args, (target.variable, &(target.value)(server)))
            .await
            .with_context(|| format!("starting {}", self.title))
    }
}

/// What a scrape gave.
struct Scrape {
    time: Duration,
    page: Vec<u8>,
}

/// One scrape, which must have reached the server. Little is done with the page: what is done between two scrapes empties the
/// caches of the exporter and its server.
fn scrape(scraper: &mut Scraper, target: &Target) -> Result<Scrape> {
    let (time, page) = scraper.get("/metrics")?;
    let up = format!("\n{}\n", target.up);
    ensure!(memmem::find(&page, up.as_bytes()).is_some(), "the page does not say {:?}", target.up);
    Ok(Scrape { time, page })
}

/// How many samples a page has.
fn samples(page: &[u8]) -> usize {
    String::from_utf8_lossy(page).lines().filter(|line| !line.starts_with('#')).count()
}

/// CPU time of a process: exact, where `/proc` has ticks of 10 ms, which is longer than a scrape.
fn cpu(pid: u32) -> Duration {
    let clock = i32::try_from(pid).ok().and_then(|pid| ClockId::pid_cpu_clock_id(Pid::from_raw(pid)).ok());
    clock.and_then(|clock| clock.now().ok()).map_or(Duration::ZERO, Duration::from)
}

/// CPU time of the server: its process, the children that run and those that ended.
fn server_cpu(pid: u32) -> Duration {
    let whole = |pid| cpu(pid) + Stat::of(pid).map_or(Duration::ZERO, |stat| stat.children_cpu);
    children(pid).into_iter().map(whole).sum::<Duration>() + whole(pid)
}

/// Resident memory of an exporter, in bytes.
pub(super) struct Memory {
    /// After the scrapes that were timed.
    pub(super) resident: u64,
    /// The most there was, when clients had asked at once after that.
    pub(super) most: u64,
}

/// Bytes of a line of a process's status.
fn memory(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("reading the process's memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let line = line.with_context(|| format!("no {name}"))?;
    Ok(line
        .trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .with_context(|| format!("{name} is not a number"))?
        * 1024)
}

/// Scrapes with many clients at once.
fn crowd(address: SocketAddr, target: &Target) -> Result<()> {
    let client = || {
        let mut scraper = Scraper::open(address)?;
        let start = Instant::now();
        for _ in (0..CROWD_SCRAPES).take_while(|_| start.elapsed() < VERY_LONG) {
            scrape(&mut scraper, target)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CROWD).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(joined)
    })
}

/// How long many take that ask at the same time, to the last page.
fn at_once(address: SocketAddr, target: &Target) -> Result<Duration> {
    let mut clients = (0..AT_ONCE).map(|_| Scraper::open(address)).collect::<Result<Vec<_>>>()?;
    let start = Barrier::new(clients.len());
    let scrape = |scraper: &mut Scraper| {
        start.wait();
        scrape(scraper, target).map(|scrape| scrape.time)
    };
    let mut rounds = Vec::new();
    for _ in 0..AT_ONCE_ROUNDS {
        let times = thread::scope(|scope| {
            let running: Vec<_> = clients.iter_mut().map(|client| scope.spawn(|| scrape(client))).collect();
            running.into_iter().map(joined).collect::<Result<Vec<_>>>()
        })?;
        rounds.push(times.into_iter().max().unwrap_or_default());
    }
    Ok(super::report::median(rounds))
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a client panicked"))?
}

/// An exporter that is being timed, and the sums so far.
struct Timed {
    running: Running,
    scraper: Scraper,
    times: Vec<Duration>,
    samples: usize,
    exporter_cpu: Duration,
    server_cpu: Duration,
    spent: Duration,
}

impl Timed {
    /// Scrapes for a turn, or once when that takes longer.
    async fn turn(&mut self, target: &Target) -> Result<()> {
        let before = (cpu(self.running.pid()), server_cpu(target.pid), Instant::now());
        let scrapes = || {
            loop {
                let scrape = scrape(&mut self.scraper, target)?;
                self.times.push(scrape.time);
                if before.2.elapsed() >= TURN {
                    return anyhow::Ok(scrape.page);
                }
            }
        };
        // The thread gives its work to others once, not for each scrape.
        let page = tokio::task::block_in_place(scrapes)?;
        self.spent += before.2.elapsed();
        self.samples = samples(&page);
        tokio::time::sleep(SETTLE).await;
        self.exporter_cpu += cpu(self.running.pid()).saturating_sub(before.0);
        self.server_cpu += server_cpu(target.pid).saturating_sub(before.1);
        Ok(())
    }
}

/// Measures each subject for so long.
pub(super) async fn measure(
    target: &Target,
    subjects: &[Subject<'_>],
    time: Duration,
) -> Result<Vec<Figures>> {
    let mut timed = Vec::new();
    for subject in subjects {
        let start = async {
            let running = subject.start(target, target.address).await?;
            let mut scraper = Scraper::open(running.address())?;
            // The first scrape connects, and reads what is read once.
            scrape(&mut scraper, target)?;
            let timed = Timed {
                running,
                scraper,
                times: Vec::new(),
                samples: 0,
                exporter_cpu: Duration::ZERO,
                server_cpu: Duration::ZERO,
                spent: Duration::ZERO,
            };
            anyhow::Ok(timed)
        };
        timed.push(step(&format!("start {}", subject.title), start).await?);
    }
    step(&format!("scrape in turns, {} s each", time.as_secs()), async {
        while timed.iter().any(|timed| timed.spent < time) {
            for timed in timed.iter_mut().filter(|timed| timed.spent < time) {
                timed.turn(target).await?;
            }
        }
        anyhow::Ok(())
    })
    .await?;
    let mut figures = Vec::new();
    for (subject, timed) in subjects.iter().zip(timed) {
        let (pid, address) = (timed.running.pid(), timed.running.address());
        let resident = memory(pid, "VmRSS")?;
        let at_once = if super::report::median(timed.times.clone()) * AT_ONCE < 2 * VERY_LONG {
            let asked = async { tokio::task::block_in_place(|| at_once(address, target)) };
            Some(step(&format!("scrape {} {AT_ONCE} times at once", subject.title), asked).await?)
        } else {
            None
        };
        step(&format!("scrape {} with {CROWD} clients", subject.title), async {
            tokio::task::block_in_place(|| crowd(address, target))
        })
        .await?;
        let memory = Memory { resident, most: memory(pid, "VmHWM")? };
        drop(timed.running);
        let counts = step(&format!("count round trips of {}", subject.title), count(target, subject)).await?;
        figures.push(Figures::new(
            timed.times,
            timed.samples,
            timed.exporter_cpu,
            timed.server_cpu,
            memory,
            counts,
            at_once,
        ));
    }
    Ok(figures)
}

/// What a proxy in front of the server sees.
pub(super) struct Counts {
    pub(super) round_trips: f64,
    pub(super) connections: f64,
    pub(super) far: Duration,
}

async fn count(target: &Target, subject: &Subject<'_>) -> Result<Counts> {
    let proxy = FaultProxy::start(target.address)?;
    let running = subject.start(target, proxy.addr()).await?;
    let mut scraper = Scraper::open(running.address())?;
    scrape(&mut scraper, target)?;
    let before = (proxy.round_trips(), proxy.connections_opened());
    for _ in 0..COUNTED {
        scrape(&mut scraper, target)?;
    }
    let each = |now: u64, before: u64| {
        f64::from(u32::try_from(now - before).unwrap_or(u32::MAX)) / f64::from(COUNTED)
    };
    let round_trips = each(proxy.round_trips(), before.0);
    let connections = each(proxy.connections_opened(), before.1);
    proxy.set(Mode::Delay(FAR));
    let (mut far, start) = (Vec::new(), Instant::now());
    while far.len() < FAR_SCRAPES && start.elapsed() < VERY_LONG {
        far.push(scrape(&mut scraper, target)?.time);
    }
    Ok(Counts { round_trips, connections, far: super::report::median(far) })
}
