//! Forgotten passwords: the mail, the token, and that nobody learns who has an account.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::http::Response;
use testkit::upstream::{Reply, Upstream};

use crate::stack::{PASSWORD, Stack, assert_invalid, assert_problem, email};

const REQUEST: &str = "/api/v1/auth/password-reset";
const CONFIRM: &str = "/api/v1/auth/password-reset/confirm";

async fn stack(mail: &Upstream) -> Stack {
    Stack::with(|settings| settings.mail_url = Some(format!("{}/send", mail.url()))).await
}

async fn ask(stack: &Stack, name: &str) -> Response {
    stack.call("POST", REQUEST, None, Some(json!({"email": email(name)}))).await
}

/// Asks for a token and takes it from the mail.
async fn token(stack: &Stack, mail: &Upstream, name: &str) -> String {
    let before = mail.received().len();
    assert_eq!(ask(stack, name).await.status, 204);
    let mails = mail.wait_for(before + 1).await.unwrap();
    mails[before].json().unwrap()["token"].as_str().unwrap().to_owned()
}

async fn confirm(stack: &Stack, token: &str, password: &str) -> Response {
    stack.call("POST", CONFIRM, None, Some(json!({"token": token, "password": password}))).await
}

async fn login(stack: &Stack, password: &str) -> u16 {
    let body = json!({"email": email("ann"), "password": password});
    stack.call("POST", "/api/v1/auth/login", None, Some(body)).await.status.as_u16()
}

#[tokio::test]
async fn a_token_sets_a_new_password_once_and_ends_all_sessions() {
    let mail = Upstream::start(Reply::new(202, "")).await.unwrap();
    let stack = stack(&mail).await;
    let session = stack.user("ann").await;
    let (first, second) = (token(&stack, &mail, "ann").await, token(&stack, &mail, "ann").await);
    let sent = mail.received()[0].clone();
    assert_eq!((sent.path.as_str(), sent.header("content-type")), ("/send", Some("application/json")));
    let sent = sent.json().unwrap();
    assert_eq!((&sent["to"], &sent["template"]), (&json!("ann@example.com"), &json!("password_reset")));
    let stored =
        stack.postgres.psql("SELECT string_agg(r::text, ' ') FROM password_resets AS r").await.unwrap();
    assert!(!stored.unwrap().contains(&first), "only a hash is stored");

    assert_eq!(confirm(&stack, &first, "a new password").await.status, 204);
    assert_problem(&stack.call("GET", "/api/v1/auth/me", Some(&session), None).await, 401);
    assert_eq!((login(&stack, PASSWORD).await, login(&stack, "a new password").await), (401, 200));
    for spent in [&first, &second] {
        assert_invalid(&confirm(&stack, spent, "another password").await, &["token"]);
    }
    let counted = stack.samples(|name| name.starts_with("autodealgenie_password_resets_")).await;
    assert_eq!(counted["autodealgenie_password_resets_requested_total{}"], 2.0);
    assert_eq!(counted["autodealgenie_password_resets_completed_total{}"], 1.0);
}

#[tokio::test]
async fn unknown_and_disabled_accounts_get_the_same_answer_and_no_mail() {
    let mail = Upstream::start(Reply::new(202, "")).await.unwrap();
    let stack = stack(&mail).await;
    stack.user("ann").await;
    stack.user("bob").await;
    stack.postgres.sql("UPDATE users SET is_active = false WHERE username = 'bob'").await.unwrap();
    let queries = async || {
        let sums = stack.samples(|name| name == "autodealgenie_db_queries_total").await;
        sums["autodealgenie_db_queries_total{operation=select,table=users}"]
    };
    let mut answers = Vec::new();
    for name in ["nobody", "bob", "ann"] {
        let before = queries().await;
        let answer = ask(&stack, name).await;
        assert_eq!(answer.status, 204);
        answers.push(answer.text);
        assert_eq!(queries().await - before, 1.0, "{name}");
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
    // The last one came; if the others had been sent, they would have come before.
    let mails = mail.wait_for(1).await.unwrap();
    assert_eq!((mails.len(), &mails[0].json().unwrap()["to"]), (1, &json!("ann@example.com")));
}

#[tokio::test]
async fn odd_and_expired_tokens_are_refused_without_a_hash() {
    let mail = Upstream::start(Reply::new(202, "")).await.unwrap();
    let stack = stack(&mail).await;
    stack.user("ann").await;
    let token = token(&stack, &mail, "ann").await;
    stack.postgres.sql("UPDATE password_resets SET expires_at = now()").await.unwrap();
    let hashes = async || {
        let name = "autodealgenie_password_hash_duration_seconds_count";
        stack.samples(|sample| sample == name).await.into_values().sum::<f64>()
    };
    let before = hashes().await;
    for odd in [token.as_str(), "", "x", &"0".repeat(64), "' OR 1=1 --"] {
        assert_invalid(&confirm(&stack, odd, "a new password").await, &["token"]);
    }
    assert_invalid(&confirm(&stack, &token, "short").await, &["password"]);
    assert_eq!(hashes().await, before);
    assert_eq!(login(&stack, PASSWORD).await, 200);
}

#[tokio::test]
async fn requests_are_limited_by_account_and_a_dead_hook_harms_nobody() {
    let mail = Upstream::start(Reply::new(500, "")).await.unwrap();
    let stack = Stack::with(|settings| {
        settings.mail_url = Some(mail.url().to_owned());
        settings.resets.account = 2;
    })
    .await;
    stack.user("ann").await;
    for _ in 0..2 {
        assert_eq!(ask(&stack, "ann").await.status, 204);
    }
    let refused = ask(&stack, "ann").await;
    assert_problem(&refused, 429);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(login(&stack, PASSWORD).await, 200, "logins have a limit of their own");
    let deadline = Instant::now() + Duration::from_secs(30);
    let failed = "autodealgenie_external_api_errors_total{api_name=mail,error_type=server_error}";
    while stack.samples(|name| name == "autodealgenie_external_api_errors_total").await[failed] < 2.0 {
        assert!(Instant::now() < deadline, "the failures are not counted");
    }
}

#[tokio::test]
async fn without_redis_nothing_changes_and_the_token_stays_good() {
    let mail = Upstream::start(Reply::new(202, "")).await.unwrap();
    let mut stack = stack(&mail).await;
    stack.user("ann").await;
    let token = token(&stack, &mail, "ann").await;
    stack.redis.stop().unwrap();
    assert_problem(&confirm(&stack, &token, "a new password").await, 503);
    stack.redis.restart().await.unwrap();
    stack.until_ready().await;
    assert_eq!(login(&stack, PASSWORD).await, 200);
    assert_eq!(confirm(&stack, &token, "a new password").await.status, 204);
}
