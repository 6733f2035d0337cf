//! What docker-compose.yml promises, one check a function, in the order in which they run.

use std::{fs, process::Output};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{Project, engine};
use crate::progress::step;

pub(super) async fn run(project: &Project) -> Result<()> {
    step("everything becomes healthy", async {
        project.compose(&["build", "--quiet"])?;
        project.up(&[])
    })
    .await?;
    step("the smoke test passes, without Grafana: Debian has none", smoke(project)).await?;
    step("a sign-up through the published port is in Prometheus", signup(project)).await?;
    step("demo traffic makes deals", demo(project)).await?;
    step("no container can write, gain rights or be root", async { hardened(project) }).await?;
    step("every role has its rights and no more", async { roles(project) }).await?;
    step("no secret is in an image, a setting or a log", async { secrets(project) }).await?;
    step("stop and start keep the data", restart(project)).await?;
    step("down -v leaves nothing", async { gone(project) }).await
}

/// Waits for what needs a second scrape, or a first evaluation.
pub(super) async fn settled(project: &Project) -> Result<()> {
    project.wait_for("count(up == 1)", |up| up >= 7.0).await?;
    project.wait_for(r#"ALERTS{alertname="Watchdog",alertstate="firing"}"#, |fires| fires == 1.0).await?;
    project.wait_for(r#"min(alertmanager_alerts{state="active"})"#, |alerts| alerts >= 1.0).await?;
    project.wait_for("instance:pg_connections:ratio", |ratio| ratio < 1.0).await?;
    let missed = "sum(increase(prometheus_rule_group_iterations_missed_total[5m]))";
    project.wait_for(missed, |missed| missed == 0.0).await.map(drop)
}

async fn smoke(project: &Project) -> Result<()> {
    settled(project).await?;
    let script = project.file("monitoring/test-monitoring.sh");
    let mut command = project.engine.command(&[&script.display().to_string()])?;
    engine::run(command.env("GRAFANA_URL", "")).map(drop)
}

/// Signs a user up through the port that is open to this machine; the status of the answer.
pub(super) fn sign_up(project: &Project, name: &str) -> Result<String> {
    let body = serde_json::json!({
        "email": format!("{name}@example.com"), "username": name, "password": "correct horse battery",
    });
    project.engine.run(&[
        "curl",
        "--silent",
        "--show-error",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
        "--header",
        "Content-Type: application/json",
        "--data",
        &body.to_string(),
        "http://127.0.0.1:8000/api/v1/auth/signup",
    ])
}

async fn signup(project: &Project) -> Result<()> {
    let counted = r#"sum(autodealgenie_user_signups_total{job="autodealgenie-backend"})"#;
    let ledger = r#"sum(autodealgenie_user_signups_total{job="business"})"#;
    let (before, told) = (project.value(counted)?.unwrap_or(0.0), project.value(ledger)?.unwrap_or(0.0));
    let status = sign_up(project, "ann")?;
    ensure!(status == "201", "the sign-up was answered {status}");
    project.wait_for(counted, |now| now == before + 1.0).await?;
    // The other way round: by the trigger in the database.
    project.wait_for(ledger, |now| now == told + 1.0).await.map(drop)
}

async fn demo(project: &Project) -> Result<()> {
    project.compose(&["--profile", "demo", "up", "--detach", "--wait", "traffic"])?;
    let deals = r#"sum(autodealgenie_deals_created_total{job="autodealgenie-backend"})"#;
    project.wait_for(deals, |deals| deals > 0.0).await?;
    project.compose(&["--profile", "demo", "stop", "traffic"]).map(drop)
}

/// Lines `Name:\tvalue` of /proc/1/status.
fn status<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
}

fn hardened(project: &Project) -> Result<()> {
    let running = project.compose(&["ps", "--services", "--status", "running"])?;
    let services: Vec<&str> = running.split_whitespace().collect();
    ensure!(services.len() == 9, "9 services run: {running}");
    for service in services {
        let status_of = project.exec(service, &["cat", "/proc/1/status"])?;
        let text = String::from_utf8_lossy(&status_of.stdout);
        for (name, wanted) in [
            ("CapEff", "0000000000000000"),
            ("CapPrm", "0000000000000000"),
            ("CapBnd", "0000000000000000"),
            ("NoNewPrivs", "1"),
            // A filter of system calls.
            ("Seccomp", "2"),
        ] {
            let found = status(&text, name);
            ensure!(found == wanted, "{service} runs with {name} {found:?}");
        }
        let uids: Vec<&str> = status(&text, "Uid").split_whitespace().collect();
        ensure!(uids.len() == 4 && !uids.contains(&"0"), "{service} runs as {uids:?}");
        for path in ["/written", "/etc/written", "/usr/bin/written"] {
            let written = project.exec(service, &["sh", "-c", &format!("echo > {path}")])?;
            let said = String::from_utf8_lossy(&written.stderr);
            ensure!(
                !written.status.success() && said.contains("Read-only file system"),
                "{service} writes {path}: {said}"
            );
        }
    }
    Ok(())
}

fn refused(what: &str, output: &Output, words: &str) -> Result<()> {
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(said.contains(words), "{what} is not refused: {said}");
    Ok(())
}

fn roles(project: &Project) -> Result<()> {
    let password = "SELECT hashed_password FROM users";
    for (role, statement) in [
        ("monitor", password),
        ("monitor", "SELECT * FROM deals"),
        ("monitor", "SELECT rolpassword FROM pg_authid"),
        ("monitor", "DELETE FROM deals"),
        ("monitor", "CREATE TABLE t ()"),
        ("business", password),
        ("business", "SELECT email FROM users"),
        ("business", "SELECT * FROM users"),
        ("business", "SELECT token_hash FROM password_resets"),
        ("business", "SELECT secret_token FROM webhook_subscriptions"),
        ("business", "INSERT INTO favorites DEFAULT VALUES"),
        ("business", "UPDATE deals SET status = 'completed'"),
        ("business", "DELETE FROM users"),
        ("business", "CREATE TABLE t ()"),
        ("business", "SELECT rolpassword FROM pg_authid"),
        ("backend", "CREATE TABLE t ()"),
        ("backend", "TRUNCATE users"),
        ("backend", "DELETE FROM schema_migrations"),
        ("backend", "SELECT rolpassword FROM pg_authid"),
    ] {
        let what = format!("{role}: {statement}");
        refused(&what, &project.psql(role, statement)?, "permission denied")?;
    }
    refused("backend: DROP TABLE users", &project.psql("backend", "DROP TABLE users")?, "must be owner")?;
    for (role, statement) in
        [("monitor", "SELECT count(*) FROM pg_stat_statements"), ("business", "SELECT count(id) FROM users")]
    {
        let output = project.psql(role, statement)?;
        ensure!(output.status.success(), "{role}: {statement}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let failing = project.query(r#"business_exporter_query_outcome{outcome!="ok"} == 1"#)?;
    ensure!(failing.is_empty(), "queries of the business exporter fail: {failing:?}");

    let passwords: Value = serde_json::from_str(&project.secret("redis_exporter.json")?)
        .context("reading redis_exporter.json")?;
    let password =
        passwords.as_object().and_then(|map| map.values().next()?.as_str()).context("no password")?;
    let redis = |user: &[&str], password: &str, command: &[&str]| {
        let variable = format!("REDISCLI_AUTH={password}");
        project
            .exec("redis", &[&["env", &variable, "redis-cli", "--no-auth-warning"], user, command].concat())
    };
    for command in [&["SET", "a", "b"][..], &["GET", "a"], &["FLUSHALL"], &["KEYS", "*"], &["ACL", "LIST"]] {
        let what = format!("exporter: {}", command.join(" "));
        refused(&what, &redis(&["--user", "exporter"], password, command)?, "NOPERM")?;
        refused(&what, &redis(&["--user", "health"], "any", command)?, "NOPERM")?;
    }
    refused("a stranger's PING", &project.exec("redis", &["redis-cli", "PING"])?, "NOAUTH")?;
    refused("a wrong password", &redis(&["--user", "exporter"], "wrong", &["PING"])?, "WRONGPASS")
}

/// The random parts of all secrets.
fn random_parts(project: &Project) -> Result<Vec<String>> {
    let mut parts = Vec::new();
    let entries = fs::read_dir(&project.secrets).context("reading the secrets")?.flatten();
    for file in entries.map(|entry| entry.path()).filter(|path| path.is_file()) {
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let words = text.split(|c: char| !c.is_ascii_hexdigit());
        parts.extend(words.filter(|word| word.len() >= 32).map(str::to_owned));
    }
    ensure!(parts.len() >= 11, "there are 11 secrets: {}", parts.len());
    Ok(parts)
}

fn secrets(project: &Project) -> Result<()> {
    let parts = random_parts(project)?;
    let containers = project.containers()?;
    let ids: Vec<&str> = containers.iter().map(String::as_str).collect();
    let images = project.compose(&["--profile", "*", "config", "--images"])?;
    let mut images: Vec<&str> =
        images.split_whitespace().filter(|image| !image.contains("grafana/")).collect();
    images.sort_unstable();
    images.dedup();
    let inspected = project.engine.run(&[&["docker", "inspect"], &ids[..]].concat())?;
    ensure!(inspected.contains("/run/secrets/"), "no secret is mounted");
    let history = images.iter().map(|image| project.engine.run(&["docker", "history", "--no-trunc", image]));
    let history = history.collect::<Result<Vec<_>>>()?.concat();
    let processes = ids.iter().map(|id| project.engine.output(&["docker", "top", id, "-ef"]));
    let processes: String = processes
        .collect::<Result<Vec<_>>>()?
        .iter()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .collect();
    ensure!(processes.contains("/pg-exporter"), "no process is shown: {processes}");
    let logs = project.compose(&["logs", "--no-color"])?;
    for (what, text) in [
        ("docker inspect", &inspected),
        ("docker history", &history),
        ("the processes", &processes),
        ("the logs", &logs),
    ] {
        ensure!(!parts.iter().any(|part| text.contains(part)), "a secret is in {what}");
    }
    // The files of the images, through a pipe: they are large.
    let patterns = project.engine.folder().join("patterns");
    fs::write(&patterns, parts.join("\n")).context("writing the patterns")?;
    let find = format!(
        "set -o pipefail; docker save {} | grep --text --count --fixed-strings --file={}",
        images.join(" "),
        patterns.display()
    );
    let found = project.engine.output(&["bash", "-c", &find])?;
    fs::remove_file(&patterns).context("removing the patterns")?;
    let count = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    // grep ends with 1 when it finds nothing, with 2 when it cannot look.
    ensure!(
        count == "0" && found.status.code() == Some(1),
        "a secret is in the files of an image: {count}; {}",
        String::from_utf8_lossy(&found.stderr)
    );
    Ok(())
}

async fn restart(project: &Project) -> Result<()> {
    let users = project.sql("SELECT count(*) FROM users")?;
    let key = project.sql("SELECT epoch FROM business_exporter.ledger")?;
    let sample = project.query("prometheus_build_info")?;
    let at = sample.first().and_then(|sample| sample["value"][0].as_f64()).context("no sample")?;
    project.compose(&["stop"])?;
    project.up(&[])?;
    let now = project.sql("SELECT count(*) FROM users")?;
    ensure!(now == users && users != "0", "{users} users before, {now} after");
    ensure!(project.sql("SELECT epoch FROM business_exporter.ledger")? == key, "the ledger began again");
    let old = project.value(&format!("count(prometheus_build_info @ {at})"))?;
    ensure!(old == Some(1.0), "Prometheus lost the sample of {at}");
    let status = sign_up(project, "bob")?;
    ensure!(status == "201", "the sign-up after the start was answered {status}");
    Ok(())
}

fn gone(project: &Project) -> Result<()> {
    project.down()?;
    let label = "label=com.docker.compose.project=autodealgenie";
    for words in [
        ["docker", "ps", "--all", "--quiet", "--filter", label].as_slice(),
        &["docker", "volume", "ls", "--quiet", "--filter", label],
        &["docker", "network", "ls", "--quiet", "--filter", label],
        // Also what has no name.
        &["docker", "volume", "ls", "--quiet"],
    ] {
        let left = project.engine.run(words)?;
        if !left.trim().is_empty() {
            bail!("{} shows {left}", words.join(" "));
        }
    }
    Ok(())
}
