//! `redis_commands_latencies_usec`: a histogram of each command's time, from LATENCY HISTOGRAM (7.0 and later),
//! with the sum from INFO's Commandstats.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use exposition::{Desc, HistogramColumns, Kind, Shape, Snapshot};
use foldhash::fast::RandomState;
use redis::Value;

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::info::Info;
use crate::kept::Kept;
use crate::options::Options;
use crate::request::{Request, Server, borrowed, is, number, pairs};

static SPEC: Spec =
    Spec { name: "latency_histogram", doc: "Histogram of each command's time", default_enabled: true };

/// The bounds that servers use, in microseconds. A server lists only those below which something new fell.
const BOUNDS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 33.0, 66.0, 132.0, 264.0, 528.0, 1056.0, 2113.0, 4227.0, 8454.0, 16908.0,
    33816.0, 67633.0, 135_266.0, 270_532.0, 541_065.0,
];

/// The bounds that are shown: every other one, so that a page with 200 commands stays below 300 KB.
const SHOWN: &[f64] = &[4.0, 16.0, 66.0, 264.0, 1056.0, 4227.0, 16908.0, 67633.0, 270_532.0];

/// The server counts everything slower under this last bound too: it says no more than +Inf does.
const CLAMPED: f64 = 1_073_741.0;

pub(super) struct LatencyHistogram {
    excluded: bool,
    sparse: bool,
    desc: Desc,
    /// By the bounds that are shown.
    table: Kept<Vec<f64>, Arc<Histogram>>,
}

/// The table with these bounds.
struct Histogram {
    bounds: Vec<f64>,
    shape: Arc<Shape>,
    columns: HistogramColumns,
}

impl LatencyHistogram {
    pub(super) fn new(options: &Options) -> Self {
        let help = "Histogram of a command's time in microseconds, since start or CONFIG RESETSTAT.";
        let desc = options.desc(Kind::Histogram, "commands_latencies_usec", help);
        Self {
            excluded: options.exclude_latency,
            sparse: options.compat_1_86(),
            desc,
            table: Kept::default(),
        }
    }

    fn histogram(&self, bounds: &[f64]) -> Histogram {
        let mut shape = Shape::new(&["cmd"]);
        let columns = shape.histogram(&self.desc, bounds);
        Histogram { bounds: bounds.to_vec(), shape: Arc::new(shape), columns }
    }

    /// The cumulative count at each of `bounds`. A bound that the server left out has the count of the one before.
    fn buckets(&self, command: &Command<'_>, bounds: &[f64]) -> impl Iterator<Item = Option<f64>> {
        let mut listed = command.buckets.iter().peekable();
        let mut cumulative = 0.0;
        bounds.iter().map(move |bound| {
            let mut found = false;
            while let Some((_, count)) = listed.next_if(|(listed, _)| listed <= bound) {
                (cumulative, found) = (*count, true);
            }
            (found || !self.sparse).then_some(cumulative)
        })
    }

    /// The bounds of this reply: the fixed ones and any other the server lists, ascending.
    fn bounds(&self, commands: &[Command<'_>]) -> Vec<f64> {
        let mut bounds = if self.sparse { [BOUNDS, &[CLAMPED]].concat() } else { SHOWN.to_vec() };
        for command in commands {
            for (bound, _) in &command.buckets {
                let known = BOUNDS.binary_search_by(|known| known.total_cmp(bound)).is_ok();
                if !known && *bound != CLAMPED && !bounds.contains(bound) {
                    bounds.push(*bound);
                }
            }
        }
        bounds.sort_by(f64::total_cmp);
        bounds
    }
}

/// One command's histogram.
struct Command<'a> {
    name: Cow<'a, str>,
    calls: f64,
    buckets: Vec<(f64, f64)>,
}

impl<'a> Command<'a> {
    /// `name`, then a map with `calls` and `histogram_usec`, itself a map of bounds to cumulative counts.
    fn read(name: &'a Value, value: &Value) -> Option<Self> {
        let (mut calls, mut buckets) = (None, Vec::new());
        for (key, value) in pairs(value)? {
            if is(key, "calls") {
                calls = number(value);
            } else if is(key, "histogram_usec") {
                let pairs = pairs(value)?;
                buckets.reserve(pairs.size_hint().0);
                for (bound, count) in pairs {
                    buckets.push((number(bound)?, number(count)?));
                }
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        Some(Self { name: borrowed(name)?, calls: calls?, buckets })
    }
}

/// Microseconds of each command; a container command has the time of its subcommands too.
fn sums(info: &Info) -> HashMap<&str, f64, RandomState> {
    let commands = info.commands();
    let mut sums = HashMap::with_capacity_and_hasher(2 * commands.size_hint().0, RandomState::default());
    for (command, totals) in commands {
        let usec = totals.usec.unwrap_or_default();
        *sums.entry(command).or_default() += usec;
        if let Some((container, _)) = command.split_once('|') {
            *sums.entry(container).or_default() += usec;
        }
    }
    sums
}

impl Section for LatencyHistogram {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn requests(&self, server: &Server) -> Vec<Request> {
        let wanted = !self.excluded && !server.sentinel && server.version >= (7, 0);
        wanted.then_some(Request::LatencyHistogram).into_iter().collect()
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let Some(reply) = replies.get(&Request::LatencyHistogram) else { return Ok(()) };
        let unexpected = || ReplyError::unexpected(Request::LatencyHistogram.name());
        let reply = reply?;
        let listed = pairs(reply).ok_or_else(unexpected)?;
        let commands: Option<Vec<Command<'_>>> =
            listed.map(|(name, value)| Command::read(name, value)).collect();
        let commands = commands.ok_or_else(unexpected)?;
        let bounds = self.bounds(&commands);
        let histogram = self.table.get(&bounds, || Arc::new(self.histogram(&bounds)));
        let sums = sums(&replies.info);
        let table = page.table_of(&histogram.shape);
        let mut buckets = Vec::with_capacity(histogram.bounds.len());
        for command in &commands {
            // INFO was read first: a command whose first call came since then has no sum yet, which 1.86 prints as 0.
            let sum = sums.get(&*command.name).copied().or(self.sparse.then_some(0.0));
            buckets.clear();
            buckets.extend(self.buckets(command, &histogram.bounds));
            table.row(&[&command.name]).histogram(&histogram.columns, &buckets, command.calls, sum);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, page, replies};
    use super::*;
    use crate::options::Compat;

    fn reply() -> (Request, Value) {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let map = |numbers: &[i64]| Value::Array(numbers.iter().copied().map(Value::Int).collect());
        let histogram = map(&[4, 1, 1_073_741, 3]);
        let command = Value::Array(vec![bulk("calls"), Value::Int(3), bulk("histogram_usec"), histogram]);
        (Request::LatencyHistogram, Value::Array(vec![bulk("sort_ro"), command]))
    }

    const INFO: &str = "# Commandstats\r\ncmdstat_sort_ro:calls=3,usec=900\r\n";

    #[test]
    fn bounds_are_fixed_and_the_clamped_one_is_infinity() {
        let page = page(&LatencyHistogram::new(&Options::default()), &replies(INFO, [reply()]));
        let family = "redis_commands_latencies_usec_bucket";
        assert_eq!(page.samples(family).count(), SHOWN.len() + 1);
        assert!(SHOWN.iter().all(|bound| BOUNDS.contains(bound)));
        let counts = ["4.0", "16.0", "270532.0", "+Inf"].map(|le| page.value(family, &[("le", le)]));
        let counts_short = ["4", "16", "270532", "+Inf"].map(|le| page.value(family, &[("le", le)]));
        let expected = [Some(1.0), Some(1.0), Some(1.0), Some(3.0)];
        assert!(counts == expected || counts_short == expected, "{:?}", lines(&page));
        assert_eq!(page.value("redis_commands_latencies_usec_sum", &[]), Some(900.0));
    }

    #[test]
    fn the_compatible_shape_has_the_listed_bounds_only() {
        let options = Options { compat: Compat::V1_86, ..Options::default() };
        let page = page(&LatencyHistogram::new(&options), &replies(INFO, [reply()]));
        assert_eq!(page.samples("redis_commands_latencies_usec_bucket").count(), 3);
    }

    #[test]
    fn a_container_has_the_time_of_its_subcommands() {
        let info = Info::parse(
            "# Commandstats\r\ncmdstat_config|get:calls=1,usec=2\r\ncmdstat_config|set:calls=1,usec=3\r\n",
        );
        assert_eq!(sums(&info).get("config"), Some(&5.0));
    }
}
