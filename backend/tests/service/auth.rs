//! Accounts and sessions: what works, what is refused, what leaks nothing.

use serde_json::json;

use crate::stack::{PASSWORD, Stack, assert_invalid, assert_problem, email, signup};

#[tokio::test]
async fn an_account_is_created_logged_in_shown_and_logged_out() {
    let stack = Stack::start().await;
    let created = stack.call("POST", "/api/v1/auth/signup", None, Some(signup("ann"))).await;
    assert_eq!(created.status, 201);
    let user = created.json().unwrap();
    assert_eq!(
        (&user["email"], &user["username"], &user["role"]),
        (&json!("ann@example.com"), &json!("ann"), &json!("user"))
    );
    assert!(!created.text.contains("password") && !created.text.contains("argon2"));

    let token = stack.login("ann").await;
    let me = stack.call("GET", "/api/v1/auth/me", Some(&token), None).await;
    assert_eq!(me.status, 200);
    assert_eq!(me.json().unwrap()["id"], user["id"]);
    assert!(me.json().unwrap()["last_login_at"].is_string());

    let second = stack.login("ann").await;
    assert_eq!(stack.call("POST", "/api/v1/auth/logout", Some(&token), None).await.status, 204);
    for path in ["/api/v1/auth/me", "/api/v1/deals"] {
        assert_problem(&stack.call("GET", path, Some(&token), None).await, 401);
    }
    assert_problem(&stack.call("POST", "/api/v1/auth/logout", Some(&token), None).await, 401);
    assert_eq!(stack.call("GET", "/api/v1/auth/me", Some(&second), None).await.status, 200);
}

#[tokio::test]
async fn a_taken_name_is_a_conflict() {
    let stack = Stack::start().await;
    stack.user("ann").await;
    let mut other = signup("ann2");
    other["email"] = json!("ANN@Example.com");
    let refused = stack.call("POST", "/api/v1/auth/signup", None, Some(other)).await;
    assert!(assert_problem(&refused, 409)["detail"].as_str().unwrap().contains("e-mail"));
    let mut other = signup("ann3");
    other["username"] = json!("Ann");
    let refused = stack.call("POST", "/api/v1/auth/signup", None, Some(other)).await;
    assert!(assert_problem(&refused, 409)["detail"].as_str().unwrap().contains("username"));
    assert_eq!(stack.postgres.psql("SELECT count(*) FROM users").await.unwrap().unwrap(), "1");
}

#[tokio::test]
async fn unacceptable_fields_are_named() {
    let stack = Stack::start().await;
    let bad = json!({"email": "nobody", "username": "a b", "password": "short", "full_name": ""});
    let refused = stack.call("POST", "/api/v1/auth/signup", None, Some(bad)).await;
    assert_invalid(&refused, &["email", "username", "full_name", "password"]);
    let refused = stack.call("POST", "/api/v1/auth/signup", None, Some(json!({"email": 5}))).await;
    assert_invalid(&refused, &["email"]);
    let mut admin = signup("eve");
    admin["role"] = json!("admin");
    assert_invalid(&stack.call("POST", "/api/v1/auth/signup", None, Some(admin)).await, &["role"]);
    let long = json!({"email": email("ann"), "password": "x".repeat(257)});
    assert_invalid(&stack.call("POST", "/api/v1/auth/login", None, Some(long)).await, &["password"]);
}

#[tokio::test]
async fn refused_logins_look_and_cost_the_same() {
    let stack = Stack::start().await;
    stack.user("ann").await;
    stack.user("bob").await;
    stack.postgres.sql("UPDATE users SET is_active = false WHERE username = 'bob'").await.unwrap();
    let hashes = async || {
        let name = "autodealgenie_password_hash_duration_seconds_count";
        stack.samples(|sample| sample == name).await.into_values().sum::<f64>()
    };
    let mut answers = Vec::new();
    for (name, password) in [("ann", "wrong horse"), ("nobody", PASSWORD), ("bob", PASSWORD)] {
        let before = hashes().await;
        let body = json!({"email": email(name), "password": password});
        let refused = stack.call("POST", "/api/v1/auth/login", None, Some(body)).await;
        assert_problem(&refused, 401);
        answers.push(refused.text);
        assert_eq!(hashes().await - before, 1.0, "{name}");
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[tokio::test]
async fn only_a_whole_bearer_token_opens() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let flipped = format!("{}{}", &token[..63], if token.ends_with('0') { '1' } else { '0' });
    for header in [
        String::new(),
        token.clone(),
        "Bearer".to_owned(),
        format!("Basic {token}"),
        format!("Bearer {flipped}"),
        format!("Bearer {}", &token[..63]),
        format!("Bearer {token}0"),
        format!("Bearer {}", token.to_uppercase().replace(|c: char| c.is_ascii_digit(), "A")),
        "Bearer ../../../etc/passwd".to_owned(),
    ] {
        let answer =
            stack.request("GET", "/api/v1/auth/me").header("authorization", &header).send().await.unwrap();
        assert_problem(&answer, 401);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{header}");
    }
    assert_problem(&stack.call("GET", "/api/v1/auth/me", None, None).await, 401);
}

#[tokio::test]
async fn redis_and_the_database_hold_no_token_and_no_password() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let keys = stack.redis.command(&["KEYS", "*"]).unwrap().text();
    assert!(keys.contains("session:") && !keys.contains(&token), "{keys}");
    let key =
        keys.split_whitespace().find(|word| word.contains("session:") && !word.contains("user-")).unwrap();
    let key = key.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let ttl: i64 = stack.redis.command(&["TTL", key]).unwrap().text().trim().parse().unwrap();
    assert!((1..=600).contains(&ttl), "{ttl}");
    let row = stack.postgres.psql("SELECT users::text FROM users").await.unwrap().unwrap();
    assert!(row.contains("$argon2id$") && !row.contains(PASSWORD), "{row}");
}

#[tokio::test]
async fn a_deleted_account_has_no_session_left_to_use() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    stack.postgres.sql("DELETE FROM users").await.unwrap();
    assert_problem(&stack.call("GET", "/api/v1/auth/me", Some(&token), None).await, 401);
    let body = crate::stack::deal(&crate::stack::vin(1));
    assert_problem(&stack.call("POST", "/api/v1/deals", Some(&token), Some(body)).await, 401);
}
