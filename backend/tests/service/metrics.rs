//! The page of the metrics: what is on it from the start, sizes, formats, and what clients cannot do to it.

use autodealgenie_backend::http::routes::ROUTES;
use autodealgenie_backend::metrics::LIST;

use crate::stack::{Stack, signup};

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
