//! Webhooks: who is told of what, how it is signed, and what happens when nobody listens.

use std::time::{Duration, Instant};

use autodealgenie_backend::webhooks::delivery::signature;
use serde_json::{Value, json};
use testkit::upstream::{Reply, Upstream};

use crate::stack::{Stack, assert_invalid, assert_problem, vehicle};

const PATH: &str = "/api/v1/webhooks";

async fn stack() -> Stack {
    let stack = Stack::with(|settings| {
        settings.webhooks.private = true;
        settings.webhooks.pause = Duration::from_millis(10);
        settings.webhooks.poll = Duration::from_millis(50);
        settings.webhooks.timeout = Duration::from_millis(500);
        settings.webhooks.tries = 3;
        settings.webhooks.patience = 5;
    })
    .await;
    stack.work();
    stack
}

async fn subscribe(stack: &Stack, token: &str, body: Value) -> Value {
    let answer = stack.call("POST", PATH, Some(token), Some(body)).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json().unwrap()
}

async fn offer(stack: &Stack, token: &str, number: u32) {
    let body = vehicle(&format!("2T1BURHE0JC{number:06}"));
    let answer = stack.call("POST", "/api/v1/vehicles", Some(token), Some(body)).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
}

/// Waits until the subscription `id` looks as wanted, and gives it.
async fn until(stack: &Stack, token: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let shown = stack.call("GET", path, Some(token), None).await.json().unwrap();
        if wanted(&shown) {
            return shown;
        }
        assert!(Instant::now() < deadline, "never as wanted: {shown}");
    }
}

#[tokio::test]
async fn a_matching_vehicle_is_told_once_and_signed() {
    let endpoint = Upstream::start(Reply::new(204, "")).await.unwrap();
    let stack = stack().await;
    let (root, ann) = (stack.admin("root").await, stack.user("ann").await);
    let url = format!("{}/alerts?for=ann", endpoint.url());
    let made = subscribe(&stack, &ann, json!({"url": url, "make": "TOYOTA", "price_max": 50_000})).await;
    subscribe(&stack, &ann, json!({"url": url, "make": "Ford"})).await;
    subscribe(&stack, &ann, json!({"url": url, "price_max": 10_000})).await;
    subscribe(&stack, &ann, json!({"url": url, "mileage_max": 1})).await;
    subscribe(&stack, &ann, json!({"url": url, "year_min": 2024})).await;
    offer(&stack, &root, 1).await;

    let path = format!("{PATH}/{}", made["id"]);
    let told = until(&stack, &ann, &path, |shown| shown["last_triggered_at"].is_string()).await;
    assert_eq!((&told["status"], &told["failure_count"]), (&json!("active"), &json!(0)));
    assert!(told.get("secret").is_none(), "the secret is shown once");
    let received = endpoint.received();
    assert_eq!(received.len(), 1);
    let alert = &received[0];
    assert_eq!((alert.method.as_str(), alert.path.as_str()), ("POST", "/alerts?for=ann"));
    let body = alert.json().unwrap();
    assert_eq!(
        (&body["event"], &body["vehicle"]["vin"]),
        (&json!("vehicle.listed"), &json!("2T1BURHE0JC000001"))
    );
    let timestamp = alert.header("x-autodealgenie-timestamp").unwrap();
    let expected = signature(made["secret"].as_str().unwrap(), timestamp, &alert.body);
    assert_eq!(alert.header("x-autodealgenie-signature"), Some(expected.as_str()));

    let list = stack.call("GET", &format!("{path}/deliveries"), Some(&ann), None).await.json().unwrap();
    let delivery = &list["items"][0];
    assert_eq!(
        (&delivery["status"], &delivery["attempts"], &delivery["response_status"], &delivery["payload"]),
        (&json!("delivered"), &json!(1), &json!(204), &body)
    );
    let counted = stack.samples(|name| name.starts_with("autodealgenie_webhook")).await;
    assert_eq!(counted["autodealgenie_webhook_alerts_total{}"], 1.0);
    assert_eq!(counted["autodealgenie_webhook_deliveries_total{status=delivered}"], 1.0);
    assert_eq!(counted["autodealgenie_webhook_delivery_duration_seconds_count{}"], 1.0);
}

#[tokio::test]
async fn failures_are_tried_again_and_then_given_up() {
    let endpoint = Upstream::start(Reply::new(204, "")).await.unwrap();
    let stack = stack().await;
    let (root, ann) = (stack.admin("root").await, stack.user("ann").await);
    let made = subscribe(&stack, &ann, json!({"url": endpoint.url()})).await;
    let deliveries = format!("{PATH}/{}/deliveries", made["id"]);
    let newest = |status: &'static str| move |shown: &Value| shown["items"][0]["status"] == status;

    endpoint.next([Reply::new(503, ""), Reply::Hang]);
    offer(&stack, &root, 1).await;
    let shown = until(&stack, &ann, &deliveries, newest("delivered")).await;
    assert_eq!(shown["items"][0]["attempts"], 3);
    let ids: Vec<_> = endpoint
        .received()
        .iter()
        .map(|alert| alert.header("x-autodealgenie-delivery").unwrap().to_owned())
        .collect();
    assert!(ids.len() == 3 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");

    endpoint.next([Reply::Close, Reply::new(302, ""), Reply::new(410, "")]);
    offer(&stack, &root, 2).await;
    let shown = until(&stack, &ann, &deliveries, newest("failed")).await;
    assert_eq!(
        (&shown["items"][0]["attempts"], &shown["items"][0]["response_status"]),
        (&json!(3), &json!(410))
    );
    assert!(shown["items"][0]["finished_at"].is_string());
    let counted = stack.samples(|name| name == "autodealgenie_webhook_deliveries_total").await;
    assert_eq!(counted["autodealgenie_webhook_deliveries_total{status=delivered}"], 1.0);
    assert_eq!(counted["autodealgenie_webhook_deliveries_total{status=retried}"], 4.0);
    assert_eq!(counted["autodealgenie_webhook_deliveries_total{status=failed}"], 1.0);
}

#[tokio::test]
async fn an_endpoint_that_only_fails_is_switched_off_until_its_owner_switches_it_on() {
    let endpoint = Upstream::start(Reply::new(500, "")).await.unwrap();
    let stack = stack().await;
    let (root, ann) = (stack.admin("root").await, stack.user("ann").await);
    let made = subscribe(&stack, &ann, json!({"url": endpoint.url()})).await;
    let path = format!("{PATH}/{}", made["id"]);
    offer(&stack, &root, 1).await;
    offer(&stack, &root, 2).await;
    let shown = until(&stack, &ann, &path, |shown| shown["status"] == "failed").await;
    assert_eq!(shown["failure_count"], 5);
    let disabled = stack.samples(|name| name == "autodealgenie_webhooks_disabled_total").await;
    assert_eq!(disabled.values().sum::<f64>(), 1.0);
    offer(&stack, &root, 3).await;
    let counted = stack.samples(|name| name == "autodealgenie_webhook_alerts_total").await;
    assert_eq!(counted.values().sum::<f64>(), 2.0, "who is switched off gets no new alerts");

    endpoint.always(Reply::new(200, "ok"));
    let body = json!({"active": true});
    let on = stack.call("PATCH", &path, Some(&ann), Some(body)).await;
    assert_eq!(on.status, 200, "{}", on.text);
    let on = on.json().unwrap();
    assert_eq!((&on["status"], &on["failure_count"]), (&json!("active"), &json!(0)));
    offer(&stack, &root, 4).await;
    let newest = |shown: &Value| shown["items"][0]["status"] == "delivered";
    until(&stack, &ann, &format!("{path}/deliveries"), newest).await;

    let off = stack.call("PATCH", &path, Some(&ann), Some(json!({"active": false}))).await.json().unwrap();
    assert_eq!(off["status"], "inactive");
}

#[tokio::test]
async fn private_networks_are_out_of_reach_unless_allowed() {
    let endpoint = Upstream::start(Reply::new(204, "")).await.unwrap();
    let stack = Stack::with(|settings| settings.webhooks.pause = Duration::from_secs(600)).await;
    stack.work();
    let (root, ann) = (stack.admin("root").await, stack.user("ann").await);
    let port = endpoint.url().rsplit_once(':').unwrap().1;
    let mut made = Vec::new();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"] {
        made.push(subscribe(&stack, &ann, json!({"url": format!("http://{host}:{port}/")})).await);
    }
    offer(&stack, &root, 1).await;
    for webhook in made {
        let path = format!("{PATH}/{}", webhook["id"]);
        until(&stack, &ann, &path, |shown| shown["failure_count"] == 1).await;
    }
    assert!(endpoint.received().is_empty());
}

#[tokio::test]
async fn webhooks_are_listed_limited_deleted_and_their_owners_own() {
    let stack = stack().await;
    let (ann, bob) = (stack.user("ann").await, stack.user("bob").await);
    let made = subscribe(&stack, &ann, json!({"url": "https://hooks.example.com/x"})).await;
    let path = format!("{PATH}/{}", made["id"]);
    assert_eq!(stack.call("GET", &path, Some(&ann), None).await.status, 200);
    for (method, path, body) in [
        ("GET", path.clone(), None),
        ("GET", format!("{path}/deliveries"), None),
        ("PATCH", path.clone(), Some(json!({"active": false}))),
        ("DELETE", path.clone(), None),
    ] {
        assert_problem(&stack.call(method, &path, Some(&bob), body.clone()).await, 404);
        assert_problem(&stack.call(method, &path, None, body).await, 401);
    }
    assert_eq!(stack.call("DELETE", &path, Some(&ann), None).await.status, 204);
    assert_problem(&stack.call("GET", &path, Some(&ann), None).await, 404);
    for _ in 0..20 {
        subscribe(&stack, &ann, json!({"url": "https://hooks.example.com/x"})).await;
    }
    let url = json!({"url": "https://hooks.example.com/x"});
    assert_problem(&stack.call("POST", PATH, Some(&ann), Some(url)).await, 409);
    let listed = stack.call("GET", &format!("{PATH}?limit=100"), Some(&ann), None).await.json().unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 20);

    for bad in
        ["", "ftp://x", "hooks.example.com", "https://", "http://ann:secret@example.com/", "javascript:x"]
    {
        assert_invalid(&stack.call("POST", PATH, Some(&bob), Some(json!({"url": bad}))).await, &["url"]);
    }
    let bad = json!({"url": "https://x.example", "price_min": 5, "price_max": 4, "year_min": 1});
    assert_invalid(&stack.call("POST", PATH, Some(&bob), Some(bad)).await, &["year_min", "price_max"]);
}
