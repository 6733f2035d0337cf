//! The rule files of `monitoring/prometheus/rules`, read.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, de::DeserializeOwned};
use testkit::servers::workspace_root;

#[cfg(test)]
mod tests;

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

/// Rules that are evaluated together.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) rules: Vec<Rule>,
}

/// An alert or a recorded series.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Rule {
    pub(crate) alert: Option<String>,
    pub(crate) record: Option<String>,
    pub(crate) expr: String,
    #[serde(rename = "for")]
    pub(crate) wait: Option<String>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Rule {
    /// The alert's or the series' name.
    pub(crate) fn name(&self) -> &str {
        self.alert.as_deref().or(self.record.as_deref()).unwrap_or_default()
    }
}

/// `monitoring/prometheus`.
pub(crate) fn folder() -> Result<PathBuf> {
    Ok(workspace_root()?.join("monitoring/prometheus"))
}

/// The files of a folder, sorted.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    ensure!(!files.is_empty(), "{} is empty", folder.display());
    Ok(files)
}

/// Reads a YAML file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

/// Every group of every file.
pub(crate) fn groups() -> Result<Vec<Group>> {
    let files = files(&folder()?.join("rules"))?;
    let files = files.iter().map(|file| read::<RuleFile>(file)).collect::<Result<Vec<_>>>()?;
    Ok(files.into_iter().flat_map(|file| file.groups).collect())
}

/// Every rule of every file.
pub(crate) fn all() -> Result<Vec<Rule>> {
    Ok(groups()?.into_iter().flat_map(|group| group.rules).collect())
}
