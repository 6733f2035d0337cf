//! Evaluations: the questions, the judgement, and where the prices come from.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::http::Response;
use testkit::upstream::{Reply, Upstream};

use crate::stack::{Stack, assert_invalid, assert_problem, business, counts, expected, growth, vin};

const PATH: &str = "/api/v1/evaluations";

async fn begin(stack: &Stack, token: &str, number: u32) -> Value {
    let deal = stack.deal(token, &vin(number)).await;
    let answer = stack.call("POST", PATH, Some(token), Some(json!({"deal_id": deal}))).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json().unwrap()
}

async fn answer(stack: &Stack, token: &str, id: &Value, body: Value) -> Response {
    stack.call("POST", &format!("{PATH}/{id}/answers"), Some(token), Some(body)).await
}

fn condition() -> Value {
    json!({"vehicle_condition": {"accidents": 0, "owners": 1, "service_records": true}})
}

fn financing() -> Value {
    json!({"financing": {
        "annual_income": 90_000,
        "down_payment": 5_000,
        "loan_term_months": 60,
        "credit_score_range": "good",
    }})
}

#[tokio::test]
async fn two_answers_lead_to_a_recommendation() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let begun = begin(&stack, &token, 1).await;
    assert_eq!(
        (&begun["status"], &begun["current_step"]),
        (&json!("awaiting_input"), &json!("vehicle_condition"))
    );
    let id = &begun["id"];
    assert_invalid(&answer(&stack, &token, id, financing()).await, &["vehicle_condition"]);
    assert_invalid(&answer(&stack, &token, id, json!({})).await, &["vehicle_condition"]);
    let priced = answer(&stack, &token, id, condition()).await;
    assert_eq!((priced.status.as_u16(), priced.header("etag")), (200, Some("\"2\"")), "{}", priced.text);
    let priced = priced.json().unwrap();
    assert_eq!((&priced["status"], &priced["current_step"]), (&json!("awaiting_input"), &json!("financing")));
    let market = &priced["findings"]["market"];
    assert_eq!(market["source"], "catalogue");
    assert!(market["listings"].as_i64().unwrap() > 0 && market["average_price"].as_f64().unwrap() > 5_000.0);
    assert_eq!(priced["findings"]["vehicle_condition"]["score"], 100.0);

    assert_invalid(&answer(&stack, &token, id, condition()).await, &["financing"]);
    let done = answer(&stack, &token, id, financing()).await.json().unwrap();
    assert_eq!((&done["status"], &done["current_step"]), (&json!("completed"), &json!("final")));
    let findings = &done["findings"];
    assert!(["buy", "negotiate", "avoid"].contains(&findings["recommendation"].as_str().unwrap()));
    assert!(findings["summary"].as_str().unwrap().contains("2021 Honda Accord"));
    assert_problem(&answer(&stack, &token, id, financing()).await, 409);
    let shown = stack.call("GET", &format!("{PATH}/{id}"), Some(&token), None).await.json().unwrap();
    assert_eq!(shown, done);
}

#[tokio::test]
async fn answers_are_checked_and_evaluations_are_their_owners_own() {
    let stack = Stack::start().await;
    let (ann, bob) = (stack.user("ann").await, stack.user("bob").await);
    let begun = begin(&stack, &ann, 1).await;
    let id = &begun["id"];
    let bad = json!({
        "vehicle_condition": {"accidents": -1, "owners": 21, "service_records": true},
        "financing": {"annual_income": -1, "down_payment": 1e9, "loan_term_months": 5, "credit_score_range": "good"},
    });
    let fields = [
        "vehicle_condition.accidents",
        "vehicle_condition.owners",
        "financing.annual_income",
        "financing.down_payment",
        "financing.loan_term_months",
    ];
    assert_invalid(&answer(&stack, &ann, id, bad).await, &fields);
    assert_problem(&answer(&stack, &bob, id, condition()).await, 404);
    let path = format!("{PATH}/{id}");
    assert_problem(&stack.call("GET", &path, Some(&bob), None).await, 404);
    assert_problem(&stack.call("GET", &path, None, None).await, 401);
    let foreign = json!({"deal_id": begun["deal_id"]});
    assert_problem(&stack.call("POST", PATH, Some(&bob), Some(foreign)).await, 404);
    begin(&stack, &ann, 2).await;
    let query = format!("{PATH}?deal_id={}", begun["deal_id"]);
    let listed = stack.call("GET", &query, Some(&ann), None).await.json().unwrap();
    assert_eq!(listed["items"], json!([begun]));
    let listed = stack.call("GET", PATH, Some(&bob), None).await.json().unwrap();
    assert_eq!(listed["items"], json!([]));
}

#[tokio::test]
async fn one_of_many_answers_at_once_counts() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let begun = begin(&stack, &token, 1).await;
    let all = (0..6).map(|_| answer(&stack, &token, &begun["id"], condition()));
    let all = futures_util::future::join_all(all).await;
    assert_eq!(all.iter().filter(|answer| answer.status == 200).count(), 1);
    for answer in all.iter().filter(|answer| answer.status != 200) {
        // Overtaken, or too late to be asked.
        assert!(answer.status == 409 || answer.status == 422, "{}", answer.text);
    }
}

#[tokio::test]
async fn prices_come_from_the_api_and_from_the_catalogue_when_it_fails() {
    let page = json!({"num_found": 120, "listings": [{"price": 22_000}, {"price": 23_000}]});
    let api = Upstream::start(Reply::new(200, page.to_string())).await.unwrap();
    let stack = Stack::with(|settings| {
        settings.vehicle_data_url = Some(format!("{}/v2", api.url()));
        settings.vehicle_data_key = Some("sesame".to_owned());
    })
    .await;
    let token = stack.user("ann").await;
    let external = |name: &str| counts(name) && name.starts_with("autodealgenie_external_api_");
    let before = stack.samples(external).await;
    let source = async |number: u32| {
        let begun = begin(&stack, &token, number).await;
        let priced = answer(&stack, &token, &begun["id"], condition()).await;
        assert_eq!(priced.status, 200, "{}", priced.text);
        priced.json().unwrap()["findings"]["market"].clone()
    };
    let found = source(1).await;
    assert_eq!(found, json!({"average_price": 22_500.0, "listings": 120, "source": "external"}));
    let query = "/v2/search/car/active?api_key=sesame&make=Honda&model=Accord&year=2021&rows=50";
    assert_eq!(api.received()[0].path, query);

    for (number, mood) in (2..).zip([
        Reply::new(500, ""),
        Reply::new(200, "<html>"),
        Reply::new(403, "{}"),
        Reply::Answer(429, vec![("retry-after", "60".to_owned())], String::new()),
    ]) {
        api.always(mood);
        assert_eq!(source(number).await["source"], "catalogue");
    }
    api.always(Reply::new(200, page.to_string()));
    api.next([Reply::new(502, ""), Reply::Close]);
    assert_eq!(source(9).await["source"], "external", "the third try");
    assert_eq!(
        growth(&before, &stack.samples(external).await),
        expected(&[
            ("autodealgenie_external_api_duration_seconds_count{api_name=vehicle_data}", 6.0),
            ("autodealgenie_external_api_errors_total{api_name=vehicle_data,error_type=client_error}", 1.0),
            ("autodealgenie_external_api_errors_total{api_name=vehicle_data,error_type=invalid_answer}", 1.0),
            ("autodealgenie_external_api_errors_total{api_name=vehicle_data,error_type=rate_limited}", 1.0),
            ("autodealgenie_external_api_errors_total{api_name=vehicle_data,error_type=server_error}", 1.0),
            ("autodealgenie_external_api_requests_total{api_name=vehicle_data,status=error}", 4.0),
            ("autodealgenie_external_api_requests_total{api_name=vehicle_data,status=ok}", 2.0),
        ])
    );
}

#[tokio::test]
async fn a_model_writes_the_summary_and_nothing_else() {
    let said = json!({"summary": "A fair car.", "recommendation": "buy", "score": 100}).to_string();
    let body = json!({
        "choices": [{"message": {"content": said}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    });
    let model = Upstream::start(Reply::new(200, body.to_string())).await.unwrap();
    let stack = Stack::with(|settings| {
        settings.llm.base_url = Some(model.url().to_owned());
        settings.llm.patience = Duration::from_secs(5);
    })
    .await;
    let token = stack.user("ann").await;
    let begun = begin(&stack, &token, 1).await;
    let before = stack.samples(counts).await;
    let wreck = json!({"vehicle_condition": {"accidents": 9, "owners": 9, "service_records": false}});
    answer(&stack, &token, &begun["id"], wreck).await;
    let done = answer(&stack, &token, &begun["id"], financing()).await.json().unwrap();
    let findings = &done["findings"];
    assert_eq!((&findings["summary"], &findings["recommendation"]), (&json!("A fair car."), &json!("avoid")));
    let mut grown = growth(&before, &stack.samples(counts).await);
    grown.retain(|series, _| business(series.split('{').next().unwrap()));
    assert_eq!(
        grown,
        expected(&[
            ("autodealgenie_evaluations_completed_total{recommendation=avoid}", 1.0),
            ("autodealgenie_llm_request_duration_seconds_count{model=gpt-4o-mini}", 1.0),
            ("autodealgenie_llm_requests_total{model=gpt-4o-mini,prompt_type=evaluation}", 1.0),
            ("autodealgenie_llm_tokens_used_total{model=gpt-4o-mini,token_type=completion}", 5.0),
            ("autodealgenie_llm_tokens_used_total{model=gpt-4o-mini,token_type=prompt}", 10.0),
        ])
    );
}
