//! Alertmanager's configuration for the stack: the committed one without the receivers that have no secret here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use testkit::servers::workspace_root;

use super::{copy, drill::Drill};

#[cfg(test)]
mod tests;

/// Where the committed configuration looks for secrets.
const SECRETS: &str = "/etc/alertmanager/secrets";

/// The settings of all integrations of a kind that name a secret.
const SHARED: &[(&str, &str)] =
    &[("slack_configs", "slack_api_url_file"), ("email_configs", "smtp_auth_password_file")];

/// Copies `monitoring/alertmanager` into `folder` and leaves out what cannot notify for want of a secret, which would be a
/// failure each time; in a drill everybody tells the sink. Gives the path of the configuration.
pub(crate) fn configure(folder: &Path, drill: Option<&Drill>) -> Result<PathBuf> {
    copy(&workspace_root()?.join("monitoring/alertmanager"), folder)?;
    let path = folder.join("alertmanager.yml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut config: Value =
        serde_saphyr::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    let secrets = folder.join("secrets");
    // JSON is YAML.
    let text = if let Some(drill) = drill {
        drill.to_sink(&mut config);
        drill.hasten(&format!("{config:#}"))
    } else {
        leave_out(&mut config, &|file| secrets.join(file).exists());
        format!("{config:#}")
    };
    let text = text.replace(SECRETS, &secrets.display().to_string());
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Removes every integration that needs a secret which is not there.
fn leave_out(config: &mut Value, there: &dyn Fn(&str) -> bool) {
    let shared: Map<String, Value> = config["global"].as_object().cloned().unwrap_or_default();
    let has_secrets = |value: &Value| secrets_in(value).all(there);
    for receiver in config["receivers"].as_array_mut().into_iter().flatten() {
        for (kind, integrations) in receiver.as_object_mut().into_iter().flatten() {
            let global = SHARED.iter().find(|(name, _)| name == kind).and_then(|(_, key)| shared.get(*key));
            if let Some(integrations) = integrations.as_array_mut() {
                integrations.retain(|integration| has_secrets(integration) && global.is_none_or(has_secrets));
            }
        }
    }
}

/// Names of the secrets that a setting, or an integration with its settings, names.
fn secrets_in(value: &Value) -> Box<dyn Iterator<Item = &str> + '_> {
    match value {
        Value::String(text) => {
            Box::new(text.strip_prefix(SECRETS).map(|file| file.trim_start_matches('/')).into_iter())
        }
        Value::Object(settings) => Box::new(settings.values().flat_map(secrets_in)),
        _ => Box::new(std::iter::empty()),
    }
}
