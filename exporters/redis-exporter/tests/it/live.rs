//! Real servers: every version, both sides of replication, round trips, failures and recovery.

use std::time::Duration;

use crate::support::{scrape, scrape_within, scraper, scraper_with};
use exposition::Page;
use redis_exporter::address::Credentials;
use redis_exporter::options::Options;
use rstest::rstest;
use testkit::proxy::{FaultProxy, Mode};
use testkit::redis::Version::{Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9};
use testkit::redis::{Redis, Version};

const SHORT: Duration = Duration::from_millis(500);

pub(crate) fn up(page: &Page) -> Option<f64> {
    page.value("redis_up", &[])
}

/// Collectors that did not end well.
pub(crate) fn failed(page: &Page) -> Vec<String> {
    let outcomes = page.samples("redis_exporter_collector_outcome");
    let label = |sample: &exposition::parse::Sample, name| sample.label(name).unwrap_or_default().to_owned();
    outcomes
        .map(|s| (label(s, "collector"), label(s, "outcome")))
        .filter(|(_, o)| o != "ok")
        .map(|(c, o)| format!("{c}: {o}"))
        .collect()
}

pub(crate) fn reason(page: &Page) -> Option<&str> {
    page.samples("redis_exporter_last_scrape_error").next()?.label("err")
}

#[rstest]
#[tokio::test]
async fn every_version_is_scraped_whole_in_one_round_trip(
    #[values(Redis62, Redis70, Redis74, Redis82, Redis86, Valkey9)] version: Version,
) {
    let master = Redis::builder().version(version).start().await.unwrap();
    master.command(&["SET", "key", "1"]).unwrap();
    let replica = Redis::builder().version(version).replica_of(&master).start().await.unwrap();
    for (server, role) in [(&master, "master"), (&replica, "slave")] {
        let proxy = FaultProxy::start(server.addr()).unwrap();
        let scraper = scraper(&server.url_at(proxy.addr()), Options::default());
        let page = scrape(&scraper).await;
        assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
        assert_eq!(page.value("redis_instance_info", &[("role", role)]), Some(1.0));
        assert_eq!(page.value("redis_db_keys", &[("db", "db0")]), Some(1.0));
        assert_eq!(page.samples("redis_db_keys").count(), 16);
        let (round_trips, connections) = (proxy.round_trips(), proxy.connections_opened());
        let page = scrape(&scraper).await;
        assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
        assert_eq!(proxy.round_trips() - round_trips, 1);
        assert_eq!(proxy.connections_opened(), connections);
        assert_eq!(page.value("redis_exporter_last_scrape_connect_time_seconds", &[]), Some(0.0));
    }
    let page = scrape(&scraper(&replica.url(), Options::default())).await;
    assert_eq!(page.value("redis_master_link_up", &[]), Some(1.0));
}

#[tokio::test]
async fn scraping_raises_no_error_counter() {
    for version in Version::ALL {
        let server = Redis::builder().version(version).start().await.unwrap();
        let scraper = scraper(&server.url(), Options::default());
        scrape(&scraper).await;
        let page = scrape(&scraper).await;
        assert_eq!(page.value("redis_total_error_replies", &[]), Some(0.0), "{version:?}");
        assert_eq!(page.samples("redis_errors_total").count(), 0, "{version:?}");
    }
}

#[tokio::test]
async fn fifty_scrapes_at_once_share_one_connection() {
    let server = Redis::start().await.unwrap();
    let proxy = FaultProxy::start(server.addr()).unwrap();
    let scraper = scraper(&server.url_at(proxy.addr()), Options::default());
    let pages = futures_util::future::join_all((0..50).map(|_| scrape(&scraper))).await;
    assert!(pages.iter().all(|page| up(page) == Some(1.0)));
    assert_eq!(proxy.connections_opened(), 1);
}

#[tokio::test]
async fn a_stopped_server_is_down_and_whole_again_afterwards() {
    let mut server = Redis::start().await.unwrap();
    let scraper = scraper(&server.url(), Options::default());
    assert_eq!(up(&scrape(&scraper).await), Some(1.0));
    server.stop().unwrap();
    let page = scrape(&scraper).await;
    assert_eq!((up(&page), reason(&page)), (Some(0.0), Some("refused")));
    server.restart().await.unwrap();
    let page = scrape(&scraper).await;
    assert_eq!((up(&page), reason(&page), failed(&page)), (Some(1.0), Some(""), vec![]));
}

#[tokio::test]
async fn a_dead_connection_is_replaced_within_the_scrape() {
    let mut server = Redis::start().await.unwrap();
    let scraper = scraper(&server.url(), Options::default());
    scrape(&scraper).await;
    server.restart().await.unwrap();
    let page = scrape(&scraper).await;
    assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
    assert_eq!(page.value("redis_exporter_connections_opened_total", &[]), Some(2.0));
}

#[tokio::test]
async fn a_hung_server_is_down_inside_the_deadline_and_whole_again_afterwards() {
    let mut server = Redis::start().await.unwrap();
    let scraper = scraper(&server.url(), Options::default());
    assert_eq!(up(&scrape(&scraper).await), Some(1.0));
    server.pause().unwrap();
    for _ in 0..2 {
        let page = scrape_within(&scraper, SHORT).await;
        assert_eq!((up(&page), reason(&page)), (Some(0.0), Some("timeout")));
    }
    server.resume().unwrap();
    let page = scrape(&scraper).await;
    assert_eq!((up(&page), failed(&page)), (Some(1.0), vec![]));
}

#[tokio::test]
async fn swallowed_bytes_are_a_timeout_and_a_new_connection_mends_it() {
    let server = Redis::start().await.unwrap();
    let proxy = FaultProxy::start(server.addr()).unwrap();
    let scraper = scraper(&server.url_at(proxy.addr()), Options::default());
    assert_eq!(up(&scrape(&scraper).await), Some(1.0));
    proxy.set(Mode::Hang);
    let page = scrape_within(&scraper, SHORT).await;
    assert_eq!((up(&page), reason(&page)), (Some(0.0), Some("timeout")));
    proxy.set(Mode::Pass);
    assert_eq!(up(&scrape(&scraper).await), Some(1.0));
}

#[tokio::test]
async fn each_failure_has_its_reason() {
    let server = Redis::builder().password("right").start().await.unwrap();
    let wrong = Credentials { password: Some("wr0ng".into()), ..Credentials::default() };
    let address = server.addr().to_string();
    let closed = format!("127.0.0.1:{}", testkit::free_port().unwrap());
    for (address, credentials, expected) in [
        (address.clone(), Credentials::default(), "auth"),
        (address.clone(), wrong, "auth"),
        (format!("redis://:right@{address}/99"), Credentials::default(), "protocol"),
        (format!("redis://:right@{address}/3"), Credentials::default(), ""),
        (closed, Credentials::default(), "refused"),
        ("name.invalid:1".to_owned(), Credentials::default(), "dns"),
    ] {
        let page = scrape(&scraper_with(&address, Options::default(), &credentials)).await;
        assert_eq!(reason(&page), Some(expected), "{address}");
        assert_eq!(up(&page), Some(f64::from(u8::from(expected.is_empty()))));
    }
}

#[tokio::test]
async fn a_denied_command_costs_its_families_and_is_not_sent_again() {
    let server = Redis::start().await.unwrap();
    let url = server.acl_user("exporter", "secret", &["+info", "+client", "+latency", "+config"]).unwrap();
    let scraper = scraper(&url, Options::default());
    for _ in 0..3 {
        let page = scrape(&scraper).await;
        assert_eq!(
            (up(&page), failed(&page)),
            (Some(1.0), ["slowlog: permission", "log_events: permission"].map(str::to_owned).to_vec())
        );
        assert!(
            page.family("redis_slowlog_length").is_none() && page.family("redis_config_maxclients").is_some()
        );
    }
    let page = scrape(&scraper).await;
    assert_eq!(page.value("redis_errors_total", &[("err", "NOPERM")]), Some(2.0));
}
