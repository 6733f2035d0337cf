//! What measuring costs a request, in instructions: times would tell of the machine.

use std::time::Duration;

use tempfile::TempDir;
use testkit::callgrind;
use testkit::http::{Kept, get};
use testkit::postgres::Postgres;
use testkit::redis::Redis;

const LIMIT: Duration = Duration::from_secs(120);
/// Part of a request's instructions that its metrics may cost. The target is 3 % of a release; this build is not optimised
/// where the metrics are, and is where most else is.
const MOST: f64 = 0.05;
/// Requests of the shorter run; the longer has three times as many, so that start and end cancel out.
const REQUESTS: usize = 100;

/// A vehicle of the cache, and one that neither the cache nor the database knows: all that is measured of every request,
/// in handlers that leave no work behind, which would be done sooner or later.
const PATHS: [(&str, u16); 2] =
    [("/api/v1/vehicles/1ADGX000000000001", 200), ("/api/v1/vehicles/1ADGX999999999999", 404)];

/// Instructions for a request.
async fn instructions(postgres: &Postgres, redis: &Redis, folder: &TempDir, flags: &[&str]) -> f64 {
    let mut counts = Vec::new();
    for requests in [REQUESTS, 3 * REQUESTS] {
        let address = format!("127.0.0.1:{}", testkit::free_port().unwrap()).parse().unwrap();
        let mut process = callgrind::builder(
            "autodealgenie-backend",
            env!("CARGO_BIN_EXE_autodealgenie-backend"),
            folder.path().join("log"),
        )
        .args(["--no-migrate", "--log.level", "warn", "--listen", &format!("{address}")])
        .args(flags)
        .env("DATABASE_URL", postgres.admin_dsn("postgres"))
        .env("REDIS_URL", redis.url())
        .spawn()
        .unwrap();
        let page = format!("http://{address}/ready");
        let ready = || async { get(&page).await.ok().filter(|answer| answer.status == 200) };
        process.wait_until("the service to be ready", LIMIT, ready).await.unwrap();
        let mut client = Kept::open(address).await.unwrap();
        for number in 0..requests {
            let (path, status) = PATHS[number % PATHS.len()];
            assert_eq!(client.get(path).await.unwrap().0, status, "{path}");
        }
        let page = client.get("/metrics").await.unwrap().1;
        let measures = String::from_utf8_lossy(&page).contains("\nhttp_requests_total{");
        assert_eq!(measures, flags.is_empty(), "{flags:?}");
        drop(client);
        counts.push(callgrind::stop(process, LIMIT).await.unwrap());
    }
    (counts[1] - counts[0]) / (2 * REQUESTS) as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measuring_is_a_small_part_of_a_requests_instructions() {
    let (postgres, redis) = (Postgres::start().await.unwrap(), Redis::start().await.unwrap());
    autodealgenie_backend::db::migrate::run(&postgres.admin_dsn("postgres")).await.unwrap();
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let (measured, unmeasured) = futures_util::future::join(
        instructions(&postgres, &redis, &folders[0], &[]),
        instructions(&postgres, &redis, &folders[1], &["--unmeasured"]),
    )
    .await;
    let cost = measured - unmeasured;
    assert!(cost < MOST * unmeasured, "the metrics of {unmeasured} instructions cost {cost}");
}
