//! The Redis and Valkey launcher, on real servers.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside #[test]")]

use testkit::{
    process::Stat,
    redis::{Redis, RedisCluster, SentinelSetup, Value, Version},
};

fn info(server: &Redis, field: &str) -> Option<String> {
    let info = server.command(&["INFO"]).unwrap().text();
    info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(str::to_owned))
}

async fn version(version: Version, field: &str, prefix: &str) {
    let server = Redis::builder().version(version).start().await.unwrap();
    server.command(&["SET", "k", "v"]).unwrap();
    assert_eq!(server.command(&["GET", "k"]).unwrap(), Value::Text("v".to_owned()));
    let found = info(&server, field).unwrap();
    assert!(found.starts_with(prefix), "{found}");
    let pid = server.pid().unwrap();
    drop(server);
    assert_eq!(Stat::of(pid), None, "gone after drop");
}

#[tokio::test]
async fn redis_6_2() {
    version(Version::Redis62, "redis_version", "6.2").await;
}

#[tokio::test]
async fn redis_7_0() {
    version(Version::Redis70, "redis_version", "7.0").await;
}

#[tokio::test]
async fn redis_7_4() {
    version(Version::Redis74, "redis_version", "7.4").await;
}

#[tokio::test]
async fn redis_8_6() {
    version(Version::Redis86, "redis_version", "8.6").await;
}

#[tokio::test]
async fn redis_8_2() {
    version(Version::Redis82, "redis_version", "8.2").await;
}

#[tokio::test]
async fn valkey_9() {
    version(Version::Valkey9, "valkey_version", "9.").await;
}

#[tokio::test]
async fn a_replica_follows_a_primary_with_a_password() {
    let primary = Redis::builder().password("pw").start().await.unwrap();
    let replica = Redis::builder().replica_of(&primary).start().await.unwrap();
    assert_eq!(info(&replica, "role").as_deref(), Some("slave"));
    assert_eq!(primary.url(), format!("redis://:pw@127.0.0.1:{}", primary.port()));
    assert_eq!(info(&primary, "connected_slaves").as_deref(), Some("1"));
}

#[tokio::test]
async fn an_acl_user_may_do_what_its_rules_say() {
    let server = Redis::builder().args(["--maxmemory", "10mb"]).start().await.unwrap();
    let url = server.acl_user("exporter", "secret", &["+info"]).unwrap();
    assert_eq!(url, format!("redis://exporter:secret@{}", server.addr()));
    let rules = server.command(&["ACL", "LIST"]).unwrap().text();
    assert!(rules.contains("user exporter on"), "{rules}");
    assert_eq!(info(&server, "maxmemory").as_deref(), Some("10485760"));
}

#[tokio::test]
async fn an_error_reply_names_the_command_and_the_server() {
    let server = Redis::start().await.unwrap();
    let message = format!("{:#}", server.command(&["NOSUCH"]).unwrap_err());
    assert!(message.contains("NOSUCH at redis-7.0 127.0.0.1:"), "{message}");
    assert!(message.contains("ERR unknown command"), "{message}");
}

#[tokio::test]
async fn three_nodes_make_a_cluster() {
    for version in Version::ALL {
        let cluster = RedisCluster::start(version).await.unwrap();
        for node in &cluster.nodes {
            let state = node.command(&["CLUSTER", "INFO"]).unwrap().text();
            assert!(state.contains("cluster_slots_assigned:16384"), "{version:?}: {state}");
        }
    }
}

#[tokio::test]
async fn sentinels_know_each_other() {
    let setup = SentinelSetup::start(Version::Redis70).await.unwrap();
    let primary = setup.sentinels[0].command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"]).unwrap();
    assert_eq!(primary.text(), format!("127.0.0.1\n{}", setup.primary.port()));
}

#[tokio::test]
async fn stops_and_comes_back_on_the_same_port() {
    let mut server = Redis::start().await.unwrap();
    let port = server.port();
    server.stop().unwrap();
    server.command(&["PING"]).unwrap_err();
    server.restart().await.unwrap();
    assert_eq!(server.port(), port);
    assert_eq!(server.command(&["PING"]).unwrap().text(), "PONG");
}
