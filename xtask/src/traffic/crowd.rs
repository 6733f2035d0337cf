//! A crowd of users: what each of them does next, and what is learned from the answers.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use http::Method;
use serde_json::{Value, json};
use testkit::http::{Request, Response};

use super::mischief::{Mischief, prank};

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
pub(super) enum Action {
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
    CompareLoans,
    ShowVehicle,
    Like,
    Negotiate,
    Counter,
    AskAgent,
    Accept,
    Evaluate,
    DescribeVehicle,
    DescribeMoney,
    ListWebhooks,
    LogOut,
    Misbehave(Mischief),
}

const WHEEL: [Action; 38] = {
    use Action::{
        Accept, ApplyForLoan, AskAgent, CompareLoans, Counter, CreateDeal, DeleteDeal, DescribeMoney,
        DescribeVehicle, Evaluate, Like, ListDeals, ListWebhooks, LogIn, LogInWrongly, LogOut, Me, MoveDeal,
        Negotiate, SearchByAll, SearchQuickly, SearchRecommended, ShowVehicle, SignUp,
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
        CreateDeal,
        Negotiate,
        MoveDeal,
        ListDeals,
        Counter,
        CreateDeal,
        AskAgent,
        LogIn,
        MoveDeal,
        Accept,
        CreateDeal,
        Evaluate,
        MoveDeal,
        DescribeVehicle,
        LogOut,
        ListDeals,
        DescribeMoney,
        DeleteDeal,
        SearchQuickly,
        SearchByAll,
        SearchQuickly,
        ShowVehicle,
        SearchRecommended,
        Like,
        ApplyForLoan,
        SearchQuickly,
        CompareLoans,
        ApplyForLoan,
        ListWebhooks,
    ]
};

#[derive(Clone, Debug, Default)]
struct Deal {
    id: i64,
    token: String,
    status: &'static str,
}

/// A negotiation or an evaluation that goes on.
#[derive(Clone, Debug, Default)]
struct Talk {
    id: i64,
    token: String,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: u64,
    users: u64,
    deals: u64,
    searches: u64,
    loans: u64,
    negotiations: u64,
    evaluations: u64,
    refused: u64,
    mischief: u64,
    pub(super) failed: u64,
}

/// Which share of all requests is mischief, by kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mix(pub(super) [(Mischief, f64); 4]);

impl Mix {
    /// What the `number`-th request is, spread evenly: each kind comes when its share has grown by a whole one, and the
    /// kinds begin apart, so that they do not fall together.
    fn turn(&self, number: u64) -> Option<Mischief> {
        let due = |share: f64, begun: f64| {
            (share * (number + 1) as f64 + begun).floor() > (share * number as f64 + begun).floor()
        };
        let kinds = self.0.iter().zip([0.0, 0.3, 0.55, 0.8]);
        kinds.filter(|((_, share), begun)| due(*share, *begun)).map(|((kind, _), _)| *kind).next()
    }
}

/// What is remembered between actions.
#[derive(Debug)]
pub(super) struct Crowd {
    url: String,
    /// Makes names unique across runs.
    run: u128,
    number: u64,
    emails: VecDeque<String>,
    tokens: VecDeque<String>,
    deals: VecDeque<Deal>,
    negotiations: VecDeque<Talk>,
    /// That ask for the vehicle's condition, and those that ask how it is paid.
    evaluations: [VecDeque<Talk>; 2],
    mix: Mix,
    pub(super) counts: Counts,
    pub(super) last_failure: Option<String>,
}

/// The request of an action and what is needed to understand the answer.
pub(super) struct Sent {
    action: Action,
    pub(super) request: Request,
    /// The e-mail address, or the session token.
    who: String,
    deal: Option<Deal>,
    talk: Option<Talk>,
    /// The statuses that answer mischief rightly.
    right: &'static [u16],
}

impl Crowd {
    pub(super) fn new(url: &str, mix: Mix) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            run: now.as_millis(),
            number: 0,
            emails: VecDeque::new(),
            tokens: VecDeque::new(),
            deals: VecDeque::new(),
            negotiations: VecDeque::new(),
            evaluations: Default::default(),
            mix,
            counts: Counts::default(),
            last_failure: None,
        })
    }

    /// The next request. What lacks a user, a session or a deal becomes what provides it.
    pub(super) fn next(&mut self) -> Sent {
        if let Some(kind) = self.mix.turn(self.number) {
            self.number += 1;
            return self.send(Action::Misbehave(kind));
        }
        let turn = usize::try_from(self.number % WHEEL.len() as u64).unwrap_or_default();
        self.number += 1;
        let action = match WHEEL[turn] {
            Action::SignUp => Action::SignUp,
            _ if self.emails.is_empty() => Action::SignUp,
            action @ (Action::LogIn | Action::LogInWrongly) => action,
            _ if self.tokens.is_empty() => Action::LogIn,
            Action::MoveDeal | Action::DeleteDeal | Action::Negotiate | Action::Evaluate
                if self.deals.is_empty() =>
            {
                Action::CreateDeal
            }
            Action::Counter | Action::AskAgent | Action::Accept if self.negotiations.is_empty() => {
                Action::SearchQuickly
            }
            Action::DescribeVehicle if self.evaluations[0].is_empty() => Action::SearchByAll,
            Action::DescribeMoney if self.evaluations[1].is_empty() => Action::SearchByAll,
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
        let (mut deal, mut talk) = (None, None);
        let mut right: &'static [u16] = &[];
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
            Action::CompareLoans => {
                let query = "loan_amount=20000&loan_term_months=60&credit_score_range=good";
                (self.token(), plain(Method::GET, &format!("/api/v1/loans/offers?{query}")))
            }
            Action::ShowVehicle => (self.token(), plain(Method::GET, &self.catalogued("/api/v1/vehicles/"))),
            Action::Like => {
                let vin = self.catalogued("");
                (self.token(), post("/api/v1/favorites", &json!({"vin": vin})))
            }
            Action::ListWebhooks => (self.token(), plain(Method::GET, "/api/v1/webhooks")),
            Action::Negotiate | Action::Evaluate => {
                let about = self.deals.pop_front().unwrap_or_default();
                let (path, body) = if action == Action::Evaluate {
                    ("/api/v1/evaluations", json!({"deal_id": about.id}))
                } else {
                    let body = json!({"deal_id": about.id, "target_price": 24_000, "offer": 22_000});
                    ("/api/v1/negotiations", body)
                };
                deal = Some(about.clone());
                (about.token, post(path, &body))
            }
            Action::Counter | Action::AskAgent | Action::Accept => {
                let about = self.negotiations.pop_front().unwrap_or_default();
                let path = format!("/api/v1/negotiations/{}", about.id);
                let request = match action {
                    Action::Counter => post(&format!("{path}/counter"), &json!({"offer": 22_500})),
                    Action::AskAgent => {
                        post(&format!("{path}/messages"), &json!({"message": "Is that a good price?"}))
                    }
                    _ => plain(Method::POST, &format!("{path}/accept")),
                };
                talk = Some(about.clone());
                (about.token, request)
            }
            Action::DescribeVehicle | Action::DescribeMoney => {
                let money = action == Action::DescribeMoney;
                let about = self.evaluations[usize::from(money)].pop_front().unwrap_or_default();
                let body = if money {
                    json!({"financing": {
                        "annual_income": 30_000 + self.number * 7_919 % 100_000,
                        "down_payment": 3_000,
                        "loan_term_months": 60,
                        "credit_score_range": "good",
                    }})
                } else {
                    json!({"vehicle_condition": {
                        "accidents": self.number % 3,
                        "owners": 1 + self.number % 4,
                        "service_records": self.number.is_multiple_of(2),
                    }})
                };
                talk = Some(about.clone());
                (about.token, post(&format!("/api/v1/evaluations/{}/answers", about.id), &body))
            }
            Action::Misbehave(kind) => {
                let prank = prank(kind, &self.url, &self.token(), self.number);
                right = prank.right;
                (self.token(), prank.request)
            }
            Action::LogOut => {
                let token = self.tokens.pop_front().unwrap_or_default();
                let request = plain(Method::POST, "/api/v1/auth/logout");
                self.forget(&token);
                (token, request)
            }
            Action::CreateDeal => (self.token(), post("/api/v1/deals", &self.new_deal())),
            Action::MoveDeal | Action::DeleteDeal => {
                let moved = self.deals.pop_front().unwrap_or_default();
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
            Action::SignUp | Action::LogIn | Action::LogInWrongly | Action::Misbehave(_) => request,
            _ => request.header("authorization", format!("Bearer {who}")),
        };
        Sent { action, request, who, deal, talk, right }
    }

    fn token(&self) -> String {
        let turn = usize::try_from(self.number).unwrap_or_default();
        self.tokens.get(turn % self.tokens.len().max(1)).cloned().unwrap_or_default()
    }

    fn vehicle(&self) -> (&'static str, &'static str, f64) {
        VEHICLES[usize::try_from(self.number).unwrap_or_default() % VEHICLES.len()]
    }

    /// A number of the seeded catalogue, after `prefix`.
    fn catalogued(&self, prefix: &str) -> String {
        format!("{prefix}1ADGX{:012}", 1 + self.number * 31 % 6_000)
    }

    /// The session is no more.
    fn forget(&mut self, token: &str) {
        self.tokens.retain(|known| known != token);
        self.deals.retain(|deal| deal.token != token);
        let [first, second] = &mut self.evaluations;
        for talks in [&mut self.negotiations, first, second] {
            talks.retain(|talk| talk.token != token);
        }
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
    pub(super) fn learn(&mut self, sent: Sent, answer: Result<Response>) {
        self.counts.requests += 1;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.fail(format!("{error:#}")),
        };
        let body = answer.json().unwrap_or_default();
        let id = body["id"].as_i64().unwrap_or_default();
        match (sent.action, answer.status.as_u16()) {
            (Action::Misbehave(_), status) if sent.right.contains(&status) => self.counts.mischief += 1,
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
            (Action::Negotiate, 201) => {
                self.counts.negotiations += 1;
                remember(&mut self.negotiations, Talk { id, token: sent.who });
            }
            // The offer may be below the last one, or the rounds over: somebody else is asked to accept.
            (Action::Counter | Action::AskAgent, 200 | 201 | 409 | 422) => {
                if let Some(talk) = sent.talk {
                    remember(&mut self.negotiations, talk);
                }
            }
            (Action::Evaluate, 201) => {
                self.counts.evaluations += 1;
                remember(&mut self.evaluations[0], Talk { id, token: sent.who });
                if let Some(deal) = sent.deal {
                    remember(&mut self.deals, deal);
                }
            }
            (Action::DescribeVehicle, 200) => {
                if let Some(talk) = sent.talk {
                    remember(&mut self.evaluations[1], talk);
                }
            }
            (
                Action::Me
                | Action::ListDeals
                | Action::ListWebhooks
                | Action::CompareLoans
                | Action::ShowVehicle
                | Action::Accept
                | Action::DescribeMoney,
                200,
            )
            | (Action::DeleteDeal | Action::LogOut, 204)
            | (Action::Like, 201 | 409)
            // A deal that was deleted meanwhile takes its evaluations along.
            | (Action::DescribeVehicle | Action::DescribeMoney, 404) => {}
            // The session was ended by a logout that overtook this request, or by a restart of Redis.
            (action, 401) if !matches!(action, Action::LogIn | Action::Misbehave(_)) => {
                self.forget(&sent.who);
            }
            (action, status) => self.fail(format!("{action:?} was answered {status}: {}", answer.text)),
        }
    }

    fn fail(&mut self, why: String) {
        self.counts.failed += 1;
        self.last_failure = Some(why);
    }

    pub(super) fn line(&self, elapsed: Duration) -> String {
        let Counts {
            requests,
            users,
            deals,
            searches,
            loans,
            negotiations,
            evaluations,
            refused,
            mischief,
            failed,
        } = self.counts;
        let rate = requests as f64 / elapsed.as_secs_f64().max(0.001);
        let seconds = elapsed.as_secs();
        format!(
            "{seconds} s: {requests} requests ({rate:.1}/s), {users} users, {deals} deals, {searches} searches, \
             {loans} loan applications, {negotiations} negotiations, {evaluations} evaluations, {refused} refused \
             logins, {mischief} mischiefs, {failed} failures"
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

#[cfg(test)]
mod tests {
    use super::*;

    const HARMLESS: Mix =
        Mix([(Mischief::Error, 0.0), (Mischief::Heavy, 0.0), (Mischief::Slow, 0.0), (Mischief::Attack, 0.0)]);

    #[test]
    fn mischief_has_its_share() {
        let mix = Mix([
            (Mischief::Error, 0.1),
            (Mischief::Heavy, 0.0),
            (Mischief::Slow, 0.02),
            (Mischief::Attack, 0.05),
        ]);
        let turns: Vec<_> = (0..1000).filter_map(|number| mix.turn(number)).collect();
        let count = |kind| turns.iter().filter(|turn| **turn == kind).count();
        // Rounding may move one to the next turn.
        assert!((99..=101).contains(&count(Mischief::Error)), "{}", count(Mischief::Error));
        assert!((49..=51).contains(&count(Mischief::Attack)), "{}", count(Mischief::Attack));
        assert!((19..=21).contains(&count(Mischief::Slow)), "{}", count(Mischief::Slow));
        assert_eq!(count(Mischief::Heavy), 0);
        assert!((0..1000).all(|number| HARMLESS.turn(number).is_none()));
    }

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
        let mut crowd = Crowd::new("http://127.0.0.1:1/", HARMLESS).unwrap();
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
