//! The overlays of docker-compose.yml, each on the running stack: TLS and users, backup and restore, a second of each, a store.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    LIMIT, Project,
    checks::{settled, sign_up},
    engine,
};
use crate::progress::step;

/// What is behind docker/tls.yml and has a port.
const SECURED: [(u16, &str); 5] =
    [(9090, "/-/ready"), (9093, "/-/ready"), (9187, "/metrics"), (9121, "/metrics"), (9188, "/metrics")];

pub(super) async fn run(project: &mut Project) -> Result<()> {
    project.overlay("tls")?;
    certificates(project)?;
    curl_config(project)?;
    step("docker/tls.yml: everything becomes healthy", async { project.up(&[]) }).await?;
    step("docker/tls.yml: the smoke test passes, without Grafana", smoke(project)).await?;
    step("docker/tls.yml: who lacks TLS, password or certificate is refused", async { refused(project) })
        .await?;
    step("docker/tls.yml: certificates are rotated without a restart", rotated(project)).await?;
    step("backup, destroy, restore: the same rows and samples", restored(project)).await?;
    project.down()?;

    project.overlay("ha")?;
    project.overlay("tls-ha")?;
    step("docker/tls-ha.yml: two of each tell one alert, and one is enough", ha(project)).await?;
    project.down()?;

    project.without_overlays();
    project.overlay("ha")?;
    step("docker/ha.yml: likewise without TLS", ha(project)).await?;
    project.down()?;

    project.without_overlays();
    project.overlay("remote-storage")?;
    step("docker/remote-storage.yml: the store has what Prometheus has", stored(project)).await
}

/// Makes certificates, or new ones.
fn certificates(project: &Project) -> Result<()> {
    let script = project.file("docker/tls/certificates.sh").display().to_string();
    project.engine.run(&[&script, &project.secrets.display().to_string()]).map(drop)
}

/// A home whose curl trusts the authority and has the password.
fn home(project: &Project) -> PathBuf {
    project.engine.folder().join("home")
}

fn curl_config(project: &mut Project) -> Result<()> {
    let folder = engine::fresh(project.engine.folder(), "home")?;
    let authority = project.secrets.join("tls/ca.crt");
    let user = project.secret("web_password")?;
    let text = format!("user = \"monitoring:{user}\"\ncacert = \"{}\"\n", authority.display());
    let config = folder.join(".curlrc");
    fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
    project.web = ("https", vec!["--config".to_owned(), config.display().to_string()]);
    Ok(())
}

async fn smoke(project: &Project) -> Result<()> {
    // All but the backend's and Grafana's are by TLS, with the password.
    settled(project).await?;
    let script = project.file("monitoring/test-monitoring.sh");
    let mut command = project.engine.command(&[&script.display().to_string()])?;
    command.env("HOME", home(project)).env("GRAFANA_URL", "");
    for (part, port) in [
        ("PROMETHEUS", 9090),
        ("ALERTMANAGER", 9093),
        ("PG_EXPORTER", 9187),
        ("REDIS_EXPORTER", 9121),
        ("BUSINESS_EXPORTER", 9188),
    ] {
        command.env(format!("{part}_URL"), format!("https://localhost:{port}"));
    }
    engine::run(&mut command).map(drop)
}

/// The status that curl gets; 000 without an answer.
fn curl(project: &Project, words: &[&str]) -> Result<String> {
    // -q: what would be in somebody's home.
    let fixed = ["curl", "-q", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}"];
    let output = project.engine.output(&[&fixed, words].concat())?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn refused(project: &Project) -> Result<()> {
    let at = |name: &str| project.secrets.join("tls").join(name).display().to_string();
    let (ca, certificate, key) = (at("ca.crt"), at("client.crt"), at("client.key"));
    let password = format!("monitoring:{}", project.secret("web_password")?);
    let stranger = engine::fresh(project.engine.folder(), "stranger")?;
    let theirs = |name: &str| stranger.join(name).display().to_string();
    let (their_certificate, their_key) = (theirs("crt"), theirs("key"));
    project.engine.run(&[
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=prometheus",
        "-keyout",
        &their_key,
        "-out",
        &their_certificate,
    ])?;
    for (port, path) in SECURED {
        let (https, http) =
            (format!("https://localhost:{port}{path}"), format!("http://localhost:{port}{path}"));
        let trusting = ["--cacert", &ca, &https];
        for (what, words, wanted) in [
            ("without TLS", vec!["--user", &password, &http], &["000", "400"][..]),
            ("without trust", vec!["--user", &password, &https], &["000"]),
            ("without a password", trusting.to_vec(), &["401"]),
            ("with a wrong password", [&["--user", "monitoring:wrong"], &trusting[..]].concat(), &["401"]),
            (
                "with a wrong user",
                [&["--user", &password.replace("monitoring", "root")], &trusting[..]].concat(),
                &["401"],
            ),
            (
                "with a stranger's certificate",
                [&["--user", &password, "--cert", &their_certificate, "--key", &their_key], &trusting[..]]
                    .concat(),
                &["000"],
            ),
            ("with TLS 1.1", [&["--user", &password, "--tls-max", "1.1"], &trusting[..]].concat(), &["000"]),
            ("with the password", [&["--user", &password], &trusting[..]].concat(), &["200"]),
            (
                "with our certificate",
                [&["--user", &password, "--cert", &certificate, "--key", &key], &trusting[..]].concat(),
                &["200"],
            ),
        ] {
            let status = curl(project, &words)?;
            ensure!(wanted.contains(&status.as_str()), "{https} {what} is answered {status}");
        }
    }
    Ok(())
}

/// The serial numbers of the certificates that the ports show.
fn serials(project: &Project) -> Result<BTreeMap<u16, String>> {
    let show = |port: u16| {
        let pipe = format!(
            "openssl s_client -connect localhost:{port} </dev/null 2>/dev/null | openssl x509 -noout -serial"
        );
        Ok((port, project.engine.run(&["bash", "-o", "pipefail", "-c", &pipe])?))
    };
    SECURED.iter().map(|(port, _)| show(*port)).collect()
}

fn started(project: &Project) -> Result<String> {
    let containers = project.containers()?;
    let ids: Vec<&str> = containers.iter().map(String::as_str).collect();
    project.engine.run(
        &[&["docker", "inspect", "--format", "{{.Name}} {{.State.StartedAt}} {{.RestartCount}}"], &ids[..]]
            .concat(),
    )
}

async fn rotated(project: &Project) -> Result<()> {
    let (before, runs) = (serials(project)?, started(project)?);
    certificates(project)?;
    let deadline = Instant::now() + LIMIT;
    loop {
        let now = serials(project)?;
        let old: Vec<&u16> =
            before.iter().filter(|(port, old)| now.get(port) == Some(*old)).map(|(port, _)| port).collect();
        if old.is_empty() {
            break;
        }
        ensure!(Instant::now() < deadline, "{old:?} show the old certificate after {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    ensure!(started(project)? == runs, "somebody was restarted");
    // With the new certificates, Prometheus' own as a client among them.
    let since = project.value("vector(time())")?.context("no time")?;
    project.wait_for(&format!("count(timestamp(up) > {since} and up == 1)"), |up| up >= 7.0).await.map(drop)
}

/// Row counts of all tables of the backend and of the ledger.
fn rows(project: &Project) -> Result<String> {
    project.sql(
        "SELECT string_agg(format('%s.%s=%s', schemaname, tablename, (xpath('/row/n/text()', query_to_xml(
             format('SELECT count(*) AS n FROM %I.%I', schemaname, tablename), false, true, '')))[1]), ' '
             ORDER BY schemaname, tablename)
         FROM pg_tables WHERE schemaname = 'public'",
    )
}

async fn restored(project: &Project) -> Result<()> {
    for name in ["carol", "dave"] {
        let status = sign_up(project, name)?;
        ensure!(status == "201", "the sign-up of {name} was answered {status}");
    }
    let signups = r#"sum(autodealgenie_user_signups_total{job="autodealgenie-backend"})"#;
    project.wait_for(signups, |count| count == 2.0).await?;
    let at = project.value("vector(time())")?.context("no time")?;
    let last = [
        format!("timestamp(autodealgenie_user_signups_total{{job=\"autodealgenie-backend\"}} @ {at})"),
        format!("sum(autodealgenie_user_signups_total{{job=\"autodealgenie-backend\"}} @ {at})"),
        format!("count({{__name__=~\".+\"}} @ {at})"),
    ];
    let samples =
        |project: &Project| last.iter().map(|query| project.value(query)).collect::<Result<Vec<_>>>();
    let before = (rows(project)?, samples(project)?);
    ensure!(before.1.iter().all(Option::is_some), "no samples: {before:?}");

    let backups = engine::fresh(project.engine.folder(), "backups")?.display().to_string();
    let script = |name: &str, argument: &str| -> Result<String> {
        let mut command = project.engine.command(&[&project.file(name).display().to_string(), argument])?;
        let files: Vec<String> = project.files.iter().map(|file| file.display().to_string()).collect();
        engine::run(command.env("COMPOSE_FILE", files.join(":")).env("SECRETS", &project.secrets))
    };
    let said = script("docker/backup.sh", &backups)?;
    let backup = said.lines().last().context("docker/backup.sh says nothing")?;
    project.down()?;
    script("docker/restore.sh", backup)?;
    let after = (rows(project)?, samples(project)?);
    ensure!(before == after, "before {before:?}, after {after:?}");
    // And it goes on from there.
    let status = sign_up(project, "erin")?;
    ensure!(status == "201", "the sign-up after the restore was answered {status}");
    project.wait_for("count(up == 1)", |up| up >= 7.0).await?;
    let failing = project.query(r#"business_exporter_query_outcome{outcome!="ok"} == 1"#)?;
    ensure!(failing.is_empty(), "queries of the business exporter fail: {failing:?}");

    // A backup that was changed is refused.
    fs::write(format!("{backup}/postgres.dump"), "nonsense").context("spoiling the backup")?;
    match script("docker/restore.sh", backup) {
        Ok(_) => bail!("a spoilt backup was restored"),
        Err(error) => ensure!(format!("{error:#}").contains("postgres.dump"), "{error:#}"),
    }
    Ok(())
}

/// The alerts of this name that an Alertmanager has.
fn alerts(project: &Project, port: u16, name: &str) -> Result<Vec<Value>> {
    let (scheme, options) = &project.web;
    let url = format!("{scheme}://localhost:{port}/api/v2/alerts?filter=alertname%3D{name}");
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let text = project
        .engine
        .run(&[&["curl", "-q", "--silent", "--show-error", "--fail"], &options[..], &[&url]].concat())?;
    serde_json::from_str(&text).context("Alertmanager's answer")
}

async fn ha(project: &mut Project) -> Result<()> {
    project.up(&[])?;
    for port in [9090, 9091] {
        project.port = port;
        project.wait_for("count(up == 1)", |up| up >= 9.0).await?;
        project.wait_for("min(alertmanager_cluster_members)", |members| members == 2.0).await?;
        project
            .wait_for("min(prometheus_notifications_alertmanagers_discovered)", |known| known == 2.0)
            .await?;
        project.wait_for(r#"min(alertmanager_alerts{state="active"})"#, |alerts| alerts >= 1.0).await?;
    }
    for port in [9093, 9095] {
        let alerts = alerts(project, port, "Watchdog")?;
        ensure!(alerts.len() == 1, "two Prometheis tell {} alerts: {alerts:?}", alerts.len());
        ensure!(alerts[0]["labels"].get("replica").is_none(), "{alerts:?}");
    }
    project.compose(&["stop", "prometheus", "alertmanager"])?;
    project.port = 9091;
    project.wait_for(r#"up{job="prometheus",instance="prometheus:9090"}"#, |up| up == 0.0).await?;
    ensure!(alerts(project, 9095, "Watchdog")?.len() == 1, "the second Alertmanager has no Watchdog");
    let since = project.value("vector(time())")?.context("no time")?;
    let sent = r#"timestamp(prometheus_notifications_sent_total{instance="prometheus-2:9090",alertmanager=~".*alertmanager-2.*"})"#;
    project.wait_for(sent, |at| at > since).await.map(drop)
}

async fn stored(project: &mut Project) -> Result<()> {
    project.port = 9090;
    project.up(&[])?;
    project.wait_for("count(up == 1)", |up| up >= 7.0).await?;
    project.port = 9092;
    let there = r#"count(up{cluster="autodealgenie",replica="a"} == 1)"#;
    project.wait_for(there, |up| up >= 7.0).await?;
    // Away for a while: what it missed is sent again.
    project.compose(&["stop", "metrics-store"])?;
    project.port = 9090;
    let since = project.value("vector(time())")?.context("no time")?;
    let missed = format!("timestamp(up{{job=\"postgres\"}}) > {since}");
    let missed = project.wait_for(&missed, |at| at > since).await?;
    project.up(&["metrics-store"])?;
    project.port = 9092;
    let sample = format!("timestamp(up{{job=\"postgres\"}} @ {missed})");
    project.wait_for(&sample, |at| at == missed).await?;
    project.port = 9090;
    let lost = project.value("sum(prometheus_remote_storage_samples_failed_total)")?;
    ensure!(lost == Some(0.0), "samples were lost: {lost:?}");
    Ok(())
}
