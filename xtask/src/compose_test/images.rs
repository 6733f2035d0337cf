//! Images for the test: the programs that were built here put into the images of the Dockerfile, and stand-ins for the
//! published images, which cannot be pulled everywhere.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use testkit::servers::workspace_root;

use super::engine::{Engine, fresh};
use crate::{cargo, progress::step};

/// The programs, as the Dockerfile's stage `build` leaves them.
const PROGRAMS: [&str; 5] =
    ["pg-exporter", "redis-exporter", "business-exporter", "autodealgenie-backend", "xtask"];

/// Debian's packages with the servers, and the tools that entry points and health checks call.
const PACKAGES: &str = "postgresql-18,redis-server,prometheus,promtool,prometheus-alertmanager,prometheus-node-exporter,\
                        busybox,ca-certificates";

/// What the packages are unpacked into an image without.
const LEFT_OUT: [&str; 7] = [
    "./usr/share/doc",
    "./usr/share/man",
    "./usr/share/locale",
    "./var/cache/apt",
    "./var/lib/apt/lists",
    "./proc/*",
    "./sys/*",
];

/// Services whose image has a stand-in, and its name.
const STAND_INS: [(&str, &str); 6] = [
    ("postgres", "postgres"),
    ("ledger", "postgres"),
    ("redis", "redis"),
    ("prometheus", "prometheus"),
    ("alertmanager", "alertmanager"),
    ("node-exporter", "node-exporter"),
];

/// Services that overlays add, likewise.
const OF_OVERLAYS: [(&str, &str, &str); 3] = [
    ("ha", "prometheus-2", "prometheus"),
    ("ha", "alertmanager-2", "alertmanager"),
    ("remote-storage", "metrics-store", "prometheus"),
];

/// Services that the Dockerfile builds.
const OURS: [&str; 6] =
    ["migrate", "backend", "pg-exporter", "redis-exporter", "business-exporter", "traffic"];

/// Makes all images but those of an earlier run, and gives the file that makes Compose use them.
pub(super) async fn prepare(engine: &Engine) -> Result<PathBuf> {
    step("build the programs", async { programs(engine.folder()) }).await?;
    if !engine.output(&["docker", "image", "inspect", "stand-in/debian"])?.status.success() {
        step("make a Debian for the stand-ins", async { debian(engine) }).await?;
    }
    step("make the stand-ins", async { stand_ins(engine) }).await?;
    let path = engine.folder().join("stand-ins.yml");
    // JSON is YAML.
    fs::write(&path, overlay(engine.folder()).to_string())
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Puts the programs where the images are built from, without what debuggers need.
fn programs(folder: &Path) -> Result<()> {
    let built = cargo::build_static(&["--workspace"], &PROGRAMS)?;
    let folder = fresh(folder, "build/programs")?;
    for (name, program) in PROGRAMS.iter().zip(built) {
        let target = folder.join(name);
        let mut strip = std::process::Command::new("strip");
        super::engine::run(strip.arg("-o").arg(&target).arg(&program))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("making {} executable", target.display()))?;
    }
    Ok(())
}

fn debian(engine: &Engine) -> Result<()> {
    let root = fresh(engine.folder(), "debian")?;
    let root_path = root.display().to_string();
    let include = format!("--include={PACKAGES}");
    let words = ["debootstrap", "--variant=minbase", &include, "sid", &root_path];
    super::engine::run(&mut engine.outside(&words))?;
    let excludes = LEFT_OUT.map(|path| format!("--exclude={path}")).join(" ");
    let import =
        format!("tar -C {root_path} {excludes} -c . | docker import --message stand-in - stand-in/debian");
    engine.run(&["sh", "-c", &import])?;
    fs::remove_dir_all(&root).with_context(|| format!("removing {root_path}"))
}

fn stand_ins(engine: &Engine) -> Result<()> {
    let context = workspace_root()?.join("xtask/src/compose_test/stand-ins").display().to_string();
    let mut names: Vec<&str> = STAND_INS.iter().map(|(_, name)| *name).collect();
    names.dedup();
    names.push("distroless");
    for name in names {
        engine.run(&[
            "docker",
            "build",
            "--quiet",
            "--target",
            name,
            "--tag",
            &format!("stand-in/{name}"),
            &context,
        ])?;
    }
    Ok(())
}

/// What is another way than in docker-compose.yml: where images come from. Grafana is in no Debian.
fn overlay(folder: &Path) -> Value {
    let mut services: Map<String, Value> =
        STAND_INS.iter().map(|(service, name)| ((*service).to_owned(), image(name))).collect();
    for service in OURS {
        let contexts = json!({"build": folder.join("build")});
        let build = json!({"additional_contexts": contexts, "args": {"BASE": "stand-in/distroless"}});
        services.insert(service.to_owned(), json!({"build": build}));
    }
    services.insert("grafana".to_owned(), json!({"profiles": ["no-stand-in"]}));
    json!({"services": services})
}

fn image(name: &str) -> Value {
    json!({"image": format!("stand-in/{name}"), "pull_policy": "never"})
}

/// The same for what an overlay adds; its file in `folder`.
pub(super) fn of_overlay(folder: &Path, overlay: &str) -> Result<PathBuf> {
    let added = OF_OVERLAYS.iter().filter(|(of, ..)| *of == overlay);
    let services: Map<String, Value> =
        added.map(|(_, service, name)| ((*service).to_owned(), image(name))).collect();
    let path = folder.join(format!("stand-ins-{overlay}.yml"));
    fs::write(&path, json!({"services": services}).to_string())
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}
