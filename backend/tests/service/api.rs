//! What all routes have in common: sending again, versions, limits, origins.

use std::time::Duration;

use serde_json::json;
use testkit::http::Response;
use testkit::proxy::Mode;
use testkit::upstream::{Reply, Upstream};

use crate::stack::{PASSWORD, Stack, assert_invalid, assert_problem, deal, email, vin};

async fn create(stack: &Stack, token: &str, key: &str, vin: &str) -> Response {
    let request = stack.request("POST", "/api/v1/deals").header("authorization", format!("Bearer {token}"));
    request.header("idempotency-key", key).json(&deal(vin)).send().await.unwrap()
}

#[tokio::test]
async fn a_create_that_is_sent_again_creates_once() {
    let stack = Stack::start().await;
    let (ann, bob) = (stack.user("ann").await, stack.user("bob").await);
    let first = create(&stack, &ann, "order-1", &vin(1)).await;
    let again = create(&stack, &ann, "order-1", &vin(1)).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201), "{}", again.text);
    assert_eq!(first.text, again.text);
    assert_eq!(first.header("etag"), again.header("etag"));
    assert_eq!(
        (first.header("idempotency-replayed"), again.header("idempotency-replayed")),
        (None, Some("true"))
    );

    assert_problem(&create(&stack, &ann, "order-1", &vin(2)).await, 409);
    assert_eq!(create(&stack, &bob, "order-1", &vin(3)).await.status, 201, "keys are the user's own");
    for odd in ["", "a b", &"x".repeat(65)] {
        assert_invalid(&create(&stack, &ann, odd, &vin(4)).await, &["idempotency-key"]);
    }
    assert_problem(&create(&stack, &"0".repeat(64), "order-1", &vin(1)).await, 401);
    assert_eq!(stack.postgres.psql("SELECT count(*) FROM deals").await.unwrap().unwrap(), "2");
    let created = stack.samples(|name| name == "autodealgenie_deals_created_total").await;
    assert_eq!(created.values().sum::<f64>(), 2.0);
}

#[tokio::test]
async fn a_refused_or_failed_create_may_be_sent_again() {
    let mut stack = Stack::start().await;
    let ann = stack.user("ann").await;
    let id = stack.deal(&ann, &vin(1)).await;
    assert_problem(&create(&stack, &ann, "order-1", &vin(1)).await, 409);
    let path = format!("/api/v1/deals/{id}");
    assert_eq!(stack.call("DELETE", &path, Some(&ann), None).await.status, 204);
    assert_eq!(create(&stack, &ann, "order-1", &vin(1)).await.status, 201);
    stack.postgres.stop().unwrap();
    assert_problem(&create(&stack, &ann, "order-2", &vin(2)).await, 503);
    stack.postgres.restart().await.unwrap();
    stack.until_ready().await;
    assert_eq!(create(&stack, &ann, "order-2", &vin(2)).await.status, 201);
}

#[tokio::test]
async fn a_key_in_use_is_a_conflict_and_one_of_many_creates() {
    let stack = Stack::start().await;
    let ann = stack.user("ann").await;
    let vin = vin(1);
    let all = futures_util::future::join_all((0..10).map(|_| create(&stack, &ann, "order-1", &vin))).await;
    let mut ids = Vec::new();
    for answer in all {
        if answer.status == 201 {
            ids.push(answer.json().unwrap()["id"].clone());
        } else {
            assert_problem(&answer, 409);
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(stack.postgres.psql("SELECT count(*) FROM deals").await.unwrap().unwrap(), "1");
}

#[tokio::test]
async fn a_change_of_an_outdated_version_is_refused() {
    let stack = Stack::start().await;
    let ann = stack.user("ann").await;
    let path = format!("/api/v1/deals/{}", stack.deal(&ann, &vin(1)).await);
    let shown = stack.call("GET", &path, Some(&ann), None).await;
    assert_eq!(shown.header("etag"), Some("\"1\""));
    let change = async |tag: &str, status: &str| {
        let request = stack.request("PATCH", &format!("{path}/status"));
        let request = request.header("authorization", format!("Bearer {ann}")).header("if-match", tag);
        request.json(&json!({"status": status})).send().await.unwrap()
    };
    for tag in ["\"2\"", "1", "\"x\"", "W/\"1\"", "\"99999999999\""] {
        assert_problem(&change(tag, "in_progress").await, 412);
    }
    let changed = change("\"1\"", "in_progress").await;
    assert_eq!((changed.status.as_u16(), changed.header("etag")), (200, Some("\"2\"")), "{}", changed.text);
    assert_problem(&change("\"1\"", "completed").await, 412);
    assert_eq!(change("*", "completed").await.status, 200);
}

#[tokio::test]
async fn failed_logins_are_limited_by_account_and_by_address() {
    let stack = Stack::with(|settings| {
        settings.logins.account = 3;
        settings.logins.address = 6;
    })
    .await;
    stack.user("ann").await;
    stack.user("bob").await;
    let attempt = async |name: &str, password: &str| {
        let body = json!({"email": email(name), "password": password});
        stack.call("POST", "/api/v1/auth/login", None, Some(body)).await
    };
    for _ in 0..3 {
        assert_problem(&attempt("ann", "wrong horse").await, 401);
    }
    let refused = attempt("ann", PASSWORD).await;
    assert_problem(&refused, 429);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=300).contains(&wait), "{wait}");
    for _ in 0..5 {
        assert_eq!(attempt("bob", PASSWORD).await.status, 200, "good logins cost nothing");
    }
    assert_problem(&attempt("nobody", PASSWORD).await, 401);
    assert_problem(&attempt("nobody-else", PASSWORD).await, 401);
    assert_problem(&attempt("bob", PASSWORD).await, 429);
    let counted = stack.samples(|name| name.starts_with("autodealgenie_auth_")).await;
    assert_eq!(counted["autodealgenie_auth_limited_total{}"], 2.0);
    assert_eq!(counted["autodealgenie_auth_failures_total{}"], 7.0);
    let keys = stack.redis.command(&["KEYS", "logins:*"]).unwrap().text();
    assert!(keys.contains("logins:") && !keys.contains("ann"), "{keys}");
}

#[tokio::test]
async fn only_allowed_origins_may_call_from_a_web_page() {
    let stack = Stack::start().await;
    let preflight = async |origin: &str| {
        let request = stack.request("OPTIONS", "/api/v1/deals").header("origin", origin);
        request.header("access-control-request-method", "POST").send().await.unwrap()
    };
    let allowed = preflight("https://app.example.com").await;
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://app.example.com"));
    assert!(allowed.header("access-control-allow-headers").unwrap().contains("idempotency-key"));
    assert_eq!(preflight("https://evil.example.com").await.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn more_requests_than_may_run_are_refused_at_once() {
    let stack = Stack::with(|settings| settings.max_in_flight = 2).await;
    let ann = stack.user("ann").await;
    stack.redis_proxy.set(Mode::Hang);
    let hung = || async { stack.call("GET", "/api/v1/auth/me", Some(&ann), None).await };
    let all = futures_util::future::join_all((0..6).map(|_| hung())).await;
    let refused = all.iter().filter(|answer| answer.text.contains("too many requests at once")).count();
    assert_eq!(refused, 4);
    for answer in &all {
        assert_problem(answer, 503);
    }
    stack.redis_proxy.set(Mode::Pass);
    stack.until_ready().await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while stack.call("GET", "/api/v1/auth/me", Some(&ann), None).await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline, "the places are never free again");
    }
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_and_its_change_is_finished() {
    let model = Upstream::start(Reply::Hang).await.unwrap();
    let stack = Stack::with(|settings| {
        settings.llm.base_url = Some(model.url().to_owned());
        settings.llm.patience = Duration::from_secs(3);
        settings.time_limit = Duration::from_secs(1);
    })
    .await;
    let ann = stack.user("ann").await;
    let deal = stack.deal(&ann, &vin(1)).await;
    let body = json!({"deal_id": deal, "target_price": 22_500, "offer": 21_000});
    let late = stack.call("POST", "/api/v1/negotiations", Some(&ann), Some(body)).await;
    assert!(assert_problem(&late, 503)["detail"].as_str().unwrap().contains("took too long"));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let begun = async || {
        let counted = stack.samples(|name| name == "autodealgenie_negotiation_sessions_total").await;
        counted.values().sum::<f64>()
    };
    while begun().await < 1.0 {
        assert!(tokio::time::Instant::now() < deadline, "the change was dropped");
    }
    let list = stack.call("GET", "/api/v1/negotiations", Some(&ann), None).await.json().unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
}
