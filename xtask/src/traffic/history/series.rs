//! The series of a past: what happened is read from the rows, what leaves none follows the hour of the day. Recording
//! rules do not look back, so what they would have recorded is computed here too.

use std::{
    collections::BTreeMap,
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use tokio_postgres::Client;

use super::Instances;

/// Seconds between samples: two in each window of five minutes, which a rate needs.
const STEP: i64 = 150;
const DAY: i64 = 86_400;

const BACKEND: &str = "autodealgenie-backend";
const POSTGRES: &str = "postgres";
const REDIS: &str = "redis";
const DATABASE: &str = r#",datname="autodealgenie""#;

/// Rows that are events: the counter, its label, and the moments and label values of the rows.
const EVENTS: &[(&str, &str, &str)] = &[
    ("autodealgenie_user_signups_total", "", "SELECT created_at AS at, '' AS value FROM users"),
    ("autodealgenie_deals_created_total", "status", "SELECT created_at AS at, 'pending' AS value FROM deals"),
    (
        "autodealgenie_vehicle_searches_total",
        "search_type",
        "SELECT created_at AS at, search_type::text AS value FROM search_history",
    ),
    (
        "autodealgenie_loan_applications_total",
        "status",
        "SELECT created_at AS at, status::text AS value FROM loan_applications",
    ),
    (
        "autodealgenie_negotiation_sessions_total",
        "",
        "SELECT created_at AS at, '' AS value FROM negotiation_sessions",
    ),
    (
        "autodealgenie_negotiation_messages_total",
        "role",
        "SELECT created_at AS at, role::text AS value FROM negotiation_messages",
    ),
];

/// Requests: method, route, status, and how many a second when it is busy.
const REQUESTS: &[(&str, &str, &str, f64)] = &[
    ("GET", "/api/v1/vehicles", "200", 1.4),
    ("GET", "/api/v1/vehicles", "503", 0.0006),
    ("GET", "/api/v1/vehicles/{vin}", "200", 1.1),
    ("GET", "/api/v1/vehicles/{vin}", "404", 0.02),
    ("GET", "/api/v1/auth/me", "200", 0.9),
    ("GET", "/api/v1/auth/me", "401", 0.03),
    ("GET", "/api/v1/deals", "200", 0.8),
    ("POST", "/api/v1/deals", "201", 0.3),
    ("POST", "/api/v1/deals", "422", 0.01),
    ("POST", "/api/v1/auth/login", "200", 0.25),
    ("POST", "/api/v1/auth/login", "401", 0.02),
];

/// The share of requests that are answered within so many seconds.
const ANSWERED: &[(f64, f64)] = &[
    (0.001, 0.02),
    (0.0025, 0.25),
    (0.005, 0.55),
    (0.01, 0.78),
    (0.025, 0.92),
    (0.05, 0.965),
    (0.1, 0.985),
    (0.25, 0.994),
    (0.5, 0.998),
    (1.0, 0.9993),
    (2.0, 0.9998),
    (3.0, 0.99995),
    (5.0, 1.0),
    (10.0, 1.0),
    (30.0, 1.0),
    (f64::INFINITY, 1.0),
];

/// Counters that grow with the use: job, name, further labels, and how much a second when it is busy.
const COUNTERS: &[(&str, &str, &str, f64)] = &[
    (BACKEND, "autodealgenie_auth_success_total", "", 0.25),
    (BACKEND, "autodealgenie_auth_failures_total", "", 0.02),
    (BACKEND, "autodealgenie_cache_hits_total", r#",cache_name="vehicle_search""#, 1.0),
    (BACKEND, "autodealgenie_cache_misses_total", r#",cache_name="vehicle_search""#, 0.4),
    (BACKEND, "autodealgenie_cache_hits_total", r#",cache_name="vehicle""#, 0.9),
    (BACKEND, "autodealgenie_cache_misses_total", r#",cache_name="vehicle""#, 0.2),
    (POSTGRES, "pg_stat_database_xact_commit", DATABASE, 9.0),
    (POSTGRES, "pg_stat_database_xact_rollback", DATABASE, 0.05),
    (POSTGRES, "pg_stat_database_tup_inserted", DATABASE, 2.5),
    (POSTGRES, "pg_stat_database_tup_updated", DATABASE, 1.2),
    (POSTGRES, "pg_stat_database_tup_deleted", DATABASE, 0.1),
    (POSTGRES, "pg_stat_database_tup_fetched", DATABASE, 420.0),
    (POSTGRES, "pg_stat_wal_bytes_total", "", 5_200.0),
    (REDIS, "redis_commands_total", r#",cmd="get""#, 4.2),
    (REDIS, "redis_commands_total", r#",cmd="set""#, 0.9),
    (REDIS, "redis_commands_duration_seconds_total", r#",cmd="get""#, 0.000_021),
    (REDIS, "redis_commands_duration_seconds_total", r#",cmd="set""#, 0.000_009),
    (REDIS, "redis_expired_keys_total", "", 0.08),
    (REDIS, "redis_net_input_bytes_total", "", 900.0),
    (REDIS, "redis_net_output_bytes_total", "", 14_000.0),
];

/// Gauges: job, name, further labels, and the value when it is quiet and when it is busy.
const GAUGES: &[(&str, &str, &str, f64, f64)] = &[
    (BACKEND, "process_resident_memory_bytes", "", 46e6, 78e6),
    (POSTGRES, "process_resident_memory_bytes", "", 11e6, 12e6),
    (REDIS, "process_resident_memory_bytes", "", 9e6, 10e6),
    ("business", "process_resident_memory_bytes", "", 10e6, 11e6),
    (POSTGRES, "pg_up", "", 1.0, 1.0),
    (POSTGRES, "pg_stat_activity_count", r#",datname="autodealgenie",state="idle""#, 3.0, 13.0),
    (POSTGRES, "pg_stat_activity_count", r#",datname="autodealgenie",state="active""#, 1.0, 4.0),
    (POSTGRES, "pg_connections_limit", "", 100.0, 100.0),
    (POSTGRES, "pg_connections_reserved", "", 3.0, 3.0),
    (POSTGRES, "instance:pg_connections:ratio", "", 0.05, 0.18),
    (POSTGRES, "datname:pg_blks_hit:ratio_rate5m", DATABASE, 0.9995, 0.994),
    (POSTGRES, "datname:pg_statements_seconds_per_call:rate5m", DATABASE, 0.000_2, 0.000_5),
    (REDIS, "redis_up", "", 1.0, 1.0),
    (REDIS, "redis_memory_used_bytes", "", 2.4e6, 9.5e6),
    (REDIS, "redis_memory_used_rss_bytes", "", 9e6, 15e6),
    (REDIS, "redis_memory_max_bytes", "", 268_435_456.0, 268_435_456.0),
    (REDIS, "instance:redis_memory:ratio", "", 0.009, 0.035),
    (REDIS, "instance:redis_lookups_hit:ratio_rate5m", "", 0.86, 0.78),
    (REDIS, "redis_connected_clients", "", 3.0, 9.0),
    (REDIS, "redis_db_keys", r#",db="db0""#, 60.0, 900.0),
];

/// Windows of the ratios that the objectives read, in seconds.
const WINDOWS: &[(&str, i64)] = &[
    ("5m", 300),
    ("30m", 1_800),
    ("1h", 3_600),
    ("2h", 7_200),
    ("6h", 21_600),
    ("1d", DAY),
    ("3d", 3 * DAY),
];

/// A series with a value for every step.
pub(super) struct Series {
    name: String,
    values: Vec<f64>,
}

/// What happened in each step, by counter and label value.
pub(super) struct Past {
    /// Unix time of the first sample.
    start: i64,
    steps: usize,
    events: BTreeMap<(&'static str, String), Vec<f64>>,
}

impl Past {
    /// Reads the last `days` days from the rows.
    pub(super) async fn read(client: &Client, days: u32) -> Result<Past> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
        let last = i64::try_from(now).context("the clock is far ahead")? / STEP;
        let first = last - i64::from(days) * DAY / STEP;
        let steps = usize::try_from(last - first).context("counting the steps")?;
        let mut events = BTreeMap::new();
        for (family, _, rows) in EVENTS {
            let step = format!("floor(extract(epoch FROM at) / {STEP})::int8");
            let sql = format!("SELECT {step}, value, count(*) FROM ({rows}) AS events GROUP BY 1, 2");
            for row in client.query(&sql, &[]).await.with_context(|| format!("reading {family}"))? {
                let (step, value, count): (i64, String, i64) = (row.get(0), row.get(1), row.get(2));
                let counts = events.entry((*family, value)).or_insert_with(|| vec![0.0; steps]);
                if let Some(slot) = usize::try_from(step - first).ok().and_then(|step| counts.get_mut(step)) {
                    *slot += count as f64;
                }
            }
        }
        Ok(Past { start: first * STEP, steps, events })
    }

    /// How busy each step is, as `busy` in `rows.sql` says.
    fn busy(&self) -> Vec<f64> {
        let busy = |step: usize| {
            let at = self.start + step as i64 * STEP;
            let hour = (at % DAY) as f64 / 3_600.0;
            // 1970 began on a Thursday.
            let weekend = matches!((at / DAY + 4) % 7, 0 | 6);
            let day = 0.15 + 0.85 * (-((hour - 15.0) / 4.5).powi(2)).exp();
            // No two afternoons are the same.
            let swing = 1.0 + 0.15 * ((at / 1_700) as f64).sin() * ((at / 41_000) as f64).cos();
            day * swing * if weekend { 0.6 } else { 1.0 }
        };
        (0..self.steps).map(busy).collect()
    }

    /// Every series of the past.
    pub(super) fn series(&self, instances: &Instances) -> Vec<Series> {
        let mut all = Vec::new();
        let busy = self.busy();
        let a_second =
            |much: f64| -> Vec<f64> { busy.iter().map(|busy| busy * much * STEP as f64).collect() };
        let scraped = |job: &str| {
            let instance = instances.get(job).map_or("", String::as_str);
            format!(r#"job="{job}",instance="{instance}""#)
        };
        for job in instances.keys() {
            all.push(Series { name: format!("up{{{}}}", scraped(job)), values: vec![1.0; self.steps] });
        }
        for (job, name, labels, quiet, loud) in GAUGES {
            let values = busy.iter().map(|busy| quiet + (loud - quiet) * busy.min(1.0)).collect();
            all.push(Series { name: format!("{name}{{{}{labels}}}", scraped(job)), values });
        }
        for (job, name, labels, much) in COUNTERS {
            all.push(counter(format!("{name}{{{}{labels}}}", scraped(job)), &a_second(*much)));
        }
        for ((family, value), counts) in &self.events {
            let label = EVENTS.iter().find(|(name, ..)| name == family).map_or("", |(_, label, _)| *label);
            let label = if label.is_empty() { String::new() } else { format!(r#",{label}="{value}""#) };
            // Backend and ledger count the same.
            for job in [BACKEND, "business"] {
                all.push(counter(format!("{family}{{{}{label}}}", scraped(job)), counts));
            }
        }
        self.http(&mut all, &scraped(BACKEND), &a_second);
        self.recorded(&mut all, &a_second);
        all
    }

    fn http(&self, all: &mut Vec<Series>, scraped: &str, a_second: &impl Fn(f64) -> Vec<f64>) {
        let mut routes: BTreeMap<(&str, &str), f64> = BTreeMap::new();
        for (method, handler, status, much) in REQUESTS {
            let labels = format!(r#"{scraped},method="{method}",handler="{handler}""#);
            let name = format!(r#"http_requests_total{{{labels},status="{status}"}}"#);
            all.push(counter(name, &a_second(*much)));
            *routes.entry((method, handler)).or_default() += much;
        }
        for ((method, handler), much) in routes {
            let labels = format!(r#"{scraped},method="{method}",handler="{handler}""#);
            let family = "http_request_duration_seconds";
            for (bound, share) in ANSWERED {
                let bound = bound_label(*bound);
                let name = format!(r#"{family}_bucket{{{labels},le="{bound}"}}"#);
                all.push(counter(name, &a_second(much * share)));
            }
            all.push(counter(format!("{family}_count{{{labels}}}"), &a_second(much)));
            all.push(counter(format!("{family}_sum{{{labels}}}"), &a_second(much * 0.012)));
        }
    }

    /// What the rules of `recording.yml` would have recorded of the rest.
    fn recorded(&self, all: &mut Vec<Series>, a_second: &impl Fn(f64) -> Vec<f64>) {
        let job = format!(r#"{{job="{BACKEND}"}}"#);
        let sum = |wanted: &dyn Fn(&str, &str) -> bool| -> f64 {
            REQUESTS.iter().filter(|(_, handler, status, _)| wanted(handler, status)).map(|row| row.3).sum()
        };
        let requests = a_second(sum(&|_, _| true));
        let errors = a_second(sum(&|_, status| status.starts_with('5')));
        let within = ANSWERED.iter().find(|(bound, _)| *bound == 1.0).map_or(1.0, |(_, share)| *share);
        let slow: Vec<f64> = requests.iter().map(|requests| requests * (1.0 - within)).collect();
        let rate = |counts: &[f64]| -> Vec<f64> { sums(counts, 300).iter().map(|sum| sum / 300.0).collect() };
        let mut put = |name: String, values: Vec<f64>| all.push(Series { name, values });
        put(format!("job:http_requests:rate5m{job}"), rate(&requests));
        put(format!("job:http_errors:rate5m{job}"), rate(&errors));
        put(format!("job:http_slow_requests:rate5m{job}"), rate(&slow));
        for (window, seconds) in WINDOWS {
            for (what, counts) in [("errors", &errors), ("slow", &slow)] {
                put(
                    format!("job:http_{what}_per_request:ratio_rate{window}{job}"),
                    ratios(&sums(counts, *seconds), &sums(&requests, *seconds)),
                );
            }
        }
        let mut handlers: Vec<&str> = REQUESTS.iter().map(|(_, handler, ..)| *handler).collect();
        handlers.dedup();
        for handler in handlers {
            let requests = a_second(sum(&|name, _| name == handler));
            let labels = format!(r#"{{job="{BACKEND}",handler="{handler}"}}"#);
            put(format!("job_handler:http_requests:rate5m{labels}"), rate(&requests));
        }
        let counted = |name: &str, labels: &str| {
            let row = COUNTERS.iter().find(|row| row.1 == name && row.2 == labels);
            a_second(row.map_or(0.0, |row| row.3))
        };
        let success = counted("autodealgenie_auth_success_total", "");
        let failures = counted("autodealgenie_auth_failures_total", "");
        let logins: Vec<f64> = success.iter().zip(&failures).map(|(one, other)| one + other).collect();
        put("autodealgenie:auth_success:rate5m".to_owned(), rate(&success));
        put("autodealgenie:auth_failures:rate5m".to_owned(), rate(&failures));
        put(
            "autodealgenie:auth_success:ratio_rate5m".to_owned(),
            ratios(&sums(&success, 300), &sums(&logins, 300)),
        );
        for cache in ["vehicle_search", "vehicle"] {
            let labels = format!(r#",cache_name="{cache}""#);
            let hits = counted("autodealgenie_cache_hits_total", &labels);
            let misses = counted("autodealgenie_cache_misses_total", &labels);
            let lookups: Vec<f64> = hits.iter().zip(&misses).map(|(one, other)| one + other).collect();
            let name = format!(r#"cache_name:cache_hits:ratio_rate15m{{cache_name="{cache}"}}"#);
            put(name, ratios(&sums(&hits, 900), &sums(&lookups, 900)));
        }
        for ((family, value), counts) in &self.events {
            let (name, label, windows): (_, _, &[_]) = match *family {
                "autodealgenie_deals_created_total" => {
                    ("deals_created", "status", &["rate5m", "increase1h", "increase1d"])
                }
                "autodealgenie_user_signups_total" => ("user_signups", "", &["increase1h"]),
                "autodealgenie_loan_applications_total" => ("loan_applications", "status", &["increase1h"]),
                "autodealgenie_vehicle_searches_total" => ("vehicle_searches", "search_type", &["rate5m"]),
                _ => continue,
            };
            let labels = if label.is_empty() { String::new() } else { format!(r#"{{{label}="{value}"}}"#) };
            for window in windows {
                let values = match *window {
                    "increase1h" => sums(counts, 3_600),
                    "increase1d" => sums(counts, DAY),
                    _ => rate(counts),
                };
                put(format!("autodealgenie:{name}:{window}{labels}"), values);
            }
        }
    }

    /// The samples of a day, from 0, in OpenMetrics.
    pub(super) fn day(&self, all: &[Series], day: u32) -> String {
        let a_day = (DAY / STEP) as usize;
        let first = day as usize * a_day;
        let mut text = String::new();
        for Series { name, values } in all {
            for (number, value) in values.iter().enumerate().skip(first).take(a_day) {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{name} {value} {}", self.start + number as i64 * STEP);
            }
        }
        text.push_str("# EOF\n");
        text
    }
}

/// A counter that grows by `counts`: whole, unless it counts seconds.
fn counter(name: String, counts: &[f64]) -> Series {
    let whole = !name.contains("_seconds_total") && !name.contains("_seconds_sum");
    let sums = counts.iter().scan(0.0, |sum, count| {
        *sum += count;
        Some(if whole { sum.floor() } else { *sum })
    });
    Series { name, values: sums.collect() }
}

/// The sum of the last `window` seconds at each step.
fn sums(counts: &[f64], window: i64) -> Vec<f64> {
    let steps = (window / STEP) as usize;
    let mut sum = 0.0;
    let at = |number: usize| {
        sum += counts[number];
        if number >= steps {
            sum -= counts[number - steps];
        }
        sum.max(0.0)
    };
    (0..counts.len()).map(at).collect()
}

/// One through the other at each step; 0 where there is nothing to divide by.
fn ratios(parts: &[f64], wholes: &[f64]) -> Vec<f64> {
    parts.iter().zip(wholes).map(|(part, whole)| if *whole > 0.0 { part / whole } else { 0.0 }).collect()
}

/// As Prometheus stores bounds.
fn bound_label(bound: f64) -> String {
    if bound.is_finite() { format!("{bound:?}") } else { "+Inf".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_grow_by_whole_events_and_windows_slide() {
        let series = counter("x_total".to_owned(), &[0.5, 0.5, 1.2, 0.0]);
        assert_eq!(series.values, [0.0, 1.0, 2.0, 2.0]);
        assert_eq!(sums(&[1.0, 2.0, 3.0, 4.0], 300), [1.0, 3.0, 5.0, 7.0]);
        assert_eq!(ratios(&[1.0, 0.0], &[4.0, 0.0]), [0.25, 0.0]);
    }

    #[test]
    fn a_day_is_its_samples_of_every_series() {
        let events = BTreeMap::from([(("autodealgenie_user_signups_total", String::new()), vec![1.0; 1152])]);
        let past = Past { start: 1_790_000_000 / STEP * STEP, steps: 1152, events };
        let instances = Instances::from([("business".to_owned(), "127.0.0.1:9188".to_owned())]);
        let all = past.series(&instances);
        let second = past.day(&all, 1);
        let last = r#"autodealgenie_user_signups_total{job="business",instance="127.0.0.1:9188"} 1152 "#;
        assert!(second.contains(last) && second.ends_with("# EOF\n"));
        assert_eq!(second.lines().count(), all.len() * 576 + 1);
        let names: std::collections::BTreeSet<_> = all.iter().map(|series| &series.name).collect();
        assert_eq!(names.len(), all.len(), "a series is there once");
        assert!(all.iter().all(|series| series.values.iter().all(|value| value.is_finite())));
    }
}
