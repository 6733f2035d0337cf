//! `redis_latency_percentiles_usec`: a summary of each command's time, from INFO's Latencystats section
//! (7.0 and later), with count and sum from Commandstats of the same reply.

use std::sync::Arc;

use exposition::{Desc, Kind, Shape, Snapshot, SummaryColumns};

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::info::{Totals, number, parts};
use crate::kept::Kept;
use crate::options::Options;

static SPEC: Spec =
    Spec { name: "latencystats", doc: "Percentiles of each command's time", default_enabled: true };

pub(super) struct Latencystats {
    desc: Desc,
    percent: bool,
    /// By the names of the quantiles, joined.
    summary: Kept<String, Arc<Summary>>,
}

/// The names of the quantiles of a reply, ascending, and the table that they make.
struct Summary {
    names: Vec<String>,
    shape: Arc<Shape>,
    columns: SummaryColumns,
}

impl Latencystats {
    pub(super) fn new(options: &Options) -> Self {
        let help = "Percentiles of a command's time in microseconds, since start or CONFIG RESETSTAT.";
        let desc = options.desc(Kind::Summary, "latency_percentiles_usec", help);
        Self { desc, percent: options.compat_1_86(), summary: Kept::default() }
    }

    /// The label of `p99.9`: 0.999, or 99.9 as redis_exporter has it.
    fn quantile(&self, name: &str) -> Option<f64> {
        let percentile = name.strip_prefix('p')?;
        // The decimal exponent gives the float nearest to 0.999, which a division would miss.
        let text = if self.percent { percentile.to_owned() } else { format!("{percentile}e-2") };
        text.parse().ok()
    }

    fn summary(&self, names: &[&str]) -> Summary {
        let mut quantiles: Vec<(&str, f64)> =
            names.iter().filter_map(|name| Some((*name, self.quantile(name)?))).collect();
        quantiles.sort_by(|a, b| a.1.total_cmp(&b.1));
        let (names, quantiles): (Vec<String>, Vec<f64>) =
            quantiles.into_iter().map(|(name, quantile)| (name.to_owned(), quantile)).unzip();
        let mut shape = Shape::new(&["cmd"]);
        let columns = shape.summary(&self.desc, &quantiles);
        Summary { names, shape: Arc::new(shape), columns }
    }
}

impl Section for Latencystats {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let commands = || {
            let fields = replies.info.section("Latencystats");
            fields.filter_map(|f| Some((f.key.strip_prefix("latency_percentiles_usec_")?, f.value)))
        };
        // There are as many names as quantiles, however many commands.
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in commands().flat_map(|(_, value)| parts(value)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let summary = self.summary.get(names.join(",").as_str(), || Arc::new(self.summary(&names)));
        let totals: Vec<(&str, &Totals)> = replies.info.commands().collect();
        let mut next = 0;
        let table = page.table_of(&summary.shape);
        let mut values = vec![None; summary.names.len()];
        for (command, value) in commands() {
            values.fill(None);
            for (name, value) in parts(value) {
                if let Some(at) = summary.names.iter().position(|known| known == name) {
                    values[at] = number(value);
                }
            }
            // Both sections have the commands in one order.
            let (before, after) = totals.split_at(next);
            let of_command = after.iter().chain(before).position(|(name, _)| *name == command);
            let of_command = of_command.map(|at| (next + at) % totals.len());
            next = of_command.unwrap_or(next);
            let totals = of_command.map(|at| totals[at].1);
            let (calls, usec) = totals.map_or((None, None), |totals| (totals.calls, totals.usec));
            table.row(&[command]).summary(&summary.columns, &values, calls, usec);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, page, replies};
    use super::*;
    use crate::options::Compat;

    const INFO: &str = "# Commandstats\r\ncmdstat_get:calls=4,usec=8\r\n# Latencystats\r\n\
        latency_percentiles_usec_get:p50=1.003,p99.9=2.007\r\nlatency_percentiles_usec_set:\r\n";

    #[test]
    fn a_quantile_is_a_share_of_one() {
        assert_eq!(
            lines(&page(&Latencystats::new(&Options::default()), &replies(INFO, []))),
            [
                "redis_latency_percentiles_usec_count{cmd=get} 4",
                "redis_latency_percentiles_usec_sum{cmd=get} 8",
                "redis_latency_percentiles_usec{cmd=get,quantile=0.5} 1.003",
                "redis_latency_percentiles_usec{cmd=get,quantile=0.999} 2.007",
            ]
        );
    }

    #[test]
    fn a_compatible_quantile_is_a_percentage() {
        let options = Options { compat: Compat::V1_86, ..Options::default() };
        let page = page(&Latencystats::new(&options), &replies(INFO, []));
        assert_eq!(page.value("redis_latency_percentiles_usec", &[("quantile", "99.9")]), Some(2.007));
    }
}
