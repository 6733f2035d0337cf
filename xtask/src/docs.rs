//! `cargo xtask docs`: writes the pages of docs/, and other files, that are made from the code; `--check` says which are out of date.

pub(crate) mod images;
mod metrics;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    cargo,
    rules::{self, Rule},
    stack::Location,
    variants,
};

/// Write the documentation that is made from the code
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail when a page is out of date
    #[arg(long)]
    check: bool,
    /// Draw the dashboards of the running stack into a folder instead; fails when a panel shows no data
    #[arg(long, value_name = "FOLDER", conflicts_with = "check", num_args = 0..=1, default_missing_value = images::IMAGES)]
    images: Option<PathBuf>,
    #[command(flatten)]
    location: Location,
}

/// Where a page comes from.
enum Source {
    /// A program prints it.
    Program { program: &'static str, arguments: &'static [&'static str] },
    /// The rule files.
    Alerts,
    /// A committed file with changes.
    Changed(fn() -> Result<Value>),
    /// What rules and panels read, in the middle of a page.
    Metrics,
}

const PAGES: &[(&str, Source)] = &[
    ("docs/collectors.md", Source::Program { program: "pg-exporter", arguments: &["collectors"] }),
    ("docs/redis-families.md", Source::Program { program: "redis-exporter", arguments: &["families"] }),
    ("docs/business-keys.md", Source::Program { program: "business-exporter", arguments: &["keys"] }),
    ("docs/alerts.md", Source::Alerts),
    ("docker/tls/prometheus.yml", Source::Changed(variants::prometheus_with_tls)),
    ("docker/tls/datasources.yml", Source::Changed(variants::datasources_with_tls)),
    ("docker/remote-storage/prometheus.yml", Source::Changed(variants::prometheus_with_remote_write)),
    ("docker/remote-storage/prometheus-tls.yml", Source::Changed(variants::prometheus_with_both)),
    (
        "docker/postgres/ledger.sql",
        Source::Program {
            program: "business-exporter",
            arguments: &[
                "--config=exporters/business-exporter/config/autodealgenie.yml",
                "ddl",
                "--install",
                "--grants=business",
            ],
        },
    ),
    // Last: it reads the others.
    ("MONITORING.md", Source::Metrics),
];

pub(crate) async fn run(args: &Args) -> Result<()> {
    match args {
        Args { images: Some(folder), location, .. } => images::draw(&location.folder()?, folder).await,
        Args { check: true, .. } => check(),
        Args { .. } => PAGES.iter().try_for_each(write),
    }
}

/// Fails when a page is out of date.
pub(crate) fn check() -> Result<()> {
    for (path, source) in PAGES {
        if fs::read_to_string(path).with_context(|| format!("reading {path}"))? != source.text()? {
            bail!("{path} is out of date: run `cargo xtask docs`");
        }
    }
    Ok(())
}

fn write((path, source): &(&str, Source)) -> Result<()> {
    fs::write(path, source.text()?).with_context(|| format!("writing {path}"))
}

impl Source {
    fn text(&self) -> Result<String> {
        match self {
            Self::Program { program, arguments } => printed(program, arguments),
            Self::Alerts => alerts(),
            // JSON is YAML.
            Self::Changed(change) => Ok(format!("# Made by `cargo xtask docs`.\n{:#}\n", change()?)),
            Self::Metrics => metrics::page(),
        }
    }
}

fn printed(program: &str, arguments: &[&str]) -> Result<String> {
    let binary = cargo::build(&[program])?;
    let binary = binary.first().context("cargo built nothing")?;
    let output = Command::new(binary)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("running {program}"))?;
    if !output.status.success() {
        bail!("`{program} {}` ended with {}", arguments.join(" "), output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("what `{program} {}` prints is not UTF-8", arguments.join(" ")))
}

/// The alerts, group by group.
fn alerts() -> Result<String> {
    let mut page = "# Alerts\n\nMade from `monitoring/prometheus/rules/` by `cargo xtask docs`. Each name leads to its runbook.\n".to_owned();
    for group in rules::groups()? {
        let alerts: Vec<&Rule> = group.rules.iter().filter(|rule| rule.alert.is_some()).collect();
        if alerts.is_empty() {
            continue;
        }
        page += &format!(
            "\n## {}\n\n| Alert | Severity | Component | For | Means |\n|---|---|---|---|---|\n",
            group.name
        );
        for rule in alerts {
            let text = |map: &BTreeMap<String, String>, key: &str| map.get(key).cloned().unwrap_or_default();
            let name = rule.name();
            page += &format!(
                "| [{name}](../MONITORING.md#{}) | {} | {} | {} | {} |\n",
                name.to_lowercase(),
                text(&rule.labels, "severity"),
                without_templates(&text(&rule.labels, "component")),
                rule.wait.as_deref().unwrap_or("at once"),
                without_templates(&text(&rule.annotations, "description")).replace('|', "\\|"),
            );
        }
    }
    Ok(page)
}

/// A text with `…` in place of what Prometheus fills in.
fn without_templates(text: &str) -> String {
    let mut parts = text.split("{{");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "…" + part.split_once("}}").map_or("", |(_, rest)| rest))
}
