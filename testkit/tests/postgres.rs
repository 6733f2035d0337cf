//! The PostgreSQL launcher, on real servers.

use std::time::Duration;

use testkit::{
    postgres::{EXPORTER, EXPORTER_PASSWORD, MAJORS, Postgres, Version, has_sqlstate},
    process::Stat,
};
use tokio_postgres::error::SqlState;

#[tokio::test]
async fn starts_answers_and_is_gone_after_drop() {
    let server = Postgres::start().await.unwrap();
    server.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)").await.unwrap();
    assert_eq!(server.psql("SELECT count(*) FROM t").await.unwrap().as_deref(), Some("2"));
    let (pid, data) = (server.pid().unwrap(), server.data_dir().to_owned());
    drop(server);
    assert_eq!(Stat::of(pid), None, "the postmaster is gone");
    assert!(!data.exists(), "and so is its data");
}

#[tokio::test]
async fn a_crash_keeps_what_was_committed_and_nothing_else() {
    let mut server = Postgres::start().await.unwrap();
    server.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await.unwrap();
    let open = server.client().await.unwrap();
    open.batch_execute("BEGIN; INSERT INTO t VALUES (2)").await.unwrap();
    server.crash().await.unwrap();
    assert!(open.batch_execute("COMMIT").await.is_err(), "the session is cut");
    assert_eq!(server.psql("SELECT sum(a) FROM t").await.unwrap().as_deref(), Some("1"));
    assert!(server.log().contains("not properly shut down"), "{}", server.log());
}

#[tokio::test]
async fn the_exporter_logs_in_with_its_password_only() {
    let server = Postgres::start().await.unwrap();
    let client = server.client_as(EXPORTER, EXPORTER_PASSWORD, "postgres").await.unwrap();
    let row = client.query_one("SELECT pg_has_role('pg_monitor', 'member')", &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    let error = server.client_as(EXPORTER, "wrong", "postgres").await.unwrap_err();
    assert!(has_sqlstate(&error, &SqlState::INVALID_PASSWORD), "{error:#}");
}

#[tokio::test]
async fn runs_a_major_release_with_settings_and_libraries() {
    let server = Postgres::builder()
        .version(Version::Major(18))
        .setting("work_mem", "5MB")
        .preload("pg_stat_statements")
        .hba("host all forbidden 127.0.0.1/32 reject")
        .start()
        .await
        .unwrap();
    let version = server.psql("SHOW server_version_num").await.unwrap().unwrap();
    assert!(version.starts_with("18"), "{version}");
    assert_eq!(server.psql("SHOW work_mem").await.unwrap().as_deref(), Some("5MB"));
    server.sql("CREATE EXTENSION pg_stat_statements; CREATE ROLE forbidden LOGIN").await.unwrap();
    assert!(server.psql("SELECT count(*) FROM pg_stat_statements").await.unwrap().is_some());
    let error = server.client_as("forbidden", "", "postgres").await.unwrap_err();
    assert!(has_sqlstate(&error, &SqlState::INVALID_AUTHORIZATION_SPECIFICATION), "{error:#}");
}

#[tokio::test]
async fn a_standby_has_what_the_primary_writes() {
    let primary = Postgres::start().await.unwrap();
    primary.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (7)").await.unwrap();
    let standby = primary.standby().await.unwrap();
    assert_eq!(standby.psql("SELECT pg_is_in_recovery()").await.unwrap().as_deref(), Some("t"));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while standby.psql("SELECT to_regclass('t')").await.unwrap().is_none() {
        assert!(tokio::time::Instant::now() < deadline, "never replayed:\n{}", standby.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let state = "SELECT state FROM pg_stat_replication WHERE application_name = 'testkit_standby'";
    assert_eq!(primary.psql(state).await.unwrap().as_deref(), Some("streaming"));
}

#[tokio::test]
async fn a_paused_server_answers_nobody_until_it_is_resumed() {
    let mut server = Postgres::start().await.unwrap();
    let client = server.client().await.unwrap();
    server.pause().await.unwrap();
    let query = client.simple_query("SELECT 1");
    tokio::pin!(query);
    tokio::time::timeout(Duration::from_millis(200), &mut query).await.expect_err("nobody answers");
    server.resume().unwrap();
    query.await.unwrap();
}

#[tokio::test]
async fn stops_and_comes_back_on_the_same_port_with_its_data() {
    let mut server = Postgres::start().await.unwrap();
    server.sql("CREATE TABLE kept ()").await.unwrap();
    let port = server.port();
    server.stop().unwrap();
    server.client().await.unwrap_err();
    server.restart().await.unwrap();
    assert_eq!(server.port(), port);
    assert_eq!(server.psql("SELECT to_regclass('kept')").await.unwrap().as_deref(), Some("kept"));
}

#[tokio::test]
async fn a_bad_setting_is_shown_with_the_servers_own_words() {
    let error = Postgres::builder().setting("work_mem", "much").start().await.unwrap_err();
    let message = format!("{error:#}");
    assert!(message.contains("invalid value for parameter \"work_mem\""), "{message}");
}

#[tokio::test]
async fn every_major_release_starts_with_the_same_roles() {
    for major in MAJORS {
        let server = Postgres::builder().version(Version::Major(major)).start().await.unwrap();
        let client = server.client_as(EXPORTER, EXPORTER_PASSWORD, "postgres").await.unwrap();
        let row = client.query_one("SELECT current_setting('server_version_num')::int / 10000", &[]).await;
        assert_eq!(u32::try_from(row.unwrap().get::<_, i32>(0)), Ok(major));
        server.sql("CREATE EXTENSION pgstattuple").await.unwrap();
    }
}
