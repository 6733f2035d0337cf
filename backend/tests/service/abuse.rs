//! Who means harm: every route with hostile fields, headers, paths, tokens and other people's ids. Nothing fails, nothing
//! leaks, nothing is left behind.

use std::time::{Duration, Instant};

use autodealgenie_backend::http::routes::ROUTES;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::stack::{Stack, assert_problem, deal, signup, vin};

/// Texts that break what is put together out of strings.
const HOSTILE: [&str; 8] = [
    "'; DROP TABLE deals; --",
    "' OR '1'='1",
    "\" OR \"\"=\"",
    "%' UNION SELECT hashed_password FROM users --",
    "$1; SELECT pg_sleep(10)",
    "\\x00\\'; COMMIT",
    "../../../../etc/passwd",
    "{{7*7}}${jndi:ldap://x}",
];

/// An answer that is none of the service's own making would be a 5xx or show what it runs on.
fn assert_tight(text: &str, status: u16, what: &str) {
    assert!(status < 500, "{what}: {status} {text}");
    for leak in ["SQLSTATE", "syntax error", "postgres", "argon2", "panicked", "src/", "redis:"] {
        assert!(!text.contains(leak), "{what} tells of {leak}: {text}");
    }
}

/// Bodies of every route that takes one, by path; each text field is attacked in turn.
fn bodies() -> Vec<(&'static str, &'static str, Value)> {
    let wishes = json!({"url": "https://hooks.example.com/x", "make": "Honda", "model": "Civic"});
    vec![
        ("POST", "/api/v1/auth/signup", signup("eve")),
        ("POST", "/api/v1/auth/login", json!({"email": "eve@example.com", "password": "eve's password"})),
        ("POST", "/api/v1/auth/password-reset", json!({"email": "eve@example.com"})),
        ("POST", "/api/v1/auth/password-reset/confirm", json!({"token": "0", "password": "eve's password"})),
        ("POST", "/api/v1/deals", {
            let mut body = deal(&vin(7));
            body["notes"] = json!("x");
            body
        }),
        ("PATCH", "/api/v1/deals/1/status", json!({"status": "cancelled"})),
        ("POST", "/api/v1/favorites", json!({"vin": "1ADGX000000000001"})),
        ("POST", "/api/v1/saved-searches", json!({"name": "x", "criteria": {"make": "x", "body_type": "x"}})),
        (
            "POST",
            "/api/v1/negotiations",
            json!({"deal_id": 1, "target_price": 1, "offer": 1, "message": "x"}),
        ),
        ("POST", "/api/v1/negotiations/1/messages", json!({"message": "x"})),
        ("POST", "/api/v1/negotiations/1/counter", json!({"offer": 1, "message": "x"})),
        ("POST", "/api/v1/webhooks", wishes),
    ]
}

/// Puts `hostile` into the `number`-th text of `value`; whether there was one.
fn poison(value: &mut Value, number: &mut usize, hostile: &str) -> bool {
    match value {
        Value::String(text) => {
            if *number == 0 {
                hostile.clone_into(text);
                return true;
            }
            *number -= 1;
            false
        }
        Value::Object(fields) => fields.values_mut().any(|field| poison(field, number, hostile)),
        Value::Array(items) => items.iter_mut().any(|item| poison(item, number, hostile)),
        _ => false,
    }
}

#[tokio::test]
async fn sql_and_other_tongues_in_every_field_are_only_text() {
    let stack = Stack::with(|settings| settings.logins.address = 10_000).await;
    let token = stack.user("ann").await;
    stack.deal(&token, &vin(1)).await;
    for (method, path, body) in bodies() {
        for hostile in HOSTILE {
            let mut field = 0;
            loop {
                let mut poisoned = body.clone();
                let mut number = field;
                if !poison(&mut poisoned, &mut number, hostile) {
                    break;
                }
                let answer = stack.call(method, path, Some(&token), Some(poisoned.clone())).await;
                assert_tight(&answer.text, answer.status.as_u16(), &format!("{path} {poisoned}"));
                field += 1;
            }
            assert!(field > 0, "{path} has no text");
        }
    }
    for hostile in HOSTILE {
        let encoded: String = hostile.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for path in [
            format!("/api/v1/vehicles?make={encoded}"),
            format!("/api/v1/vehicles?search_type={encoded}"),
            format!("/api/v1/vehicles/{encoded}"),
            format!("/api/v1/deals/{encoded}"),
            format!("/api/v1/deals?cursor={encoded}&limit={encoded}"),
            format!("/api/v1/{encoded}"),
        ] {
            let answer = stack.call("GET", &path, Some(&token), None).await;
            assert_tight(&answer.text, answer.status.as_u16(), &path);
        }
    }
    let left = "SELECT concat_ws(' ', to_regclass('deals'), (SELECT count(*) FROM deals WHERE vehicle_vin LIKE '1HGCM%'))";
    assert!(stack.postgres.psql(left).await.unwrap().unwrap().starts_with("deals "));
}

#[tokio::test]
async fn every_route_that_needs_a_session_refuses_none_and_a_used_up_one() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    assert_eq!(stack.call("POST", "/api/v1/auth/logout", Some(&token), None).await.status, 204);
    let mut checked = 0;
    for route in ROUTES.iter().filter(|route| route.statuses().contains(&401)) {
        if route.path.ends_with("/login") || route.path == "/api/v1/vehicles" && route.verb == "GET" {
            continue;
        }
        let path = route.path.replace("{id}", "1").replace("{vin}", "1ADGX000000000001");
        for token in [None, Some(token.as_str())] {
            let answer = stack.call(route.verb.as_str(), &path, token, Some(json!({}))).await;
            assert_problem(&answer, 401);
        }
        checked += 1;
    }
    assert!(checked > 30, "{checked}");
}

/// Sends bytes as they are and gives the answer's first bytes as text; empty if the connection was closed.
async fn raw(stack: &Stack, bytes: &[u8]) -> String {
    let mut stream = tokio::net::TcpStream::connect(stack.url.trim_start_matches("http://")).await.unwrap();
    // The service may close while we still write: that is a refusal too.
    let _ = stream.write_all(bytes).await;
    let mut answer = vec![0; 2048];
    let length = stream.read(&mut answer).await.unwrap_or(0);
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// A connection on which so much of a request was sent.
async fn half(stack: &Stack, bytes: &[u8]) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(stack.url.trim_start_matches("http://")).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

#[tokio::test]
async fn slow_clients_hold_up_nobody() {
    const SLOW: usize = 50;
    let stack = Stack::with(|settings| {
        settings.max_in_flight = 4;
        settings.arrival = Duration::from_secs(3);
    })
    .await;
    let token = stack.user("ann").await;
    let body = r#"{"loan_amount": 20000, "loan_term_months": 60, "credit_score_range": "good"}"#;
    let head = format!(
        "POST /api/v1/loans/calculate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let (mut heads, mut bodies, mut readers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SLOW {
        heads.push(half(&stack, b"GET /api/v1/deals HTTP/1.1\r\nhost:").await);
        bodies.push(half(&stack, format!("{head}{{").as_bytes()).await);
        readers.push(half(&stack, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await);
    }
    let begun = "autodealgenie_requests_inprogress{handler=/api/v1/loans/calculate,method=POST}";
    let deadline = Instant::now() + Duration::from_secs(30);
    while stack.samples(|name| name == "autodealgenie_requests_inprogress").await[begun] < SLOW as f64 {
        assert!(Instant::now() < deadline, "the slow ones never arrive");
    }
    for _ in 0..20 {
        assert_eq!(stack.call("GET", "/api/v1/auth/me", Some(&token), None).await.status, 200);
    }
    // Who gets ready is served, who does not is told, who has left is nobody's concern.
    let mut ready = bodies.pop().unwrap();
    ready.write_all(&body.as_bytes()[1..]).await.unwrap();
    let mut answer = [0; 15];
    ready.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    for slow in &mut bodies {
        slow.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 408 Re");
    }
    drop((heads, readers));
    let counted = stack.samples(|name| name == "http_requests_total").await;
    let refused = "http_requests_total{handler=/api/v1/loans/calculate,method=POST,status=408}";
    assert_eq!(counted[refused], (SLOW - 1) as f64);
    assert_eq!(stack.call("GET", "/api/v1/auth/me", Some(&token), None).await.status, 200);
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_the_service_goes_on() {
    let stack = Stack::start().await;
    let many = (0..5_000).fold(String::new(), |text, n| text + &format!("x-{n}: y\r\n"));
    let long = format!("x-long: {}\r\n", "y".repeat(500_000));
    for (what, request) in [
        ("header flood", format!("GET /health HTTP/1.1\r\nhost: x\r\n{many}\r\n").into_bytes()),
        ("long header", format!("GET /health HTTP/1.1\r\nhost: x\r\n{long}\r\n").into_bytes()),
        ("long path", format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(200_000)).into_bytes()),
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        ("bytes in the path", b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
        (
            "two lengths",
            b"POST /api/v1/deals HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}"
                .to_vec(),
        ),
    ] {
        let answer = raw(&stack, &request).await;
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(refused, "{what}: {answer}");
    }
    assert_eq!(stack.call("GET", "/health", None, None).await.status, 200);
}
