//! Reads an exporter's page for tests: strict parsing, values by name and labels, and `promtool`'s opinion.

use std::{
    collections::BTreeMap,
    fs::File,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use exposition::parse::{self, Page};
use http::StatusCode;

use crate::{http::get, servers};

/// Gets a page in text format 0.0.4 and parses it strictly.
///
/// # Errors
/// When the status is not 200, the content type is another or the page is not well-formed: shows what came.
pub async fn scrape(url: &str) -> Result<Page> {
    let answer = get(url).await?;
    if answer.status != StatusCode::OK {
        bail!("GET {url}: status {}: {}", answer.status, answer.text);
    }
    let content_type = answer.header("content-type").unwrap_or_default();
    if !content_type.starts_with("text/plain; version=0.0.4") {
        bail!("GET {url}: content type {content_type:?}");
    }
    parse(&answer.text).with_context(|| format!("GET {url}"))
}

/// Parses a page in text format 0.0.4 strictly.
///
/// # Errors
/// When it is not well-formed: shows the line.
pub fn parse(text: &str) -> Result<Page> {
    parse::page(text).map_err(|error| {
        let line = text.lines().nth(error.line.saturating_sub(1)).unwrap_or_default();
        anyhow::anyhow!("{error}: {line:?}")
    })
}

/// The value of the only sample `name` that has `labels`, among others.
///
/// # Errors
/// When there is none or more than one: shows all samples of that name.
pub fn value(page: &Page, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
    page.value(name, labels).with_context(|| {
        let found: Vec<String> =
            page.samples(name).map(|sample| format!("{:?} {}", sample.labels, sample.value)).collect();
        format!("not exactly one {name} with {labels:?}; there are {}: {}", found.len(), found.join(", "))
    })
}

/// All samples of a page by `name{labels}`, with numbers in labels written one way.
#[must_use]
pub fn samples(page: &Page) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for sample in page.families.iter().flat_map(|family| &family.samples) {
        let mut labels: Vec<String> = sample
            .labels
            .iter()
            .map(|(name, value)| {
                let number = value.parse::<f64>().ok().filter(|_| name == "le" || name == "quantile");
                format!("{name}={:?}", number.map_or_else(|| value.clone(), |number| number.to_string()))
            })
            .collect();
        labels.sort();
        samples.insert(format!("{}{{{}}}", sample.name, labels.join(",")), sample.value);
    }
    samples
}

/// What `promtool check metrics` finds in a page, one finding a line, sorted; empty when it has nothing to say.
///
/// # Errors
/// When promtool cannot be had, or cannot read the page at all.
pub async fn promtool_findings(text: &str) -> Result<Vec<String>> {
    let promtool = servers::get("monitoring").await?.binary("promtool");
    let folder = tempfile::tempdir().context("creating a folder for the page")?;
    let page = folder.path().join("page");
    std::fs::write(&page, text).context("writing the page for promtool")?;
    let output = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::from(File::open(&page).context("opening the page for promtool")?))
        .output()
        .context("running promtool")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // 3 is "has findings".
    if !matches!(output.status.code(), Some(0 | 3)) {
        bail!("promtool check metrics ended with {}: {said}", output.status);
    }
    let mut findings: Vec<String> = said.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    findings.sort();
    Ok(findings)
}
