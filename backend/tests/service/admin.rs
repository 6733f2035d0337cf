//! Admins: what only they may do.

use serde_json::{Value, json};

use crate::stack::{Stack, assert_invalid, assert_problem, vehicle};

#[tokio::test]
async fn admins_see_disable_and_promote_accounts() {
    let stack = Stack::start().await;
    let (root, ann) = (stack.admin("root").await, stack.user("ann").await);
    let listed = stack.call("GET", "/api/v1/users?limit=1", Some(&root), None).await.json().unwrap();
    assert_eq!(listed["items"][0]["username"], "ann");
    assert!(listed["next_cursor"].is_string() && listed["items"][0].get("hashed_password").is_none());
    let path = format!("/api/v1/users/{}", listed["items"][0]["id"]);

    let change = async |path: &str, body: Value| stack.call("PATCH", path, Some(&root), Some(body)).await;
    let disabled = change(&path, json!({"is_active": false})).await;
    assert_eq!(disabled.status, 200, "{}", disabled.text);
    assert_problem(&stack.call("GET", "/api/v1/deals", Some(&ann), None).await, 401);
    assert_eq!(
        change(&path, json!({"is_active": true, "role": "admin"})).await.json().unwrap()["role"],
        "admin"
    );
    let ann = stack.login("ann").await;
    assert_eq!(stack.call("GET", "/api/v1/users", Some(&ann), None).await.status, 200);

    assert_problem(&change("/api/v1/users/99999", json!({"is_active": false})).await, 404);
    assert_invalid(&change(&path, json!({"role": "root"})).await, &["role"]);
    let outdated = stack.request("PATCH", &path).header("authorization", format!("Bearer {root}"));
    let outdated = outdated.header("if-match", "\"1\"").json(&json!({"role": "user"})).send().await.unwrap();
    assert_problem(&outdated, 412);
    let own = listed_id(&stack, &root, "root").await;
    assert_problem(&change(&format!("/api/v1/users/{own}"), json!({"role": "user"})).await, 409);
}

async fn listed_id(stack: &Stack, token: &str, name: &str) -> Value {
    let listed = stack.call("GET", "/api/v1/users", Some(token), None).await.json().unwrap();
    let mut accounts = listed["items"].as_array().unwrap().iter();
    accounts.find(|account| account["username"] == name).unwrap()["id"].clone()
}

#[tokio::test]
async fn users_are_no_admins_and_a_demoted_admin_is_one_no_more() {
    let stack = Stack::start().await;
    let (root, ann) = (stack.admin("root").await, stack.user("ann").await);
    let calls = [
        ("GET", "/api/v1/users", None),
        ("PATCH", "/api/v1/users/1", Some(json!({"role": "admin"}))),
        ("POST", "/api/v1/vehicles", Some(vehicle("2T1BURHE0JC000001"))),
    ];
    for (method, path, body) in calls.clone() {
        assert_problem(&stack.call(method, path, Some(&ann), body.clone()).await, 403);
        assert_problem(&stack.call(method, path, None, body).await, 401);
    }
    stack.postgres.sql("UPDATE users SET role = 'user'").await.unwrap();
    for (method, path, body) in calls {
        assert_problem(&stack.call(method, path, Some(&root), body).await, 403);
    }
}

#[tokio::test]
async fn admins_put_vehicles_on_offer() {
    let stack = Stack::start().await;
    let root = stack.admin("root").await;
    let offer = async |body: Value| stack.call("POST", "/api/v1/vehicles", Some(&root), Some(body)).await;
    let offered = offer(vehicle("2T1BURHE0JC000001")).await;
    assert_eq!(offered.status, 201, "{}", offered.text);
    assert_problem(&offer(vehicle("2t1burhe0jc000001")).await, 409);
    let found = stack.call("GET", "/api/v1/vehicles/2T1BURHE0JC000001", None, None).await.json().unwrap();
    assert_eq!(found, offered.json().unwrap());
    let first =
        stack.call("GET", "/api/v1/vehicles?make=toyota&model=supra", None, None).await.json().unwrap();
    assert_eq!(first["items"][0]["vin"], "2T1BURHE0JC000001");
    let mut bad = vehicle("IOQ");
    bad["price"] = json!(0);
    bad["year"] = json!(1);
    assert_invalid(&offer(bad).await, &["vin", "year", "price"]);
}
