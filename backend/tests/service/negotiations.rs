//! Negotiations: rounds, the agent, how they end, and that nobody sits in at another's table.

use serde_json::{Value, json};
use testkit::http::Response;

use crate::stack::{Stack, assert_invalid, assert_problem, vin};

const PATH: &str = "/api/v1/negotiations";

fn opening(deal: i64) -> Value {
    json!({"deal_id": deal, "target_price": 22_500, "offer": 21_000})
}

/// Begins a negotiation on a new deal of `token`; gives it and the deal's id.
async fn begin(stack: &Stack, token: &str, number: u32) -> (Value, i64) {
    let deal = stack.deal(token, &vin(number)).await;
    let answer = stack.call("POST", PATH, Some(token), Some(opening(deal))).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    (answer.json().unwrap(), deal)
}

async fn act(stack: &Stack, token: &str, id: &Value, action: &str, body: Option<Value>) -> Response {
    stack.call("POST", &format!("{PATH}/{id}/{action}"), Some(token), body).await
}

fn roles(round: &Value) -> Vec<&str> {
    round["messages"].as_array().unwrap().iter().map(|message| message["role"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn offers_go_back_and_forth_until_one_is_accepted() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let (first, deal) = begin(&stack, &token, 1).await;
    assert_eq!(
        (&first["status"], &first["current_round"], &first["vehicle"]),
        (&json!("active"), &json!(1), &json!("2021 Honda Accord"))
    );
    assert_eq!(roles(&first), ["user", "dealer_sim", "agent"]);
    let offer = first["dealer_offer"].as_f64().unwrap();
    assert!(offer < 23_999.99 && offer > 21_000.0, "{offer}");
    assert_eq!(first["messages"][1]["offer"], first["dealer_offer"]);
    let path = format!("/api/v1/deals/{deal}");
    let shown = stack.call("GET", &path, Some(&token), None).await.json().unwrap();
    assert_eq!(shown["status"], "in_progress");

    let body = json!({"offer": 21_800, "message": "It has a scratch."});
    let second = act(&stack, &token, &first["id"], "counter", Some(body)).await;
    assert_eq!((second.status.as_u16(), second.header("etag")), (200, Some("\"2\"")), "{}", second.text);
    let second = second.json().unwrap();
    assert_eq!((&second["current_round"], &second["user_offer"]), (&json!(2), &json!(21_800.0)));
    assert_eq!(second["messages"][0]["content"], "It has a scratch.");
    assert!(second["dealer_offer"].as_f64().unwrap() < offer);
    let third = act(&stack, &token, &first["id"], "reject", Some(json!({}))).await.json().unwrap();
    assert_eq!((&third["current_round"], &third["user_offer"]), (&json!(3), &json!(21_800.0)));

    let accepted = act(&stack, &token, &first["id"], "accept", None).await;
    assert_eq!(accepted.status, 200, "{}", accepted.text);
    let accepted = accepted.json().unwrap();
    assert_eq!(accepted["status"], "completed");
    assert_eq!(accepted["agreed_price"], third["dealer_offer"]);
    let shown = stack.call("GET", &path, Some(&token), None).await.json().unwrap();
    assert_eq!((&shown["status"], &shown["offer_price"]), (&json!("completed"), &third["dealer_offer"]));
    for (action, body) in [
        ("accept", None),
        ("cancel", None),
        ("reject", Some(json!({}))),
        ("counter", Some(json!({"offer": 22_000}))),
    ] {
        assert_problem(&act(&stack, &token, &first["id"], action, body).await, 409);
    }
    let question = json!({"message": "Was that good?"});
    assert_problem(&act(&stack, &token, &first["id"], "messages", Some(question)).await, 409);
}

#[tokio::test]
async fn the_agent_answers_questions_and_everything_said_is_kept() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let (first, _) = begin(&stack, &token, 1).await;
    let question = json!({"message": "Is that a good price?"});
    let answer = act(&stack, &token, &first["id"], "messages", Some(question)).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let answer = answer.json().unwrap();
    assert_eq!(roles(&answer), ["user", "agent"]);
    assert_eq!((&answer["current_round"], &answer["version"]), (&json!(1), &json!(1)));
    let path = format!("{PATH}/{}/messages", first["id"]);
    let page = stack.call("GET", &format!("{path}?limit=3"), Some(&token), None).await.json().unwrap();
    let said: Vec<_> = page["items"].as_array().unwrap().iter().map(|message| &message["role"]).collect();
    assert_eq!(said, ["agent", "user", "agent"]);
    let query = format!("{path}?cursor={}", page["next_cursor"].as_str().unwrap());
    let rest = stack.call("GET", &query, Some(&token), None).await.json().unwrap();
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next_cursor"]), (2, &Value::Null));
    let rows = "SELECT string_agg(concat_ws(' ', prompt_type, model_used, llm_used), ', ' ORDER BY id) FROM ai_responses";
    let stored = stack.postgres.psql(rows).await.unwrap().unwrap();
    assert_eq!(stored, "negotiation_initial rules f, negotiation_chat rules f");
}

#[tokio::test]
async fn after_the_last_round_only_the_end_is_left() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let mut body = opening(stack.deal(&token, &vin(1)).await);
    body["max_rounds"] = json!(1);
    let first = stack.call("POST", PATH, Some(&token), Some(body)).await.json().unwrap();
    let counter = json!({"offer": 21_500});
    assert_problem(&act(&stack, &token, &first["id"], "counter", Some(counter)).await, 409);
    let ended = act(&stack, &token, &first["id"], "reject", Some(json!({}))).await.json().unwrap();
    assert_eq!((&ended["status"], &ended["agreed_price"]), (&json!("cancelled"), &Value::Null));
    assert!(ended["finished_at"].is_string());
}

#[tokio::test]
async fn cancelling_leaves_the_deal_open_for_another_try() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let (first, deal) = begin(&stack, &token, 1).await;
    assert_problem(&stack.call("POST", PATH, Some(&token), Some(opening(deal))).await, 409);
    let cancelled = act(&stack, &token, &first["id"], "cancel", None).await.json().unwrap();
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(stack.call("POST", PATH, Some(&token), Some(opening(deal))).await.status, 201);
    let list = async |query: &str| {
        let answer = stack.call("GET", &format!("{PATH}?{query}"), Some(&token), None).await;
        answer.json().unwrap()["items"].as_array().unwrap().len()
    };
    assert_eq!((list("").await, list("status=active").await, list("status=cancelled").await), (2, 1, 1));
}

#[tokio::test]
async fn a_closed_deal_is_not_negotiated() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let (first, deal) = begin(&stack, &token, 1).await;
    let path = format!("/api/v1/deals/{deal}/status");
    let done = stack.call("PATCH", &path, Some(&token), Some(json!({"status": "cancelled"}))).await;
    assert_eq!(done.status, 200, "{}", done.text);
    for (action, body) in [("accept", None), ("counter", Some(json!({"offer": 21_500})))] {
        assert_problem(&act(&stack, &token, &first["id"], action, body).await, 409);
    }
    assert_eq!(act(&stack, &token, &first["id"], "cancel", None).await.status, 200);
    assert_problem(&stack.call("POST", PATH, Some(&token), Some(opening(deal))).await, 409);
}

#[tokio::test]
async fn one_of_many_answers_at_once_counts() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let (first, _) = begin(&stack, &token, 1).await;
    let all = (0..8).map(|_| act(&stack, &token, &first["id"], "accept", None));
    let all = futures_util::future::join_all(all).await;
    assert_eq!(all.iter().filter(|answer| answer.status == 200).count(), 1);
    all.iter().filter(|answer| answer.status != 200).for_each(|answer| drop(assert_problem(answer, 409)));
    let path = format!("{PATH}/{}/cancel", first["id"]);
    let request = stack.request("POST", &path).header("authorization", format!("Bearer {token}"));
    assert_problem(&request.header("if-match", "\"1\"").send().await.unwrap(), 412);
}

#[tokio::test]
async fn others_negotiations_do_not_exist() {
    let stack = Stack::start().await;
    let (ann, bob) = (stack.user("ann").await, stack.user("bob").await);
    let (first, deal) = begin(&stack, &ann, 1).await;
    let id = &first["id"];
    assert_problem(&stack.call("POST", PATH, Some(&bob), Some(opening(deal))).await, 404);
    for path in [format!("{PATH}/{id}"), format!("{PATH}/{id}/messages")] {
        assert_problem(&stack.call("GET", &path, Some(&bob), None).await, 404);
        assert_problem(&stack.call("GET", &path, None, None).await, 401);
    }
    for (action, body) in [
        ("accept", None),
        ("cancel", None),
        ("reject", Some(json!({}))),
        ("counter", Some(json!({"offer": 21_500}))),
        ("messages", Some(json!({"message": "Hello?"}))),
    ] {
        assert_problem(&act(&stack, &bob, id, action, body.clone()).await, 404);
        assert_problem(&stack.call("POST", &format!("{PATH}/{id}/{action}"), None, body).await, 401);
    }
    let list = stack.call("GET", PATH, Some(&bob), None).await.json().unwrap();
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn unacceptable_fields_are_named() {
    let stack = Stack::start().await;
    let token = stack.user("ann").await;
    let bad = json!({"deal_id": 1, "target_price": 0, "offer": -1, "message": "", "max_rounds": 51});
    let refused = stack.call("POST", PATH, Some(&token), Some(bad)).await;
    assert_invalid(&refused, &["target_price", "offer", "max_rounds", "message"]);
    let (first, _) = begin(&stack, &token, 1).await;
    let low = act(&stack, &token, &first["id"], "counter", Some(json!({"offer": 20_999.99}))).await;
    assert_invalid(&low, &["offer"]);
    let empty = act(&stack, &token, &first["id"], "messages", Some(json!({"message": " "}))).await;
    assert_invalid(&empty, &["message"]);
}
