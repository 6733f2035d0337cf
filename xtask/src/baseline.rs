//! `cargo xtask baseline`: what is usual, beside the thresholds of the alerts. It proposes; people decide.

use anyhow::{Context, Result};

use crate::{
    progress::{print, say, table},
    promql::{self, Expr},
    rules,
    stack::Prometheus,
};

/// Propose thresholds of alerts from the last days
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many days to look back
    #[arg(long, value_name = "N", default_value_t = 14, value_parser = clap::value_parser!(u32).range(1..=90))]
    days: u32,
    #[command(flatten)]
    prometheus: Prometheus,
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let url = args.prometheus.url()?;
    let words = ["ALERT", "THRESHOLD", "USUAL", "SELDOM", "WORST", "PROPOSAL"];
    let mut rows = vec![words.map(str::to_owned).to_vec()];
    let mut silent = 0;
    for rule in rules::all()?.iter().filter(|rule| rule.alert.is_some()) {
        let Some(limit) = limit(promql::parse(&url, &rule.expr).await?) else { continue };
        let Some(seen) = seen(&url, &limit, args.days).await? else {
            silent += 1;
            continue;
        };
        rows.push(vec![
            rule.name().to_owned(),
            format!("{} {}", limit.op, number(limit.threshold)),
            number(seen.usual),
            number(seen.seldom),
            number(seen.worst),
            proposal(&limit, &seen),
        ]);
    }
    for line in table(&rows) {
        print(&line);
    }
    say(&format!("\nof {} days; {silent} alerts with a threshold had no value in them", args.days));
    Ok(())
}

/// What an alert compares with which number.
#[derive(Clone, Debug, PartialEq)]
struct Limit {
    measured: String,
    op: String,
    threshold: f64,
}

impl Limit {
    /// Whether more is worse.
    fn upper(&self) -> bool {
        self.op.starts_with('>')
    }
}

/// The first comparison of an expression with a number. What `and` and `unless` add are conditions, not the measure.
fn limit(expr: Expr) -> Option<Limit> {
    match expr {
        Expr::Paren { expr } => limit(*expr),
        Expr::Binary { op, lhs, .. } if ["and", "or", "unless"].contains(&op.as_str()) => limit(*lhs),
        Expr::Binary { op, lhs, rhs, .. } if [">", ">=", "<", "<="].contains(&op.as_str()) => {
            let Expr::NumberLiteral { val } = *rhs else { return None };
            let threshold: f64 = val.parse().ok()?;
            // Above 0 is whether it happens at all: no threshold to choose.
            (threshold != 0.0).then(|| Limit { measured: lhs.to_string(), op, threshold })
        }
        _ => None,
    }
}

/// What was measured, by the series that comes nearest to the threshold: half of the time, 1 % of the time, once.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    usual: f64,
    seldom: f64,
    worst: f64,
}

async fn seen(url: &str, limit: &Limit, days: u32) -> Result<Option<Seen>> {
    let (worst, seldom, once) = if limit.upper() { ("max", 0.99, 1.0) } else { ("min", 0.01, 0.0) };
    let measured = &limit.measured;
    let mut values = Vec::new();
    for quantile in [0.5, seldom, once] {
        let query = format!("{worst}(quantile_over_time({quantile}, ({measured})[{days}d:5m]))");
        let answer = promql::values(url, &query).await.with_context(|| format!("asking for {query}"))?;
        values.extend(answer.first().copied().filter(|value| value.is_finite()));
    }
    let [usual, seldom, worst] = values[..] else { return Ok(None) };
    Ok(Some(Seen { usual, seldom, worst }))
}

/// Room for half as much again as what is seldom seen, where the threshold would fire or could not.
fn proposal(limit: &Limit, seen: &Seen) -> String {
    let room = if limit.upper() { 1.5 } else { 1.0 / 1.5 };
    let proposed = seen.seldom * room;
    let (fires, blind) = if limit.upper() {
        (seen.worst > limit.threshold, proposed * 5.0 < limit.threshold)
    } else {
        (seen.worst < limit.threshold, proposed > limit.threshold * 5.0)
    };
    match (fires, blind) {
        (true, _) => format!("{} {}: it was passed", limit.op, number(proposed)),
        (_, true) => format!("{} {}: it is far away", limit.op, number(proposed)),
        _ => "keep".to_owned(),
    }
}

/// With three significant digits.
fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = 2 - i32::try_from(value.abs().log10().floor() as i64).unwrap_or(0);
    let scale = 10_f64.powi(digits);
    format!("{}", (value * scale).round() / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn thresholds_are_found_and_compared_with_what_was() {
        let folder = tempfile::tempdir().unwrap();
        let (_process, url) = promql::prometheus(folder.path()).await.unwrap();
        let limit_of = async |query: &str| limit(promql::parse(&url, query).await.unwrap());
        for (query, measured, op, threshold) in [
            ("a / b > 0.8", "a / b", ">", 0.8),
            ("(a < 5) and on() b > 3", "a", "<", 5.0),
            ("(rate(a[5m]) >= 2) unless b", "rate(a[5m])", ">=", 2.0),
        ] {
            let found = limit_of(query).await.unwrap();
            assert_eq!((found.op.as_str(), found.threshold), (op, threshold), "{query}");
            assert_eq!(found.measured.replace(['(', ')'], ""), measured.replace(['(', ')'], ""), "{query}");
        }
        for query in ["up == 0", "absent(a)", "a > 0", "a > b", "a"] {
            assert_eq!(limit_of(query).await, None, "{query}");
        }

        // A measure that Prometheus computes for any time: 7 now and ever.
        let steady = limit_of("vector(7) > 10").await.unwrap();
        let seen = seen(&url, &steady, 1).await.unwrap().unwrap();
        assert_eq!(seen, Seen { usual: 7.0, seldom: 7.0, worst: 7.0 });
        assert_eq!(proposal(&steady, &seen), "keep");
        let nothing = limit_of("no_such_series > 10").await.unwrap();
        assert_eq!(super::seen(&url, &nothing, 1).await.unwrap(), None);
    }

    #[test]
    fn what_fires_in_quiet_times_or_never_could_is_named() {
        let limit = |op: &str, threshold| Limit { measured: String::new(), op: op.to_owned(), threshold };
        let seen = |usual, seldom, worst| Seen { usual, seldom, worst };
        for (limit, seen, expected) in [
            (limit(">", 0.8), seen(0.4, 0.6, 0.7), "keep"),
            (limit(">", 0.8), seen(0.4, 0.6, 0.9), "> 0.9: it was passed"),
            (limit(">", 100.0), seen(1.0, 2.0, 3.0), "> 3: it is far away"),
            (limit("<", 0.8), seen(0.99, 0.95, 0.9), "keep"),
            (limit("<", 0.8), seen(0.99, 0.9, 0.7), "< 0.6: it was passed"),
            (limit("<", 1.0), seen(100.0, 90.0, 80.0), "< 60: it is far away"),
        ] {
            assert_eq!(proposal(&limit, &seen), expected);
        }
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.123_456, "0.123"),
            (1234.5, "1230"),
            (2.0, "2"),
            (-0.0456, "-0.0456"),
            (1e9, "1000000000"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
