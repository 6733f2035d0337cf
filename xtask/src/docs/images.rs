//! `cargo xtask docs --images`: draws every dashboard with what the Prometheus of the running stack answers, by the components that
//! Grafana publishes on npm, in Chromium.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::servers::{private_dir, workspace_root};

use crate::{
    dashboards::{self, Dashboard, schema::npm_install},
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
const IMAGES: &str = "docs/images";
/// The hour that a dashboard shows, unless the stack is younger.
const RANGE: f64 = 3600.0;

pub(super) async fn draw(stack: &Path) -> Result<()> {
    let prometheus = State::url(stack, "prometheus")?;
    let folder = private_dir("dashboard-images")?;
    step("build the page", async { build(&folder) }).await?;
    let images = workspace_root()?.join(IMAGES);
    fs::create_dir_all(&images).with_context(|| format!("creating {}", images.display()))?;
    for dashboard in dashboards::all()? {
        let image = images.join(format!("{}.png", dashboard.uid));
        step(&format!("draw {}", dashboard.title), async {
            let height = write_page(&folder, &dashboard, &prometheus).await?;
            screenshot(&folder, height, &image)
        })
        .await?;
    }
    Ok(())
}

/// Makes `page.js` and `page.css`.
fn build(folder: &Path) -> Result<()> {
    let source = workspace_root()?.join("xtask/src/docs/dashboard.jsx");
    fs::copy(source, folder.join("dashboard.jsx")).context("copying dashboard.jsx")?;
    npm_install(folder, PACKAGES)?;
    let status = Command::new("npx")
        .args(["esbuild", "dashboard.jsx", "--bundle", "--minify", "--outfile=page.js", "--log-level=error"])
        .arg("--define:process.env.NODE_ENV=\"production\"")
        .args(["svg", "png", "woff2", "ttf"].map(|kind| format!("--loader:.{kind}=dataurl")))
        .current_dir(folder)
        .status()
        .context("running esbuild")?;
    ensure!(status.success(), "esbuild ended with {status}");
    Ok(())
}

/// Writes `page.html` with what Prometheus answers to every panel, and gives its height.
async fn write_page(folder: &Path, dashboard: &Dashboard, prometheus: &str) -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is wrong")?.as_secs_f64();
    let started = promql::values(prometheus, "process_start_time_seconds{job=\"prometheus\"}").await?;
    let from = started.first().copied().unwrap_or_default().max(now - RANGE);
    let over = format!("query_range?start={from}&end={now}&step=15");
    let mut answers = BTreeMap::new();
    for panel in &dashboard.panels {
        let mut each = Vec::new();
        for target in &panel.targets {
            let endpoint = if target.instant { "query" } else { &over };
            each.push(prometheus::api(prometheus, endpoint, &target.query()).await?["result"].take());
        }
        answers.insert(panel.id, each);
    }
    let file = workspace_root()?.join(format!("monitoring/grafana/dashboards/{}.json", dashboard.uid));
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let raw: Value = serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
    let bottom = |panel: &Value| Some(panel["gridPos"]["y"].as_u64()? + panel["gridPos"]["h"].as_u64()?);
    let rows = raw["panels"].as_array().into_iter().flatten().filter_map(bottom).max();
    let data = json!({ "dashboard": raw, "answers": answers, "from": from, "to": now });
    let page = format!(
        "<!doctype html><meta charset=\"utf-8\"><link rel=\"stylesheet\" href=\"page.css\"><div id=\"dashboard\"></div>\n\
         <script>window.DASHBOARD = {}</script><script src=\"page.js\"></script>\n",
        data.to_string().replace("</", "<\\/")
    );
    fs::write(folder.join("page.html"), page).context("writing page.html")?;
    Ok(rows.context("a dashboard without panels")? * 36 + 64)
}

fn screenshot(folder: &Path, height: u64, image: &Path) -> Result<()> {
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .args([
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--allow-file-access-from-files",
        ])
        // Time for the components to measure themselves and draw.
        .arg("--virtual-time-budget=8000")
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("--window-size=1456,{height}"))
        .arg(format!("--screenshot={}", image.display()))
        .arg(format!("file://{}", folder.join("page.html").display()))
        .stdin(Stdio::null())
        .output()
        .context("running chromium (`apt-get install chromium`)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && image.exists(), "chromium ended with {}: {said}", output.status);
    Ok(())
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
}
