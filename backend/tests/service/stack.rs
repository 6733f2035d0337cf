//! A whole service for one test: its own servers, each behind a fault proxy, and helpers to talk to it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use autodealgenie_backend::auth::limit::Limits;
use autodealgenie_backend::{App, Settings, db, llm, router, webhooks, work};
use exporter_kit::http::{ServerConfig, bind};
use exposition::parse::{self, Page};
use http::Method;
use serde_json::{Value, json};
use testkit::http::{Request, Response};
use testkit::postgres::Postgres;
use testkit::proxy::FaultProxy;
use testkit::redis::Redis;
use tokio_util::sync::CancellationToken;

/// The password of every account that [`Stack::user`] makes.
pub(crate) const PASSWORD: &str = "correct horse";

/// A running service. Dropping it ends its servers.
pub(crate) struct Stack {
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
    pub(crate) postgres_proxy: FaultProxy,
    pub(crate) redis_proxy: FaultProxy,
    pub(crate) url: String,
    app: App,
    shutdown: CancellationToken,
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Stack {
    pub(crate) async fn start() -> Stack {
        Stack::with(|_| ()).await
    }

    /// With settings of the test's own.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Stack {
        Stack::on(Postgres::start().await.unwrap(), change).await
    }

    /// On a server of the test's own.
    pub(crate) async fn on(postgres: Postgres, change: impl FnOnce(&mut Settings)) -> Stack {
        let redis = Redis::start().await.unwrap();
        db::migrate::run(&postgres.admin_dsn("postgres")).await.unwrap();
        let postgres_proxy = FaultProxy::start(postgres.addr()).unwrap();
        let redis_proxy = FaultProxy::start(redis.addr()).unwrap();
        let mut settings = Settings {
            database_url: format!("postgresql://postgres@{}/postgres?sslmode=disable", postgres_proxy.addr()),
            redis_url: redis.url_at(redis_proxy.addr()),
            pool_size: 4,
            session_ttl: Duration::from_secs(600),
            hash_slots: 2,
            environment: "test".to_owned(),
            logins: Limits::default(),
            cors_origins: vec!["https://app.example.com".parse().unwrap()],
            max_in_flight: 512,
            llm: llm::Settings::default(),
            resets: Limits::default(),
            mail_url: None,
            vehicle_data_url: None,
            vehicle_data_key: None,
            webhooks: webhooks::Settings::default(),
        };
        change(&mut settings);
        let shutdown = CancellationToken::new();
        let app = App::new(&settings, shutdown.clone()).unwrap();
        let listen = vec!["127.0.0.1:0".parse().unwrap()];
        let bound = bind(&ServerConfig { listen, ..ServerConfig::default() }).await.unwrap();
        let url = format!("http://{}", bound.local_addrs()[0]);
        tokio::spawn(bound.serve(router(app.clone()), shutdown.clone()));
        Stack { postgres, redis, postgres_proxy, redis_proxy, url, app, shutdown }
    }

    /// Begins what the service does without being asked; it moves counters of the database on its own.
    pub(crate) fn work(&self) {
        tokio::spawn(work::run(self.app.clone()));
    }

    /// One request; `token` and `body` are sent if they are there.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Response {
        let mut request = self.request(method, path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.unwrap()
    }

    /// A request to be sent by the test.
    pub(crate) fn request(&self, method: &str, path: &str) -> Request {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Request::new(method, format!("{}{path}", self.url)).timeout(Duration::from_secs(30))
    }

    /// Creates the account `name` and logs it in; gives its token.
    pub(crate) async fn user(&self, name: &str) -> String {
        let created = self.call("POST", "/api/v1/auth/signup", None, Some(signup(name))).await;
        assert_eq!(created.status, 201, "{}", created.text);
        self.login(name).await
    }

    /// Creates the account `name` as an admin and logs it in; gives its token.
    pub(crate) async fn admin(&self, name: &str) -> String {
        let token = self.user(name).await;
        let promote = format!("UPDATE users SET role = 'admin' WHERE username = '{name}'");
        self.postgres.sql(&promote).await.unwrap();
        token
    }

    /// Logs the account `name` in; gives its token.
    pub(crate) async fn login(&self, name: &str) -> String {
        let login = json!({"email": email(name), "password": PASSWORD});
        let answer = self.call("POST", "/api/v1/auth/login", None, Some(login)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json().unwrap()["token"].as_str().unwrap().to_owned()
    }

    /// Creates a deal and gives its id.
    pub(crate) async fn deal(&self, token: &str, vin: &str) -> i64 {
        let answer = self.call("POST", "/api/v1/deals", Some(token), Some(deal(vin))).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json().unwrap()["id"].as_i64().unwrap()
    }

    /// The metrics page, read by the strict parser.
    pub(crate) async fn metrics(&self) -> Page {
        let answer = self.call("GET", "/metrics", None, None).await;
        assert_eq!(answer.status, 200);
        parse::page(&answer.text).unwrap_or_else(|error| panic!("{error}: {}", answer.text))
    }

    /// Every sample of the page whose name passes, by series.
    pub(crate) async fn samples(&self, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, f64> {
        samples(&self.metrics().await, wanted)
    }

    /// Waits until the service says that it is ready.
    pub(crate) async fn until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let answer = self.call("GET", "/ready", None, None).await;
            if answer.status == 200 {
                return;
            }
            assert!(Instant::now() < deadline, "never ready again: {}", answer.text);
        }
    }
}

/// Every sample of `page` whose name passes, by series.
pub(crate) fn samples(page: &Page, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, f64> {
    let samples = page.families.iter().flat_map(|family| &family.samples);
    samples
        .filter(|sample| wanted(&sample.name))
        .map(|sample| (series(&sample.name, &sample.labels), sample.value))
        .collect()
}

fn series(name: &str, labels: &[(String, String)]) -> String {
    let mut labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.sort();
    format!("{name}{{{}}}", labels.join(","))
}

/// What grew between two pages, by how much.
pub(crate) fn growth(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    after
        .iter()
        .map(|(series, value)| (series.clone(), value - before.get(series).copied().unwrap_or(0.0)))
        .filter(|(_, growth)| *growth != 0.0)
        .collect()
}

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

/// Whether a sample counts business events or the cache.
pub(crate) fn business(name: &str) -> bool {
    counts(name) && name.starts_with("autodealgenie_") && !name.contains("_db_")
}

/// The address of the account `name`.
pub(crate) fn email(name: &str) -> String {
    format!("{name}@example.com")
}

/// The body that creates the account `name`.
pub(crate) fn signup(name: &str) -> Value {
    json!({"email": email(name), "username": name, "full_name": "Test Person", "password": PASSWORD})
}

/// The body that creates a deal.
pub(crate) fn deal(vin: &str) -> Value {
    json!({
        "vehicle_vin": vin,
        "vehicle_make": "Honda",
        "vehicle_model": "Accord",
        "vehicle_year": 2021,
        "vehicle_mileage": 12_000,
        "asking_price": 23_999.99,
        "offer_price": 22_500,
    })
}

/// The body that puts a vehicle on offer.
pub(crate) fn vehicle(vin: &str) -> Value {
    json!({
        "vin": vin,
        "make": "Toyota",
        "model": "Supra",
        "year": 2023,
        "body_type": "Coupe",
        "condition": "used",
        "fuel_type": "gasoline",
        "transmission": "automatic",
        "mileage": 9_000,
        "price": 45_500,
    })
}

/// The `number`-th of many valid VINs.
pub(crate) fn vin(number: u32) -> String {
    format!("1HGCM82633A{number:06}")
}

/// Asserts that an answer is a problem document with this status.
pub(crate) fn assert_problem(answer: &Response, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let document = answer.json().unwrap();
    assert_eq!(document["status"], status);
    assert!(document["type"].as_str().unwrap().starts_with("urn:autodealgenie:problem:"));
    document
}

/// Asserts that an answer refuses exactly these fields.
pub(crate) fn assert_invalid(answer: &Response, fields: &[&str]) {
    let document = assert_problem(answer, 422);
    let mut refused: Vec<_> =
        document["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    refused.dedup();
    assert_eq!(refused, fields, "{}", answer.text);
}
