//! The metrics tell the truth: a script of actions, and what each of them adds to the counters of the backend and to
//! those that the business exporter's ledger keeps on the same tables. Nothing else may grow, and nothing appear that
//! was not there at 0.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use autodealgenie_backend::metrics::LIST;
use autodealgenie_backend::outbound::breaker;
use autodealgenie_backend::queries;
use serde_json::{Value, json};
use testkit::exporter::Exporter;
use testkit::postgres::Postgres;
use testkit::upstream::{Reply, Upstream};

use crate::stack::{PASSWORD, Stack, counts, deal, email, growth, samples, signup, vehicle, vin};

const LIMIT: Duration = Duration::from_secs(30);

/// Counters that only a store in trouble moves: the tests of faults move them.
const TROUBLE: [&str; 3] = [
    "autodealgenie_cache_errors_total",
    "autodealgenie_db_query_errors_total",
    "autodealgenie_db_connection_errors_total",
];

/// Whether a sample counts what the script does: not what the service asks the database on its own.
fn scripted(name: &str) -> bool {
    counts(name) && !name.contains("_db_")
}

/// Sums of decimals, as of dollars, but for their last digits.
fn rounded(growth: BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    growth.into_iter().map(|(series, value)| (series, (value * 1e6).round() / 1e6)).collect()
}

/// What fills a request of the script.
#[derive(Default)]
struct Ask<'a> {
    token: Option<&'a str>,
    /// In the place of `{id}` or `{vin}`.
    part: String,
    query: &'a str,
    body: Option<Value>,
}

impl<'a> Ask<'a> {
    fn by(token: &'a str) -> Ask<'a> {
        Ask { token: Some(token), ..Ask::default() }
    }

    fn of(self, part: &impl ToString) -> Ask<'a> {
        Ask { part: part.to_string(), ..self }
    }

    fn query(self, query: &'a str) -> Ask<'a> {
        Ask { query, ..self }
    }

    fn body(self, body: Value) -> Ask<'a> {
        Ask { body: Some(body), ..self }
    }
}

struct Script {
    stack: Stack,
    ledger: Exporter,
    before: [BTreeMap<String, f64>; 2],
    /// What the backend and the ledger must have counted.
    due: [BTreeMap<String, f64>; 2],
}

impl Script {
    async fn start(stack: Stack) -> Script {
        let program =
            Path::new(env!("CARGO_BIN_EXE_autodealgenie-backend")).with_file_name("business-exporter");
        assert!(program.exists(), "{} is missing: build the whole workspace", program.display());
        let definition =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../exporters/business-exporter/config/autodealgenie.yml");
        let mut ddl = Command::new(&program);
        ddl.args(["--config", definition, "ddl", "--install", "--grants", "exporter"]);
        let ddl = ddl.output().unwrap();
        assert!(ddl.status.success(), "{}", String::from_utf8_lossy(&ddl.stderr));
        stack.postgres.sql(&String::from_utf8(ddl.stdout).unwrap()).await.unwrap();
        stack.postgres.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO exporter").await.unwrap();
        let dsn = stack.postgres.dsn();
        let flags = ["--config", definition];
        let ledger =
            Exporter::start(program, &flags, |process| process.env("DATABASE_URL", dsn)).await.unwrap();
        let mut script = Script { stack, ledger, before: Default::default(), due: Default::default() };
        script.before = script.pages().await;
        script
    }

    /// What both count now.
    async fn pages(&self) -> [BTreeMap<String, f64>; 2] {
        let ledger = self.ledger.scrape(10.0).await.unwrap();
        let events = |name: &str| counts(name) && name.starts_with("autodealgenie_");
        [self.stack.samples(scripted).await, samples(&ledger, events)]
    }

    /// A line of the table: who counts it (`both`, `backend` or `ledger`), the series, and how much if not 1.
    fn adds(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let who = match words.next().unwrap() {
            "both" => 0..2,
            "backend" => 0..1,
            "ledger" => 1..2,
            other => panic!("{other} counts nothing"),
        };
        let series = words.next().unwrap();
        let labels = if series.contains('{') { "" } else { "{}" };
        let much: f64 = words.next().map_or(1.0, |word| word.parse().unwrap());
        for due in &mut self.due[who] {
            *due.entry(format!("autodealgenie_{series}{labels}")).or_default() += much;
        }
    }

    /// Sends a request `times` times, each of which is answered with `status` and adds the lines of `adds`.
    async fn act<'a>(
        &mut self,
        times: u32,
        call: &str,
        status: u16,
        adds: &str,
        ask: impl Fn(usize) -> Ask<'a>,
    ) -> Vec<Value> {
        let (method, handler) = call.split_once(' ').unwrap();
        let mut answers = Vec::new();
        for number in 0..times as usize {
            let Ask { token, part, query, body } = ask(number);
            let path = handler.replace("{id}", &part).replace("{vin}", &part) + query;
            let answer = self.stack.call(method, &path, token, body).await;
            assert_eq!(answer.status, status, "{call} {number}: {}", answer.text);
            answers.push(answer.json().unwrap_or_default());
            let labels = format!("handler={handler},method={method}");
            let [due, _] = &mut self.due;
            *due.entry(format!("http_requests_total{{{labels},status={status}}}")).or_default() += 1.0;
            for family in ["request_duration_seconds", "request_size_bytes", "response_size_bytes"] {
                *due.entry(format!("http_{family}_count{{{labels}}}")).or_default() += 1.0;
            }
            adds.lines().filter(|line| !line.trim().is_empty()).for_each(|line| self.adds(line));
        }
        answers
    }

    /// Waits until both have counted what is due, and nothing else: mail and webhooks take their time.
    async fn settle(&self) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let pages = self.pages().await;
            let grown = [0, 1].map(|who| rounded(growth(&self.before[who], &pages[who])));
            let due = self.due.clone().map(rounded);
            if grown == due {
                let appeared: Vec<_> =
                    pages[0].keys().filter(|series| !self.before[0].contains_key(*series)).collect();
                assert!(appeared.is_empty(), "not created at 0: {appeared:?}");
                return;
            }
            let off = [0, 1].map(|who| {
                let all: BTreeSet<_> = grown[who].keys().chain(due[who].keys()).collect();
                let off = all.into_iter().filter(|series| grown[who].get(*series) != due[who].get(*series));
                off.map(|series| (series, grown[who].get(series), due[who].get(series))).collect::<Vec<_>>()
            });
            assert!(Instant::now() < deadline, "(series, grown, due) of backend and ledger: {off:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The statements that are counted are those in the log of the server.
    async fn settle_statements(&self) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let statements = self.stack.samples(|name| name == "autodealgenie_db_queries_total").await;
            let durations =
                self.stack.samples(|name| name == "autodealgenie_db_query_duration_seconds_count").await;
            // A statement's further lines are indented, and another entry follows.
            let log = self.stack.postgres.log() + "\n2";
            let mut logged = BTreeMap::new();
            for query in queries() {
                let text = format!(": {}\n2", query.sql.replace('\n', "\n\t"));
                let labels = format!("{{operation={},table={}}}", query.operation.as_str(), query.table);
                *logged.entry(labels).or_insert(0.0) += log.matches(&text).count() as f64;
            }
            let named = |family: &str| {
                let named = logged.iter().map(|(labels, count)| (format!("{family}{labels}"), *count));
                named.collect::<BTreeMap<_, _>>()
            };
            if statements == named("autodealgenie_db_queries_total")
                && durations == named("autodealgenie_db_query_duration_seconds_count")
            {
                assert!(logged.values().sum::<f64>() > 100.0, "{logged:?}");
                return;
            }
            assert!(Instant::now() < deadline, "counted {statements:#?}, logged {logged:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Every counter and every histogram of the list has moved.
    async fn everything_moved(&self) {
        let page = self.stack.metrics().await;
        for metric in LIST.iter().filter(|metric| metric.kind != "gauge" && !TROUBLE.contains(&metric.name)) {
            let family = page.family(metric.name).unwrap();
            let sum: f64 = family.samples.iter().map(|sample| sample.value).sum();
            assert!(sum > 0.0, "{} has not moved", metric.name);
        }
    }
}

/// What a server answers when the model says `content`, for 1,000 tokens of prompt and 500 of answer.
fn completion(content: &Value) -> Reply {
    let body = json!({
        "choices": [{"message": {"content": content.to_string()}}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 500},
    });
    Reply::new(200, body.to_string())
}

/// What a question to the model adds that it answers.
const ANSWERED: &str = "
    backend llm_request_duration_seconds_count{model=test}
    both llm_tokens_used_total{model=test,token_type=prompt} 1000
    both llm_tokens_used_total{model=test,token_type=completion} 500
    both llm_cost_usd_total{model=test} 0.006";

/// What a round of a negotiation adds.
const ROUND: &str = "
    both negotiation_messages_total{role=user}
    both negotiation_messages_total{role=dealer_sim}
    both negotiation_messages_total{role=agent}";

/// What a deal adds that is completed.
const CLOSED: &str = "
    ledger deal_status_transitions_total{from=in_progress,to=completed}
    ledger deal_time_to_close_seconds_count
    ledger deal_closed_price_usd_count
    ledger deal_discount_ratio_count";

const BEGUN: &str = "ledger deal_status_transitions_total{from=pending,to=in_progress}";
const HASHED: &str = "backend password_hash_duration_seconds_count";

/// A search that is answered from the database.
const MISS: &str = "
    backend vehicle_search_duration_seconds_count
    backend cache_misses_total{cache_name=vehicle_search}
    backend cache_operation_duration_seconds_count{cache_name=vehicle_search,operation=get}
    backend cache_operation_duration_seconds_count{cache_name=vehicle_search,operation=set}";

/// A search that is answered from the cache.
const HIT: &str = "
    backend vehicle_search_duration_seconds_count
    backend cache_hits_total{cache_name=vehicle_search}
    backend cache_operation_duration_seconds_count{cache_name=vehicle_search,operation=get}";

const SIGNUP: &str = "POST /api/v1/auth/signup";
const LOGIN: &str = "POST /api/v1/auth/login";
const RESET: &str = "POST /api/v1/auth/password-reset";
const DEALS: &str = "POST /api/v1/deals";
const MOVE: &str = "PATCH /api/v1/deals/{id}/status";
const SEARCH: &str = "GET /api/v1/vehicles";
const LOANS: &str = "POST /api/v1/loans/applications";
const NEGOTIATE: &str = "POST /api/v1/negotiations";
const COUNTER: &str = "POST /api/v1/negotiations/{id}/counter";
const CANCEL: &str = "POST /api/v1/negotiations/{id}/cancel";
const ANSWER: &str = "POST /api/v1/evaluations/{id}/answers";
const OFFER: &str = "POST /api/v1/vehicles";

#[tokio::test]
async fn every_action_moves_exactly_its_counters_and_the_ledgers() {
    let model =
        Upstream::start(completion(&json!({"offer": 22_000, "message": "Take it.", "advice": "Do not."})));
    let prices = Upstream::start(Reply::new(
        200,
        json!({"num_found": 9, "listings": [{"price": 22_000}]}).to_string(),
    ));
    let (mail, hook) = (Upstream::start(Reply::new(202, "")), Upstream::start(Reply::new(204, "")));
    let (model, prices, mail, hook) =
        (model.await.unwrap(), prices.await.unwrap(), mail.await.unwrap(), hook.await.unwrap());
    let postgres = Postgres::builder().setting("log_statement", "all").start().await.unwrap();
    let stack = Stack::on(postgres, |settings| {
        settings.logins.account = 2;
        settings.llm.base_url = Some(model.url().to_owned());
        settings.llm.model = "test".to_owned();
        settings.llm.prompt_price = 2.0;
        settings.llm.completion_price = 8.0;
        settings.llm.breaker = breaker::Limits { failures: 100, pause: Duration::from_secs(60) };
        settings.vehicle_data_url = Some(prices.url().to_owned());
        settings.mail_url = Some(mail.url().to_owned());
        settings.webhooks.private = true;
        settings.webhooks.pause = Duration::from_millis(10);
        settings.webhooks.poll = Duration::from_millis(500);
        settings.webhooks.tries = 2;
        settings.webhooks.patience = 3;
    });
    let mut script = Script::start(stack.await).await;
    script.stack.work();

    // Accounts.
    let names = ["ann", "bob", "root"];
    let login =
        |name: &str, password: &str| Ask::default().body(json!({"email": email(name), "password": password}));
    script
        .act(3, SIGNUP, 201, &format!("both user_signups_total\n{HASHED}"), |n| {
            Ask::default().body(signup(names[n]))
        })
        .await;
    script.act(1, SIGNUP, 409, HASHED, |_| Ask::default().body(signup("ann"))).await;
    script.act(2, SIGNUP, 422, "", |_| Ask::default().body(json!({}))).await;
    script.stack.postgres.sql("UPDATE users SET role = 'admin' WHERE username = 'root'").await.unwrap();
    let granted = format!("backend auth_success_total\n{HASHED}");
    let tokens = script.act(3, LOGIN, 200, &granted, |n| login(names[n], PASSWORD)).await;
    let [ann, bob, root] = [0, 1, 2].map(|n| tokens[n]["token"].as_str().unwrap().to_owned());
    let (ann, bob, root) = (ann.as_str(), bob.as_str(), root.as_str());
    let refused = format!("backend auth_failures_total\n{HASHED}");
    script.act(2, LOGIN, 401, &refused, |_| login("ann", "wrong horse")).await;
    script.act(1, LOGIN, 401, &refused, |_| login("nobody", PASSWORD)).await;
    let limited = "backend auth_failures_total\nbackend auth_limited_total";
    script.act(4, LOGIN, 429, limited, |_| login("ann", PASSWORD)).await;
    script.act(1, "POST /api/v1/auth/logout", 204, "", |_| Ask::by(bob)).await;
    script.act(2, "GET /api/v1/auth/me", 401, "", |_| Ask::by(bob)).await;
    let mailed = "
        backend password_resets_requested_total
        backend external_api_requests_total{api_name=mail,status=ok}
        backend external_api_duration_seconds_count{api_name=mail}";
    script.act(2, RESET, 204, mailed, |_| Ask::default().body(json!({"email": email("bob")}))).await;
    script.act(1, RESET, 204, "", |_| Ask::default().body(json!({"email": email("nobody")}))).await;
    let reset = mail.wait_for(2).await.unwrap()[0].json().unwrap()["token"].clone();
    script
        .act(
            1,
            "POST /api/v1/auth/password-reset/confirm",
            204,
            &format!("backend password_resets_completed_total\n{HASHED}"),
            |_| Ask::default().body(json!({"token": reset, "password": "a new password"})),
        )
        .await;
    script.settle().await;

    // Deals.
    let pending = "both deals_created_total{status=pending}\nledger deal_asking_price_usd_count";
    let deals = script.act(9, DEALS, 201, pending, |n| Ask::by(ann).body(deal(&vin(n as u32)))).await;
    let begun = "both deals_created_total{status=in_progress}\nledger deal_asking_price_usd_count";
    script
        .act(2, DEALS, 201, begun, |n| {
            let mut body = deal(&vin(100 + n as u32));
            body["status"] = json!("in_progress");
            Ask::by(ann).body(body)
        })
        .await;
    script.act(1, DEALS, 409, "", |_| Ask::by(ann).body(deal(&vin(0)))).await;
    script.act(1, DEALS, 422, "", |_| Ask::by(ann).body(json!({}))).await;
    script.act(1, DEALS, 401, "", |_| Ask::default().body(deal(&vin(50)))).await;
    script.act(2, "GET /api/v1/deals", 200, "", |_| Ask::by(ann)).await;
    script.act(3, "GET /api/v1/deals/{id}", 404, "", |_| Ask::by(ann).of(&999)).await;
    let status =
        |deal: usize, status: &str| Ask::by(ann).of(&deals[deal]["id"]).body(json!({"status": status}));
    script.act(3, MOVE, 200, BEGUN, |n| status(n, "in_progress")).await;
    script.act(2, MOVE, 200, CLOSED, |n| status(n, "completed")).await;
    let cancelled = "ledger deal_status_transitions_total{from=in_progress,to=cancelled}";
    script.act(1, MOVE, 200, cancelled, |_| status(2, "cancelled")).await;
    script.act(2, MOVE, 409, "", |_| status(0, "in_progress")).await;
    for (number, last) in [(2, "cancelled"), (3, "pending")] {
        let deleted = format!("ledger deals_deleted_total{{status={last}}}");
        let ask = |_| Ask::by(ann).of(&deals[number]["id"]);
        script.act(1, "DELETE /api/v1/deals/{id}", 204, &deleted, ask).await;
    }
    script.settle().await;

    // Vehicles.
    let quick = "both vehicle_searches_total{search_type=quick}";
    let first =
        script.act(1, SEARCH, 200, &format!("{quick}{MISS}"), |_| Ask::by(ann).query("?make=toyota")).await;
    script.act(2, SEARCH, 200, &format!("{quick}{HIT}"), |_| Ask::by(ann).query("?make=Toyota")).await;
    let further = format!("?make=toyota&cursor={}", first[0]["next_cursor"].as_str().unwrap());
    script.act(1, SEARCH, 200, MISS, |_| Ask::by(ann).query(&further)).await;
    let advanced = format!("both vehicle_searches_total{{search_type=advanced}}{MISS}");
    let years = [2020, 2021, 2022, 2023].map(|year| format!("?search_type=advanced&year_min={year}"));
    script.act(4, SEARCH, 200, &advanced, |n| Ask::by(ann).query(&years[n])).await;
    let empty = format!("{advanced}\nledger vehicle_searches_empty_total");
    script.act(1, SEARCH, 200, &empty, |_| Ask::by(ann).query("?search_type=advanced&price_max=1")).await;
    let wishes = json!({"name": "cheap", "criteria": {"price_max": 9000}});
    let saved =
        script.act(1, "POST /api/v1/saved-searches", 201, "", |_| Ask::by(ann).body(wishes.clone())).await;
    let saved = format!("?search_type=saved&saved_search_id={}", saved[0]["id"]);
    let searched = "both vehicle_searches_total{search_type=saved}";
    script.act(1, SEARCH, 200, &format!("{searched}{MISS}"), |_| Ask::by(ann).query(&saved)).await;
    let liked = |n: usize| Ask::by(ann).body(json!({"vin": format!("1ADGX{:012}", n + 1)}));
    script.act(2, "POST /api/v1/favorites", 201, "ledger favorites_added_total", liked).await;
    script.act(1, "POST /api/v1/favorites", 409, "", liked).await;
    let recommended = "both vehicle_searches_total{search_type=recommended}";
    let ask = |_| Ask::by(ann).query("?search_type=recommended");
    script.act(1, SEARCH, 200, &format!("{recommended}{MISS}"), ask).await;
    script.act(2, SEARCH, 200, &format!("{recommended}{HIT}"), ask).await;
    script.act(1, SEARCH, 422, "", |_| Ask::by(ann).query("?search_type=quick&year_min=2020")).await;
    script.act(1, SEARCH, 404, "", |_| Ask::by(ann).query("?search_type=saved&saved_search_id=999")).await;
    let got = "backend cache_operation_duration_seconds_count{cache_name=vehicle,operation=get}";
    let missed = format!("{got}\nbackend cache_misses_total{{cache_name=vehicle}}");
    let kept = "backend cache_operation_duration_seconds_count{cache_name=vehicle,operation=set}";
    let show = "GET /api/v1/vehicles/{vin}";
    let known = |_| Ask::default().of(&"1ADGX000000000007");
    script.act(1, show, 200, &format!("{missed}\n{kept}"), known).await;
    script.act(3, show, 200, &format!("{got}\nbackend cache_hits_total{{cache_name=vehicle}}"), known).await;
    script.act(2, show, 404, &missed, |_| Ask::default().of(&"1ADGX000000009999")).await;
    script.settle().await;

    // Loans.
    for (times, status, tier, income) in [
        (1, "pending", "good", json!(null)),
        (2, "pre_approved", "good", json!(90_000)),
        (3, "approved", "excellent", json!(90_000)),
        (4, "rejected", "poor", json!(9_000)),
    ] {
        let filed = format!(
            "both loan_applications_total{{status={status}}}
            backend loan_processing_duration_seconds_count
            ledger loan_amount_usd_count"
        );
        let body = json!({
            "loan_amount": 20_000,
            "down_payment": 2_000,
            "loan_term_months": 60,
            "credit_score_range": tier,
            "annual_income": income,
        });
        script.act(times, LOANS, 201, &filed, |_| Ask::by(ann).body(body.clone())).await;
    }
    // A later decision is no new application.
    let income = |_| Ask::by(ann).of(&1).body(json!({"annual_income": 90_000}));
    script.act(1, "POST /api/v1/loans/applications/{id}/income", 200, "", income).await;
    script.act(1, LOANS, 422, "", |_| Ask::by(ann).body(json!({}))).await;
    script.settle().await;

    // Negotiations, with a model that answers, then one that fails.
    let opening = |deal: usize| {
        let body = json!({"deal_id": deals[deal]["id"], "target_price": 22_500, "offer": 21_000});
        Ask::by(ann).body(body)
    };
    let asked = |kind: &str| format!("{ANSWERED}\nboth llm_requests_total{{model=test,prompt_type={kind}}}");
    let opened = format!("both negotiation_sessions_total\n{BEGUN}{ROUND}");
    let initial = format!("{opened}{}", asked("negotiation_initial"));
    let mut talks = script.act(3, NEGOTIATE, 201, &initial, |n| opening(4 + n)).await;
    // The model is asked in vain: only stored answers are in the ledger.
    model.always(Reply::new(500, ""));
    let failed = format!(
        "{opened}
        backend llm_requests_total{{model=test,prompt_type=negotiation_initial}}
        backend llm_request_duration_seconds_count{{model=test}}
        backend llm_errors_total{{model=test,error_type=server_error}}
        both llm_fallback_total{{feature=negotiation}}"
    )
    .replace("{model=test,error_type=server_error}", "{error_type=server_error,model=test}");
    talks.extend(script.act(1, NEGOTIATE, 201, &failed, |_| opening(7)).await);
    script.act(1, NEGOTIATE, 409, "", |_| opening(0)).await;
    let talk = |number: usize| Ask::by(ann).of(&talks[number]["id"]);
    model.always(completion(&json!({"offer": 22_000, "message": "Now?", "advice": "Yes."})));
    let countered = format!("{ROUND}{}", asked("negotiation_counter"));
    script.act(1, COUNTER, 200, &countered, |_| talk(0).body(json!({"offer": 21_500}))).await;
    let reject = "POST /api/v1/negotiations/{id}/reject";
    script.act(1, reject, 200, &countered, |_| talk(3).body(json!({}))).await;
    model.always(completion(&json!({"message": "Wait a week."})));
    let spoken = "
        both negotiation_messages_total{role=user}
        both negotiation_messages_total{role=agent}";
    let chat = format!("{spoken}{}", asked("negotiation_chat"));
    let ask = |_| talk(0).body(json!({"message": "And now?"}));
    script.act(2, "POST /api/v1/negotiations/{id}/messages", 201, &chat, ask).await;
    let ended = |outcome: &str| {
        format!(
            "both negotiation_messages_total{{role=user}}
            both negotiation_duration_seconds_count{{outcome={outcome}}}
            ledger negotiation_rounds_count{{outcome={outcome}}}"
        )
    };
    let accepted = format!("{}{CLOSED}", ended("completed"));
    script.act(1, "POST /api/v1/negotiations/{id}/accept", 200, &accepted, |_| talk(0)).await;
    script.act(2, CANCEL, 200, &ended("cancelled"), |n| talk(1 + n)).await;
    script.act(1, CANCEL, 409, "", |_| talk(1)).await;
    script.settle().await;

    // Evaluations: the market's prices, and none.
    model.always(completion(&json!({"summary": "A wreck.", "recommendation": "buy", "score": 100})));
    let evaluate = |n: usize| Ask::by(ann).body(json!({"deal_id": deals[n]["id"]}));
    let started = "backend evaluations_started_total";
    let evaluations = script.act(2, "POST /api/v1/evaluations", 201, started, evaluate).await;
    let wreck = json!({"vehicle_condition": {"accidents": 9, "owners": 9, "service_records": false}});
    let priced = |status: &str| {
        format!(
            "backend external_api_duration_seconds_count{{api_name=vehicle_data}}
            backend external_api_requests_total{{api_name=vehicle_data,status={status}}}"
        )
    };
    let answer = |n: usize, body: &Value| Ask::by(ann).of(&evaluations[n]["id"]).body(body.clone());
    script.act(1, ANSWER, 200, &priced("ok"), |_| answer(0, &wreck)).await;
    prices.always(Reply::new(403, ""));
    let refused = "backend external_api_errors_total{api_name=vehicle_data,error_type=client_error}";
    script.act(1, ANSWER, 200, &format!("{}\n{refused}", priced("error")), |_| answer(1, &wreck)).await;
    let payment = json!({"financing": {
        "annual_income": 20_000, "down_payment": 0, "loan_term_months": 60, "credit_score_range": "poor",
    }});
    let judged =
        format!("backend evaluations_completed_total{{recommendation=avoid}}\n{}", asked("evaluation"));
    script.act(2, ANSWER, 200, &judged, |n| answer(n, &payment)).await;
    script.act(1, ANSWER, 409, "", |_| answer(0, &payment)).await;
    script.settle().await;

    // Webhooks: a good endpoint, one that fails once, one that only fails.
    script.act(1, "POST /api/v1/webhooks", 201, "", |_| Ask::by(ann).body(json!({"url": hook.url()}))).await;
    script.act(1, OFFER, 403, "", |_| Ask::by(ann).body(vehicle(&vin(0)))).await;
    let tried = |status: &str| {
        format!(
            "
            backend webhook_delivery_duration_seconds_count
            backend webhook_deliveries_total{{status={status}}}"
        )
    };
    let [delivered, retried, failed] = ["delivered", "retried", "failed"].map(tried);
    let alert = "backend webhook_alerts_total";
    let disabled = format!("{retried}\nbackend webhooks_disabled_total");
    for (number, always, next, tries) in [
        (1, 204, None, delivered.clone()),
        (2, 204, Some(503), format!("{retried}{delivered}")),
        (3, 500, None, format!("{retried}{failed}")),
        (4, 500, None, disabled),
    ] {
        hook.always(Reply::new(always, ""));
        hook.next(next.map(|status| Reply::new(status, "")));
        let body = vehicle(&format!("2T1BURHE0JC{number:06}"));
        script.act(1, OFFER, 201, &format!("{alert}{tries}"), |_| Ask::by(root).body(body.clone())).await;
        script.settle().await;
    }
    let last = vehicle("2T1BURHE0JC000005");
    script.act(1, OFFER, 201, "", |_| Ask::by(root).body(last.clone())).await;
    script.settle().await;

    script.settle_statements().await;
    script.everything_moved().await;
}
