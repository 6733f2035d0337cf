//! Beside the real redis_exporter 1.86: with the same flags and variables on the same server, `--compat=1.86` has its
//! families, types, labels and values, but for what `tests/data/peer-waivers.tsv` waives.

use std::time::{Duration, Instant};

use rstest::rstest;
use testkit::exporter::Exporter;
use testkit::peer::{REDIS_EXPORTER, Waiver, differences};
use testkit::redis::Version::{Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9};
use testkit::redis::{Redis, Version};

use crate::binary::BINARY;

const FLAGS: &[&str] = &[
    "--include-system-metrics",
    "--include-config-metrics",
    "--export-client-list",
    "--include-modules-metrics",
    "--check-keys=db0=checked:*",
    "--count-keys=db0=counted:*",
];

/// Not on Redis 6.2, which does not know the lag of a group: the peer says 0 there, ours nothing.
const STREAMS: &str = "--check-single-streams=stream";

/// What happened on the server before: keys of every type, errors, a slow command.
const COMMANDS: &[&str] = &[
    "SET checked:number 42",
    "RPUSH checked:list a b c",
    "ZADD checked:set 1 a",
    "HSET checked:hash a 1",
    "SET counted:1 x",
    "SETEX counted:2 100000 x",
    "XADD stream * a 1",
    "XGROUP CREATE stream readers 0",
    "XREADGROUP GROUP readers reader STREAMS stream >",
    "CONFIG SET slowlog-log-slower-than 0",
    "GET checked:number",
    "CONFIG SET slowlog-log-slower-than 10000000",
];

#[rstest]
#[tokio::test]
async fn the_compatible_page_is_the_one_of_the_running_peer(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    if !REDIS_EXPORTER.is_here().await {
        return;
    }
    let waivers = Waiver::table(include_str!("../data/peer-waivers.tsv")).unwrap();
    let mut unused = waivers.clone();
    let flags = if version == Version::Redis62 { FLAGS.to_vec() } else { [FLAGS, &[STREAMS]].concat() };
    let master = Redis::builder().version(version).start().await.unwrap();
    for command in COMMANDS {
        master.command(&command.split(' ').collect::<Vec<_>>()).unwrap();
    }
    master.command(&["GET", "checked:list"]).unwrap_err();
    let replica = Redis::builder().version(version).replica_of(&master).start().await.unwrap();
    for server in [&master, &replica] {
        let address = server.url();
        let peer = REDIS_EXPORTER.start(&flags, &[("REDIS_ADDR", &address)]).await.unwrap();
        let exporter = Exporter::start(BINARY, &[flags.as_slice(), &["--compat=1.86"]].concat(), |process| {
            process.env("REDIS_ADDR", &address)
        })
        .await
        .unwrap();
        // The first scrapes leave traces of their own on the server: connections, commands and their latencies. And the
        // server does something by itself now and then, as a replica does.
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let before = peer.page().await.unwrap();
            let ours = exporter.scrape(10.0).await.unwrap();
            let after = peer.page().await.unwrap();
            let found = differences([&before, &after], &ours, &waivers);
            if found.is_empty() {
                unused.retain(|waiver| !waiver.is_about(&before) && !waiver.is_about(&ours));
                break;
            }
            assert!(Instant::now() < deadline, "{found:#?}");
        }
    }
    // Redis 6.2 has no latencies by command.
    assert!(unused.is_empty() || version == Version::Redis62, "waive nothing: {unused:#?}");
}
