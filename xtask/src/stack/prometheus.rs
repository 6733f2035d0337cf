//! Prometheus' configuration for the stack, and what it says about its targets.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use testkit::{http, servers::workspace_root};

use super::{copy, drill::Drill};
use crate::rules;

/// Copies `monitoring/prometheus` into `folder` with target files of this stack: pairs of job and address.
/// In a drill every duration is shortened. Gives the path of the configuration.
pub(crate) fn configure(
    folder: &Path,
    targets: &[(String, String)],
    drill: Option<&Drill>,
) -> Result<PathBuf> {
    let source = workspace_root()?.join("monitoring/prometheus");
    copy(&source, folder)?;
    let files = folder.join("targets");
    fs::remove_dir_all(&files).with_context(|| format!("removing {}", files.display()))?;
    fs::create_dir(&files).with_context(|| format!("creating {}", files.display()))?;
    for (job, address) in targets {
        write_targets(&files, job, &[address])?;
    }
    let config = folder.join("prometheus.yml");
    if let Some(drill) = drill {
        for file in rules::files(&folder.join("rules"))?.iter().chain([&config]) {
            drill.hasten_file(file)?;
        }
        if let Some(extras) = &drill.extras {
            let mut text =
                fs::read_to_string(&config).with_context(|| format!("reading {}", config.display()))?;
            text += &format!("remote_write: [{{url: '{}/api/v1/write'}}]\n", extras.remote);
            fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
        }
    }
    Ok(config)
}

/// Writes the file that tells Prometheus a job's targets.
pub(crate) fn write_targets(folder: &Path, job: &str, addresses: &[&str]) -> Result<()> {
    let file = folder.join(format!("{job}.yml"));
    fs::write(&file, format!("- targets: {addresses:?}\n"))
        .with_context(|| format!("writing {}", file.display()))
}

/// What `/api/v1/{endpoint}?query=` of the Prometheus at `url` answers under `data`.
pub(crate) async fn api(url: &str, endpoint: &str, query: &str) -> Result<Value> {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    // An endpoint may have parameters of its own.
    let sign = if endpoint.contains('?') { '&' } else { '?' };
    let mut answer = http::get(&format!("{url}/api/v1/{endpoint}{sign}query={encoded}")).await?.json()?;
    if answer["status"] != "success" {
        bail!("Prometheus says to {query}: {}", answer["error"]);
    }
    Ok(answer["data"].take())
}

/// A target as Prometheus sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) job: String,
    /// `up`, `down` or `unknown`.
    pub(crate) health: String,
    /// Why it is down.
    pub(crate) last_error: String,
}

/// Every active target of the Prometheus at `url`.
pub(crate) async fn targets(url: &str) -> Result<Vec<Target>> {
    let answer = http::get(&format!("{url}/api/v1/targets?state=active")).await?;
    if !answer.status.is_success() {
        bail!("Prometheus says {}: {}", answer.status, answer.text);
    }
    parse(&answer.text)
}

fn parse(text: &str) -> Result<Vec<Target>> {
    #[derive(Deserialize)]
    struct Answer {
        data: Data,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Data {
        active_targets: Vec<Active>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Active {
        labels: Labels,
        health: String,
        #[serde(default)]
        last_error: String,
    }
    #[derive(Deserialize)]
    struct Labels {
        job: String,
    }
    let answer: Answer = serde_json::from_str(text).context("reading Prometheus' targets")?;
    let targets = answer.data.active_targets.into_iter();
    Ok(targets
        .map(|target| Target { job: target.labels.job, health: target.health, last_error: target.last_error })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_from_the_api() {
        let text = r#"{"status":"success","data":{"activeTargets":[{"discoveredLabels":{},
            "labels":{"instance":"127.0.0.1:9121","job":"redis"},"scrapeUrl":"http://127.0.0.1:9121/metrics",
            "lastError":"connection refused","health":"down"}],"droppedTargets":[]}}"#;
        let target = Target {
            job: "redis".to_owned(),
            health: "down".to_owned(),
            last_error: "connection refused".to_owned(),
        };
        assert_eq!(parse(text).unwrap(), [target]);
    }

    #[test]
    fn the_copied_configuration_has_this_stacks_targets_only() {
        let folder = tempfile::tempdir().unwrap();
        let target = ("redis".to_owned(), "127.0.0.1:1".to_owned());
        let config = configure(&folder.path().join("prometheus"), &[target], None).unwrap();
        assert!(config.exists());
        let targets = folder.path().join("prometheus/targets");
        assert_eq!(fs::read_dir(&targets).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(targets.join("redis.yml")).unwrap(), "- targets: [\"127.0.0.1:1\"]\n");
    }
}
