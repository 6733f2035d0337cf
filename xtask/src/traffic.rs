//! `cargo xtask traffic`: users who sign up, log in (sometimes wrongly), create deals and move them.

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::Method;
use serde_json::{Value, json};
use testkit::http::{Request, Response};

use crate::progress::{overwrite, say};

/// Use the backend as its users would
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The backend
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    url: String,
    /// Requests a second
    #[arg(long, value_name = "N", default_value_t = 5.0, value_parser = positive)]
    rate: f64,
    /// End after so many seconds [default: go on until ended]
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.01..=1000.0).contains(rate))
        .ok_or_else(|| "must be from 0.01 to 1000".to_owned())
}

/// How many actions may wait for an answer; more are not started, so that a slow backend is not buried.
const IN_FLIGHT: usize = 32;
/// The oldest users and deals are forgotten beyond this.
const REMEMBERED: usize = 200;
const PASSWORD: &str = "correct horse battery";
const VEHICLES: [(&str, &str, f64); 5] = [
    ("Toyota", "Camry", 27_500.0),
    ("Honda", "Civic", 24_250.0),
    ("Ford", "F-150", 41_900.0),
    ("Tesla", "Model 3", 38_990.0),
    ("BMW", "330i", 45_600.0),
];

const TIERS: [&str; 3] = ["excellent", "good", "fair"];

/// What a user does next. One turn of the wheel is a plausible day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    SignUp,
    LogIn,
    LogInWrongly,
    Me,
    CreateDeal,
    ListDeals,
    MoveDeal,
    DeleteDeal,
    SearchQuickly,
    SearchByAll,
    SearchRecommended,
    ApplyForLoan,
    LogOut,
}

const WHEEL: [Action; 27] = {
    use Action::{
        ApplyForLoan, CreateDeal, DeleteDeal, ListDeals, LogIn, LogInWrongly, LogOut, Me, MoveDeal,
        SearchByAll, SearchQuickly, SearchRecommended, SignUp,
    };
    [
        SignUp,
        LogIn,
        CreateDeal,
        ListDeals,
        MoveDeal,
        CreateDeal,
        Me,
        MoveDeal,
        LogInWrongly,
        CreateDeal, //
        MoveDeal,
        ListDeals,
        CreateDeal,
        LogIn,
        MoveDeal,
        CreateDeal,
        MoveDeal,
        LogOut,
        ListDeals,
        DeleteDeal,
        SearchQuickly,
        SearchByAll,
        SearchQuickly,
        SearchRecommended,
        ApplyForLoan,
        SearchQuickly,
        ApplyForLoan,
    ]
};

#[derive(Clone, Debug)]
struct Deal {
    id: i64,
    token: String,
    status: &'static str,
}

#[derive(Debug, Default)]
struct Counts {
    requests: u64,
    users: u64,
    deals: u64,
    searches: u64,
    loans: u64,
    refused: u64,
    failed: u64,
}

/// What is remembered between actions.
#[derive(Debug)]
struct Crowd {
    url: String,
    /// Makes names unique across runs.
    run: u128,
    number: u64,
    emails: VecDeque<String>,
    tokens: VecDeque<String>,
    deals: VecDeque<Deal>,
    counts: Counts,
    last_failure: Option<String>,
}

/// The request of an action and what is needed to understand the answer.
struct Sent {
    action: Action,
    request: Request,
    /// The e-mail address, or the session token.
    who: String,
    deal: Option<Deal>,
}

impl Crowd {
    fn new(url: &str) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            run: now.as_millis(),
            number: 0,
            emails: VecDeque::new(),
            tokens: VecDeque::new(),
            deals: VecDeque::new(),
            counts: Counts::default(),
            last_failure: None,
        })
    }

    /// The next request. What lacks a user, a session or a deal becomes what provides it.
    fn next(&mut self) -> Sent {
        let turn = usize::try_from(self.number % WHEEL.len() as u64).unwrap_or_default();
        self.number += 1;
        let action = match WHEEL[turn] {
            Action::SignUp => Action::SignUp,
            _ if self.emails.is_empty() => Action::SignUp,
            action @ (Action::LogIn | Action::LogInWrongly) => action,
            _ if self.tokens.is_empty() => Action::LogIn,
            Action::MoveDeal | Action::DeleteDeal if self.deals.is_empty() => Action::CreateDeal,
            // Somebody has to stay.
            Action::LogOut if self.tokens.len() < 3 => Action::LogIn,
            action => action,
        };
        self.send(action)
    }

    fn send(&mut self, action: Action) -> Sent {
        let post =
            |path: &str, body: &Value| Request::new(Method::POST, format!("{}{path}", self.url)).json(body);
        let plain = |method, path: &str| Request::new(method, format!("{}{path}", self.url));
        let mut deal = None;
        let (who, request) = match action {
            Action::SignUp => {
                let name = format!("driver-{}-{}", self.run, self.number);
                let email = format!("{name}@example.com");
                let body =
                    json!({"email": email, "username": name, "full_name": "A Driver", "password": PASSWORD});
                (email, post("/api/v1/auth/signup", &body))
            }
            Action::LogIn | Action::LogInWrongly => {
                let email = rotate(&mut self.emails).unwrap_or_default();
                let password = if action == Action::LogIn { PASSWORD } else { "wrong horse battery" };
                let body = json!({"email": email, "password": password});
                (email, post("/api/v1/auth/login", &body))
            }
            Action::Me => (self.token(), plain(Method::GET, "/api/v1/auth/me")),
            Action::ListDeals => (self.token(), plain(Method::GET, "/api/v1/deals?limit=20")),
            Action::SearchQuickly => {
                let (make, model, _) = self.vehicle();
                let query = format!("make={make}&model={}", model.replace(' ', "+"));
                (self.token(), plain(Method::GET, &format!("/api/v1/vehicles?{query}")))
            }
            Action::SearchByAll => {
                let (_, _, price) = self.vehicle();
                let query =
                    format!("search_type=advanced&year_min={}&price_max={price}", 2012 + self.number % 14);
                (self.token(), plain(Method::GET, &format!("/api/v1/vehicles?{query}")))
            }
            Action::ApplyForLoan => {
                let (_, _, price) = self.vehicle();
                let income =
                    (!self.number.is_multiple_of(5)).then_some(20_000 + self.number * 7_919 % 100_000);
                let body = json!({
                    "loan_amount": price * 0.8,
                    "down_payment": price * 0.2,
                    "loan_term_months": 60,
                    "credit_score_range": TIERS[usize::try_from(self.number).unwrap_or_default() % TIERS.len()],
                    "annual_income": income,
                });
                (self.token(), post("/api/v1/loans/applications", &body))
            }
            Action::SearchRecommended => {
                (self.token(), plain(Method::GET, "/api/v1/vehicles?search_type=recommended"))
            }
            Action::LogOut => {
                let token = self.tokens.pop_front().unwrap_or_default();
                self.deals.retain(|deal| deal.token != token);
                (token, plain(Method::POST, "/api/v1/auth/logout"))
            }
            Action::CreateDeal => (self.token(), post("/api/v1/deals", &self.new_deal())),
            Action::MoveDeal | Action::DeleteDeal => {
                let moved = self.deals.pop_front().unwrap_or_else(|| Deal {
                    id: 0,
                    token: String::new(),
                    status: "pending",
                });
                let path = format!("/api/v1/deals/{}", moved.id);
                let request = if action == Action::DeleteDeal {
                    plain(Method::DELETE, &path)
                } else {
                    let status = next_status(moved.status, self.number);
                    deal = Some(Deal { status, ..moved.clone() });
                    plain(Method::PATCH, &format!("{path}/status")).json(&json!({"status": status}))
                };
                (moved.token, request)
            }
        };
        let request = match action {
            Action::SignUp | Action::LogIn | Action::LogInWrongly => request,
            _ => request.header("authorization", format!("Bearer {who}")),
        };
        Sent { action, request, who, deal }
    }

    fn token(&self) -> String {
        let turn = usize::try_from(self.number).unwrap_or_default();
        self.tokens.get(turn % self.tokens.len().max(1)).cloned().unwrap_or_default()
    }

    fn vehicle(&self) -> (&'static str, &'static str, f64) {
        VEHICLES[usize::try_from(self.number).unwrap_or_default() % VEHICLES.len()]
    }

    fn new_deal(&self) -> Value {
        let (make, model, price) = self.vehicle();
        json!({
            "vehicle_vin": vin(self.run, self.number),
            "vehicle_make": make,
            "vehicle_model": model,
            "vehicle_year": 2015 + self.number % 11,
            "vehicle_mileage": (self.number * 977) % 120_000,
            "asking_price": price,
            "offer_price": price * 0.9,
        })
    }

    /// Learns from an answer.
    fn learn(&mut self, sent: Sent, answer: Result<Response>) {
        self.counts.requests += 1;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.fail(format!("{error:#}")),
        };
        let body = answer.json().unwrap_or_default();
        match (sent.action, answer.status.as_u16()) {
            (Action::SignUp, 201) => {
                self.counts.users += 1;
                remember(&mut self.emails, sent.who);
            }
            (Action::LogIn, 200) => match body["token"].as_str() {
                Some(token) => remember(&mut self.tokens, token.to_owned()),
                None => self.fail("a login without a token".to_owned()),
            },
            (Action::LogInWrongly, 401) => self.counts.refused += 1,
            (Action::CreateDeal, 201) => {
                self.counts.deals += 1;
                let id = body["id"].as_i64().unwrap_or_default();
                remember(&mut self.deals, Deal { id, token: sent.who, status: "pending" });
            }
            (Action::MoveDeal, 200) => {
                if let Some(deal) = sent.deal.filter(|deal| deal.status == "in_progress") {
                    remember(&mut self.deals, deal);
                }
            }
            (Action::SearchQuickly | Action::SearchByAll | Action::SearchRecommended, 200) => {
                self.counts.searches += 1;
            }
            (Action::ApplyForLoan, 201) => self.counts.loans += 1,
            (Action::Me | Action::ListDeals, 200) | (Action::DeleteDeal | Action::LogOut, 204) => {}
            // The session was ended by a logout that overtook this request, or by a restart of Redis.
            (_, 401) if sent.action != Action::LogIn => {
                self.tokens.retain(|token| *token != sent.who);
                self.deals.retain(|deal| deal.token != sent.who);
            }
            (action, status) => self.fail(format!("{action:?} was answered {status}: {}", answer.text)),
        }
    }

    fn fail(&mut self, why: String) {
        self.counts.failed += 1;
        self.last_failure = Some(why);
    }

    fn line(&self, elapsed: Duration) -> String {
        let Counts { requests, users, deals, searches, loans, refused, failed } = self.counts;
        let rate = requests as f64 / elapsed.as_secs_f64().max(0.001);
        let seconds = elapsed.as_secs();
        format!(
            "{seconds} s: {requests} requests ({rate:.1}/s), {users} users, {deals} deals, \
             {searches} searches, {loans} loan applications, {refused} refused logins, {failed} failures"
        )
    }
}

/// The first one, which becomes the last.
fn rotate(queue: &mut VecDeque<String>) -> Option<String> {
    let first = queue.pop_front()?;
    queue.push_back(first.clone());
    Some(first)
}

fn remember<T>(queue: &mut VecDeque<T>, item: T) {
    queue.push_back(item);
    if queue.len() > REMEMBERED {
        queue.pop_front();
    }
}

/// Most deals are completed, some cancelled.
fn next_status(status: &str, number: u64) -> &'static str {
    match (status, number % 4) {
        ("pending", _) => "in_progress",
        (_, 0) => "cancelled",
        _ => "completed",
    }
}

/// A vehicle number of 17 letters and digits without I, O and Q, different for each number of a run.
fn vin(run: u128, number: u64) -> String {
    const LETTERS: &[u8; 33] = b"0123456789ABCDEFGHJKLMNPRSTUVWXYZ";
    let mut rest = run * 1_000_000 + u128::from(number % 1_000_000);
    let mut vin = String::new();
    while vin.len() < 17 {
        let letter = usize::try_from(rest % LETTERS.len() as u128).unwrap_or_default();
        vin.push(char::from(LETTERS[letter]));
        rest /= LETTERS.len() as u128;
    }
    vin
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let mut crowd = Crowd::new(&args.url)?;
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / args.rate));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut report = tokio::time::interval(Duration::from_secs(1));
    let mut in_flight = FuturesUnordered::new();
    let end = async {
        match args.seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => drop(tokio::signal::ctrl_c().await),
        }
    };
    tokio::pin!(end);
    let mut lines = 0_u64;
    loop {
        tokio::select! {
            () = &mut end => break,
            _ = ticks.tick(), if in_flight.len() < IN_FLIGHT => {
                let Sent { action, request, who, deal } = crowd.next();
                let sent = Sent { action, request: request.clone(), who, deal };
                in_flight.push(async move { (sent, request.send().await) });
            }
            Some((sent, answer)) = in_flight.next() => crowd.learn(sent, answer),
            _ = report.tick() => {
                let line = crowd.line(start.elapsed());
                // A log gets a line every ten seconds.
                if !overwrite(&line) && lines.is_multiple_of(10) {
                    say(&line);
                }
                lines += 1;
                if let Some(why) = crowd.last_failure.take() {
                    overwrite("");
                    say(&why);
                }
            }
        }
    }
    while let Some((sent, answer)) = in_flight.next().await {
        crowd.learn(sent, answer);
    }
    overwrite("");
    say(&crowd.line(start.elapsed()));
    let Counts { requests, failed, .. } = crowd.counts;
    if requests > 0 && failed == requests {
        bail!("{} answered nothing as it should: {}", args.url, crowd.last_failure.unwrap_or_default());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vehicle_numbers_are_valid_and_differ() {
        let run = 1_790_000_000_000;
        let vins: std::collections::BTreeSet<String> = (0..1000).map(|number| vin(run, number)).collect();
        assert_eq!(vins.len(), 1000);
        assert!(vins.iter().all(|vin| vin.len() == 17 && !vin.contains(['I', 'O', 'Q'])));
        assert!(!vins.contains(&vin(run + 1, 0)));
    }

    #[test]
    fn a_crowd_without_users_begins_with_sign_up_and_log_in() {
        let mut crowd = Crowd::new("http://127.0.0.1:1/").unwrap();
        assert_eq!(crowd.next().action, Action::SignUp);
        assert_eq!(crowd.next().action, Action::SignUp);
        crowd.emails.push_back("a@b.c".to_owned());
        assert_eq!(crowd.next().action, Action::LogIn);
        crowd.tokens.push_back("t".to_owned());
        assert_eq!(crowd.next().action, Action::ListDeals);
        assert_eq!(crowd.next().action, Action::CreateDeal, "there is no deal to move yet");
    }

    #[test]
    fn deals_end_completed_or_cancelled() {
        assert_eq!(next_status("pending", 0), "in_progress");
        assert_eq!(next_status("in_progress", 0), "cancelled");
        assert_eq!(next_status("in_progress", 1), "completed");
    }
}
