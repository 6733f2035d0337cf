//! docker-compose.yml and its overlays as Compose understands them: every service is hardened, no secret stands in them, every
//! port is open to this machine only, and what they mount exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::servers::{self, workspace_root};

/// Overlays, alone and together where they can be.
const STACKS: &[&[&str]] = &[
    &[],
    &["tls"],
    &["tls", "oidc"],
    &["ha"],
    &["tls", "ha", "tls-ha"],
    &["remote-storage"],
    &["tls", "remote-storage", "tls-remote-storage"],
    &["thanos"],
];

/// Ends by itself, or serves nothing.
const NO_HEALTHCHECK: [&str; 3] = ["ledger", "migrate", "traffic"];

/// Files that users get from others.
const NOT_MADE: [&str; 2] = ["oidc_client_secret", "thanos_bucket.yml"];

/// What `docker compose config` makes of the files.
async fn rendered(overlays: &[&str]) -> Result<Value> {
    let compose = servers::get("compose").await?;
    let mut command = Command::new(compose.binary("docker-compose"));
    command.current_dir(workspace_root()?).args(["--profile", "*", "--file", "docker-compose.yml"]);
    for overlay in overlays {
        command.args(["--file", &format!("docker/{overlay}.yml")]);
    }
    // As a user who set nothing.
    command.env_clear();
    if overlays.contains(&"oidc") {
        command.envs([("OIDC_URL", "https://login.example"), ("OIDC_CLIENT_ID", "grafana")]);
    }
    command.args(["config", "--format", "json"]);
    let output = command.output().context("running docker-compose")?;
    ensure!(output.status.success(), "{overlays:?}: {}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.is_empty(), "{overlays:?}: {said}");
    serde_json::from_slice(&output.stdout).context("what docker-compose prints is not JSON")
}

fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().flat_map(strings).collect(),
        Value::Object(map) => map.values().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

fn list<'a>(service: &'a Value, key: &str) -> &'a [Value] {
    service[key].as_array().map_or(&[], Vec::as_slice)
}

fn services(project: &Value) -> impl Iterator<Item = (&String, &Value)> {
    project["services"].as_object().into_iter().flatten()
}

#[tokio::test]
async fn every_service_is_hardened() -> Result<()> {
    for stack in STACKS {
        let project = rendered(stack).await?;
        assert!(services(&project).count() >= 13, "{stack:?}");
        for (name, service) in services(&project) {
            let context = format!("{name} of {stack:?}: {service:#}");
            assert_eq!(service["read_only"], true, "{context}");
            assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{context}");
            assert_eq!(service["security_opt"], serde_json::json!(["no-new-privileges:true"]), "{context}");
            for key in ["cap_add", "privileged", "network_mode", "pid", "ipc", "devices", "userns_mode"] {
                assert!(service.get(key).is_none(), "{key}: {context}");
            }
            let user = service["user"].as_str().context(context.clone())?;
            let uid: u32 = user.split(':').next().context("a user")?.parse().context(context.clone())?;
            assert_ne!(uid, 0, "{context}");
            for limit in ["cpus", "memory", "pids"] {
                assert!(service["deploy"]["resources"]["limits"].get(limit).is_some(), "{limit}: {context}");
            }
            for option in ["max-size", "max-file"] {
                assert!(service["logging"]["options"][option].is_string(), "{option}: {context}");
            }
            assert!(service["restart"].is_string(), "{context}");
            for volume in list(service, "volumes") {
                let source = volume["source"].as_str().unwrap_or_default();
                assert!(!source.contains("docker.sock"), "{context}");
                assert!(volume["type"] == "volume" || volume["read_only"] == true, "{context}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn who_serves_has_a_health_check_and_who_depends_waits_for_it() -> Result<()> {
    for stack in STACKS {
        let project = rendered(stack).await?;
        let mut without = BTreeSet::new();
        for (name, service) in services(&project) {
            let check = &service["healthcheck"];
            if check["disable"] == true || check.get("test").is_none() {
                without.insert(name.as_str());
            }
            for (on, how) in service["depends_on"].as_object().into_iter().flatten() {
                let wanted = match on.as_str() {
                    "migrate" | "ledger" => "service_completed_successfully",
                    _ => "service_healthy",
                };
                assert_eq!(how["condition"], wanted, "{name} waits for {on}");
            }
        }
        assert_eq!(without, BTreeSet::from(NO_HEALTHCHECK), "{stack:?}");
    }
    Ok(())
}

#[tokio::test]
async fn ports_are_the_promised_ones_and_open_to_this_machine_only() -> Result<()> {
    let project = rendered(&[]).await?;
    let mut ports = BTreeMap::new();
    for (name, service) in services(&project) {
        for port in list(service, "ports") {
            assert_eq!(port["host_ip"], "127.0.0.1", "{name}");
            ports.insert(name.as_str(), port["published"].as_str().context("a port")?.to_owned());
        }
    }
    let promised = [
        ("alertmanager", "9093"),
        ("backend", "8000"),
        ("business-exporter", "9188"),
        ("grafana", "3001"),
        ("pg-exporter", "9187"),
        ("prometheus", "9090"),
        ("redis-exporter", "9121"),
    ];
    assert_eq!(ports, promised.map(|(name, port)| (name, port.to_owned())).into());
    for stack in STACKS {
        let project = rendered(stack).await?;
        for (name, service) in services(&project) {
            for port in list(service, "ports") {
                assert_eq!(port["host_ip"], "127.0.0.1", "{name} of {stack:?}");
            }
            // A network without a way out publishes nothing, and who publishes nothing needs no way out.
            let outside: Vec<&String> = service["networks"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(network, _)| network)
                .filter(|network| project["networks"][network.as_str()]["internal"] != true)
                .collect();
            assert_eq!(
                outside.is_empty(),
                list(service, "ports").is_empty(),
                "{name} of {stack:?}: {outside:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_secret_stands_in_the_configuration() -> Result<()> {
    let root = workspace_root()?;
    for stack in STACKS {
        let project = rendered(stack).await?;
        for (name, service) in services(&project) {
            for (variable, value) in service["environment"].as_object().into_iter().flatten() {
                let value = value.as_str().unwrap_or_default();
                // Passwords inside addresses are looked for below.
                let secret = ["PASS", "SECRET", "TOKEN", "KEY"].iter().any(|word| variable.contains(word));
                if secret && !variable.ends_with("_URL") {
                    let file = ["/run/secrets/", "/etc/tls/"].iter().any(|folder| value.starts_with(folder));
                    assert!(file, "{name} of {stack:?}: {variable}");
                }
            }
            for text in strings(service) {
                let user =
                    text.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map(|(user, _)| user);
                let password =
                    user.is_some_and(|user| user.contains(':') && !user.contains(['/', '[', '^', '\\']));
                assert!(!password, "{name} of {stack:?}: {text}");
            }
        }
        for (name, secret) in project["secrets"].as_object().into_iter().flatten() {
            let file = Path::new(secret["file"].as_str().context("a secret without a file")?);
            assert!(file.starts_with(root.join("secrets")), "{name}");
        }
    }
    let ignored = std::fs::read_to_string(root.join(".gitignore"))?;
    assert!(ignored.lines().any(|line| line == "/secrets"), "git does not ignore the secrets");
    Ok(())
}

/// The files of secrets that `cargo xtask secrets` makes.
fn made() -> Result<BTreeSet<String>> {
    let folder = tempfile::tempdir()?;
    let output =
        Command::new(env!("CARGO_BIN_EXE_xtask")).args(["secrets", "--dir"]).arg(folder.path()).output()?;
    ensure!(output.status.success(), "{output:?}");
    let entries = std::fs::read_dir(folder.path())?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

#[tokio::test]
async fn everything_that_is_mounted_exists() -> Result<()> {
    let (made, root) = (made()?, workspace_root()?);
    for stack in STACKS {
        let project = rendered(stack).await?;
        for (name, service) in services(&project) {
            for volume in list(service, "volumes").iter().filter(|volume| volume["type"] == "bind") {
                let source = Path::new(volume["source"].as_str().context("a mount")?);
                // Made by docker/tls/certificates.sh.
                let exists = source.exists() || source == root.join("secrets/tls");
                assert!(exists, "{name} of {stack:?} mounts {}", source.display());
            }
            for secret in list(service, "secrets") {
                let secret = secret["source"].as_str().context("a secret")?;
                assert!(project["secrets"].get(secret).is_some(), "{name} of {stack:?}: {secret}");
            }
        }
        for (name, secret) in project["secrets"].as_object().into_iter().flatten() {
            let file = Path::new(secret["file"].as_str().context("a secret without a file")?);
            let file = file.file_name().and_then(|name| name.to_str()).context("a name")?;
            assert!(
                made.contains(file) || NOT_MADE.contains(&file),
                "{name} of {stack:?}: nothing makes {file}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn versions_are_pinned() -> Result<()> {
    // Nobody whom we trust told the digest of its index.
    const NO_DIGEST: [&str; 2] = ["prom/node-exporter:", "quay.io/thanos/thanos:"];
    let version = env!("CARGO_PKG_VERSION");
    for stack in STACKS {
        for (name, service) in services(&rendered(stack).await?) {
            let image = service["image"].as_str().context("an image")?;
            if service.get("build").is_some() {
                assert!(image.ends_with(&format!(":{version}")), "{name}: {image}");
                continue;
            }
            let (tag, digest) = image.split_once("@sha256:").unwrap_or((image, ""));
            let (_, tag) = tag.split_once(':').context(format!("{name} has no tag: {image}"))?;
            assert!(tag.contains('.') && tag != "latest", "{name}: {image}");
            let pinned = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(pinned || NO_DIGEST.iter().any(|known| image.starts_with(known)), "{name}: {image}");
        }
    }
    let dockerfile = std::fs::read_to_string(workspace_root()?.join("Dockerfile"))?;
    assert!(dockerfile.contains(&format!("ARG VERSION={version}\n")));
    Ok(())
}

#[tokio::test]
async fn prometheus_finds_every_job_among_the_services() -> Result<()> {
    let root = workspace_root()?;
    let config: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(root.join("monitoring/prometheus/prometheus.yml"))?)?;
    let project = rendered(&[]).await?;
    for job in list(&config, "scrape_configs") {
        let job = job["job_name"].as_str().context("a job")?;
        let file = root.join(format!("docker/prometheus/targets/{job}.yml"));
        let groups: Value = serde_saphyr::from_str(&std::fs::read_to_string(&file)?)?;
        let targets = strings(&groups);
        assert!(!targets.is_empty(), "{job}");
        for target in targets {
            let (host, _) = target.split_once(':').context(format!("{job}: {target}"))?;
            assert!(project["services"].get(host).is_some(), "{job}: no service {host}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn promtool_takes_every_configuration() -> Result<()> {
    let (root, folder) = (workspace_root()?, tempfile::tempdir()?);
    let promtool = servers::get("monitoring").await?.binary("promtool");
    let read = |path: &str| -> Result<Value> {
        let text = std::fs::read_to_string(root.join(path)).with_context(|| format!("reading {path}"))?;
        serde_saphyr::from_str(&text).with_context(|| format!("reading {path}"))
    };
    let base = read("monitoring/prometheus/prometheus.yml")?;
    let mut configs: BTreeMap<&str, Value> = BTreeMap::new();
    for name in [
        "tls/prometheus.yml",
        "remote-storage/prometheus.yml",
        "remote-storage/prometheus-tls.yml",
        "remote-storage/store.yml",
    ] {
        configs.insert(name, read(&format!("docker/{name}"))?);
    }
    for name in ["remote-storage/mimir.yml", "remote-storage/thanos-receive.yml"] {
        let mut config = base.clone();
        config["remote_write"] = read(&format!("docker/{name}"))?["remote_write"].take();
        assert_eq!(config["remote_write"].as_array().map(Vec::len), Some(1), "{name}");
        configs.insert(name, config);
    }
    for (name, config) in configs {
        // The files that it names are in containers.
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config.to_string())?;
        let output =
            Command::new(&promtool).args(["check", "config", "--syntax-only"]).arg(&file).output()?;
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
