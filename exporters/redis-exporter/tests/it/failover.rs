//! A sentinel trio and the servers it watches, before and after a failover: no family is lost.

use std::collections::BTreeSet;

use exposition::Page;
use redis_exporter::options::{Features, Options};
use rstest::rstest;
use testkit::redis::Version::{Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9};
use testkit::redis::{SentinelSetup, Version};

use crate::insight::eventually;
use crate::live::{failed, up};
use crate::support::{scrape, scraper};

fn families(page: &Page) -> BTreeSet<&str> {
    page.families.iter().map(|family| family.name.as_str()).collect()
}

#[rstest]
#[tokio::test]
async fn a_failover_loses_no_family(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    let mut setup = SentinelSetup::start(version).await.unwrap();
    let options = || Options {
        include_config: true,
        features: Features { sentinel_peers: true, ..Features::default() },
        ..Options::default()
    };
    let sentinel = scraper(&setup.sentinels[0].url(), options());
    let replica = scraper(&setup.replica.url(), options());
    let master = |address: String| {
        move |page: &Page| {
            let labels = [("master_address", address.as_str()), ("master_status", "ok")];
            page.value("redis_sentinel_master_status", &labels) == Some(1.0)
        }
    };
    let before = eventually(&sentinel, "the master", master(setup.primary.addr().to_string())).await;
    let of_replica = scrape(&replica).await;
    for page in [&before, &of_replica] {
        assert_eq!((up(page), failed(page)), (Some(1.0), vec![]));
    }
    setup.primary.stop().unwrap();
    let new = master(setup.replica.addr().to_string());
    // The old master is known as a replica first, and as one that is down after a while.
    let alone = |page: &Page| page.value("redis_sentinel_master_ok_slaves", &[]) == Some(0.0);
    let after = eventually(&sentinel, "the new master alone", |page| new(page) && alone(page)).await;
    assert_eq!((up(&after), failed(&after)), (Some(1.0), vec![]));
    let lost: Vec<_> = families(&before).difference(&families(&after)).copied().collect();
    assert_eq!(lost, Vec::<&str>::new());
    let quorum = after.samples("redis_sentinel_master_ckquorum_status").next().unwrap();
    assert_eq!(quorum.value, 1.0);

    // The replica has become what the primary was, and says so.
    let role = |page: &Page| page.value("redis_instance_info", &[("role", "master")]) == Some(1.0);
    let promoted = eventually(&replica, "its new role", role).await;
    let lost: Vec<_> = families(&of_replica).difference(&families(&promoted)).copied().collect();
    let of_replicas = |family: &&str| {
        ["redis_master_", "redis_slave_", "redis_replica_full_sync_buffer_", "redis_replicas_repl_buffer_"]
            .iter()
            .all(|own| !family.starts_with(own))
    };
    assert_eq!(lost.into_iter().filter(of_replicas).collect::<Vec<_>>(), Vec::<&str>::new());
}
