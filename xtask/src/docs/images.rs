//! `cargo xtask docs --images`: draws every dashboard with what the Prometheus of the running stack answers, by the components that
//! Grafana publishes on npm, in Chromium. A panel that shows an error, no data or no number is a failure.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use testkit::servers::{once, private_dir, workspace_root};
use tokio::time::{Instant, sleep};

use crate::{
    dashboards::{self, Dashboard, schema::npm_install},
    dead_joins,
    progress::step,
    promql,
    stack::{prometheus, state::State},
};

/// All of one release: they are made for each other.
const PACKAGES: &[&str] = &[
    "@grafana/data@13.2.2",
    "@grafana/schema@13.2.2",
    "@grafana/ui@13.2.2",
    "react@19.3.1",
    "react-dom@19.3.1",
    "react-router-dom@5.3.4",
    "esbuild@0.28.2",
];
const SOURCE: &str = include_str!("dashboard.jsx");
/// The committed pictures.
pub(super) const IMAGES: &str = "docs/images";
/// The hour that a dashboard shows, unless the stack is younger.
const RANGE: f64 = 3600.0;
/// How long a stack may take to have two points of everything.
const PATIENCE: Duration = Duration::from_secs(180);

/// Draws the dashboards of the stack in the folder `stack` into the folder `images`.
pub(super) async fn draw(stack: &Path, images: &Path) -> Result<()> {
    let prometheus = State::url(stack, "prometheus")?;
    let page = step("build the page", async { page() }).await?;
    fs::create_dir_all(images).with_context(|| format!("creating {}", images.display()))?;
    let absent = dead_joins::absent(&prometheus).await?;
    let mut problems = Vec::new();
    for dashboard in dashboards::all()? {
        let image = images.join(format!("{}.png", dashboard.uid));
        let title = format!("draw {}", dashboard.title);
        let found = step(&title, async {
            let file =
                workspace_root()?.join(format!("monitoring/grafana/dashboards/{}.json", dashboard.uid));
            let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            let raw: Value =
                serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
            picture(&page, &raw, &lines(&dashboard, &prometheus, &absent).await?, &image)
        })
        .await?;
        problems.extend(found.into_iter().map(|problem| format!("{}: {problem}", dashboard.title)));
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// The folder with `page.js` and `page.css`. The packages that they are made of are removed: half a gigabyte.
pub(crate) fn page() -> Result<PathBuf> {
    let mut hash = DefaultHasher::new();
    (PACKAGES, SOURCE).hash(&mut hash);
    let page = private_dir("pictures-page")?.join(format!("{:016x}", hash.finish()));
    once(&page, build)?;
    Ok(page)
}

fn build(folder: &Path) -> Result<()> {
    let scratch = tempfile::tempdir().context("making a folder for packages")?;
    fs::write(scratch.path().join("dashboard.jsx"), SOURCE).context("writing dashboard.jsx")?;
    npm_install(scratch.path(), PACKAGES)?;
    let status = Command::new("npx")
        .args(["esbuild", "dashboard.jsx", "--bundle", "--minify", "--log-level=error"])
        .arg(format!("--outfile={}", folder.join("page.js").display()))
        .arg("--define:process.env.NODE_ENV=\"production\"")
        .args(["svg", "png", "woff2", "ttf"].map(|kind| format!("--loader:.{kind}=dataurl")))
        .current_dir(scratch.path())
        .status()
        .context("running esbuild")?;
    ensure!(status.success(), "esbuild ended with {status}");
    Ok(())
}

/// What a dashboard is drawn from, beside its JSON.
#[derive(Default)]
struct Answers {
    /// Seconds since the epoch.
    from: f64,
    to: f64,
    /// By the id of a panel the series of its targets.
    series: BTreeMap<u64, Vec<Value>>,
    /// The panels that need not have any.
    absent: Vec<u64>,
}

/// What Prometheus answers to every panel, once there is enough for lines: a stack that is young has single points.
async fn lines(dashboard: &Dashboard, prometheus: &str, absent: &[&str]) -> Result<Answers> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answers = answers(dashboard, prometheus, absent).await?;
        // What is missing for good is said of the picture.
        if answers.have_lines(dashboard) || Instant::now() > deadline {
            return Ok(answers);
        }
        sleep(Duration::from_secs(1)).await;
    }
}

impl Answers {
    /// Whether every panel that is to show lines has a series with two numbers one after the other.
    fn have_lines(&self, dashboard: &Dashboard) -> bool {
        let number = |point: &Value| point[1].as_str().and_then(|text| text.parse::<f64>().ok());
        let is_line = |series: &Value| {
            let points = series["values"].as_array().map(Vec::as_slice).unwrap_or_default();
            points.windows(2).any(|two| two.iter().all(|point| number(point).is_some_and(f64::is_finite)))
        };
        dashboard.panels.iter().all(|panel| {
            let answers = self.series.get(&panel.id).into_iter().flatten();
            panel.targets.iter().all(|target| target.instant)
                || self.absent.contains(&panel.id)
                || answers.filter_map(Value::as_array).flatten().any(is_line)
        })
    }
}

/// What Prometheus answers to every panel.
async fn answers(dashboard: &Dashboard, prometheus: &str, absent: &[&str]) -> Result<Answers> {
    let to = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is wrong")?.as_secs_f64();
    let started = promql::values(prometheus, "process_start_time_seconds{job=\"prometheus\"}").await?;
    let from = started.first().copied().unwrap_or_default().max(to - RANGE);
    let over = format!("query_range?start={from}&end={to}&step=15");
    let mut answers = Answers { from, to, ..Answers::default() };
    for panel in &dashboard.panels {
        let mut each = Vec::new();
        for target in &panel.targets {
            let endpoint = if target.instant { "query" } else { &over };
            each.push(prometheus::api(prometheus, endpoint, &target.query()).await?["result"].take());
        }
        answers.series.insert(panel.id, each);
        let missing = |series: &&str| panel.targets.iter().all(|target| target.query().contains(series));
        if absent.iter().any(missing) {
            answers.absent.push(panel.id);
        }
    }
    Ok(answers)
}

/// Draws a dashboard, and gives what it must not show.
fn picture(page: &Path, dashboard: &Value, answers: &Answers, image: &Path) -> Result<Vec<String>> {
    let bottom = |panel: &Value| Some(panel["gridPos"]["y"].as_u64()? + panel["gridPos"]["h"].as_u64()?);
    let rows = dashboard["panels"].as_array().into_iter().flatten().filter_map(bottom).max();
    let height = rows.context("a dashboard without panels")? * 36 + 64;
    let data = json!({
        "dashboard": dashboard,
        "answers": answers.series,
        "absent": answers.absent,
        "from": answers.from,
        "to": answers.to,
    });
    let folder = tempfile::tempdir().context("making a folder for a page")?;
    let url = |file: &str| format!("file://{}", page.join(file).display());
    let html = format!(
        "<!doctype html><meta charset=\"utf-8\"><link rel=\"stylesheet\" href=\"{}\"><div id=\"dashboard\"></div>\n\
         <script>window.DASHBOARD = {}</script><script src=\"{}\"></script>\n",
        url("page.css"),
        data.to_string().replace("</", "<\\/"),
        url("page.js"),
    );
    fs::write(folder.path().join("page.html"), html).context("writing page.html")?;
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--hide-scrollbars", "--allow-file-access-from-files"])
        // Time for the components to measure themselves and draw.
        .arg("--virtual-time-budget=8000")
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("--window-size=1456,{height}"))
        .arg(format!("--screenshot={}", image.display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", folder.path().join("page.html").display()))
        .stdin(Stdio::null())
        .output()
        .context("running chromium (`apt-get install chromium`)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && image.exists(), "chromium ended with {}: {said}", output.status);
    let dom = String::from_utf8_lossy(&output.stdout);
    let Some((_, problems)) = dom.split_once("<pre id=\"problems\" hidden=\"\">") else {
        bail!("the page does not say what it shows; Chromium says {said}");
    };
    let (problems, _) = problems.split_once("</pre>").context("the list of problems has no end")?;
    Ok(problems.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dashboard_has_its_picture_and_every_picture_is_shown() -> Result<()> {
        let root = workspace_root()?;
        let pages =
            fs::read_to_string(root.join("README.md"))? + &fs::read_to_string(root.join("MONITORING.md"))?;
        let mut pictures = 0;
        for dashboard in dashboards::all()? {
            let picture = format!("{IMAGES}/{}.png", dashboard.uid);
            assert!(root.join(&picture).exists(), "no {picture}: run `cargo xtask docs --images`");
            assert!(pages.contains(&format!("({picture})")), "{picture} is shown nowhere");
            pictures += 1;
        }
        assert_eq!(fs::read_dir(root.join(IMAGES))?.count(), pictures);
        Ok(())
    }

    /// Of six panels three show what none may.
    #[test]
    fn what_no_picture_may_show_is_found() -> Result<()> {
        let panel = |id: u64, kind: &str| {
            json!({
                "id": id, "type": kind, "title": format!("Panel {id}"), "description": "",
                "gridPos": {"x": 4 * id, "y": 0, "w": 4, "h": 8},
                "fieldConfig": {"defaults": {"unit": "short", "custom": {}}},
                "options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []}},
                "targets": [{"refId": "A", "legendFormat": "x"}],
            })
        };
        let kinds = ["timeseries", "timeseries", "timeseries", "stat", "timeseries", "timeseries"];
        let panels: Vec<Value> = (0..).zip(kinds).map(|(id, kind)| panel(id, kind)).collect();
        let line = json!([{"metric": {}, "values": [[0, "1"], [15, "2"], [30, "1"]]}]);
        let of = |series: &Value| vec![series.clone()];
        let answers = Answers {
            from: 0.0,
            to: 30.0,
            series: BTreeMap::from([
                (0, of(&line)),
                (1, of(&json!([]))),
                (2, of(&json!([]))),
                (3, of(&json!([{"metric": {}, "values": [[0, "NaN"]]}]))),
                // Before the time that is shown.
                (4, of(&json!([{"metric": {}, "values": [[-30, "1"], [-15, "1"]]}]))),
                // A quotient before there was anything to divide by.
                (5, of(&json!([{"metric": {}, "values": [[0, "NaN"], [15, "2"], [30, "1"]]}]))),
            ]),
            absent: vec![1],
        };
        let image = tempfile::tempdir()?;
        let image = image.path().join("x.png");
        let draw =
            |panels: &[Value]| picture(&page()?, &json!({"title": "x", "panels": panels}), &answers, &image);
        let found = [
            "Panel 2 shows No data in place of data",
            "Panel 3 shows nothing in place of a number",
            "Panel 4 shows no line",
        ];
        assert_eq!(draw(&panels)?, found);
        assert_eq!(draw(&panels[..2])?, Vec::<String>::new());
        // What the page cannot draw at all is an exception.
        let broken = json!({"id": 0, "type": "timeseries", "gridPos": {"x": 0, "y": 0, "w": 4, "h": 8}, "targets": [{}]});
        let found = draw(&[broken])?;
        assert!(found.iter().any(|problem| problem.contains("TypeError")), "{found:?}");
        Ok(())
    }
}
