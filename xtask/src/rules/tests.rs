//! `monitoring/`: Prometheus accepts it, every alert is tested, and carries what whoever is woken by it needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use testkit::servers;

use super::{Rule, all, files, folder, groups, read};

#[derive(Deserialize)]
struct TestFile {
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    #[serde(default)]
    alert_rule_test: Vec<AlertTest>,
}

#[derive(Deserialize)]
struct AlertTest {
    alertname: String,
    exp_alerts: Vec<serde::de::IgnoredAny>,
}

fn alerts() -> Result<BTreeMap<String, Rule>> {
    Ok(all()?.into_iter().filter_map(|rule| Some((rule.alert.clone()?, rule))).collect())
}

async fn promtool(words: &[&str], files: &[PathBuf]) -> Result<()> {
    let promtool = servers::get("monitoring").await?.binary("promtool");
    let output = Command::new(promtool).args(words).args(files).output().context("running promtool")?;
    ensure!(
        output.status.success(),
        "promtool {words:?} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[tokio::test]
async fn promtool_accepts_the_configuration_and_the_rules() -> Result<()> {
    promtool(&["check", "config", "--lint=all", "--lint-fatal"], &[folder()?.join("prometheus.yml")]).await?;
    promtool(&["check", "rules", "--lint=all", "--lint-fatal"], &files(&folder()?.join("rules"))?).await
}

/// One file a test: they take seconds each, and run beside each other.
macro_rules! unit_tests {
    ($( $name:ident: $file:literal; )+) => {
        $(
            #[tokio::test]
            async fn $name() -> Result<()> {
                promtool(&["test", "rules"], &[folder()?.join("tests").join($file)]).await
            }
        )+

        #[test]
        fn every_file_of_unit_tests_is_run() -> Result<()> {
            let found = files(&folder()?.join("tests"))?;
            let found: BTreeSet<_> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
            assert_eq!(found, BTreeSet::from([$( $file ),+]));
            Ok(())
        }
    };
}

unit_tests! {
    alerts_of_business: "business.yml";
    alerts_of_business_on_recorded_series: "business-thresholds.yml";
    alerts_of_counters: "counters.yml";
    alerts_of_exporters: "exporters.yml";
    alerts_of_external: "external.yml";
    alerts_of_host: "host.yml";
    alerts_of_monitoring: "monitoring.yml";
    alerts_of_postgres: "postgres.yml";
    alerts_of_redis: "redis.yml";
    alerts_of_service: "service.yml";
    alerts_of_service_on_recorded_series: "service-thresholds.yml";
    alerts_of_service_over_weeks: "service-weekly.yml";
    alerts_of_slo: "slo.yml";
    alerts_of_slo_on_recorded_series: "slo-thresholds.yml";
    recorded_series: "recording.yml";
    recorded_series_over_days: "recording-days.yml";
}

#[test]
fn every_alert_is_seen_to_fire_and_to_be_silent() -> Result<()> {
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for file in files(&folder()?.join("tests"))? {
        for check in read::<TestFile>(&file)?.tests.into_iter().flat_map(|test| test.alert_rule_test) {
            let seen = if check.exp_alerts.is_empty() { &mut silent } else { &mut fires };
            seen.insert(check.alertname);
        }
    }
    let names: BTreeSet<String> = alerts()?.into_keys().collect();
    assert_eq!(names.difference(&fires).collect::<Vec<_>>(), Vec::<&String>::new(), "never fires in a test");
    // The Watchdog always fires; the InfoInhibitor's silent half is in the case that fires.
    let always = BTreeSet::from(["InfoInhibitor".to_owned(), "Watchdog".to_owned()]);
    assert_eq!(names.difference(&silent).cloned().collect::<BTreeSet<_>>(), always, "never silent in a test");
    Ok(())
}

#[test]
fn alerts_carry_what_whoever_is_woken_needs() -> Result<()> {
    let alerts = alerts()?;
    assert!(alerts.len() >= 60, "only {} alerts", alerts.len());
    for (name, rule) in &alerts {
        let severity = rule.labels.get("severity").map_or("", String::as_str);
        assert!(["critical", "warning", "info", "none"].contains(&severity), "{name}: severity {severity}");
        assert!(rule.labels.contains_key("component"), "{name} has no component");
        assert!(!rule.labels.values().any(|label| label.contains("$value")), "{name}: a value in a label");
        for annotation in ["summary", "description", "dashboard_url"] {
            assert!(
                rule.annotations.get(annotation).is_some_and(|text| !text.is_empty()),
                "{name}: {annotation}"
            );
        }
        let runbook = rule.annotations.get("runbook_url").map_or("", String::as_str);
        assert!(runbook.ends_with(&format!("#{}", name.to_lowercase())), "{name}: runbook {runbook}");
    }
    Ok(())
}

#[test]
fn promised_alerts_have_their_severity() -> Result<()> {
    let alerts = alerts()?;
    let promised = [
        ("ServiceDown", "critical"),
        ("HighErrorRate", "critical"),
        ("DatabaseDown", "critical"),
        ("RedisDown", "critical"),
        ("DiskSpaceLow", "critical"),
        ("DatabaseConnectionPoolHigh", "critical"),
        ("HighAPILatency", "warning"),
        ("HighRequestRate", "warning"),
        ("SlowQueries", "warning"),
        ("LowCacheHitRate", "warning"),
        ("HighRedisMemoryUsage", "warning"),
        ("HighMemoryUsage", "warning"),
        ("LowUserSignupRate", "info"),
        ("HighAuthenticationFailureRate", "info"),
    ];
    for (name, severity) in promised {
        let rule = alerts.get(name).with_context(|| format!("{name} is missing"))?;
        assert_eq!(rule.labels["severity"], severity, "{name}");
    }
    Ok(())
}

/// Backend and business exporter have families of the same name: outside the recording rules that choose one, a
/// selector without a job would add both up.
#[test]
fn shared_families_are_read_through_recording_rules() -> Result<()> {
    let shared =
        ["deals_created_total", "user_signups_total", "loan_applications_total", "vehicle_searches_total"];
    let mut names = BTreeSet::new();
    for group in groups()? {
        assert!(names.insert(group.name.clone()), "two groups are called {}", group.name);
        for rule in group.rules {
            for family in shared.map(|name| format!("autodealgenie_{name}")) {
                let selectors = rule.expr.matches(&family).count();
                let with_job = rule.expr.matches(&format!("{family}{{job=")).count();
                assert_eq!(selectors, with_job, "{:?} {:?} reads {family}", rule.alert, rule.record);
                assert!(selectors == 0 || rule.record.is_some(), "{:?} reads {family} itself", rule.alert);
            }
        }
    }
    Ok(())
}
