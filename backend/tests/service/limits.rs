//! Requests that are no requests: refused clearly, with the right status, and nothing breaks.

use serde_json::json;

use crate::stack::{Stack, assert_invalid, assert_problem};

#[tokio::test]
async fn unreadable_bodies_are_refused_by_kind() {
    let stack = Stack::start().await;
    let post = async |content_type: &str, body: Vec<u8>| {
        let request = stack.request("POST", "/api/v1/auth/login").header("content-type", content_type);
        request.body(body).send().await.unwrap()
    };
    for broken in ["", "{", "{\"email\":}", "{\"email\":\"a@b.c\",\"password\":\"x\"} {}", "\u{0}"] {
        assert_problem(&post("application/json", broken.into()).await, 400);
    }
    assert_problem(&post("application/json", b"{\"email\": \"\xff\xfe\"}".to_vec()).await, 400);
    for other in ["[]", r#"["a@b.c", "password"]"#, "null", "5", "{}"] {
        assert_problem(&post("application/json; charset=utf-8", other.into()).await, 422);
    }
    let missing = stack.call("POST", "/api/v1/auth/login", None, Some(json!({"email": "a@b.c"}))).await;
    assert_invalid(&missing, &["password"]);
    for other in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
        assert_problem(&post(other, b"{}".to_vec()).await, 415);
    }
    let huge = format!("{{\"email\": \"{}\"}}", "x".repeat(70_000));
    assert_problem(&post("application/json", huge.into_bytes()).await, 413);
    let nested = "{\"a\":".repeat(10_000);
    assert_problem(&post("application/json", nested.into_bytes()).await, 422);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let stack = Stack::start().await;
    for path in
        ["/", "/api/v1", "/api/v1/deals/", "/api/v1/deals/1/2", "/api/v1/../../etc/passwd", "/%2e%2e/x"]
    {
        assert_problem(&stack.call("GET", path, None, None).await, 404);
    }
    let refused = stack.call("PUT", "/api/v1/deals", None, None).await;
    assert_problem(&refused, 405);
    assert_eq!(refused.header("allow").map(|allow| allow.contains("POST")), Some(true));
}

#[tokio::test]
async fn every_answer_carries_its_id_and_the_security_headers() {
    let stack = Stack::start().await;
    let given = stack.request("GET", "/nowhere").header("x-request-id", "trace-1.2_3").send().await.unwrap();
    assert_eq!(given.header("x-request-id"), Some("trace-1.2_3"));
    for odd in ["", "a b", "a\"b", &"x".repeat(65)] {
        let answer = stack.request("GET", "/nowhere").header("x-request-id", odd).send().await.unwrap();
        let id = answer.header("x-request-id").unwrap();
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{odd}: {id}");
    }
    for path in ["/nowhere", "/health", "/metrics"] {
        let answer = stack.call("GET", path, None, None).await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(answer.header("content-security-policy").is_some());
    }
}
