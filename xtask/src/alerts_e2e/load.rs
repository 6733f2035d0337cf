//! Requests to the backend of which an exact share fails and an exact share waits for PostgreSQL: both are real answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use http::Method;
use testkit::http::{Request, get};
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_postgres::Client;

/// Between two requests: a share of 0.1 % is seen in a window of a minute.
const PACE: Duration = Duration::from_millis(20);
/// Of a thousand requests, those that ask PostgreSQL. The 95th percentile is one of them, in the middle of their bucket of the
/// histogram, and they are too few for the latency budget to burn at the rate of a page.
const ASKING: u32 = 100;
/// A vehicle that PostgreSQL refuses to read, and one that nobody has.
const UNREADABLE: &str = "DR1LL000000000001";
const UNKNOWN: &str = "DR1LL000000000002";
/// Connections that exist before the answers of PostgreSQL take seconds: opening one takes several.
const CONNECTIONS: usize = 24;

/// What was sent and how it ended.
#[derive(Default)]
struct Counts {
    /// Of a thousand, those that fail.
    failing: AtomicU32,
    failed: AtomicU32,
    other: AtomicU32,
    enough: AtomicBool,
}

/// Requests at an even pace, until it is dropped.
pub(super) struct Load {
    url: String,
    /// Failures that the backend had counted before.
    before: f64,
    counts: Arc<Counts>,
    task: JoinSet<()>,
}

impl Load {
    /// Makes a vehicle unreadable for the role of the backend, and begins; no request fails yet.
    pub(super) async fn start(url: &str, owner: &Client, role: &str) -> Result<Self> {
        owner.batch_execute(&unreadable(role)).await.context("making a vehicle unreadable")?;
        let before = failures(url).await?;
        let (counts, mut task) = (Arc::new(Counts::default()), JoinSet::new());
        task.spawn(send(url.to_owned(), Arc::clone(&counts)));
        Ok(Self { url: url.to_owned(), before, counts, task })
    }

    /// Of a thousand requests so many fail from now on.
    pub(super) fn failing(&self, of_thousand: u32) {
        self.counts.failing.store(of_thousand, Relaxed);
    }

    /// Has the backend open connections.
    pub(super) async fn warm(url: &str) -> Result<()> {
        let mut requests = JoinSet::new();
        for _ in 0..CONNECTIONS {
            requests.spawn(vehicle(url, UNKNOWN).send());
        }
        while let Some(answer) = requests.join_next().await {
            ensure!(answer.context("a request")??.status == 404, "the backend knows {UNKNOWN}");
        }
        Ok(())
    }

    /// Ends, and gives how many requests failed.
    ///
    /// # Errors
    /// When a request ended otherwise than it should, or the backend counted other failures than were met.
    pub(super) async fn end(mut self, owner: &Client) -> Result<u32> {
        self.counts.enough.store(true, Relaxed);
        while self.task.join_next().await.is_some() {}
        owner.batch_execute(&readable()).await.context("making a vehicle readable again")?;
        let (failed, other) = (self.counts.failed.load(Relaxed), self.counts.other.load(Relaxed));
        ensure!(other == 0, "{other} requests ended otherwise than they should");
        let counted = failures(&self.url).await? - self.before;
        ensure!(f64::from(failed) == counted, "{failed} requests failed, and the backend counted {counted}");
        Ok(failed)
    }
}

async fn send(url: String, counts: Arc<Counts>) {
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = JoinSet::new();
    // Thousandths of a request that are due, so that failures come at an even distance.
    let (mut failures, mut asks) = (0, 0);
    while !counts.enough.load(Relaxed) {
        ticks.tick().await;
        while under_way.try_join_next().is_some() {}
        let failing = counts.failing.load(Relaxed);
        failures += failing;
        asks += ASKING - failing;
        let (request, right) = if failures >= 1000 {
            failures -= 1000;
            (vehicle(&url, UNREADABLE), 500)
        } else if asks >= 1000 {
            asks -= 1000;
            (vehicle(&url, UNKNOWN), 404)
        } else {
            let offers = "loan_amount=20000&loan_term_months=60&credit_score_range=good";
            (Request::new(Method::GET, format!("{url}/api/v1/loans/offers?{offers}")), 200)
        };
        let counts = Arc::clone(&counts);
        under_way.spawn(async move {
            match request.send().await {
                Ok(answer) if answer.status == right && right == 500 => counts.failed.fetch_add(1, Relaxed),
                Ok(answer) if answer.status == right => 0,
                _ => counts.other.fetch_add(1, Relaxed),
            }
        });
    }
    while under_way.join_next().await.is_some() {}
}

fn vehicle(url: &str, vin: &str) -> Request {
    Request::new(Method::GET, format!("{url}/api/v1/vehicles/{vin}"))
}

/// Requests that the backend counted as failed.
async fn failures(url: &str) -> Result<f64> {
    let text = get(&format!("{url}/metrics")).await?.text;
    let failed = |line: &&str| line.starts_with("http_requests_total{") && line.contains("status=\"5");
    let counts = text.lines().filter(failed).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    Ok(counts.sum())
}

/// A vehicle, and a policy under which the role cannot read it.
fn unreadable(role: &str) -> String {
    format!(
        "INSERT INTO vehicles (vin, make, model, year, body_type, condition, fuel_type, transmission, mileage, price)
         SELECT '{UNREADABLE}', make, model, year, body_type, condition, fuel_type, transmission, mileage, price
         FROM vehicles
         LIMIT 1;
         CREATE FUNCTION readable(vin text) RETURNS boolean LANGUAGE plpgsql AS $$
         BEGIN
             IF vin = '{UNREADABLE}' THEN
                 RAISE EXCEPTION 'this row cannot be read';
             END IF;
             RETURN true;
         END $$;
         CREATE POLICY broken ON vehicles TO {role} USING (readable(vin));
         CREATE POLICY others ON vehicles FOR SELECT USING (current_user <> '{role}');
         ALTER TABLE vehicles ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
    )
}

/// Takes it back.
fn readable() -> String {
    format!(
        "ALTER TABLE vehicles DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY;
         DROP POLICY broken ON vehicles;
         DROP POLICY others ON vehicles;
         DROP FUNCTION readable;
         DELETE FROM vehicles WHERE vin = '{UNREADABLE}';"
    )
}
