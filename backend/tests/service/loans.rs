//! Loans: terms, offers, applications and their decisions, and that nobody sees another's.

use serde_json::{Value, json};

use crate::stack::{Stack, assert_invalid, assert_problem, vin};

const APPLICATIONS: &str = "/api/v1/loans/applications";

fn application(income: Option<f64>) -> Value {
    json!({
        "loan_amount": 20_000,
        "down_payment": 2_500,
        "loan_term_months": 60,
        "credit_score_range": "good",
        "annual_income": income,
    })
}

#[tokio::test]
async fn a_loan_is_calculated_and_offered_to_everybody() {
    let stack = Stack::start().await;
    let wanted = json!({"loan_amount": 20_000, "loan_term_months": 60, "credit_score_range": "good"});
    let terms = stack.call("POST", "/api/v1/loans/calculate", None, Some(wanted)).await;
    assert_eq!(terms.status, 200, "{}", terms.text);
    let expected =
        json!({"apr": 6.9, "monthly_payment": 395.08, "total_interest": 3704.8, "total_amount": 23704.8});
    assert_eq!(terms.json().unwrap(), expected);
    let offers = async |months: u32| {
        let query = format!("loan_amount=20000&loan_term_months={months}&credit_score_range=good");
        let answer = stack.call("GET", &format!("/api/v1/loans/offers?{query}"), None, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json().unwrap()["items"].as_array().unwrap().clone()
    };
    let four = offers(60).await;
    assert_eq!((four.len(), &four[0]["monthly_payment"]), (4, &json!(395.08)));
    assert!(four.is_sorted_by(|a, b| a["apr"].as_f64() < b["apr"].as_f64()));
    assert_eq!(offers(120).await.len(), 1, "only one lender waits ten years");
}

#[tokio::test]
async fn an_application_is_decided_by_income_at_once_or_later() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let apply = async |body: Value| {
        let answer = stack.call("POST", APPLICATIONS, Some(&token), Some(body)).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json().unwrap()
    };
    let mut excellent = application(Some(90_000.0));
    excellent["credit_score_range"] = json!("excellent");
    assert_eq!(apply(excellent).await["status"], "approved");
    assert_eq!(apply(application(Some(90_000.0))).await["status"], "pre_approved");
    let rejected = apply(application(Some(12_000.0))).await;
    assert_eq!(rejected["status"], "rejected");
    assert!(rejected["decided_at"].is_string() && rejected["decision_reason"].is_string());

    let pending = apply(application(None)).await;
    assert_eq!((&pending["status"], &pending["decided_at"]), (&json!("pending"), &Value::Null));
    assert_eq!(pending["monthly_payment"], 395.08);
    let path = format!("{APPLICATIONS}/{}", pending["id"]);
    assert_eq!(stack.call("GET", &path, Some(&token), None).await.json().unwrap(), pending);
    let income = format!("{path}/income");
    let body = json!({"annual_income": 90_000});
    let decided = stack.call("POST", &income, Some(&token), Some(body.clone())).await;
    assert_eq!(decided.json().unwrap()["status"], "pre_approved", "{}", decided.text);
    assert_problem(&stack.call("POST", &income, Some(&token), Some(body)).await, 409);

    let list = async |query: &str| {
        let page = stack.call("GET", &format!("{APPLICATIONS}?{query}"), Some(&token), None).await;
        page.json().unwrap()["items"].as_array().unwrap().len()
    };
    assert_eq!((list("").await, list("status=pre_approved").await, list("limit=3").await), (4, 2, 3));
}

#[tokio::test]
async fn a_deal_has_one_live_application_of_its_owner() {
    let stack = Stack::start().await;
    let (ann, eve) = (stack.user("ann").await, stack.user("eve").await);
    let id = stack.deal(&ann, &vin(1)).await;
    let apply = async |token: &str, income: f64, deal: i64| {
        let mut body = application(Some(income));
        body["deal_id"] = json!(deal);
        stack.call("POST", APPLICATIONS, Some(token), Some(body)).await
    };
    assert_problem(&apply(&eve, 90_000.0, id).await, 404);
    assert_problem(&apply(&ann, 90_000.0, 999).await, 404);
    assert_eq!(apply(&ann, 1_000.0, id).await.status, 201, "rejected, so another one may follow");
    let live = apply(&ann, 90_000.0, id).await;
    assert_eq!(live.json().unwrap()["deal_id"], id);
    assert_problem(&apply(&ann, 90_000.0, id).await, 409);

    let path = format!("{APPLICATIONS}/{}", live.json().unwrap()["id"]);
    let income = json!({"annual_income": 1});
    assert_problem(&stack.call("GET", &path, Some(&eve), None).await, 404);
    assert_problem(
        &stack.call("POST", &format!("{path}/income"), Some(&eve), Some(income.clone())).await,
        404,
    );
    let list = stack.call("GET", APPLICATIONS, Some(&eve), None).await.json().unwrap();
    assert_eq!(list["items"], json!([]));
    assert_problem(&stack.call("GET", &path, None, None).await, 401);
    assert_problem(&stack.call("GET", APPLICATIONS, None, None).await, 401);
    assert_problem(&stack.call("POST", &format!("{path}/income"), None, Some(income)).await, 401);
    assert_problem(&stack.call("POST", APPLICATIONS, None, Some(application(None))).await, 401);
    assert_eq!(stack.call("DELETE", &format!("/api/v1/deals/{id}"), Some(&ann), None).await.status, 204);
    assert_problem(&stack.call("GET", &path, Some(&ann), None).await, 404);
}

#[tokio::test]
async fn unacceptable_fields_are_named() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    for (field, value) in [
        ("loan_amount", json!(99.99)),
        ("loan_amount", json!(-5)),
        ("loan_amount", json!(1e9)),
        ("loan_amount", json!("x")),
        ("down_payment", json!(-1)),
        ("loan_term_months", json!(5)),
        ("loan_term_months", json!(121)),
        ("credit_score_range", json!("best")),
        ("annual_income", json!(-1)),
        ("status", json!("approved")),
    ] {
        let mut body = application(None);
        body[field] = value;
        let refused = stack.call("POST", APPLICATIONS, Some(&token), Some(body)).await;
        assert_eq!(refused.status, 422, "{field}: {}", refused.text);
        assert_invalid(&refused, &[field]);
    }
    let refused = stack.call("POST", "/api/v1/loans/calculate", None, Some(json!({}))).await;
    assert_invalid(&refused, &["loan_amount"]);
    let query = "loan_amount=20000&loan_term_months=1&credit_score_range=good";
    let refused = stack.call("GET", &format!("/api/v1/loans/offers?{query}"), None, None).await;
    assert_invalid(&refused, &["loan_term_months"]);
    let rows = "SELECT count(*) FROM loan_applications";
    assert_eq!(stack.postgres.psql(rows).await.unwrap().unwrap(), "0");
}
