//! What users do that they should not: mistakes, heavy and slow requests, attacks. Each knows which answers are right.

use std::time::Duration;

use http::Method;
use serde_json::json;
use testkit::http::Request;

/// A kind of mischief.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mischief {
    /// A mistake: what does not exist, or is not acceptable.
    Error,
    /// As much work as one request can make.
    Heavy,
    /// A client on a bad line.
    Slow,
    /// Somebody who means harm.
    Attack,
}

/// How long the body of a slow request is under way.
const SLOWLY: Duration = Duration::from_secs(3);

/// Something that is sent, and the statuses that answer it rightly.
pub(super) struct Prank {
    pub(super) request: Request,
    pub(super) right: &'static [u16],
}

/// The `number`-th mischief of a kind, by a user with `token`, if there is one.
pub(super) fn prank(kind: Mischief, url: &str, token: &str, number: u64) -> Prank {
    let pick = |choices: u64| number % choices;
    let get = |path: &str| Request::new(Method::GET, format!("{url}{path}"));
    let post = |path: &str| Request::new(Method::POST, format!("{url}{path}"));
    let signed = |request: Request| request.header("authorization", format!("Bearer {token}"));
    // Who is not logged in is refused before anything is looked at.
    let (request, right): (Request, &'static [u16]) = match (kind, pick(4)) {
        (Mischief::Error, 0) => (get("/api/v1/no-such-thing"), &[404]),
        (Mischief::Error, 1) => (signed(get("/api/v1/deals/999999999")), &[404, 401]),
        (Mischief::Error, 2) => {
            (signed(post("/api/v1/deals").json(&json!({"vehicle_vin": "short"}))), &[422, 401])
        }
        (Mischief::Error, _) => (signed(get("/api/v1/deals?limit=1000")), &[422, 401]),
        (Mischief::Heavy, _) => {
            let query = format!(
                "search_type=advanced&limit=100&price_max={}&mileage_max={}",
                10_000 + number % 40_000,
                20_000 + number % 100_000
            );
            (get(&format!("/api/v1/vehicles?{query}")), &[200])
        }
        (Mischief::Slow, _) => {
            let loan = json!({"loan_amount": 20_000, "loan_term_months": 60, "credit_score_range": "good"});
            (post("/api/v1/loans/calculate").json(&loan).slowly(SLOWLY), &[200])
        }
        (Mischief::Attack, 0) => (get("/api/v1/vehicles?make=%27%20OR%20%271%27=%271"), &[200]),
        (Mischief::Attack, 1) => (get("/api/v1/..%2f..%2f..%2fetc%2fpasswd"), &[404]),
        (Mischief::Attack, 2) => {
            let token = format!("{number:064x}");
            (get("/api/v1/auth/me").header("authorization", format!("Bearer {token}")), &[401])
        }
        (Mischief::Attack, _) => {
            // Guessing passwords of an account that nobody has; the limit answers 429 in the end.
            let guess = json!({"email": "admin@example.com", "password": format!("guess-{number}")});
            (post("/api/v1/auth/login").json(&guess), &[401, 429])
        }
    };
    Prank { request, right }
}
