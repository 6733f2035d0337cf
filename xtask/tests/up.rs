//! `cargo xtask up` as a newcomer runs it: everything is scraped, and what users do is on the pages.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use testkit::http::{Request, Response, get, post};

const JOBS: [&str; 7] =
    ["autodealgenie-backend", "postgres", "redis", "business", "node", "prometheus", "alertmanager"];

fn xtask(words: &[&str], folder: &Path) -> Result<String> {
    run(Command::new(env!("CARGO_BIN_EXE_xtask")).args(words).arg("--dir").arg(folder))
}

/// What the command says; an error when it fails.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output();
    let Output { status, stdout, stderr } = output.with_context(|| format!("running {command:?}"))?;
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    ensure!(status.success(), "{command:?} ended with {status}:\n{said}");
    Ok(said)
}

/// Ends the stack also when the test fails.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        let ended = xtask(&["down"], self.0);
        // A second panic would hide the first.
        assert!(ended.is_ok() || std::thread::panicking(), "{ended:?}");
    }
}

/// Where each part answers, by name.
fn urls(folder: &Path) -> Result<BTreeMap<String, String>> {
    let state: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("state.json"))?)?;
    let parts = state["parts"].as_array().context("no parts")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(parts.iter().map(|part| (text(&part["name"]), text(&part["url"]))).collect())
}

/// The values of a PromQL expression by the labels of its series.
async fn query(prometheus: &str, expression: &str) -> Result<Vec<(Value, f64)>> {
    let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer = get(&format!("{prometheus}/api/v1/query?query={encoded}")).await?.json()?;
    values(expression, &answer)
}

/// The values that it had `days` ago.
async fn query_back(prometheus: &str, expression: &str, days: u64) -> Result<Vec<(Value, f64)>> {
    let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() - days * 86_400;
    let answer = get(&format!("{prometheus}/api/v1/query?query={encoded}&time={time}")).await?.json()?;
    values(expression, &answer)
}

fn values(expression: &str, answer: &Value) -> Result<Vec<(Value, f64)>> {
    let series = answer["data"]["result"].as_array().with_context(|| format!("{expression}: {answer}"))?;
    let value = |one: &Value| one["value"][1].as_str().and_then(|text| text.parse().ok());
    series.iter().map(|one| Ok((one["metric"].clone(), value(one).context("no value")?))).collect()
}

async fn sum(prometheus: &str, expression: &str) -> Result<f64> {
    Ok(query(prometheus, expression).await?.iter().map(|(_, value)| value).sum())
}

async fn created(response: Response) -> Result<Value> {
    ensure!(response.status == 201, "{}: {}", response.status, response.text);
    response.json()
}

#[tokio::test]
async fn everything_is_scraped_and_deals_are_counted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path().join("stack");
    let shown = xtask(&["up", "--detach", "--no-build", "--rate", "0", "--history", "21"], &folder)?;
    let _down = Down(&folder);
    let urls = urls(&folder)?;
    for part in
        ["postgresql", "redis", "autodealgenie-backend", "pg-exporter", "redis-exporter", "business-exporter"]
    {
        assert!(urls.contains_key(part) && shown.contains(part), "{part} is missing: {shown}");
    }
    let prometheus = &urls["prometheus"];
    let up = query(prometheus, "up").await?;
    for job in JOBS {
        let found = up.iter().any(|(labels, value)| labels["job"] == job && *value == 1.0);
        assert!(found, "job {job} is not up: {up:?}");
    }
    for (job, family) in [
        ("postgres", "pg_stat_database_xact_commit"),
        ("redis", "redis_commands_processed_total"),
        ("business", "autodealgenie_deals"),
        ("autodealgenie-backend", "http_requests_total"),
    ] {
        assert!(
            !query(prometheus, &format!("{family}{{job=\"{job}\"}}")).await?.is_empty(),
            "{family} of {job}"
        );
    }
    // Every page is clean to a strict parser and to promtool; only names taken over from the peers are not by the book.
    for part in ["autodealgenie-backend", "business-exporter", "pg-exporter", "redis-exporter"] {
        let text = get(&format!("{}/metrics", urls[part])).await?.text;
        testkit::page::parse(&text).with_context(|| part.to_owned())?;
        let findings = testkit::page::promtool_findings(&text).await?;
        let ours = |finding: &&String| {
            part.starts_with("auto") || part.starts_with("business") || finding.contains("_exporter_")
        };
        assert_eq!(findings.iter().filter(ours).collect::<Vec<_>>(), Vec::<&String>::new(), "{part}");
    }
    // No alarm where nothing is wrong.
    for expression in [
        "pg_up != 1",
        "redis_up != 1",
        "business_exporter_exact != 1",
        "business_exporter_ledger_intact != 1",
        "{__name__=~\".*_outcome\", outcome!~\"ok|unsupported_version|missing_extension\"} == 1",
    ] {
        assert_eq!(query(prometheus, expression).await?, [], "{expression}");
    }

    // The past is there for who looks back, in rows and in series, and the ledger takes none of it for news.
    for expression in [
        "up{job=\"redis\"}",
        "http_requests_total{job=\"autodealgenie-backend\"}",
        "rate(autodealgenie_vehicle_searches_total{job=\"business\"}[1h]) > 0",
        "histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[5m]))) > 0",
        "job:http_errors_per_request:ratio_rate1h",
        "autodealgenie:deals_created:increase1d > 0",
        "instance:pg_connections:ratio",
    ] {
        assert!(!query_back(prometheus, expression, 20).await?.is_empty(), "{expression}");
        assert_eq!(query_back(prometheus, expression, 22).await?, [], "{expression}");
    }
    let past = sum(prometheus, "autodealgenie_deals{job=\"business\"}").await?;
    assert!(past > 500.0, "only {past} deals");
    assert_eq!(sum(prometheus, "autodealgenie_deals_created_total{job=\"business\"}").await?, 0.0);
    let again = xtask(&["up", "--history", "21", "--no-build"], &folder);
    assert!(again.is_err_and(|error| error.to_string().contains("runs already")));

    let backend = &urls["autodealgenie-backend"];
    let account = json!({"email": "ada@example.com", "username": "ada", "password": "correct horse battery"});
    created(post(&format!("{backend}/api/v1/auth/signup"), &account).await?).await?;
    let login = json!({"email": account["email"], "password": account["password"]});
    let login = post(&format!("{backend}/api/v1/auth/login"), &login).await?.json()?;
    let token = login["token"].as_str().with_context(|| format!("no token: {login}"))?.to_owned();
    for n in 0..3 {
        let deal = json!({
            "vehicle_make": "Toyota", "vehicle_model": "Camry", "vehicle_year": 2024, "vehicle_mileage": 10 + n,
            "vehicle_vin": format!("1HGCM82633A00435{n}"), "asking_price": 25_000.0 + f64::from(n),
        });
        let request = Request::new(Method::POST, format!("{backend}/api/v1/deals"))
            .header("Authorization", format!("Bearer {token}"))
            .json(&deal);
        created(request.send().await?).await?;
    }
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let counted =
            sum(prometheus, "autodealgenie_deals_created_total{job=\"autodealgenie-backend\"}").await?;
        let held = sum(prometheus, "autodealgenie_deals{job=\"business\"}").await? - past;
        let signups =
            sum(prometheus, "autodealgenie_user_signups_total{job=\"autodealgenie-backend\"}").await?;
        // The backend counts what it did, the ledger what the tables say: both are the truth.
        let ledger = sum(prometheus, "autodealgenie_deals_created_total{job=\"business\"}").await?;
        let accounts = sum(prometheus, "autodealgenie_user_signups_total{job=\"business\"}").await?;
        if (counted, held, signups, ledger, accounts) == (3.0, 3.0, 1.0, 3.0, 1.0) {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "backend {counted}, business {held}, signups {signups}, ledger {ledger} and {accounts}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(xtask(&["status"], &folder)?.contains("prometheus"));

    // After some use every rule gives values. Rates need two scrapes that differ.
    let traffic = ["traffic", "--url", backend, "--rate", "20", "--seconds", "40"];
    run(Command::new(env!("CARGO_BIN_EXE_xtask")).args(traffic))?;
    let deadline = Instant::now() + Duration::from_secs(120);
    while let Err(error) = xtask(&["dead-joins"], &folder) {
        ensure!(Instant::now() < deadline, "{error:#}");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    // What the documentation tells people to run runs, and the stack is as its smoke test wants it.
    xtask(&["runbooks"], &folder)?;
    let smoke = Path::new(env!("CARGO_MANIFEST_DIR")).join("../monitoring/test-monitoring.sh");
    let said = run(Command::new(&smoke).args(["--json", "--stack"]).arg(&folder))?;
    let said: Value = serde_json::from_str(&said).context(said)?;
    let skipped: Vec<&Value> =
        said["checks"].as_array().into_iter().flatten().filter(|check| check["skipped"] == true).collect();
    assert_eq!((&said["ok"], skipped.len()), (&json!(true), 1), "{said}");
    // It fails when something is not there.
    let away =
        run(Command::new(&smoke).arg("--stack").arg(&folder).env("ALERTMANAGER_URL", "http://127.0.0.1:1"));
    let said = away.map_or_else(|error| error.to_string(), |said| format!("it succeeds: {said}"));
    assert!(said.contains("not ok 25 - Alertmanager is ready"), "{said}");
    // Every panel shows something; a line takes more than one scrape.
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pictures");
    let pictures = pictures.to_str().context("no path")?;
    xtask(&["docs", "--images", pictures], &folder)?;
    Ok(())
}
