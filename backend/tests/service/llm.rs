//! The language model through all its moods: what it answers is used and charged, what it does not is made up for and
//! counted, and it is left alone when it is in trouble.

use std::time::Duration;

use autodealgenie_backend::outbound::breaker;
use serde_json::{Value, json};
use testkit::upstream::{Reply, Upstream};

use crate::stack::{Stack, counts, expected, growth, vin};

const KEY: &str = "sesame-key";

async fn stack(model: &Upstream) -> Stack {
    Stack::with(|settings| {
        settings.llm.base_url = Some(format!("{}/v1/", model.url()));
        settings.llm.key = Some(KEY.to_owned());
        settings.llm.model = "test-model".to_owned();
        settings.llm.prompt_price = 2.0;
        settings.llm.completion_price = 8.0;
        settings.llm.patience = Duration::from_secs(2);
        settings.llm.breaker = breaker::Limits { failures: 100, pause: Duration::from_millis(200) };
    })
    .await
}

/// What a server answers when the model says `content`.
fn completion(content: &str) -> Reply {
    let body = json!({
        "id": "chatcmpl-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500},
    });
    Reply::new(200, body.to_string())
}

fn dealer(offer: f64) -> Reply {
    let said = json!({"offer": offer, "message": "Take it.", "advice": "Do not."});
    completion(&format!("Here you are:\n```json\n{said}\n```"))
}

/// Begins a negotiation; it works whatever the model does.
async fn begin(stack: &Stack, token: &str, number: u32) -> Value {
    let deal = stack.deal(token, &vin(number)).await;
    let body = json!({"deal_id": deal, "target_price": 22_500, "offer": 21_000});
    let answer = stack.call("POST", "/api/v1/negotiations", Some(token), Some(body)).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json().unwrap()
}

fn llm(name: &str) -> bool {
    counts(name) && name.starts_with("autodealgenie_llm_")
}

#[tokio::test]
async fn the_models_answer_is_used_charged_and_stored() {
    let model = Upstream::start(dealer(22_000.0)).await.unwrap();
    let stack = stack(&model).await;
    let token = stack.user("ann").await;
    let before = stack.samples(llm).await;
    let begun = begin(&stack, &token, 1).await;
    assert_eq!(begun["dealer_offer"], 22_000.0);
    assert_eq!(begun["messages"][1]["content"], "Take it.");
    assert_eq!(begun["messages"][2]["content"], "Do not.");
    model.always(completion("{\"message\": \"Wait a week.\"}"));
    let path = format!("/api/v1/negotiations/{}/messages", begun["id"]);
    let asked = stack.call("POST", &path, Some(&token), Some(json!({"message": "Now?"}))).await;
    assert_eq!(asked.json().unwrap()["messages"][1]["content"], "Wait a week.");

    let received = model.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].path, "/v1/chat/completions");
    assert_eq!(received[0].header("authorization"), Some("Bearer sesame-key"));
    let body = received[0].json().unwrap();
    assert_eq!((&body["model"], &body["stream"]), (&json!("test-model"), &json!(false)));
    assert!(!received[0].body.windows(8).any(|word| word == b"example."), "no e-mail address goes out");
    assert!(received[1].json().unwrap()["messages"][1]["content"].as_str().unwrap().contains("Take it."));

    let after = stack.samples(llm).await;
    assert_eq!(
        growth(&before, &after),
        expected(&[
            ("autodealgenie_llm_cost_usd_total{model=test-model}", 0.012),
            ("autodealgenie_llm_request_duration_seconds_count{model=test-model}", 2.0),
            ("autodealgenie_llm_requests_total{model=test-model,prompt_type=negotiation_chat}", 1.0),
            ("autodealgenie_llm_requests_total{model=test-model,prompt_type=negotiation_initial}", 1.0),
            ("autodealgenie_llm_tokens_used_total{model=test-model,token_type=completion}", 1000.0),
            ("autodealgenie_llm_tokens_used_total{model=test-model,token_type=prompt}", 2000.0),
        ])
    );
    let rows =
        "SELECT concat_ws(' ', count(*), sum(prompt_tokens), sum(completion_tokens), sum(cost)::float8)
                FROM ai_responses WHERE llm_used AND model_used = 'test-model'";
    assert_eq!(stack.postgres.psql(rows).await.unwrap().unwrap(), "2 2000 1000 0.012");
}

#[tokio::test]
async fn whatever_the_model_does_the_rules_answer_and_it_is_counted() {
    let model = Upstream::start(Reply::Hang).await.unwrap();
    let stack = stack(&model).await;
    let token = stack.user("ann").await;
    let limited = Reply::Answer(429, vec![("retry-after", "60".to_owned())], String::new());
    let big = Reply::new(200, "x".repeat(1_100_000));
    let moods = [
        ("timeout", Reply::Hang),
        ("connection", Reply::Close),
        ("server_error", Reply::new(500, "oops")),
        ("server_error", Reply::new(503, "")),
        ("rate_limited", limited),
        ("rate_limited", Reply::Answer(429, vec![("retry-after", u64::MAX.to_string())], String::new())),
        ("client_error", Reply::new(401, "{\"error\": \"bad key\"}")),
        ("client_error", Reply::new(302, "")),
        ("invalid_answer", Reply::new(200, "<html>")),
        ("invalid_answer", Reply::new(200, "{\"choices\": []}")),
        ("invalid_answer", completion("I am a poet.")),
        ("invalid_answer", completion("{\"offer\": \"cheap\", \"message\": \"a\", \"advice\": \"b\"}")),
        // A model that was talked into giving the car away.
        ("invalid_answer", dealer(1.0)),
        ("invalid_answer", dealer(99_000.0)),
        ("invalid_answer", dealer(-5.0)),
        ("invalid_answer", big),
    ];
    for (number, (kind, mood)) in (1..).zip(moods) {
        model.always(mood.clone());
        let before = stack.samples(llm).await;
        let begun = begin(&stack, &token, number).await;
        assert_eq!(begun["dealer_offer"], 22_991.99, "the rules' offer, {mood:?}");
        let mut grown = growth(&before, &stack.samples(llm).await);
        grown.retain(|series, _| !series.contains("_tokens_") && !series.contains("_cost_"));
        assert_eq!(
            grown,
            expected(&[
                (&format!("autodealgenie_llm_errors_total{{error_type={kind},model=test-model}}"), 1.0),
                ("autodealgenie_llm_fallback_total{feature=negotiation}", 1.0),
                ("autodealgenie_llm_request_duration_seconds_count{model=test-model}", 1.0),
                ("autodealgenie_llm_requests_total{model=test-model,prompt_type=negotiation_initial}", 1.0),
            ]),
            "{mood:?}"
        );
    }
    model.always(dealer(22_000.0));
    assert_eq!(begin(&stack, &token, 90).await["dealer_offer"], 22_000.0, "and it is used again");
    let waiting = stack.samples(|name| name == "autodealgenie_db_pool_waiting").await;
    assert_eq!(waiting.values().sum::<f64>(), 0.0);
}

#[tokio::test]
async fn trouble_that_passes_costs_a_second_try_only() {
    let model = Upstream::start(dealer(22_000.0)).await.unwrap();
    let stack = stack(&model).await;
    let token = stack.user("ann").await;
    let short = Reply::Answer(429, vec![("retry-after", "0".to_owned())], String::new());
    for (number, mood) in (1..).zip([Reply::new(502, ""), Reply::Close, short]) {
        model.next([mood]);
        assert_eq!(begin(&stack, &token, number).await["dealer_offer"], 22_000.0);
    }
    assert_eq!(model.received().len(), 6);
    let errors = stack.samples(|name| name == "autodealgenie_llm_errors_total").await;
    assert_eq!(errors.values().sum::<f64>(), 0.0);
}

#[tokio::test]
async fn a_model_in_trouble_is_left_alone_and_tried_again_later() {
    let model = Upstream::start(Reply::new(500, "")).await.unwrap();
    let stack = Stack::with(|settings| {
        settings.llm.base_url = Some(model.url().to_owned());
        settings.llm.breaker = breaker::Limits { failures: 4, pause: Duration::from_millis(500) };
    })
    .await;
    let token = stack.user("ann").await;
    for number in 1..=2 {
        begin(&stack, &token, number).await;
    }
    assert_eq!(model.received().len(), 4, "two tries each");
    model.always(dealer(22_000.0));
    let opened = std::time::Instant::now();
    let mut number = 3;
    while begin(&stack, &token, number).await["dealer_offer"] != 22_000.0 {
        assert!(opened.elapsed() < Duration::from_secs(30), "never tried again");
        number += 1;
    }
    assert_eq!(model.received().len(), 5, "nothing was sent while the circuit was open");
    let errors = stack.samples(|name| name == "autodealgenie_llm_errors_total").await;
    let open = "autodealgenie_llm_errors_total{error_type=circuit_open,model=gpt-4o-mini}";
    assert_eq!(errors[open], f64::from(number - 3));
}

#[test]
fn a_bad_address_or_key_is_a_bad_configuration() {
    use autodealgenie_backend::llm::{Llm, Settings};
    use autodealgenie_backend::metrics::Metrics;
    use autodealgenie_backend::outbound::{Http, resolver::Reach};
    let refused = |change: fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        let metrics = Metrics::new(&mut prometheus_client::registry::Registry::default(), "test");
        Llm::new(&settings, &Http::new(Reach::Anywhere).unwrap(), metrics.into()).unwrap_err().to_string()
    };
    for url in ["", "api.example.com", "ftp://x", "http://"] {
        let settings = Settings { base_url: Some(url.to_owned()), ..Settings::default() };
        let metrics = Metrics::new(&mut prometheus_client::registry::Registry::default(), "test");
        assert!(Llm::new(&settings, &Http::new(Reach::Anywhere).unwrap(), metrics.into()).is_err(), "{url}");
    }
    let message = refused(|settings| {
        settings.base_url = Some("http://localhost".to_owned());
        settings.key = Some("ses\name".to_owned());
    });
    assert!(message.contains("key") && !message.contains("ame"), "{message}");
    assert!(refused(|settings| settings.model = "x".repeat(101)).contains("name"));
}
