//! `cargo xtask runbooks`: runs the diagnosis of every runbook of MONITORING.md against the running stack.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use testkit::servers::{self, Installed, workspace_root};

use crate::{
    progress::{print, say},
    stack::{Location, state::State},
};

/// Run the diagnosis of every runbook against the running stack
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    location: Location,
}

/// A chapter of MONITORING.md.
pub(crate) struct Runbook {
    /// The alert.
    pub(crate) name: String,
    /// Commands that only read.
    diagnosis: String,
    /// Commands that change something.
    mitigation: String,
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let folder = args.location.folder()?;
    let preamble = preamble(&folder).await?;
    let runbooks = all()?;
    let mut failures = 0;
    let mut done = BTreeSet::new();
    for runbook in &runbooks {
        // Many runbooks look at the same things first.
        for command in runbook.diagnosis.lines().filter(|command| done.insert(*command)) {
            let script = format!("{preamble}\n{command}");
            let output = Command::new("bash").args(["-c", &script]).output().context("running bash")?;
            if !output.status.success() {
                failures += 1;
                let why = String::from_utf8_lossy(&output.stderr);
                print(&format!("{}: {command}: {}: {}", runbook.name, output.status, why.trim()));
            }
        }
        let syntax = Command::new("bash").args(["-n", "-c", &runbook.mitigation]).output();
        if !syntax.context("running bash")?.status.success() {
            failures += 1;
            print(&format!("{}: its mitigation is no shell: {}", runbook.name, runbook.mitigation));
        }
    }
    if failures > 0 {
        bail!("{failures} commands of {} runbooks fail", runbooks.len());
    }
    say(&format!("the commands of {} runbooks run", runbooks.len()));
    Ok(())
}

/// What the commands need: the addresses of the stack, and the clients of the fetched servers.
async fn preamble(folder: &Path) -> Result<String> {
    let (monitoring, postgres, redis) = (
        servers::get("monitoring").await?,
        servers::get("postgres-debian").await?,
        servers::get("redis-7.0").await?,
    );
    let mut lines = vec!["set -euo pipefail".to_owned()];
    for (name, installed, binary) in [
        ("promtool", &monitoring, "promtool"),
        ("amtool", &monitoring, "amtool"),
        ("psql", &postgres, "psql"),
        // Without -e an error of the server is no failure.
        ("redis-cli", &redis, "redis-cli"),
    ] {
        lines.push(client(name, installed, binary));
    }
    for (variable, part) in [
        ("PROMETHEUS", "prometheus"),
        ("ALERTMANAGER", "alertmanager"),
        ("BACKEND", "autodealgenie-backend"),
        ("PG_EXPORTER", "pg-exporter"),
        ("REDIS_EXPORTER", "redis-exporter"),
        ("BUSINESS_EXPORTER", "business-exporter"),
        ("DATABASE_URL", "postgresql"),
        ("REDIS_URL", "redis"),
    ] {
        lines.push(format!("export {variable}={}", State::url(folder, part)?));
    }
    lines.push("export PGPASSWORD=autodealgenie PGUSER=autodealgenie".to_owned());
    // A query without a series is a failure here: it would tell the reader nothing.
    lines.push(
        "q() { local said; said=$(promtool query instant \"$PROMETHEUS\" \"$1\"); [ -n \"$said\" ]; }"
            .to_owned(),
    );
    Ok(lines.join("\n"))
}

/// A shell function that runs a fetched program.
fn client(name: &str, installed: &Installed, binary: &str) -> String {
    let environment = installed
        .env()
        .map(|(variable, value)| format!("{variable}='{}' ", value.to_string_lossy()))
        .unwrap_or_default();
    let option = if name == "redis-cli" { " -e" } else { "" };
    format!("{name}() {{ {environment}'{}'{option} \"$@\"; }}", installed.binary(binary).display())
}

/// Every runbook, in the order of the page.
pub(crate) fn all() -> Result<Vec<Runbook>> {
    let path = workspace_root()?.join("MONITORING.md");
    let page = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    page.split("\n### ").skip(1).map(parse).collect()
}

fn parse(chapter: &str) -> Result<Runbook> {
    let name = chapter.lines().next().unwrap_or_default().trim().to_owned();
    let commands = |heading: &str| {
        let after = chapter.split_once(heading)?.1.split_once("```sh\n")?.1;
        Some(after.split_once("```")?.0.trim().to_owned())
    };
    let [diagnosis, mitigation] = ["**Diagnosis**", "**Mitigation.**"].map(|heading| {
        commands(heading).with_context(|| format!("the runbook {name} has no commands under {heading}"))
    });
    for part in ["**Meaning.**", "**Impact.**", "**Escalation.**"] {
        if !chapter.contains(part) {
            bail!("the runbook {name} has no {part}");
        }
    }
    Ok(Runbook { name, diagnosis: diagnosis?, mitigation: mitigation? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules;

    #[test]
    fn every_alert_has_a_runbook_and_every_runbook_an_alert() -> Result<()> {
        let runbooks: Vec<String> = all()?.into_iter().map(|runbook| runbook.name).collect();
        let names: BTreeSet<&String> = runbooks.iter().collect();
        assert_eq!(names.len(), runbooks.len(), "a runbook twice");
        let alerts = rules::all()?;
        let alerts: BTreeSet<&String> = alerts.iter().filter_map(|rule| rule.alert.as_ref()).collect();
        assert_eq!(names, alerts);
        Ok(())
    }

    #[test]
    fn a_runbook_without_commands_is_refused() {
        let error =
            parse("X\n**Meaning.** **Impact.** **Diagnosis** look at it **Mitigation.** **Escalation.**")
                .err()
                .map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("the runbook X has no commands under **Diagnosis**"));
    }

    #[test]
    fn links_inside_the_page_lead_somewhere() -> Result<()> {
        let page = fs::read_to_string(workspace_root()?.join("MONITORING.md"))?;
        let anchors: BTreeSet<String> = page
            .lines()
            .filter_map(|line| line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")))
            .map(|heading| heading.to_lowercase().replace(' ', "-"))
            .collect();
        let links: Vec<&str> = page.split("](#").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        assert!(links.len() > 20);
        for link in links {
            assert!(anchors.contains(link), "no chapter #{link}");
        }
        Ok(())
    }
}
