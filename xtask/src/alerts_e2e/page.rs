//! A page of a backend whose requests fail and take as long as a drill wants: the real one cannot be made to fail for exactly six of
//! a hundred.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use testkit::upstream::{Reply, Upstream};
use tokio::{task::JoinSet, time::Instant};

/// Requests a second.
const RATE: f64 = 20.0;

/// How requests end.
#[derive(Clone, Copy)]
pub(super) struct Requests {
    /// The share that fails.
    pub(super) failed: f64,
    /// The 95th percentile of their time, in seconds.
    pub(super) p95: f64,
}

impl Requests {
    /// The shares that take no longer than the bounds of the backend's histogram around 2 s, so that the percentile, which
    /// Prometheus finds on a straight line between two bounds, is as wanted.
    fn buckets(self) -> [(&'static str, f64); 6] {
        let (one, two) = if self.p95 > 2.0 {
            // 94.5 % up to 2 s and 5 % up to 3: half a percent of those five is a tenth of the way.
            (0.9, 0.95 - 0.05 * (self.p95 - 2.0))
        } else if self.p95 > 1.0 {
            (0.9, 0.9 + 0.05 / (self.p95 - 1.0))
        } else {
            (1.0, 1.0)
        };
        let three = if self.p95 > 2.0 { two + 0.05 } else { 1.0 };
        [("0.5", one * 0.9), ("1.0", one), ("2.0", two), ("3.0", three), ("5.0", 1.0), ("+Inf", 1.0)]
    }
}

/// The counters so far.
#[derive(Default)]
struct Counted {
    all: f64,
    failed: f64,
    buckets: [f64; 6],
}

/// The running server.
pub(super) struct Page {
    server: Arc<Upstream>,
    now: Arc<Mutex<Requests>>,
    _task: JoinSet<()>,
}

impl Page {
    pub(super) async fn start(requests: Requests) -> Result<Self> {
        let server = Arc::new(Upstream::start(reply(requests, &Counted::default())).await?);
        let now = Arc::new(Mutex::new(requests));
        let mut task = JoinSet::new();
        task.spawn(count(Arc::clone(&server), Arc::clone(&now)));
        server.url().strip_prefix("http://").context("no address")?;
        Ok(Self { server, now, _task: task })
    }

    pub(super) fn address(&self) -> &str {
        self.server.url().trim_start_matches("http://")
    }

    /// Requests end like this from now on.
    pub(super) fn set(&self, requests: Requests) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = requests;
    }
}

async fn count(server: Arc<Upstream>, now: Arc<Mutex<Requests>>) {
    let mut counted = Counted::default();
    let mut last = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        let requests = *now.lock().unwrap_or_else(PoisonError::into_inner);
        let new = last.elapsed().as_secs_f64() * RATE;
        last = Instant::now();
        counted.all += new;
        counted.failed += new * requests.failed;
        for (count, (_, share)) in counted.buckets.iter_mut().zip(requests.buckets()) {
            *count += new * share;
        }
        server.always(reply(requests, &counted));
    }
}

fn reply(requests: Requests, counted: &Counted) -> Reply {
    let labels = "handler=\"/api/v1/deals\",method=\"GET\"";
    let mut page = "# TYPE http_requests_total counter\n".to_owned();
    for (status, count) in [("200", counted.all - counted.failed), ("500", counted.failed)] {
        page += &format!("http_requests_total{{{labels},status=\"{status}\"}} {count}\n");
    }
    page += "# TYPE http_request_duration_seconds histogram\n";
    for ((bound, _), count) in requests.buckets().iter().zip(counted.buckets) {
        page += &format!("http_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {count}\n");
    }
    page += &format!("http_request_duration_seconds_sum{{{labels}}} {}\n", counted.all);
    page += &format!("http_request_duration_seconds_count{{{labels}}} {}\n", counted.all);
    Reply::Answer(200, vec![("Content-Type", "text/plain; version=0.0.4".to_owned())], page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_as_wanted() {
        for p95 in [1.9, 2.1] {
            let buckets = Requests { failed: 0.0, p95 }.buckets();
            let above = buckets.iter().position(|(_, share)| *share >= 0.95).unwrap();
            let bound = |at: usize| (buckets[at].0.parse::<f64>().unwrap(), buckets[at].1);
            let ((from, below), (to, share)) = (bound(above - 1), bound(above));
            let found = from + (to - from) * (0.95 - below) / (share - below);
            assert!((found - p95).abs() < 1e-9, "{found}");
        }
    }
}
