use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde_json::Value;

use super::*;
use crate::promql;

/// Units that Grafana knows and the dashboards use.
const UNITS: &[&str] = &["Bps", "bytes", "none", "ops", "percentunit", "reqps", "s", "short"];

/// What an annotation asks Prometheus for: keys of its data source, which Grafana's schema leaves open.
const ANNOTATION_KEYS: &[&str] = &["expr", "step", "tagKeys", "textFormat", "titleFormat", "useValueForTime"];

/// What was promised to be on the first three, in that order.
const PROMISED: &[(&str, &[&str])] = &[
    (
        "system-overview",
        &[
            "Request rate by endpoint",
            "Error rate",
            "Latency p50, p90, p95, p99",
            "HTTP status codes",
            "PostgreSQL connections",
            "Redis memory",
            "Application memory",
        ],
    ),
    (
        "business-metrics",
        &[
            "Deals created per hour",
            "Sign-ups per hour",
            "Authentication success rate",
            "Total deals (24 h)",
            "Top endpoints by use",
            "Authentication failures",
            "Deals by status",
        ],
    ),
    (
        "database-performance",
        &[
            "Connections against the limit",
            "Connection pool utilisation",
            "Transactions",
            "Database operations",
            "Redis memory",
            "Cache hit rate",
            "Redis commands",
            "Connected clients",
        ],
    ),
];

fn folder() -> Result<PathBuf> {
    Ok(workspace_root()?.join("monitoring/grafana"))
}

/// Every dashboard as it is, by its uid.
fn raw() -> Result<BTreeMap<String, Value>> {
    let mut dashboards = BTreeMap::new();
    for file in rules::files(&folder()?.join("dashboards"))? {
        let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        let uid = dashboard["uid"].as_str().context("no uid")?.to_owned();
        assert_eq!(file.file_stem().and_then(|stem| stem.to_str()), Some(uid.as_str()));
        dashboards.insert(uid, dashboard);
    }
    Ok(dashboards)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Every panel with where it is.
fn panels() -> Result<Vec<(String, Value)>> {
    let of = |(uid, dashboard): (String, Value)| {
        let named = |panel: &Value| (format!("{uid}: {}", text(&panel["title"])), panel.clone());
        list(&dashboard["panels"]).iter().map(named).collect::<Vec<_>>()
    };
    Ok(raw()?.into_iter().flat_map(of).collect())
}

#[test]
fn the_promised_panels_are_there_and_no_other() -> Result<()> {
    let dashboards = raw()?;
    for (uid, titles) in PROMISED {
        let panels = list(&dashboards[*uid]["panels"]);
        assert_eq!(panels.iter().map(|panel| text(&panel["title"])).collect::<Vec<_>>(), *titles);
    }
    let titles: BTreeSet<&str> = dashboards.values().map(|dashboard| text(&dashboard["title"])).collect();
    assert_eq!(titles.len(), 7);
    Ok(())
}

#[test]
fn dashboards_are_classic_fixed_and_linked() -> Result<()> {
    for (uid, dashboard) in raw()? {
        assert_eq!(dashboard["schemaVersion"], 42, "{uid}");
        assert_eq!((&dashboard["id"], &dashboard["editable"]), (&Value::Null, &Value::Bool(false)), "{uid}");
        assert!(!text(&dashboard["description"]).is_empty(), "{uid} has no description");
        assert_eq!(
            (text(&dashboard["refresh"]), text(&dashboard["time"]["from"])),
            ("30s", "now-6h"),
            "{uid}"
        );
        for dead in ["style", "gnetId", "rows", "hideControls", "sharedCrosshair"] {
            assert!(dashboard.get(dead).is_none(), "{uid} has {dead}");
        }
        let names = |key: &str, inner: &str| -> Vec<String> {
            list(&dashboard[key][inner]).iter().map(|one| text(&one["name"]).to_owned()).collect()
        };
        assert_eq!(names("templating", "list")[..3], ["datasource", "job", "instance"], "{uid}");
        assert_eq!(names("annotations", "list")[1..], ["Alerts", "Restarts"], "{uid}");
        for variable in list(&dashboard["templating"]["list"]) {
            let query = variable["type"] == "query";
            assert!(!text(&variable["label"]).is_empty(), "{uid}: {variable}");
            assert_eq!(variable["multi"], query, "{uid}: {variable}");
            assert!(
                !query || (variable["allValue"] == ".+" && variable["refresh"] == 2),
                "{uid}: {variable}"
            );
        }
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(&dashboard["panels"]) {
            assert!(ids.insert(panel["id"].as_u64().context("no id")?), "{uid}: id twice");
            let side = |key: &str| panel["gridPos"][key].as_u64().context("no place");
            let (x, y, w, h) = (side("x")?, side("y")?, side("w")?, side("h")?);
            assert!(x + w <= 24 && h % 2 == 0, "{uid}: {}", panel["gridPos"]);
            for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(place), "{uid}: panels overlap at {place:?}");
            }
        }
    }
    Ok(())
}

/// Where nothing happened Grafana would draw an axis up to 100 of whatever it is.
#[test]
fn axes_of_zeros_have_a_scale() -> Result<()> {
    for (name, panel) in panels()?.iter().filter(|(_, panel)| panel["type"] == "timeseries") {
        let defaults = &panel["fieldConfig"]["defaults"];
        assert_eq!(defaults["min"], 0, "{name}");
        let top = [&defaults["max"], &defaults["custom"]["axisSoftMax"]].into_iter().find_map(Value::as_f64);
        assert!(top.is_some_and(|top| top > 0.0), "{name} has no top");
    }
    Ok(())
}

#[test]
fn panels_say_what_they_show() -> Result<()> {
    for (name, panel) in panels()? {
        assert!(text(&panel["description"]).len() > 20, "{name} has no description");
        let unit = text(&panel["fieldConfig"]["defaults"]["unit"]);
        assert!(UNITS.contains(&unit), "{name}: unit {unit:?}");
        let mut references = BTreeSet::new();
        assert!(!list(&panel["targets"]).is_empty(), "{name} asks for nothing");
        for target in list(&panel["targets"]) {
            for source in [&panel["datasource"], &target["datasource"]] {
                assert_eq!(text(&source["uid"]), "${datasource}", "{name}");
            }
            assert!(references.insert(text(&target["refId"])), "{name}: a refId twice");
            assert!(!text(&target["legendFormat"]).is_empty(), "{name} has no legend");
            assert!(target["range"] != target["instant"], "{name}: neither a range nor an instant");
        }
    }
    Ok(())
}

/// Grafana knows every key and every value: a misspelt option is ignored without a word.
#[test]
fn dashboards_are_what_grafana_publishes() -> Result<()> {
    let schemas: Value = serde_json::from_str(schema::SCHEMAS)?;
    let mut findings = Vec::new();
    for (uid, mut dashboard) in raw()? {
        for annotation in dashboard["annotations"]["list"].as_array_mut().into_iter().flatten() {
            if let Some(keys) = annotation.as_object_mut() {
                keys.retain(|key, _| !ANNOTATION_KEYS.contains(&key.as_str()));
            }
        }
        findings.extend(schema::findings(&schemas["dashboard"], &dashboard, &uid));
        for panel in list(&dashboard["panels"]) {
            let name = format!("{uid}: {}", text(&panel["title"]));
            let schemas = schemas["panels"].get(text(&panel["type"])).with_context(|| name.clone())?;
            findings.extend(schema::findings(&schemas["options"], &panel["options"], &name));
            if let Some(custom) = panel["fieldConfig"]["defaults"].get("custom") {
                findings.extend(schema::findings(&schemas["custom"], custom, &name));
            }
        }
    }
    assert_eq!(findings, Vec::<String>::new());
    // The schemas refuse what they do not know.
    let stat = |options: Value| schema::findings(&schemas["panels"]["stat"]["options"], &options, "").len();
    assert_eq!(stat(serde_json::json!({"graphMode": "area", "reduceOptions": {"calcs": ["last"]}})), 0);
    assert_eq!(stat(serde_json::json!({"graphMode": "areas"})), 1);
    assert_eq!(stat(serde_json::json!({"graphmode": "area"})), 1);
    assert_eq!(stat(serde_json::json!({"reduceOptions": {"calcs": "last"}})), 1);
    Ok(())
}

/// A line on a panel is where an alert fires: one of those whose runbooks the panel links to.
#[test]
fn thresholds_are_those_of_the_alerts() -> Result<()> {
    let alerts: BTreeMap<String, String> =
        rules::all()?.into_iter().filter_map(|rule| Some((rule.alert?.to_lowercase(), rule.expr))).collect();
    let mut checked = 0;
    for (name, panel) in panels()? {
        let mut numbers = Vec::new();
        for link in list(&panel["links"]) {
            let anchor = text(&link["url"]).split_once("MONITORING.md#").context(name.clone())?.1;
            let expr = alerts.get(anchor).with_context(|| format!("{name}: no alert {anchor}"))?;
            let words = expr.split(|c: char| !(c.is_ascii_alphanumeric() || ".+".contains(c)));
            numbers.extend(words.filter_map(|word| word.parse::<f64>().ok()));
        }
        for step in list(&panel["fieldConfig"]["defaults"]["thresholds"]["steps"]) {
            if let Some(value) = step["value"].as_f64() {
                assert!(numbers.contains(&value), "{name}: no linked alert fires at {value}");
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "only {checked} thresholds");
    Ok(())
}

/// Every query is PromQL, every rate takes Grafana's interval, every counter is rated, and every selector follows the
/// variables, except for recorded series that no longer have the label.
#[tokio::test]
async fn queries_parse_and_follow_the_variables() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let (_process, url) = promql::prometheus(scratch.path()).await?;
    for (name, panel) in panels()? {
        for target in list(&panel["targets"]) {
            let target: Target = serde_json::from_value(target.clone())?;
            assert!(
                !target.expr.contains("rate(") || target.expr.contains("[$__rate_interval]"),
                "{name}: {}",
                target.expr
            );
            for selector in promql::parse(&url, &target.query()).await?.selectors() {
                let has = |label: &str| selector.matchers.iter().any(|matcher| matcher.name == label);
                let recorded = selector.name.split_once(':').map(|(labels, _)| labels);
                let keeps_job =
                    recorded.is_none_or(|labels| ["job", "instance", "datname"].contains(&labels));
                let keeps_instance = recorded.is_none_or(|labels| ["instance", "datname"].contains(&labels));
                assert_eq!((has("job"), has("instance")), (keeps_job, keeps_instance), "{name}: {selector}");
            }
        }
    }
    Ok(())
}

#[test]
fn provisioning_names_what_the_dashboards_use() -> Result<()> {
    let read =
        |kind: &str| rules::read::<Value>(&folder()?.join(format!("provisioning/{kind}/autodealgenie.yml")));
    let sources = read("datasources")?;
    let uids: Vec<&str> = list(&sources["datasources"]).iter().map(|source| text(&source["uid"])).collect();
    assert_eq!(uids, ["prometheus", "alertmanager"]);
    let provider = &read("dashboards")?["providers"][0];
    assert_eq!((&provider["type"], &provider["allowUiUpdates"]), (&"file".into(), &false.into()));
    for (uid, dashboard) in raw()? {
        assert_eq!(dashboard["templating"]["list"][0]["current"]["value"], "prometheus", "{uid}");
    }
    // Links of alerts lead to dashboards that are there.
    let dashboards = raw()?;
    for rule in rules::all()?.iter().filter(|rule| rule.alert.is_some()) {
        let url = &rule.annotations["dashboard_url"];
        let uid = url.rsplit('/').next().unwrap_or_default();
        assert!(dashboards.contains_key(uid), "{}: no dashboard {uid}", rule.name());
    }
    Ok(())
}
