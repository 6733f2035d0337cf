//! Variants of committed configuration for the overlays of docker-compose.yml: one source, so that a job or a data source is
//! written once.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use testkit::servers::workspace_root;

const PROMETHEUS: &str = "monitoring/prometheus/prometheus.yml";
const DATASOURCES: &str = "monitoring/grafana/provisioning/datasources/autodealgenie.yml";
const REMOTE_WRITE: &str = "docker/remote-storage/remote-write.yml";

/// Jobs that docker/tls.yml leaves as they are: the backend's users would need the password, and Grafana has its own.
const OWN_USERS: [(&str, &str); 2] = [("autodealgenie-backend", "http"), ("grafana", "https")];

fn read(path: &str) -> Result<Value> {
    let path = workspace_root()?.join(path);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

fn add(to: &mut Value, settings: Value) {
    if let (Some(to), Value::Object(settings)) = (to.as_object_mut(), settings) {
        to.extend(settings);
    }
}

/// Who scrapes, and whom: by TLS, with a certificate and a password.
pub(crate) fn prometheus_with_tls() -> Result<Value> {
    Ok(with_tls(read(PROMETHEUS)?))
}

/// Sends every sample on to a store.
pub(crate) fn prometheus_with_remote_write() -> Result<Value> {
    let mut config = read(PROMETHEUS)?;
    add(&mut config, read(REMOTE_WRITE)?);
    Ok(config)
}

pub(crate) fn prometheus_with_both() -> Result<Value> {
    Ok(with_tls(prometheus_with_remote_write()?))
}

fn with_tls(mut config: Value) -> Value {
    let tls = json!({
        "ca_file": "/etc/tls/ca.crt",
        "cert_file": "/etc/tls/client.crt",
        "key_file": "/etc/tls/client.key",
    });
    let login = json!({"username": "monitoring", "password_file": "/run/secrets/web_password"});
    let secured = json!({"scheme": "https", "tls_config": tls, "basic_auth": login});
    for job in config["scrape_configs"].as_array_mut().into_iter().flatten() {
        let settings = match OWN_USERS.iter().find(|(name, _)| job["job_name"] == *name) {
            Some((_, "https")) => json!({"scheme": "https", "tls_config": {"ca_file": "/etc/tls/ca.crt"}}),
            Some(_) => Value::Object(Map::new()),
            None => secured.clone(),
        };
        add(job, settings);
    }
    for alertmanager in config["alerting"]["alertmanagers"].as_array_mut().into_iter().flatten() {
        add(alertmanager, secured.clone());
    }
    config
}

/// Grafana's way to both, likewise.
pub(crate) fn datasources_with_tls() -> Result<Value> {
    let mut config = read(DATASOURCES)?;
    for source in config["datasources"].as_array_mut().into_iter().flatten() {
        add(&mut source["jsonData"], json!({"tlsAuthWithCACert": true}));
        let secrets = json!({
            "basicAuthPassword": "$__file{/run/secrets/web_password}",
            "tlsCACert": "$__file{/etc/tls/ca.crt}",
        });
        add(source, json!({"basicAuth": true, "basicAuthUser": "monitoring", "secureJsonData": secrets}));
    }
    Ok(config)
}
