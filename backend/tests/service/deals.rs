//! Deals: creating, paging, moving, deleting, and that nobody sees another's.

use serde_json::json;

use crate::stack::{Stack, assert_invalid, assert_problem, deal, vin};

#[tokio::test]
async fn a_deal_lives_from_creation_to_deletion() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let mut body = deal(&vin(1).to_lowercase());
    body["notes"] = json!("  second owner\nnice  ");
    let created = stack.call("POST", "/api/v1/deals", Some(&token), Some(body)).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let created = created.json().unwrap();
    assert_eq!(created["vehicle_vin"], vin(1));
    assert_eq!(created["asking_price"], 23_999.99);
    assert_eq!(created["offer_price"], 22_500.0);
    assert_eq!(created["status"], "pending");
    assert_eq!(created["notes"], "second owner\nnice");
    assert_eq!(created["version"], 1);

    let path = format!("/api/v1/deals/{}", created["id"]);
    assert_eq!(stack.call("GET", &path, Some(&token), None).await.json().unwrap(), created);

    let status = format!("{path}/status");
    for (wanted, version) in [("in_progress", 2), ("in_progress", 2), ("completed", 3)] {
        let moved = stack.call("PATCH", &status, Some(&token), Some(json!({"status": wanted}))).await;
        assert_eq!(moved.status, 200, "{}", moved.text);
        let moved = moved.json().unwrap();
        assert_eq!((&moved["status"], &moved["version"]), (&json!(wanted), &json!(version)));
    }
    assert_eq!(stack.call("DELETE", &path, Some(&token), None).await.status, 204);
    assert_problem(&stack.call("GET", &path, Some(&token), None).await, 404);
    assert_problem(&stack.call("DELETE", &path, Some(&token), None).await, 404);
}

#[tokio::test]
async fn every_move_is_allowed_or_a_conflict() {
    const STATUSES: [&str; 4] = ["pending", "in_progress", "completed", "cancelled"];
    const ALLOWED: [(&str, &str); 4] = [
        ("pending", "in_progress"),
        ("pending", "cancelled"),
        ("in_progress", "completed"),
        ("in_progress", "cancelled"),
    ];
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let mut number = 0;
    for from in STATUSES {
        for to in STATUSES {
            number += 1;
            let id = stack.deal(&token, &vin(number)).await;
            stack.postgres.sql(&format!("UPDATE deals SET status = '{from}' WHERE id = {id}")).await.unwrap();
            let path = format!("/api/v1/deals/{id}/status");
            let answer = stack.call("PATCH", &path, Some(&token), Some(json!({"status": to}))).await;
            if from == to || ALLOWED.contains(&(from, to)) {
                assert_eq!(answer.status, 200, "{from} to {to}: {}", answer.text);
                assert_eq!(answer.json().unwrap()["status"], to);
            } else {
                assert_problem(&answer, 409);
                let now = stack.call("GET", &format!("/api/v1/deals/{id}"), Some(&token), None).await;
                assert_eq!(now.json().unwrap()["status"], from, "{from} to {to}");
            }
        }
    }
}

#[tokio::test]
async fn one_open_deal_a_vehicle_and_user() {
    let stack = Stack::start().await;
    let (ann, bob) = (stack.user("ann").await, stack.user("bob").await);
    let id = stack.deal(&ann, &vin(1)).await;
    assert_problem(&stack.call("POST", "/api/v1/deals", Some(&ann), Some(deal(&vin(1)))).await, 409);
    stack.deal(&bob, &vin(1)).await;
    let path = format!("/api/v1/deals/{id}/status");
    let cancelled = stack.call("PATCH", &path, Some(&ann), Some(json!({"status": "cancelled"}))).await;
    assert_eq!(cancelled.status, 200);
    stack.deal(&ann, &vin(1)).await;
}

#[tokio::test]
async fn unacceptable_fields_are_named() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let create = async |field: &str, value: serde_json::Value| {
        let mut body = deal(&vin(1));
        body[field] = value;
        stack.call("POST", "/api/v1/deals", Some(&token), Some(body)).await
    };
    for (field, value) in [
        ("vehicle_vin", json!("1HGCM82633A00435")),
        ("vehicle_vin", json!(17)),
        ("vehicle_make", json!(" ")),
        ("vehicle_model", json!("x".repeat(101))),
        ("vehicle_make", json!("a\u{0}b")),
        ("vehicle_year", json!(1899)),
        ("vehicle_year", json!(4_000_000_000_u32)),
        ("vehicle_mileage", json!(-1)),
        ("asking_price", json!(0)),
        ("asking_price", json!(1.005)),
        ("asking_price", json!(1e12)),
        ("offer_price", json!(-5)),
        ("status", json!("completed")),
        ("status", json!("sold")),
        ("user_id", json!(1)),
    ] {
        let refused = create(field, value.clone()).await;
        assert_eq!(refused.status, 422, "{field} {value}: {}", refused.text);
        assert_invalid(&refused, &[field]);
    }
    for query in ["limit=0", "limit=101", "limit=x", "status=sold", "cursor=zz", "owner=1"] {
        let refused = stack.call("GET", &format!("/api/v1/deals?{query}"), Some(&token), None).await;
        assert_invalid(&refused, &[query.split('=').next().unwrap()]);
    }
    assert_eq!(stack.postgres.psql("SELECT count(*) FROM deals").await.unwrap().unwrap(), "0");
}

#[tokio::test]
async fn text_is_stored_as_it_is() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let texts = ["'; DROP TABLE deals; --", "$1 %s {0} \\", "<script>alert(1)</script>", "Škoda 日本 🚗"];
    for (number, text) in (1..).zip(texts) {
        let mut body = deal(&vin(number));
        body["vehicle_make"] = json!(text);
        body["notes"] = json!(text);
        let created = stack.call("POST", "/api/v1/deals", Some(&token), Some(body)).await;
        assert_eq!(created.status, 201, "{}", created.text);
        assert_eq!(created.json().unwrap()["vehicle_make"], text);
        assert_eq!(created.json().unwrap()["notes"], text);
    }
}

#[tokio::test]
async fn nobody_reaches_another_users_deal() {
    let stack = Stack::start().await;
    let (ann, eve) = (stack.user("ann").await, stack.user("eve").await);
    let id = stack.deal(&ann, &vin(1)).await;
    let path = format!("/api/v1/deals/{id}");
    let status = format!("{path}/status");
    let foreign = stack.call("GET", &path, Some(&eve), None).await;
    assert_problem(&foreign, 404);
    let absent = stack.call("GET", "/api/v1/deals/999999", Some(&eve), None).await;
    assert_eq!(foreign.text, absent.text, "a foreign deal must look like one that is not there");
    assert_problem(&stack.call("DELETE", &path, Some(&eve), None).await, 404);
    let cancel = json!({"status": "cancelled"});
    assert_problem(&stack.call("PATCH", &status, Some(&eve), Some(cancel)).await, 404);
    let list = stack.call("GET", "/api/v1/deals", Some(&eve), None).await.json().unwrap();
    assert_eq!(list["items"], json!([]));
    for (method, path) in [("GET", &path), ("DELETE", &path), ("PATCH", &status)] {
        let body = (method == "PATCH").then(|| json!({"status": "cancelled"}));
        assert_problem(&stack.call(method, path, None, body).await, 401);
    }
    assert_problem(&stack.call("POST", "/api/v1/deals", None, Some(deal(&vin(2)))).await, 401);
    assert_problem(&stack.call("GET", "/api/v1/deals", None, None).await, 401);
    assert_eq!(stack.call("GET", &path, Some(&ann), None).await.json().unwrap()["status"], "pending");
    for odd in ["x", "-1", "1.5", "99999999999999999999", "%00", "..%2f..%2fetc%2fpasswd", "1%27--"] {
        let answer = stack.call("GET", &format!("/api/v1/deals/{odd}"), Some(&ann), None).await;
        assert_problem(&answer, 404);
    }
}

#[tokio::test]
async fn pages_show_every_deal_once_also_while_deals_come() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let mut expected = Vec::new();
    for number in 1..=7 {
        expected.insert(0, stack.deal(&token, &vin(number)).await);
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/deals?limit=3{cursor}");
        let page = stack.call("GET", &path, Some(&token), None).await.json().unwrap();
        seen.extend(page["items"].as_array().unwrap().iter().map(|deal| deal["id"].as_i64().unwrap()));
        stack.deal(&token, &vin(100 + u32::try_from(seen.len()).unwrap())).await;
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, expected);
    let path = format!("/api/v1/deals/{}/status", expected[0]);
    stack.call("PATCH", &path, Some(&token), Some(json!({"status": "in_progress"}))).await;
    let page = stack.call("GET", "/api/v1/deals?status=in_progress", Some(&token), None).await;
    assert_eq!(page.json().unwrap()["items"].as_array().unwrap().len(), 1);
}
