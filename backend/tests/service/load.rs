//! Two hundred users at once: nobody gets a 5xx, the pool is enough, and memory stays where it was. `TEST_FULL` makes it
//! last a minute.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::stack::{Stack, vin};

const USERS: usize = 200;
/// Bytes that caches and the allocator may still take after the first rounds.
const SLACK: f64 = 64.0 * 1024.0 * 1024.0;

/// A round of every user; how often each status was answered.
async fn round(stack: &Stack, token: &str, number: usize) -> BTreeMap<u16, usize> {
    let user = async |user: usize| {
        let price = 9_000 + (number * USERS + user) * 7 % 80_000;
        let mut statuses = Vec::new();
        for path in [
            format!("/api/v1/vehicles?search_type=advanced&price_max={price}"),
            "/api/v1/vehicles?make=toyota".to_owned(),
            "/api/v1/auth/me".to_owned(),
            "/api/v1/deals".to_owned(),
        ] {
            statuses.push(stack.call("GET", &path, Some(token), None).await.status.as_u16());
        }
        statuses
    };
    let mut counts = BTreeMap::new();
    for status in join_all((0..USERS).map(user)).await.into_iter().flatten() {
        *counts.entry(status).or_default() += 1;
    }
    counts
}

async fn sum(stack: &Stack, name: &str) -> f64 {
    stack.samples(|sample| sample == name).await.into_values().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_users_at_once_are_served() {
    let stack = Stack::with(|settings| settings.pool_size = 16).await;
    let token = stack.user("ann").await;
    stack.deal(&token, &vin(1)).await;
    let started = Instant::now();
    let mut number = 0;
    let mut warm = None;
    while number < 4 || (testkit::full() && started.elapsed() < Duration::from_secs(60)) {
        let counts = round(&stack, &token, number).await;
        assert_eq!(counts, BTreeMap::from([(200, 4 * USERS)]), "round {number}");
        number += 1;
        if number == 2 {
            warm = Some(sum(&stack, "process_resident_memory_bytes").await);
        }
    }
    assert_eq!(sum(&stack, "autodealgenie_db_connection_errors_total").await, 0.0);
    assert_eq!(sum(&stack, "autodealgenie_db_pool_waiting").await, 0.0);
    let grown = sum(&stack, "process_resident_memory_bytes").await - warm.unwrap();
    assert!(grown < SLACK, "memory grew by {grown} bytes");
}
