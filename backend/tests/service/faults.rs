//! What the service answers while a store is away, and that it recovers without a restart.

use std::time::Duration;

use serde_json::json;
use testkit::proxy::Mode;

use crate::stack::{PASSWORD, Stack, assert_problem, deal, email, vin};

#[tokio::test]
async fn without_redis_sessions_are_refused_and_come_back() {
    let mut stack = Stack::start().await;
    let token = stack.user("ann").await;
    stack.redis.stop().unwrap();
    let login = json!({"email": email("ann"), "password": PASSWORD});
    for (method, path, body) in [
        ("GET", "/api/v1/auth/me", None),
        ("GET", "/api/v1/deals", None),
        ("POST", "/api/v1/auth/logout", None),
        ("POST", "/api/v1/deals", Some(deal(&vin(1)))),
        ("POST", "/api/v1/auth/login", Some(login)),
    ] {
        let answer = stack.call(method, path, Some(&token), body).await;
        assert_problem(&answer, 503);
        assert!(answer.header("retry-after").is_some(), "{method} {path}");
    }
    assert_eq!(stack.call("GET", "/health", None, None).await.status, 200);
    let ready = stack.call("GET", "/ready", None, None).await;
    assert_eq!(ready.status, 503);
    let ready = ready.json().unwrap();
    assert_eq!((&ready["redis"], &ready["postgres"]), (&json!("unavailable"), &json!("ok")));
    let counted = stack.samples(|name| name.starts_with("autodealgenie_auth_")).await;
    assert_eq!(counted["autodealgenie_auth_success_total{}"], 1.0);
    assert_eq!(counted["autodealgenie_auth_failures_total{}"], 0.0);

    stack.redis.restart().await.unwrap();
    stack.until_ready().await;
    let token = stack.login("ann").await;
    assert_eq!(stack.call("GET", "/api/v1/auth/me", Some(&token), None).await.status, 200);
}

#[tokio::test]
async fn without_postgres_the_answer_is_503_and_the_pool_recovers() {
    let mut stack = Stack::start().await;
    let token = stack.user("ann").await;
    let id = stack.deal(&token, &vin(1)).await;
    stack.postgres.stop().unwrap();
    let path = format!("/api/v1/deals/{id}");
    let login = json!({"email": email("ann"), "password": PASSWORD});
    for (method, path, body) in [
        ("GET", path.as_str(), None),
        ("DELETE", path.as_str(), None),
        ("GET", "/api/v1/deals", None),
        ("POST", "/api/v1/deals", Some(deal(&vin(2)))),
        ("GET", "/api/v1/auth/me", None),
        ("POST", "/api/v1/auth/login", Some(login)),
    ] {
        let answer = stack.call(method, path, Some(&token), body).await;
        assert_problem(&answer, 503);
        assert!(answer.header("retry-after").is_some(), "{method} {path}");
    }
    let ready = stack.call("GET", "/ready", None, None).await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json().unwrap()["postgres"], "unavailable");
    assert_eq!(stack.call("GET", "/health", None, None).await.status, 200);
    let errors = stack.samples(|name| name == "autodealgenie_db_connection_errors_total").await;
    assert!(errors.values().sum::<f64>() >= 6.0, "{errors:?}");
    assert_eq!(
        stack.samples(|name| name == "autodealgenie_deals_created_total").await.values().sum::<f64>(),
        1.0
    );

    stack.postgres.restart().await.unwrap();
    stack.until_ready().await;
    assert_eq!(stack.call("GET", &path, Some(&token), None).await.status, 200);
    stack.deal(&token, &vin(2)).await;
}

#[tokio::test]
async fn a_hung_database_costs_a_connection_not_the_service() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    stack.postgres_proxy.set(Mode::Hang);
    let hung = stack.call("GET", "/api/v1/deals", Some(&token), None).await;
    assert_problem(&hung, 503);
    let errors = stack.samples(|name| name == "autodealgenie_db_query_errors_total").await;
    assert_eq!(errors["autodealgenie_db_query_errors_total{operation=select,table=deals}"], 1.0);
    stack.postgres_proxy.set(Mode::Pass);
    stack.until_ready().await;
    for _ in 0..8 {
        assert_eq!(stack.call("GET", "/api/v1/deals", Some(&token), None).await.status, 200);
    }
    let waiting = stack.samples(|name| name == "autodealgenie_db_pool_waiting").await;
    assert_eq!(waiting.values().sum::<f64>(), 0.0);
}

#[tokio::test]
async fn a_hung_redis_is_answered_in_time() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    stack.redis_proxy.set(Mode::Hang);
    assert_problem(&stack.call("GET", "/api/v1/auth/me", Some(&token), None).await, 503);
    stack.redis_proxy.set(Mode::Pass);
    stack.until_ready().await;
    assert_eq!(stack.call("GET", "/api/v1/auth/me", Some(&token), None).await.status, 200);
}

#[tokio::test]
async fn a_locked_table_is_a_slow_database_not_a_defect() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let client = stack.postgres.client().await.unwrap();
    client.batch_execute("BEGIN; LOCK TABLE deals IN ACCESS EXCLUSIVE MODE").await.unwrap();
    assert_problem(&stack.call("GET", "/api/v1/deals", Some(&token), None).await, 503);
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(stack.call("GET", "/api/v1/deals", Some(&token), None).await.status, 200);
}

#[tokio::test]
async fn a_restart_of_redis_between_requests_costs_none() {
    let mut stack = Stack::start().await;
    stack.user("ann").await;
    stack.redis.stop().unwrap();
    stack.redis.restart().await.unwrap();
    stack.login("ann").await;
}

#[tokio::test]
async fn redis_that_dies_in_the_middle_of_requests_costs_only_those() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    stack.redis_proxy.set(Mode::Hang);
    let before = stack.redis_proxy.bytes_to_server();
    let calls = futures_util::future::join_all(
        (0..8).map(|_| stack.call("GET", "/api/v1/auth/me", Some(&token), None)),
    );
    let killed = async {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while stack.redis_proxy.bytes_to_server() == before {
            assert!(tokio::time::Instant::now() < deadline, "no request came to redis");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stack.redis_proxy.set(Mode::Reset);
    };
    let (answers, ()) = futures_util::future::join(calls, killed).await;
    answers.iter().for_each(|answer| drop(assert_problem(answer, 503)));
    stack.redis_proxy.set(Mode::Pass);
    stack.until_ready().await;
    assert_eq!(stack.call("GET", "/api/v1/auth/me", Some(&token), None).await.status, 200);
}
