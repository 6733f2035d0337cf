//! The program itself: start, orderly end, exit codes, and messages that name the fix and no secret.

use std::time::Duration;

use nix::sys::signal::Signal;
use testkit::postgres::Postgres;
use testkit::process::{Process, ProcessBuilder};
use testkit::redis::Redis;

const LIMIT: Duration = Duration::from_secs(30);

fn program(folder: &tempfile::TempDir) -> ProcessBuilder {
    Process::builder(
        "autodealgenie-backend",
        env!("CARGO_BIN_EXE_autodealgenie-backend"),
        folder.path().join("log"),
    )
}

async fn exit(builder: ProcessBuilder) -> (i32, String) {
    let mut process = builder.spawn().unwrap();
    let status = process.wait_for_exit(LIMIT).await.unwrap();
    (status.code().unwrap(), process.log())
}

#[tokio::test]
async fn it_migrates_serves_and_stops_in_order() {
    let (postgres, redis) = (Postgres::start().await.unwrap(), Redis::start().await.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut process = program(&folder)
        .args(["--listen", "127.0.0.1:0", "--log.format", "json"])
        .env("DATABASE_URL", postgres.admin_dsn("postgres"))
        .env("REDIS_URL", redis.url())
        .spawn()
        .unwrap();
    let log = process.wait_for_log("\"listening\"", LIMIT).await.unwrap();
    let line = log.lines().find(|line| line.contains("\"listening\"")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let url = format!("http://{}", line["address"].as_str().unwrap());
    assert_eq!(testkit::http::get(&format!("{url}/ready")).await.unwrap().status, 200);
    let body = crate::stack::signup("ann");
    let created = testkit::http::post(&format!("{url}/api/v1/auth/signup"), &body).await.unwrap();
    assert_eq!(created.status, 201, "{}", created.text);
    process.signal(Signal::SIGTERM).unwrap();
    let status = process.wait_for_exit(LIMIT).await.unwrap();
    let log = process.log();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("example.com") && !log.contains("Test Person"), "personal data in the log: {log}");
}

#[tokio::test]
async fn wrong_use_exits_2_wrong_configuration_64_trouble_1() {
    let folder = tempfile::tempdir().unwrap();
    let redis = ["--redis-url", "redis://127.0.0.1:1"];
    let away = "postgresql://bob:sesame@127.0.0.1:1/x";

    let (code, log) = exit(program(&folder).args(["--no-such-flag"])).await;
    assert_eq!(code, 2, "{log}");
    let (code, log) = exit(program(&folder).args(redis)).await;
    assert!(code == 2 && log.contains("--database-url"), "{code}: {log}");

    let (code, log) =
        exit(program(&folder).args(redis).args(["--database-url", "bob:sesame@@nothing"])).await;
    assert!(code == 64 && log.contains("database URL") && !log.contains("sesame"), "{code}: {log}");
    let (code, log) =
        exit(program(&folder).args(["--redis-url", "sesame://x"]).args(["--database-url", away])).await;
    assert!(code == 64 && log.contains("redis URL"), "{code}: {log}");

    let listen = ["--listen", "127.0.0.1:0"];
    let (code, log) = exit(program(&folder).args(redis).args(listen).args(["--database-url", away])).await;
    assert!(code == 1 && log.contains("connecting to migrate") && !log.contains("sesame"), "{code}: {log}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, log) =
        exit(program(&folder).args(redis).args(["--listen", &address, "--database-url", away])).await;
    assert!(code == 1 && log.contains(&address), "{code}: {log}");
}

#[tokio::test]
async fn secrets_come_from_files_and_a_running_service_is_well() {
    let (postgres, redis) = (Postgres::start().await.unwrap(), Redis::start().await.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        path
    };
    let database = file("database", &postgres.admin_dsn("postgres"));
    let redis = file("redis", &redis.url());
    let with_files =
        |builder: ProcessBuilder| builder.env("DATABASE_URL_FILE", &database).env("REDIS_URL_FILE", &redis);

    let (code, log) = exit(with_files(program(&folder)).arg("migrate")).await;
    assert_eq!(code, 0, "{log}");
    assert!(postgres.psql("SELECT 1 FROM schema_migrations").await.is_ok(), "{log}");

    let port = testkit::free_port().unwrap();
    let listen = format!("127.0.0.1:{port}");
    let ask = || exit(with_files(program(&folder)).args(["--listen", &listen, "healthcheck"]));
    let (code, log) = ask().await;
    assert!(code == 1 && log.contains("cannot connect"), "{code}: {log}");
    let mut process =
        with_files(program(&folder)).args(["--listen", &listen, "--no-migrate"]).spawn().unwrap();
    process.wait_for_log("listening", LIMIT).await.unwrap();
    let (code, log) = ask().await;
    assert_eq!(code, 0, "{log}");

    let (code, log) =
        exit(program(&folder).env("DATABASE_URL_FILE", "/no/such/file").env("REDIS_URL_FILE", &redis)).await;
    assert!(code == 64 && log.contains("/no/such/file"), "{code}: {log}");
}
