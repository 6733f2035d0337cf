//! The metrics reference of MONITORING.md: the families that rules and panels read, by job, with what the exporters' own pages say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::servers::workspace_root;

use crate::{dashboards, rules};

const PAGE: &str = "MONITORING.md";
const START: &str = "<!-- families: written by `cargo xtask docs` -->\n";
const END: &str = "<!-- end of families -->\n";

/// A job: the page with all its families, and how the names of those begin that the page has in no table of their own.
const JOBS: &[(&str, &str, &[&str])] = &[
    ("autodealgenie-backend", "docs/backend-metrics.md", &[]),
    ("postgres", "docs/collectors.md", &["pg_"]),
    ("redis", "docs/redis-families.md", &["redis_"]),
    ("business", "docs/business-exporter.md", &["business_exporter_"]),
];
/// Defines families of the business exporter.
const DEFINITION: &str = "exporters/business-exporter/config/autodealgenie.yml";
/// Beginnings of the names of other programs.
const OTHERS: &[&str] = &["up", "ALERTS", "scrape_", "process_", "node_", "prometheus_", "alertmanager_"];

/// Type and meaning of families, by name.
type Families = BTreeMap<String, (String, String)>;

/// The page, with the reference made anew.
pub(super) fn page() -> Result<String> {
    let root = workspace_root()?;
    let page = fs::read_to_string(root.join(PAGE)).context("reading MONITORING.md")?;
    let (before, rest) = page.split_once(START).context("MONITORING.md has no place for the families")?;
    let (_, after) = rest.split_once(END).context("the families in MONITORING.md have no end")?;
    Ok(format!("{before}{START}{}\n{END}{after}", reference(&root)?))
}

fn reference(root: &Path) -> Result<String> {
    let used = used()?;
    let mut text = String::new();
    let mut shown = BTreeSet::new();
    for (job, page, beginnings) in JOBS {
        let mut known = documented(&root.join(page))?;
        if *job == "business" {
            known.extend(defined(&root.join(DEFINITION))?);
        }
        text += &format!("\n**{job}** ([all]({page})):\n\n| Family | Type | Meaning |\n|---|---|---|\n");
        for name in &used {
            let family = ["", "_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| name.strip_suffix(suffix))
                .find_map(|family| Some((family.to_owned(), known.get(family)?.clone())));
            let ours = beginnings.iter().any(|beginning| name.starts_with(beginning));
            let (family, (kind, meaning)) = match family {
                Some(found) => found,
                None if ours && !shown.contains(name) => {
                    (name.clone(), ("–".to_owned(), "of the exporter itself".to_owned()))
                }
                None => continue,
            };
            shown.insert(name.clone());
            let row = format!("| `{family}` | {kind} | {meaning} |\n");
            // Parts of a histogram are one family.
            if !text.ends_with(&row) {
                text += &row;
            }
        }
    }
    let others: Vec<&String> = used.iter().filter(|name| !shown.contains(*name)).collect();
    let strange: Vec<_> =
        others.iter().filter(|name| !OTHERS.iter().any(|beginning| name.starts_with(beginning))).collect();
    ensure!(strange.is_empty(), "rules or panels read what no page documents: {strange:?}");
    let others: Vec<String> = others.iter().map(|name| format!("`{name}`")).collect();
    text += &format!("\nOf other programs: {}.\n", others.join(", "));
    Ok(text)
}

/// Names of metrics that rules and panels read. In PromQL nothing else has an underscore but functions, labels and
/// recorded series.
fn used() -> Result<BTreeSet<String>> {
    let mut expressions: Vec<String> = rules::all()?.into_iter().map(|rule| rule.expr).collect();
    for panel in dashboards::all()?.into_iter().flat_map(|dashboard| dashboard.panels) {
        expressions.extend(panel.targets.iter().map(dashboards::Target::query));
    }
    Ok(expressions.iter().flat_map(|expression| selected(expression)).collect())
}

/// Names before a selector's braces, its range, or alone: not functions, not labels.
fn selected(expression: &str) -> Vec<String> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut names = Vec::new();
    let mut rest = expression;
    // Inside braces are labels; in the brackets after these words too.
    while let Some(start) = rest.find(|c: char| part(c) || c == '{' || c == '"') {
        rest = &rest[start..];
        if rest.starts_with('{') {
            rest = rest.split_once('}').map_or("", |(_, after)| after);
            continue;
        }
        if let Some(text) = rest.strip_prefix('"') {
            rest = text.split_once('"').map_or("", |(_, after)| after);
            continue;
        }
        let (word, after) = rest.split_at(rest.find(|c| !part(c)).unwrap_or(rest.len()));
        rest = after;
        if ["by", "on", "without", "ignoring", "group_left", "group_right"].contains(&word) {
            let labels = rest.trim_start().strip_prefix('(').and_then(|rest| rest.split_once(')'));
            rest = labels.map_or(rest, |(_, after)| after);
        } else if !["(", "by ", "by(", "without"].iter().any(|next| rest.trim_start().starts_with(next))
            && !word.contains(':')
            && word.starts_with(|c: char| c.is_ascii_alphabetic())
            && !["and", "or", "unless", "bool", "offset"].contains(&word)
        {
            names.push(word.to_owned());
        }
    }
    names
}

/// Families in the tables of a page: a cell with one name in backticks, then the type; the meaning is the longest cell after it.
fn documented(page: &Path) -> Result<Families> {
    let text = fs::read_to_string(page).with_context(|| format!("reading {}", page.display()))?;
    let mut families = Families::new();
    for row in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for (at, pair) in cells.windows(2).enumerate() {
            let name = pair[0].strip_prefix('`').and_then(|name| name.strip_suffix('`'));
            if let (Some(name), "counter" | "gauge" | "histogram" | "summary") = (name, pair[1]) {
                let meaning = cells[at + 2..].iter().max_by_key(|cell| cell.len()).unwrap_or(&"");
                families.insert(name.to_owned(), (pair[1].to_owned(), (*meaning).to_owned()));
            }
        }
    }
    Ok(families)
}

/// Families that a definition of the business exporter has.
fn defined(file: &Path) -> Result<Families> {
    let definition: Value = rules::read(file)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let families = definition["families"].as_array().into_iter().flatten();
    Ok(families
        .map(|family| (text(&family["name"]), (text(&family["type"]), text(&family["help"]))))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::selected;

    #[test]
    fn names_of_metrics_are_found() {
        for (expression, names) in [
            ("up{job=\"a\"} == 0", vec!["up"]),
            (
                "sum by (job, le) (rate(x_bucket{le=\"1\"}[5m])) / on (a) (b_total > 0.5)",
                vec!["x_bucket", "b_total"],
            ),
            ("histogram_quantile(0.95, job:x:rate5m) > 2 and y offset 1w > 1e3", vec!["y"]),
        ] {
            assert_eq!(selected(expression), names, "{expression}");
        }
    }
}
