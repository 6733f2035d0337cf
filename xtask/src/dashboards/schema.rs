//! `cargo xtask dashboard-schema`: JSON schemas of dashboards and panels from the types that Grafana publishes on npm. They are in the
//! repository, since they change with Grafana only: a new version is one line here and this command.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
#[cfg(test)]
use serde_json::Value;
use testkit::servers::{private_dir, workspace_root};

/// The schemas: of a dashboard, and of each kind of panel its options and its own settings of fields.
#[cfg(test)]
pub(crate) const SCHEMAS: &str = include_str!("schema.json");

/// What makes them, exactly.
const PACKAGES: &[&str] = &["@grafana/schema@13.2.3", "ts-json-schema-generator@2.4.0", "typescript@5.9.3"];

pub(crate) fn run() -> Result<()> {
    let folder = private_dir("dashboard-schema")?;
    let sources = workspace_root()?.join("xtask/src/dashboards");
    fs::copy(sources.join("schema.mjs"), folder.join("schema.mjs")).context("copying schema.mjs")?;
    npm_install(&folder, PACKAGES)?;
    let mut node = Command::new("node");
    let output = node.arg("schema.mjs").current_dir(&folder).stderr(Stdio::inherit()).output();
    let output = output.context("running node")?;
    ensure!(output.status.success(), "making the schemas ended with {}", output.status);
    let file = sources.join("schema.json");
    fs::write(&file, output.stdout).with_context(|| format!("writing {}", file.display()))
}

/// What packages depend on is not newer than this: the same every time.
const BEFORE: &str = "2026-11-20";

/// Installs packages from npm into a folder, and no script of theirs runs.
pub(crate) fn npm_install(folder: &Path, packages: &[&str]) -> Result<()> {
    let manifest = folder.join("package.json");
    fs::write(&manifest, "{\"private\": true, \"type\": \"module\"}\n")
        .with_context(|| format!("writing {}", manifest.display()))?;
    let status = Command::new("npm")
        .args([
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--save-exact",
            "--before",
            BEFORE,
        ])
        .args(packages)
        .current_dir(folder)
        .status()
        .context("running npm")?;
    ensure!(status.success(), "npm install {} ended with {status}", packages.join(" "));
    Ok(())
}

/// Where a value is not as a JSON schema wants it. Knows the words that the generated schemas have, and finds fault with any other:
/// a validator of the whole language would bring thirty crates and have the workspace built again.
#[cfg(test)]
pub(crate) fn findings(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let words = match schema {
        Value::Bool(true) => return Vec::new(),
        Value::Object(words) => words,
        _ => return vec![format!("{path}: nothing is allowed here")],
    };
    let inside = |key: &dyn std::fmt::Display| format!("{path}/{key}");
    let wrong = |what: String| vec![format!("{path}: {value} {what}")];
    let mut found = Vec::new();
    for (word, wanted) in words {
        found.extend(match word.as_str() {
            "type" if !has_type(wanted, value) => wrong(format!("is no {wanted}")),
            "const" if wanted != value => wrong(format!("is not {wanted}")),
            "enum" if !list(wanted).contains(value) => wrong(format!("is none of {wanted}")),
            "type" | "const" | "enum" | "$schema" | "definitions" | "properties" => Vec::new(),
            "anyOf" => {
                // Of several kinds the one that fits best tells what is wrong.
                let each = list(wanted).iter().map(|one| findings(one, value, path));
                each.min_by_key(Vec::len).unwrap_or_default()
            }
            "items" => {
                let items = list(value).iter().enumerate();
                items.flat_map(|(index, item)| findings(wanted, item, &inside(&index))).collect()
            }
            "additionalProperties" => {
                let known = &schema["properties"];
                let members = value.as_object().into_iter().flatten();
                members
                    .flat_map(|(key, member)| {
                        findings(known.get(key).unwrap_or(wanted), member, &inside(key))
                    })
                    .collect()
            }
            other => vec![format!("{path}: the schema says {other}, which is not understood")],
        });
    }
    found
}

#[cfg(test)]
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
fn has_type(kind: &Value, value: &Value) -> bool {
    let is = |kind: &Value| match kind.as_str() {
        Some("string") => value.is_string(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some("null") => value.is_null(),
        _ => false,
    };
    kind.as_array().map_or_else(|| is(kind), |kinds| kinds.iter().any(is))
}
