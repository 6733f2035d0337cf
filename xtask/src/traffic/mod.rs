//! `cargo xtask traffic`: users of the backend, most of them well-behaved.

mod crowd;
pub(crate) mod history;
mod mischief;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use futures_util::{StreamExt, stream::FuturesUnordered};

use self::{
    crowd::{Counts, Crowd, Mix},
    mischief::Mischief,
};
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
    /// Share of requests that are mistakes
    #[arg(long, value_name = "SHARE", default_value_t = 0.04, value_parser = share)]
    errors: f64,
    /// Share of requests that are searches of the largest kind
    #[arg(long, value_name = "SHARE", default_value_t = 0.02, value_parser = share)]
    heavy: f64,
    /// Share of requests whose bodies take seconds to arrive
    #[arg(long, value_name = "SHARE", default_value_t = 0.002, value_parser = share)]
    slow: f64,
    /// Share of requests that are attacks
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = share)]
    attacks: f64,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "must be from 0 to 1".to_owned())
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.01..=1000.0).contains(rate))
        .ok_or_else(|| "must be from 0.01 to 1000".to_owned())
}

/// Days of a past; Prometheus keeps no more.
pub(crate) fn days(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|days| (1..=30).contains(days)).ok_or_else(|| "must be from 1 to 30".to_owned())
}

/// How many actions may wait for an answer; more are not started, so that a slow backend is not buried.
const IN_FLIGHT: usize = 32;
pub(crate) async fn run(args: &Args) -> Result<()> {
    let mix = [
        (Mischief::Error, args.errors),
        (Mischief::Heavy, args.heavy),
        (Mischief::Slow, args.slow),
        (Mischief::Attack, args.attacks),
    ];
    let mut crowd = Crowd::new(&args.url, Mix(mix))?;
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
                let sent = crowd.next();
                in_flight.push(async move {
                    let answer = sent.request.clone().send().await;
                    (sent, answer)
                });
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
