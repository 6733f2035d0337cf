//! What a drill found: a table on the terminal, and the one in MONITORING.md.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use testkit::servers::workspace_root;

use crate::progress;

const START: &str = "<!-- written by `cargo xtask alerts-e2e --all` -->\n";
const END: &str = "<!-- end -->\n";

/// An alert that was told. Times are those of production.
pub(super) struct Line {
    pub(super) fault: String,
    pub(super) alert: String,
    /// Of which job, where several tell the same.
    pub(super) job: Option<String>,
    pub(super) receiver: String,
    /// From the fault to the notification.
    pub(super) told: Duration,
    /// From the repair to the notification that it is over.
    pub(super) over: Option<Duration>,
}

impl Line {
    fn cells(&self) -> Vec<String> {
        let over = self.over.map_or("–".to_owned(), |over| over.as_secs().to_string());
        vec![
            self.fault.clone(),
            self.alert.clone(),
            self.receiver.clone(),
            self.told.as_secs().to_string(),
            over,
        ]
    }
}

/// Aligned, for the terminal.
pub(super) fn table(lines: &[Line]) -> Vec<String> {
    let head = ["FAULT", "ALERT", "RECEIVER", "TOLD AFTER S", "OVER AFTER S"].map(str::to_owned).to_vec();
    progress::table(&[vec![head], lines.iter().map(Line::cells).collect()].concat())
}

/// Writes the table of MONITORING.md.
pub(super) fn write(lines: &[Line], factor: u32) -> Result<()> {
    let path = workspace_root()?.join("MONITORING.md");
    let page = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let (before, rest) = page.split_once(START).context("MONITORING.md has no place for the table")?;
    let (_, after) = rest.split_once(END).context("the table in MONITORING.md has no end")?;
    let mut table = format!(
        "\nMeasured with a factor of {factor}, in seconds of production:\n\n\
         | Fault | Alert | Receiver | Told after | After the repair, over after |\n|---|---|---|---|---|\n"
    );
    for line in lines {
        table += &format!("| {} |\n", line.cells().join(" | "));
    }
    let page = format!("{before}{START}{table}\n{END}{after}");
    fs::write(&path, page).with_context(|| format!("writing {}", path.display()))
}
