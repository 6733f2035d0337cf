//! The metrics tell the truth: scripted actions, exact growth by label, and no series that appears only later.

use std::collections::BTreeMap;

use autodealgenie_backend::http::routes::ROUTES;
use autodealgenie_backend::metrics::LIST;
use serde_json::json;

use crate::stack::{PASSWORD, Stack, deal, email, growth, signup, vin};

/// Whether a sample only counts: its growth is exact. Sums of seconds are not.
pub(crate) fn counts(name: &str) -> bool {
    !name.starts_with("process_")
        && !name.ends_with("_bucket")
        && !name.ends_with("_sum")
        && (name.ends_with("_total") || name.ends_with("_count"))
}

pub(crate) fn expected(rows: &[(&str, f64)]) -> BTreeMap<String, f64> {
    rows.iter().map(|(series, value)| ((*series).to_owned(), *value)).collect()
}

#[tokio::test]
async fn a_script_of_actions_moves_exactly_its_counters() {
    let stack = Stack::start().await;
    let before = stack.samples(counts).await;

    for name in ["ann", "bob", "cem"] {
        assert_eq!(stack.call("POST", "/api/v1/auth/signup", None, Some(signup(name))).await.status, 201);
    }
    assert_eq!(stack.call("POST", "/api/v1/auth/signup", None, Some(signup("ann"))).await.status, 409);
    let token = stack.login("ann").await;
    stack.login("bob").await;
    for password in ["wrong horse", "wrong again", "and again"] {
        let body = json!({"email": email("ann"), "password": password});
        assert_eq!(stack.call("POST", "/api/v1/auth/login", None, Some(body)).await.status, 401);
    }
    let body = json!({"email": email("nobody"), "password": PASSWORD});
    assert_eq!(stack.call("POST", "/api/v1/auth/login", None, Some(body)).await.status, 401);
    for number in 1..=4 {
        stack.deal(&token, &vin(number)).await;
    }
    let mut begun = deal(&vin(5));
    begun["status"] = json!("in_progress");
    assert_eq!(stack.call("POST", "/api/v1/deals", Some(&token), Some(begun)).await.status, 201);
    assert_eq!(stack.call("POST", "/api/v1/deals", Some(&token), Some(deal(&vin(1)))).await.status, 409);
    assert_eq!(stack.call("POST", "/api/v1/deals", Some(&token), Some(json!({}))).await.status, 422);
    assert_eq!(stack.call("GET", "/api/v1/deals/999", Some(&token), None).await.status, 404);
    assert_eq!(stack.call("GET", "/some/where", None, None).await.status, 404);
    assert_eq!(stack.call("GET", "/some/where/else", None, None).await.status, 404);

    let after = stack.samples(counts).await;
    assert_eq!(
        growth(&before, &after),
        expected(&[
            ("autodealgenie_auth_failures_total{}", 4.0),
            ("autodealgenie_auth_success_total{}", 2.0),
            ("autodealgenie_db_pool_wait_seconds_count{}", 19.0),
            ("autodealgenie_db_queries_total{operation=insert,table=deals}", 6.0),
            ("autodealgenie_db_queries_total{operation=insert,table=users}", 4.0),
            ("autodealgenie_db_queries_total{operation=select,table=deals}", 1.0),
            ("autodealgenie_db_queries_total{operation=select,table=users}", 6.0),
            ("autodealgenie_db_queries_total{operation=update,table=users}", 2.0),
            ("autodealgenie_db_query_duration_seconds_count{operation=insert,table=deals}", 6.0),
            ("autodealgenie_db_query_duration_seconds_count{operation=insert,table=users}", 4.0),
            ("autodealgenie_db_query_duration_seconds_count{operation=select,table=deals}", 1.0),
            ("autodealgenie_db_query_duration_seconds_count{operation=select,table=users}", 6.0),
            ("autodealgenie_db_query_duration_seconds_count{operation=update,table=users}", 2.0),
            ("autodealgenie_deals_created_total{status=in_progress}", 1.0),
            ("autodealgenie_deals_created_total{status=pending}", 4.0),
            ("autodealgenie_password_hash_duration_seconds_count{}", 10.0),
            ("autodealgenie_user_signups_total{}", 3.0),
            ("http_request_duration_seconds_count{handler=/api/v1/auth/login,method=POST}", 6.0),
            ("http_request_duration_seconds_count{handler=/api/v1/auth/signup,method=POST}", 4.0),
            ("http_request_duration_seconds_count{handler=/api/v1/deals,method=POST}", 7.0),
            ("http_request_duration_seconds_count{handler=/api/v1/deals/{id},method=GET}", 1.0),
            ("http_request_duration_seconds_count{handler=unmatched,method=GET}", 2.0),
            ("http_request_size_bytes_count{handler=/api/v1/auth/login,method=POST}", 6.0),
            ("http_request_size_bytes_count{handler=/api/v1/auth/signup,method=POST}", 4.0),
            ("http_request_size_bytes_count{handler=/api/v1/deals,method=POST}", 7.0),
            ("http_request_size_bytes_count{handler=/api/v1/deals/{id},method=GET}", 1.0),
            ("http_request_size_bytes_count{handler=unmatched,method=GET}", 2.0),
            ("http_requests_total{handler=/api/v1/auth/login,method=POST,status=200}", 2.0),
            ("http_requests_total{handler=/api/v1/auth/login,method=POST,status=401}", 4.0),
            ("http_requests_total{handler=/api/v1/auth/signup,method=POST,status=201}", 3.0),
            ("http_requests_total{handler=/api/v1/auth/signup,method=POST,status=409}", 1.0),
            ("http_requests_total{handler=/api/v1/deals,method=POST,status=201}", 5.0),
            ("http_requests_total{handler=/api/v1/deals,method=POST,status=409}", 1.0),
            ("http_requests_total{handler=/api/v1/deals,method=POST,status=422}", 1.0),
            ("http_requests_total{handler=/api/v1/deals/{id},method=GET,status=404}", 1.0),
            ("http_requests_total{handler=unmatched,method=GET,status=404}", 2.0),
            ("http_response_size_bytes_count{handler=/api/v1/auth/login,method=POST}", 6.0),
            ("http_response_size_bytes_count{handler=/api/v1/auth/signup,method=POST}", 4.0),
            ("http_response_size_bytes_count{handler=/api/v1/deals,method=POST}", 7.0),
            ("http_response_size_bytes_count{handler=/api/v1/deals/{id},method=GET}", 1.0),
            ("http_response_size_bytes_count{handler=unmatched,method=GET}", 2.0),
        ])
    );
    let appeared: Vec<_> = after.keys().filter(|series| !before.contains_key(*series)).collect();
    assert!(appeared.is_empty(), "not created at 0: {appeared:?}");
    // The database says the same.
    let rows = "SELECT concat_ws(' ', (SELECT count(*) FROM users), (SELECT count(*) FROM deals))";
    assert_eq!(stack.postgres.psql(rows).await.unwrap().unwrap(), "3 5");
}

/// Whether a sample counts business events or the cache.
pub(crate) fn business(name: &str) -> bool {
    counts(name) && name.starts_with("autodealgenie_") && !name.contains("_db_")
}

#[tokio::test]
async fn searches_move_exactly_their_counters() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let vehicle = json!({"vin": "1ADGX000000000001"});
    assert_eq!(stack.call("POST", "/api/v1/favorites", Some(&token), Some(vehicle)).await.status, 201);
    let saved = json!({"name": "cheap", "criteria": {"price_max": 9000}});
    let saved = stack.call("POST", "/api/v1/saved-searches", Some(&token), Some(saved)).await.json().unwrap();
    let before = stack.samples(counts).await;
    let search = async |query: &str, status: u16| {
        let answer = stack.call("GET", &format!("/api/v1/vehicles?{query}"), Some(&token), None).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.text);
        answer.json().unwrap()
    };
    let first = search("make=toyota", 200).await;
    search("make=Toyota", 200).await;
    search(&format!("make=toyota&cursor={}", first["next_cursor"].as_str().unwrap()), 200).await;
    for year in 2020..2023 {
        search(&format!("search_type=advanced&year_min={year}"), 200).await;
    }
    search(&format!("search_type=saved&saved_search_id={}", saved["id"]), 200).await;
    search("search_type=recommended", 200).await;
    search("search_type=recommended", 200).await;
    search("search_type=quick&year_min=2020", 422).await;
    search("search_type=saved&saved_search_id=999", 404).await;
    for (vin, status) in [(1, 200), (1, 200), (9_999, 404)] {
        let path = format!("/api/v1/vehicles/1ADGX{vin:012}");
        assert_eq!(stack.call("GET", &path, None, None).await.status, status);
    }
    let after = stack.samples(counts).await;
    let mut grown = growth(&before, &after);
    grown.retain(|series, _| business(series.split('{').next().unwrap()));
    assert_eq!(
        grown,
        expected(&[
            ("autodealgenie_cache_hits_total{cache_name=vehicle_search}", 2.0),
            ("autodealgenie_cache_hits_total{cache_name=vehicle}", 1.0),
            ("autodealgenie_cache_misses_total{cache_name=vehicle_search}", 7.0),
            ("autodealgenie_cache_misses_total{cache_name=vehicle}", 2.0),
            (
                "autodealgenie_cache_operation_duration_seconds_count{cache_name=vehicle_search,operation=get}",
                9.0
            ),
            (
                "autodealgenie_cache_operation_duration_seconds_count{cache_name=vehicle_search,operation=set}",
                7.0
            ),
            ("autodealgenie_cache_operation_duration_seconds_count{cache_name=vehicle,operation=get}", 3.0),
            ("autodealgenie_cache_operation_duration_seconds_count{cache_name=vehicle,operation=set}", 1.0),
            ("autodealgenie_vehicle_search_duration_seconds_count{}", 9.0),
            ("autodealgenie_vehicle_searches_total{search_type=advanced}", 3.0),
            ("autodealgenie_vehicle_searches_total{search_type=quick}", 2.0),
            ("autodealgenie_vehicle_searches_total{search_type=recommended}", 2.0),
            ("autodealgenie_vehicle_searches_total{search_type=saved}", 1.0),
        ])
    );
    let appeared: Vec<_> = after.keys().filter(|series| !before.contains_key(*series)).collect();
    assert!(appeared.is_empty(), "not created at 0: {appeared:?}");
    let rows = "SELECT string_agg(concat(search_type, ' ', n), ', ' ORDER BY search_type)
                FROM (SELECT search_type, count(*) AS n FROM search_history GROUP BY search_type) AS types";
    assert_eq!(
        stack.postgres.psql(rows).await.unwrap().unwrap(),
        "quick 2, advanced 3, saved 1, recommended 2"
    );
}

#[tokio::test]
async fn loan_applications_move_exactly_their_counters() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let before = stack.samples(counts).await;
    let path = "/api/v1/loans/applications";
    for (tier, income, times) in [
        ("good", json!(null), 1),
        ("good", json!(90_000), 2),
        ("excellent", json!(90_000), 3),
        ("poor", json!(9_000), 4),
    ] {
        for _ in 0..times {
            let body = json!({
                "loan_amount": 20_000,
                "down_payment": 2_000,
                "loan_term_months": 60,
                "credit_score_range": tier,
                "annual_income": income,
            });
            assert_eq!(stack.call("POST", path, Some(&token), Some(body)).await.status, 201);
        }
    }
    let income = json!({"annual_income": 90_000});
    let decided = stack.call("POST", &format!("{path}/1/income"), Some(&token), Some(income)).await;
    assert_eq!(decided.status, 200, "a later decision is no new application");
    assert_eq!(stack.call("POST", path, Some(&token), Some(json!({}))).await.status, 422);
    let after = stack.samples(counts).await;
    let mut grown = growth(&before, &after);
    grown.retain(|series, _| business(series.split('{').next().unwrap()));
    assert_eq!(
        grown,
        expected(&[
            ("autodealgenie_loan_applications_total{status=approved}", 3.0),
            ("autodealgenie_loan_applications_total{status=pending}", 1.0),
            ("autodealgenie_loan_applications_total{status=pre_approved}", 2.0),
            ("autodealgenie_loan_applications_total{status=rejected}", 4.0),
            ("autodealgenie_loan_processing_duration_seconds_count{}", 10.0),
        ])
    );
    let appeared: Vec<_> = after.keys().filter(|series| !before.contains_key(*series)).collect();
    assert!(appeared.is_empty(), "not created at 0: {appeared:?}");
}

#[tokio::test]
async fn sizes_are_the_bytes_of_the_bodies() {
    let stack = Stack::start().await;
    let body = signup("ann");
    let answer = stack.call("POST", "/api/v1/auth/signup", None, Some(body.clone())).await;
    let sums = stack.samples(|name| name.starts_with("http_re") && name.ends_with("_bytes_sum")).await;
    let sum = |family: &str| sums[&format!("{family}_sum{{handler=/api/v1/auth/signup,method=POST}}")];
    assert_eq!(sum("http_request_size_bytes"), f64::from(u32::try_from(body.to_string().len()).unwrap()));
    assert_eq!(sum("http_response_size_bytes"), f64::from(u32::try_from(answer.body.len()).unwrap()));
}

#[tokio::test]
async fn every_listed_family_and_every_route_is_there_from_the_start() {
    let stack = Stack::start().await;
    let page = stack.metrics().await;
    for metric in LIST {
        let family = page.family(metric.name).unwrap_or_else(|| panic!("{} is missing", metric.name));
        assert!(!family.samples.is_empty(), "{} has no series", metric.name);
    }
    for route in ROUTES {
        for status in route.statuses() {
            let labels =
                [("method", route.verb.as_str()), ("status", &status.to_string()), ("handler", route.path)];
            assert_eq!(page.value("http_requests_total", &labels), Some(0.0), "{labels:?}");
        }
    }
    for status in ["pending", "in_progress", "completed", "cancelled"] {
        assert_eq!(page.value("autodealgenie_deals_created_total", &[("status", status)]), Some(0.0));
    }
    for status in ["pending", "pre_approved", "approved", "rejected"] {
        assert_eq!(page.value("autodealgenie_loan_applications_total", &[("status", status)]), Some(0.0));
    }
    for role in ["user", "agent", "dealer_sim"] {
        assert_eq!(page.value("autodealgenie_negotiation_messages_total", &[("role", role)]), Some(0.0));
    }
    let model = ("model", "gpt-4o-mini");
    for prompt_type in ["negotiation_initial", "negotiation_counter", "negotiation_chat"] {
        let labels = [model, ("prompt_type", prompt_type)];
        assert_eq!(page.value("autodealgenie_llm_requests_total", &labels), Some(0.0));
    }
    for error_type in ["timeout", "connection", "rate_limited", "server_error", "invalid_answer"] {
        let labels = [model, ("error_type", error_type)];
        assert_eq!(page.value("autodealgenie_llm_errors_total", &labels), Some(0.0));
    }
    for search_type in ["quick", "advanced", "saved", "recommended"] {
        let labels = [("search_type", search_type)];
        assert_eq!(page.value("autodealgenie_vehicle_searches_total", &labels), Some(0.0));
    }
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("environment", "test")];
    assert_eq!(page.value("autodealgenie_app_info", &labels), Some(1.0));
    assert!(page.value("process_resident_memory_bytes", &[]).unwrap() > 0.0);
    assert_eq!(page.value("autodealgenie_db_pool_max_size", &[]), Some(4.0));
}

#[tokio::test]
async fn clients_cannot_make_series() {
    let stack = Stack::start().await;
    for number in 0..50 {
        stack.call("GET", &format!("/api/v1/nothing/{number}"), None, None).await;
        stack.call(&format!("VERB{number}"), "/api/v1/deals", None, None).await;
    }
    let series = stack.samples(|name| name == "http_requests_total").await;
    let odd: Vec<_> = series
        .iter()
        .filter(|(series, count)| {
            **count > 0.0 && (series.contains("unmatched") || series.contains("method=other"))
        })
        .collect();
    assert_eq!(odd.len(), 2, "{odd:?}");
}

#[tokio::test]
async fn both_formats_are_served_and_probes_are_not_counted() {
    let stack = Stack::start().await;
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(stack.call("GET", path, None, None).await.status, 200);
    }
    let requests = stack.samples(|name| name == "http_requests_total").await;
    assert_eq!(requests.values().sum::<f64>(), 0.0);
    assert!(!requests.keys().any(|series| series.contains("health") || series.contains("/metrics")));

    let text = stack.call("GET", "/metrics", None, None).await;
    assert_eq!(text.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let accept = "application/openmetrics-text;version=1.0.0";
    let open = stack.request("GET", "/metrics").header("accept", accept).send().await.unwrap();
    assert!(open.header("content-type").unwrap().starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(open.text.ends_with("# EOF\n") && open.text.matches("# EOF").count() == 1);
    let gzip = stack.request("GET", "/metrics").header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    assert!(gzip.body.len() * 4 < text.body.len());
}
