//! The scenarios for redis-exporter, on Redis 7.0.

use std::{io::Write, net::TcpStream};

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use testkit::{peer::REDIS_EXPORTER, redis::Redis};

use super::{Args, Scenario, Subject, Target, compare, programs};
use crate::progress::{say, step};

/// Fills a server and gives the connections that stay open.
type Fill = fn(&Redis) -> Result<Vec<TcpStream>>;

/// Everything of the server and of its clients.
const EVERYTHING: &[&str] = &["--include-system-metrics", "--include-config-metrics", "--export-client-list"];

const SCENARIOS: &[Scenario<Fill>] = &[
    Scenario { name: "fresh", title: "fresh server, default", flags: &[], fill: |_| Ok(Vec::new()) },
    Scenario {
        name: "commands",
        title: "200 commands in commandstats, default",
        flags: &[],
        fill: |server| commands(server).map(|()| Vec::new()),
    },
    Scenario {
        name: "full",
        title: "16 databases, 1,000,000 keys, 2,000 clients, 200 commands; system, configuration and clients",
        flags: EVERYTHING,
        fill,
    },
    Scenario {
        name: "keys",
        title: "the same, and keys by patterns",
        flags: &[
            EVERYTHING[0],
            EVERYTHING[1],
            EVERYTHING[2],
            "--check-keys=db0=queue:*,db0=rank:*",
            "--count-keys=db0=session:*",
        ],
        fill,
    },
];

pub(super) async fn run(args: &Args) -> Result<()> {
    let chosen = args.chosen(SCENARIOS)?;
    let (peer, ours) = programs("redis-exporter", REDIS_EXPORTER).await?;
    for scenario in chosen {
        say(&format!("== {}", scenario.title));
        let server = step("start a server", Redis::builder().args(["--maxclients", "10000"]).start()).await?;
        let _clients = step("fill it", async { (scenario.fill)(&server) }).await?;
        let target = Target {
            address: server.addr(),
            pid: server.pid().context("the server has no pid")?,
            variable: "REDIS_ADDR",
            value: Box::new(|address| format!("redis://{address}")),
            up: "redis_up 1",
        };
        let peer = peer.as_ref().map(|peer| (REDIS_EXPORTER.name, peer));
        let subjects: Vec<Subject<'_>> = peer
            .into_iter()
            .chain([("redis-exporter", &ours)])
            .map(|(title, program)| Subject { title, program, args: scenario.flags.to_vec() })
            .collect();
        compare(args, scenario.title, &target, &subjects).await?;
    }
    Ok(())
}

fn fill(server: &Redis) -> Result<Vec<TcpStream>> {
    /// Sets `ARGV[2]` keys that begin with `ARGV[3]` in the database `ARGV[1]`, numbered after `ARGV[4]`.
    const KEYS: &str = "redis.call('SELECT', ARGV[1])
        for i = 1, ARGV[2] do redis.call('SET', ARGV[3] .. (ARGV[4] + i), i) end";
    // In parts, each of which answers soon.
    for part in 0..6 {
        let first = (part * 100_000).to_string();
        server.command(&["EVAL", KEYS, "0", "0", "100000", "user:", &first])?;
    }
    for database in 1..16 {
        server.command(&["EVAL", KEYS, "0", &database.to_string(), "26666", "key:", "0"])?;
    }
    server.command(&[
        "EVAL",
        "for i = 1, 1000 do redis.call('SETEX', 'session:' .. i, 86400, i) end",
        "0",
    ])?;
    server.command(&[
        "EVAL",
        "for i = 1, 200 do redis.call('RPUSH', 'queue:' .. i, 'a', 'b', 'c') end",
        "0",
    ])?;
    server.command(&[
        "EVAL",
        "for i = 1, 100 do redis.call('ZADD', 'rank:' .. i, 1, 'a', 2, 'b') end",
        "0",
    ])?;
    commands(server)?;
    clients(server, 2_000)
}

/// Runs each command of a list once, in a database of its own: most succeed.
fn commands(server: &Redis) -> Result<()> {
    for line in include_str!("redis_commands.txt").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        // A command that fails is in the statistics, too.
        let _ = server.command(&words);
    }
    let known = server.command(&["INFO", "commandstats"])?.text();
    let count = known.lines().filter(|line| line.starts_with("cmdstat_")).count();
    anyhow::ensure!(count >= 200, "only {count} commands are in the server's statistics");
    Ok(())
}

/// Named clients that wait.
fn clients(server: &Redis, count: u32) -> Result<Vec<TcpStream>> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("reading the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raising the limit of open files")?;
    (0..count)
        .map(|number| {
            let mut client = TcpStream::connect(server.addr()).context("connecting a client")?;
            write!(client, "CLIENT SETNAME app-{number}\r\nSELECT {}\r\n", number % 16)
                .context("naming a client")?;
            Ok(client)
        })
        .collect()
}
