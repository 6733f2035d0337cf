//! The dashboards of `monitoring/grafana/dashboards`, read.

use anyhow::{Context, Result};
use serde::Deserialize;
use testkit::servers::workspace_root;

use crate::rules;

pub(crate) mod schema;
#[cfg(test)]
mod tests;

/// A dashboard, as far as it is checked here.
#[derive(Debug, Deserialize)]
pub(crate) struct Dashboard {
    pub(crate) uid: String,
    pub(crate) title: String,
    pub(crate) panels: Vec<Panel>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Panel {
    pub(crate) id: u64,
    pub(crate) title: String,
    pub(crate) targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    expr: String,
    /// Whether it is asked for now, not over a range.
    pub(crate) instant: bool,
}

impl Target {
    /// What Grafana asks Prometheus for over an hour, with everything chosen.
    pub(crate) fn query(&self) -> String {
        [
            ("$__rate_interval", "5m"),
            ("$__range", "1h"),
            ("$job", ".+"),
            ("$instance", ".+"),
            ("$datname", ".+"),
        ]
        .iter()
        .fold(self.expr.clone(), |expr, (variable, value)| expr.replace(variable, value))
    }
}

/// Every dashboard.
pub(crate) fn all() -> Result<Vec<Dashboard>> {
    let files = rules::files(&workspace_root()?.join("monitoring/grafana/dashboards"))?;
    files
        .iter()
        .map(|file| {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
            serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))
        })
        .collect()
}
