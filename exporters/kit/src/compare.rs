//! Two pages side by side: what a user of the old one will miss, and what is new. Values are not compared.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, bail};
use exposition::Page;
use exposition::parse::{self, Family};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Series shown of each family; the rest is counted.
const SHOWN: usize = 3;

/// Families of the exporter's own process, which nobody has to miss, by the beginning of their names.
const OF_THE_PROCESS: &[&str] = &["go_", "net_conntrack_", "process_", "promhttp_"];

/// The largest page that is read.
const LARGEST: u64 = 256 * 1024 * 1024;

/// Reads a page from `http://host[:port]/path`, or from a file.
///
/// # Errors
/// When there is none, or it is not in the text format.
pub async fn read(from: &str, limit: Duration) -> anyhow::Result<Page> {
    let text = match from.strip_prefix("http://") {
        Some(rest) => {
            let fetched = timeout(limit, fetch(rest)).await;
            fetched
                .with_context(|| format!("{from} did not answer in time"))?
                .with_context(|| format!("fetching {from}"))?
        }
        None if from.starts_with("https://") => {
            bail!("cannot fetch {from}: only http:// is spoken; save the page, and name the file")
        }
        None => std::fs::read_to_string(from).with_context(|| format!("cannot read {from}"))?,
    };
    parse::page(&text).with_context(|| format!("{from} is no page in the text format"))
}

/// Fetches as HTTP/1.0, so that the answer ends with the connection.
async fn fetch(rest: &str) -> anyhow::Result<String> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { host.to_owned() } else { format!("{host}:80") };
    let mut stream =
        TcpStream::connect(&address).await.with_context(|| format!("connecting to {address}"))?;
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\nAccept: text/plain;version=0.0.4\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LARGEST).read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer).context("the answer is not UTF-8")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        bail!("the answer has status {status}, not 200");
    }
    Ok(body.to_owned())
}

/// What changes from one page to the other.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    missing: Vec<String>,
    changed: Vec<(String, Vec<String>)>,
    new: Vec<String>,
    same: usize,
}

impl Changes {
    /// Compares, without what is about the exporters' own processes.
    pub fn between(old: &Page, new: &Page) -> Changes {
        let mut changes = Changes::default();
        for family in of_the_target(old) {
            match new.family(&family.name) {
                None => changes.missing.push(described(family)),
                Some(other) => match differences(family, other) {
                    found if found.is_empty() => changes.same += 1,
                    found => changes.changed.push((family.name.clone(), found)),
                },
            }
        }
        let only_new = of_the_target(new).filter(|family| old.family(&family.name).is_none());
        changes.new.extend(only_new.map(described));
        changes
    }

    /// Families of the old page that are missing or changed; more series in one break nothing.
    pub fn breaking(&self) -> usize {
        let breaks = |found: &&(String, Vec<String>)| found.1.iter().any(|line| !line.starts_with('+'));
        self.missing.len() + self.changed.iter().filter(breaks).count()
    }
}

fn of_the_target(page: &Page) -> impl Iterator<Item = &Family> {
    page.families
        .iter()
        .filter(|family| OF_THE_PROCESS.iter().all(|beginning| !family.name.starts_with(beginning)))
}

fn described(family: &Family) -> String {
    format!("{} ({}, {} series)", family.name, kind(family), family.samples.len())
}

fn kind(family: &Family) -> &'static str {
    family.kind.map_or("untyped", exposition::Kind::text)
}

fn differences(old: &Family, new: &Family) -> Vec<String> {
    let mut found = Vec::new();
    if kind(old) != kind(new) {
        found.push(format!("type: {} -> {}", kind(old), kind(new)));
    }
    let (old_labels, new_labels) = (label_names(old), label_names(new));
    if old_labels != new_labels {
        found.push(format!("labels: {{{}}} -> {{{}}}", old_labels.join(","), new_labels.join(",")));
        return found;
    }
    let (old, new) = (series(old), series(new));
    for (sign, from, without) in [('-', &old, &new), ('+', &new, &old)] {
        let only: Vec<&String> = from.keys().filter(|key| !without.contains_key(*key)).collect();
        found.extend(only.iter().take(SHOWN).map(|key| format!("{sign} {key}")));
        if only.len() > SHOWN {
            found.push(format!("{sign} and {} more", only.len() - SHOWN));
        }
    }
    found
}

fn label_names(family: &Family) -> Vec<&str> {
    let names = family.samples.iter().flat_map(|sample| &sample.labels).map(|(name, _)| name.as_str());
    names.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

/// The series of a family, each in one spelling.
fn series(family: &Family) -> BTreeMap<String, ()> {
    let spelled = family.samples.iter().map(|sample| {
        let mut labels: Vec<String> = sample
            .labels
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        labels.sort_unstable();
        (format!("{}{{{}}}", sample.name, labels.join(",")), ())
    });
    spelled.collect()
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, families) in [("missing", &self.missing), ("new", &self.new)] {
            if !families.is_empty() {
                writeln!(f, "{title} families:")?;
            }
            for family in families {
                writeln!(f, "  {family}")?;
            }
        }
        if !self.changed.is_empty() {
            writeln!(f, "changed families:")?;
        }
        for (name, found) in &self.changed {
            writeln!(f, "  {name}")?;
            for difference in found {
                writeln!(f, "    {difference}")?;
            }
        }
        let (same, missing, changed, new) =
            (self.same, self.missing.len(), self.changed.len(), self.new.len());
        writeln!(f, "{same} families the same, {missing} missing, {changed} changed, {new} new")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_told() {
        let old = "# TYPE a gauge\na{x=\"1\",server=\"s\"} 1\n# TYPE b counter\nb 1\n# TYPE c gauge\nc{x=\"1\"} 1\nc{x=\"2\"} 1\n# TYPE d gauge\nd{x=\"1\"} 1\n# TYPE go_threads gauge\ngo_threads 1\n";
        let new = "# TYPE a gauge\na{x=\"1\"} 1\n# TYPE b gauge\nb 2\n# TYPE c gauge\nc{x=\"1\"} 5\nc{x=\"3\"} 1\n# TYPE d gauge\nd{x=\"1\"} 2\nd{x=\"2\"} 2\n# TYPE e gauge\ne 1\n# TYPE process_x gauge\nprocess_x 1\n";
        let changes = Changes::between(&parse::page(old).unwrap(), &parse::page(new).unwrap());
        assert_eq!(changes.breaking(), 3);
        let text = changes.to_string();
        for line in [
            "  e (gauge, 1 series)",
            "    labels: {server,x} -> {x}",
            "    type: counter -> gauge",
            "    - c{x=\"2\"}",
            "    + c{x=\"3\"}",
            "    + d{x=\"2\"}",
            "0 families the same, 0 missing, 4 changed, 1 new",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
        assert_eq!(Changes::between(&parse::page(old).unwrap(), &parse::page("").unwrap()).breaking(), 4);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_named() {
        for (from, part) in [
            ("/nonexistent/page", "/nonexistent/page"),
            ("https://x/metrics", "save the page"),
            ("http://127.0.0.1:1/x", "127.0.0.1:1"),
        ] {
            let error = read(from, Duration::from_secs(20)).await.unwrap_err();
            assert!(format!("{error:#}").contains(part), "{error:#}");
        }
    }
}
