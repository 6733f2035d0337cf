//! `cargo xtask dead-joins`: asks a running Prometheus whether every rule and every panel can ever give a value. A renamed metric or a join
//! of labels that never meet is silent for ever, and no unit test notices: it invents its series.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::{
    dashboards,
    progress::{print, say},
    promql::{self, Expr},
    rules,
    stack::Prometheus,
};

/// Series that need not be there, and why. As soon as they are, what reads them is checked.
const ABSENT: &[(&str, &str)] = &[
    ("autodealgenie_deals_created_total{job=\"business\"}", "the ledger is not installed"),
    ("autodealgenie_user_signups_total{job=\"business\"}", "the ledger is not installed"),
    ("autodealgenie_loan_applications_total{job=\"business\"}", "the ledger is not installed"),
    ("autodealgenie_vehicle_searches_total{job=\"business\"}", "the ledger is not installed"),
    (
        "redis_exporter_collector_outcome{outcome!~\"ok|unsupported_version|missing_extension\"}",
        "no collector fails",
    ),
    ("business_exporter_counter_mode{mode=~\"snapshot|none\"}", "every counter has the ledger"),
    ("business_exporter_ledger_drift_rows", "tables were empty when they were compared with their counters"),
];

/// Rules that need a situation in which a stack on one machine is not, and which. `cargo xtask alerts-e2e --all` makes them.
const SITUATIONS: &[(&str, &str)] = &[
    ("AlertmanagerNotificationsFailing", "a receiver that notifies"),
    ("CheckpointsTooFrequent", "a checkpoint within 15 minutes"),
    ("ChecksumFailures", "data checksums"),
    ("ExternalAPIErrorRateHigh", "an API of others that is called"),
    ("ExternalAPILatencyHigh", "an API of others that is called"),
    ("InfoInhibitor", "an info alert that fires"),
    ("LLMDown", "a language model"),
    ("LLMErrorRateHigh", "a language model"),
    ("LLMLatencyHigh", "a language model"),
    ("LLMRateLimited", "a language model"),
    ("LLMTokenBudgetBurn", "a language model"),
    ("PrometheusRemoteWriteBehind", "remote write"),
    ("RedisReplicationBroken", "a replica"),
    ("ReplicationSlotInactive", "a replication slot"),
    ("ReplicationSlotRetainsWAL", "a replication slot"),
];

/// Ask a running stack whether every rule and every panel can give a value
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    prometheus: Prometheus,
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let url = args.prometheus.url()?;
    let absent = absent(&url).await?;
    let mut findings = Vec::new();
    let rules = rules::all()?;
    for rule in &rules {
        if SITUATIONS.iter().all(|(name, _)| *name != rule.name()) {
            let expr = promql::parse(&url, &rule.expr).await?;
            findings.extend(dead(&url, &absent, rule.name(), probes(expr)).await?);
        }
    }
    let dashboards = dashboards::all()?;
    for (dashboard, panel) in
        dashboards.iter().flat_map(|one| one.panels.iter().map(move |panel| (one, panel)))
    {
        let name = format!("{}, {}", dashboard.title, panel.title);
        let queries = panel.targets.iter().map(dashboards::Target::query).collect();
        findings.extend(dead(&url, &absent, &name, queries).await?);
    }
    for finding in &findings {
        print(finding);
    }
    if !findings.is_empty() {
        bail!("{} findings in {} rules and {} dashboards", findings.len(), rules.len(), dashboards.len());
    }
    say(&format!(
        "{} rules and every panel of {} dashboards give values",
        rules.len() - SITUATIONS.len(),
        dashboards.len()
    ));
    for (rule, situation) in SITUATIONS {
        say(&format!("not asked: {rule} needs {situation}: `cargo xtask alerts-e2e --all`"));
    }
    for (series, why) in ABSENT.iter().filter(|(series, _)| absent.contains(series)) {
        say(&format!("not there: {series}: {why}"));
    }
    Ok(())
}

/// The series that need not be there and are not.
pub(crate) async fn absent(url: &str) -> Result<Vec<&'static str>> {
    let mut absent = Vec::new();
    for (series, _) in ABSENT {
        if promql::values(url, series).await?.is_empty() {
            absent.push(*series);
        }
    }
    Ok(absent)
}

/// What is wrong with the rules that need a situation, in that situation.
pub(crate) async fn in_situations(url: &str) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for rule in rules::all()? {
        // It joins alerts that must not meet: that it fires says more.
        if rule.name() != "InfoInhibitor" && SITUATIONS.iter().any(|(name, _)| *name == rule.name()) {
            for probe in probes(promql::parse(url, &rule.expr).await?) {
                // An API that nobody calls has no quantile, beside one that has.
                if !promql::values(url, &probe).await?.iter().any(|value| value.is_finite()) {
                    findings.push(format!("{}: no value: {probe}", rule.name()));
                }
            }
        }
    }
    Ok(findings)
}

/// What is wrong with the probes of a rule or a panel.
async fn dead(url: &str, absent: &[&str], name: &str, probes: BTreeSet<String>) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for probe in probes {
        if absent.iter().any(|series| probe.contains(series)) {
            continue;
        }
        let values = promql::values(url, &probe).await?;
        if values.is_empty() {
            findings.push(format!("{name}: no series: {probe}"));
        } else if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            findings.push(format!("{name}: {value}: {probe}"));
        }
    }
    Ok(findings)
}

/// What must give series with finite values for the rule to be able to fire: every selector, both sides of every condition,
/// and the whole with its conditions turned into 0 and 1. A young stack has no last week: offsets and the steps of
/// subqueries are left out.
pub(crate) fn probes(mut expr: Expr) -> BTreeSet<String> {
    expr.walk(&mut |part| match part {
        Expr::MatrixSelector(selector) | Expr::VectorSelector(selector) => selector.offset = 0,
        Expr::Subquery { step, offset, .. } => (*step, *offset) = (0, 0),
        _ => {}
    });
    let mut probes: BTreeSet<String> = expr.selectors().iter().map(ToString::to_string).collect();
    let whole = without_conditions(expr, &mut probes);
    probes.insert(whole.to_string());
    probes
}

/// The expression with its conditions as 0 and 1, absences as what is absent, and exceptions as what is excepted; the sides
/// of the conditions go to `probes`. A comparison inside arithmetic guards a denominator and stays.
fn without_conditions(expr: Expr, probes: &mut BTreeSet<String>) -> Expr {
    match expr {
        Expr::Paren { expr } => Expr::Paren { expr: Box::new(without_conditions(*expr, probes)) },
        Expr::Call { func, mut args } if func.name == "absent" && args.len() == 1 => args.remove(0),
        Expr::Binary { op, lhs, rhs, matching, .. } if promql::joins_sets(&op) => Expr::Binary {
            op: if op == "unless" { "and".to_owned() } else { op },
            lhs: Box::new(without_conditions(*lhs, probes)),
            rhs: Box::new(without_conditions(*rhs, probes)),
            matching,
            returns_bool: false,
        },
        Expr::Binary { op, lhs, rhs, matching, .. } if promql::compares(&op) => {
            probes.extend([lhs.to_string(), rhs.to_string()]);
            Expr::Binary { op, lhs, rhs, matching, returns_bool: true }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, Result};
    use testkit::servers::workspace_root;

    use super::*;

    /// A rule that is left out names metrics that the exporters' documentation has, so that it is not left out for a typo.
    #[test]
    fn rules_that_need_a_situation_read_documented_metrics() -> Result<()> {
        let docs = workspace_root()?.join("docs");
        let read = |name: &str| std::fs::read_to_string(docs.join(name)).context(name.to_owned());
        let documented = read("collectors.md")? + &read("redis-families.md")? + &read("backend-metrics.md")?;
        let rules = rules::all()?;
        for (name, _) in SITUATIONS {
            let rule =
                rules.iter().find(|rule| rule.name() == *name).with_context(|| format!("no {name}"))?;
            let names = rule.expr.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let ours = |word: &&str| {
                ["pg_", "redis_", "autodealgenie_"].iter().any(|prefix| word.starts_with(prefix))
            };
            for metric in names.filter(ours).map(|name| name.trim_end_matches("_bucket")) {
                assert!(documented.contains(&format!("`{metric}`")), "{name}: {metric} is not documented");
            }
        }
        Ok(())
    }

    /// Every rule is written again as the same expression, and what can never give a value is found.
    #[tokio::test]
    async fn expressions_survive_and_dead_ones_are_found() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let (_process, url) = promql::prometheus(folder.path()).await?;
        for rule in rules::all()? {
            let once = promql::parse(&url, &rule.expr).await?.to_string();
            let again = promql::parse(&url, &once).await.with_context(|| once.clone())?.to_string();
            // Each turn adds brackets to the sides of operators and to nothing else.
            let bare = |text: &str| text.replace(['(', ')'], "");
            assert_eq!(bare(&once), bare(&again), "{}", rule.name());
        }
        let probes_of = async |query: &str| anyhow::Ok(probes(promql::parse(&url, query).await?));
        let all = ["vector(1) > bool 0", "vector(1)", "0"].map(str::to_owned);
        assert_eq!(probes_of("vector(1) > 0").await?, BTreeSet::from(all));
        for (query, found) in [
            ("vector(1) > 0", vec![]),
            ("vector(1) / 0 > 0.9", vec!["x: inf: vector(1) / 0"]),
            ("absent(gone)", vec!["x: no series: gone"]),
            (
                "vector(1) unless on (a) label_replace(vector(1), \"a\", \"b\", \"\", \"\") > 0",
                vec![
                    "x: no series: vector(1) and on (a) (label_replace(vector(1), \"a\", \"b\", \"\", \"\") > bool 0)",
                ],
            ),
        ] {
            assert_eq!(dead(&url, &[], "x", probes_of(query).await?).await?, found, "{query}");
        }
        Ok(())
    }
}
