use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::servers;

use super::*;
use crate::rules::{self, Rule};

/// Who is told of an alert of this severity and component.
const RECEIVERS: &[(&str, &str, &str)] = &[
    ("critical", "backend", "page-platform"),
    ("critical", "business", "page-platform"),
    ("critical", "cache", "page-data"),
    ("critical", "database", "page-data"),
    ("critical", "external", "page-platform"),
    ("critical", "host", "page-platform"),
    ("critical", "monitoring", "page-platform"),
    ("info", "business", "null"),
    ("info", "cache", "null"),
    ("info", "database", "null"),
    ("info", "monitoring", "null"),
    ("info", "security", "security"),
    ("warning", "backend", "ticket-platform"),
    ("warning", "business", "ticket-business"),
    ("warning", "cache", "ticket-data"),
    ("warning", "database", "ticket-data"),
    ("warning", "external", "ticket-platform"),
    ("warning", "host", "ticket-platform"),
    ("warning", "monitoring", "ticket-platform"),
    ("warning", "security", "security"),
];

fn config() -> Result<PathBuf> {
    Ok(workspace_root()?.join("monitoring/alertmanager/alertmanager.yml"))
}

fn alerts() -> Result<Vec<Rule>> {
    Ok(rules::all()?.into_iter().filter(|rule| rule.alert.is_some()).collect())
}

async fn amtool(words: &[&str]) -> Result<String> {
    let installed = servers::get("monitoring").await?;
    let mut command = Command::new(installed.binary("amtool"));
    run(command.current_dir(installed.root.join("usr/share/prometheus/alertmanager")).args(words))
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}:\n{said}{complaint}", output.status);
    Ok(said)
}

#[tokio::test]
async fn amtool_accepts_the_configuration_as_it_will_be_read_in_future() -> Result<()> {
    amtool(&["--enable-feature=utf8-strict-mode", "check-config", &config()?.to_string_lossy()]).await?;
    Ok(())
}

#[test]
fn amlint_finds_nothing_but_the_receiver_that_drops_on_purpose() -> Result<()> {
    let tools = servers::private_dir("amlint-0.8.5")?;
    run(Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"])
        .arg(&tools)
        .arg("amlint==0.8.5"))?;
    let found = run(Command::new("python3")
        .env("PYTHONPATH", &tools)
        .arg(tools.join("bin/amlint"))
        .args(["check", "--format", "json"])
        .arg(config()?))?;
    let found: Vec<Value> = serde_json::from_str(&found).context(found)?;
    let codes: Vec<&Value> = found.iter().map(|finding| &finding["code"]).collect();
    assert_eq!(codes, ["empty-receiver"], "{found:?}");
    Ok(())
}

#[tokio::test]
async fn every_alert_reaches_who_has_to_know() -> Result<()> {
    let mut used = BTreeSet::new();
    for rule in alerts()? {
        let (name, severity) = (rule.name(), rule.labels["severity"].as_str());
        // The InfoInhibitor takes it from whom it mutes.
        let component = rule.labels["component"].replace("{{ $labels.component }}", "cache");
        let receiver = match name {
            "Watchdog" => "dead-man",
            "InfoInhibitor" => "null",
            _ => {
                let row = RECEIVERS.iter().find(|row| (row.0, row.1) == (severity, component.as_str()));
                let row =
                    row.with_context(|| format!("{name}: nobody is named for {severity} {component}"))?;
                used.insert(row);
                row.2
            }
        };
        let (file, verify) =
            (format!("--config.file={}", config()?.display()), format!("--verify.receivers={receiver}"));
        let labels =
            [format!("alertname={name}"), format!("severity={severity}"), format!("component={component}")];
        let words = ["config", "routes", "test", &file, &verify, &labels[0], &labels[1], &labels[2]];
        amtool(&words).await.with_context(|| format!("{name} does not reach {receiver}"))?;
    }
    assert_eq!(used.len(), RECEIVERS.len(), "a row that no alert needs");
    Ok(())
}

/// The names that inhibit and are inhibited exist: a renamed alert would mute nothing.
#[test]
fn inhibition_is_between_alerts_that_exist() -> Result<()> {
    let names: BTreeSet<String> = alerts()?.iter().map(|rule| rule.name().to_owned()).collect();
    let config: Value = rules::read(&config()?)?;
    let mut checked = 0;
    for rule in config["inhibit_rules"].as_array().context("no inhibition")? {
        for side in ["source_matchers", "target_matchers"] {
            for matcher in rule[side].as_array().context("no matchers")? {
                let matcher = matcher.as_str().context("no text")?;
                let Some((label, value)) = matcher.split_once(['=', '!']) else { continue };
                if label.trim() != "alertname" {
                    continue;
                }
                for name in value.trim_matches(['=', '~', ' ', '"']).split('|') {
                    let parts: Vec<&str> = name.split(".*").collect();
                    let meant = |alert: &String| parts.iter().all(|part| alert.contains(part));
                    assert!(names.iter().any(meant), "{matcher}: no alert {name}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 30, "only {checked} names");
    Ok(())
}

#[tokio::test]
async fn messages_say_what_is_wrong_and_where_to_read_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let alert = json!({
        "status": "firing",
        "labels": {"alertname": "RedisDown", "severity": "critical", "instance": "r1", "cluster": "eu"},
        "annotations": {
            "summary": "Redis behind r1 is down", "description": "It does not answer.",
            "runbook_url": "https://x.example/MONITORING.md#redisdown", "dashboard_url": "http://x.example/d/redis",
        },
        "startsAt": "2026-01-02T03:04:05Z", "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "", "fingerprint": "1",
    });
    let message = json!({
        "receiver": "page-data", "status": "firing", "alerts": [alert],
        "groupLabels": {"alertname": "RedisDown", "cluster": "eu"}, "commonLabels": alert["labels"],
        "commonAnnotations": alert["annotations"], "externalURL": "http://am.example",
    });
    let data = folder.path().join("message.json");
    std::fs::write(&data, message.to_string())?;
    let render = async |name: &str| {
        let glob = workspace_root()?.join("monitoring/alertmanager/templates/*.tmpl");
        let text = format!("{{{{ template \"{name}\" . }}}}");
        let (glob, data) =
            (format!("--template.glob={}", glob.display()), format!("--template.data={}", data.display()));
        amtool(&["template", "render", &glob, &data, "--template.text", &text]).await
    };
    let expected = BTreeMap::from([
        ("slack.title", vec!["[FIRING:1] RedisDown on eu"]),
        ("slack.color", vec!["danger"]),
        ("slack.link", vec!["http://am.example/#/alerts?receiver=page-data"]),
        (
            "slack.text",
            vec![
                ":rotating_light: *Redis behind r1 is down*",
                "It does not answer.",
                "<https://x.example/MONITORING.md#redisdown|Runbook>",
                "<http://x.example/d/redis|Dashboard>",
                "/#/silences/new?filter=%7Balertname%3D%22RedisDown%22%2Ccluster%3D%22eu%22%2C",
            ],
        ),
        ("pagerduty.description", vec!["RedisDown: Redis behind r1 is down"]),
        ("pagerduty.firing", vec!["It does not answer.", "since 2026-01-02 03:04:05 UTC"]),
        ("email.subject", vec!["[FIRING:1] RedisDown (critical)"]),
        (
            "email.text",
            vec!["FIRING: Redis behind r1 is down", "Runbook: https://x.example/MONITORING.md#redisdown"],
        ),
        (
            "email.html",
            vec![
                "Redis behind r1 is down",
                "href=\"http://x.example/d/redis\"",
                "<td>cluster</td><td>eu</td>",
            ],
        ),
    ]);
    let config = std::fs::read_to_string(config()?)?;
    let used: BTreeSet<&str> =
        config.split("template \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(used, expected.keys().copied().collect());
    for (name, parts) in expected {
        let shown = render(name).await?;
        for part in parts {
            assert!(shown.contains(part), "{name} lacks {part}:\n{shown}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_file_switches_its_receivers_on() -> Result<()> {
    let kinds = |config: &Value| {
        let mut on = BTreeSet::new();
        for receiver in config["receivers"].as_array().into_iter().flatten() {
            for (kind, list) in receiver.as_object().into_iter().flatten() {
                if list.as_array().is_some_and(|list| !list.is_empty()) {
                    on.insert(format!("{} {kind}", receiver["name"].as_str().unwrap_or_default()));
                }
            }
        }
        on
    };
    let with = |files: &[&str]| -> Result<BTreeSet<String>> {
        let mut config: Value = rules::read(&config()?)?;
        leave_out(&mut config, &|file| files.contains(&file));
        Ok(kinds(&config))
    };
    assert_eq!(with(&[])?, BTreeSet::new());
    assert_eq!(with(&["dead_man_url"])?, BTreeSet::from(["dead-man webhook_configs".to_owned()]));
    assert_eq!(with(&["pagerduty_data_key"])?, BTreeSet::from(["page-data pagerduty_configs".to_owned()]));
    let email = ["security email_configs", "ticket-business email_configs"].map(str::to_owned);
    assert_eq!(with(&["smtp_password"])?, BTreeSet::from(email));
    assert_eq!(with(&["slack_url"])?.len(), 6);

    let folder = tempfile::tempdir()?;
    let written = configure(&folder.path().join("alertmanager"), None)?;
    amtool(&["check-config", &written.to_string_lossy()]).await?;
    Ok(())
}
