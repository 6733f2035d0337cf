//! Schemathesis sends what the OpenAPI document allows, and what it does not: no answer is a 5xx, and every one is of a
//! documented status, type and shape.

use std::time::Duration;

use testkit::process::Process;
use testkit::servers;

use crate::stack::Stack;

/// Cases for each route; `TEST_FULL` makes it more.
const CASES: u32 = 8;
const FULL_CASES: u32 = 60;
/// It is to be stopped from hanging, not to be fast.
const LIMIT: Duration = Duration::from_secs(1800);

/// Runs it on the routes that `filter` leaves, as the user with `token`.
async fn explore(stack: &Stack, token: &str, filter: &[&str]) {
    let installed = servers::get("schemathesis").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cases = if testkit::full() { FULL_CASES } else { CASES }.to_string();
    let (variable, path) = installed.env().unwrap();
    let mut process =
        Process::builder("schemathesis", installed.binary("schemathesis"), folder.path().join("log"))
            .current_dir(folder.path())
            .env(variable, path)
            .env("NO_PROXY", "*")
            .args(["--config-file", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis.toml")])
            .args(["run", &format!("{}/openapi.json", stack.url), "--no-color", "--continue-on-failure"])
            .args(["--header", &format!("Authorization: Bearer {token}"), "--max-examples", &cases])
            .args(filter)
            .spawn()
            .unwrap();
    let status = process.wait_for_exit(LIMIT).await.unwrap();
    assert!(status.success(), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_as_the_openapi_document_says() {
    let stack = Stack::with(|settings| settings.logins.address = 1_000_000).await;
    let logout = "/api/v1/auth/logout";
    let token = stack.user("ann").await;
    explore(&stack, &token, &["--exclude-path", logout]).await;
    explore(&stack, &token, &["--include-path", logout]).await;
    let admin = stack.admin("eve").await;
    explore(&stack, &admin, &["--include-path-regex", "^/api/v1/users"]).await;
}
