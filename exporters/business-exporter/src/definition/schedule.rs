//! When a query in the background runs.

use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use jiff::{Timestamp, Zoned, tz::TimeZone};

/// When a query in the background runs; the first time is when the exporter starts.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// With this pause after each run.
    Every(Duration),
    /// At these times, in UTC.
    Cron(Box<Cron>),
}

/// A time this close is the one that was just waited for: clocks differ a little.
const EARLY: Duration = Duration::from_millis(500);

/// When there is no next time any more, it is looked for again after this.
const LONG: Duration = Duration::from_secs(86_400);

impl Schedule {
    /// A pattern of minute, hour, day, month and weekday.
    ///
    /// # Errors
    /// When it is none, or no time fits it.
    pub fn cron(pattern: &str) -> Result<Schedule, String> {
        let advice = "write minute, hour, day, month and weekday, such as 30 3 * * *";
        let cron = Cron::from_str(pattern).map_err(|problem| format!("{pattern:?}: {problem}; {advice}"))?;
        match next(&cron, Timestamp::now()) {
            Some(_) => Ok(Schedule::Cron(Box::new(cron))),
            None => Err(format!("{pattern:?} is never; {advice}")),
        }
    }

    /// From now, when a run ends, to the next run.
    pub fn pause(&self) -> Duration {
        self.pause_after(Timestamp::now())
    }

    fn pause_after(&self, now: Timestamp) -> Duration {
        match self {
            Schedule::Every(pause) => *pause,
            Schedule::Cron(cron) => {
                let pause = next(cron, now).map(|next| now.duration_until(next).unsigned_abs());
                pause.unwrap_or(LONG)
            }
        }
    }

    /// As the definition has it: key and value.
    pub fn written(&self) -> (&'static str, String) {
        match self {
            Schedule::Every(pause) => ("refresh", exporter_kit::config::GoDuration(*pause).to_string()),
            Schedule::Cron(cron) => ("cron", cron.as_str().to_owned()),
        }
    }
}

/// The first time after this one.
fn next(cron: &Cron, after: Timestamp) -> Option<Timestamp> {
    let after: Zoned = after.checked_add(EARLY).ok()?.to_zoned(TimeZone::UTC);
    cron.find_next_occurrence(&after, false).ok().map(|next| next.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_in_utc_and_once() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        for (pattern, now, seconds) in [
            ("30 3 * * *", "2026-02-27T03:00:00Z", 1800.0),
            // It was woken a little early.
            ("30 3 * * *", "2026-02-27T03:29:59.9Z", 86_400.1),
            ("0 0 1 * *", "2026-02-28T00:00:00Z", 86_400.0),
            ("*/15 * * * MON", "2026-02-23T23:59:00Z", 6.0 * 86_400.0 + 60.0),
        ] {
            let pause = Schedule::cron(pattern).unwrap().pause_after(at(now)).as_secs_f64();
            assert!((pause - seconds).abs() < 0.001, "{pattern} after {now}: {pause}");
        }
        for (pattern, word) in [("", "minute"), ("61 * * * *", "61"), ("0 0 30 2 *", "never")] {
            let problem = Schedule::cron(pattern).unwrap_err();
            assert!(problem.contains(word), "{problem}");
        }
    }
}
