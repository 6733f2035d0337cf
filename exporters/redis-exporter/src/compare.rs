//! `compare`: what changes for Prometheus when this exporter takes the place of another one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, bail};
use exposition::{Page, parse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Series of a family that are shown one by one.
const SHOWN: usize = 5;

/// Families of the exporter's own process, which are nobody's dashboards.
const OWN: &[&str] = &["go_", "process_", "promhttp_", "net_conntrack_"];

/// Reads a page from a URL or a file.
///
/// # Errors
/// No page there.
pub async fn read(place: &str) -> anyhow::Result<Page> {
    let text = match place.strip_prefix("http://") {
        Some(rest) => get(rest).await.with_context(|| format!("cannot read {place}"))?,
        None if place.contains("://") => {
            bail!("--old {place}: only http:// can be read; save the page and give the file")
        }
        None => std::fs::read_to_string(Path::new(place)).with_context(|| format!("cannot read {place}"))?,
    };
    parse::page(&text).map_err(|error| anyhow::anyhow!("{place} is not a page of metrics: {error:?}"))
}

/// HTTP 1.0, which ends with the connection and has no chunks.
async fn get(rest: &str) -> anyhow::Result<String> {
    let (host, path) = rest.split_once('/').unwrap_or((rest, "metrics"));
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let mut stream = TcpStream::connect(&address).await.context("connecting")?;
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\nAccept: text/plain;version=0.0.4\r\n\r\n");
    stream.write_all(request.as_bytes()).await.context("asking")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.context("reading")?;
    let (head, body) = reply.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        bail!("HTTP status {status}");
    }
    Ok(body.to_owned())
}

/// What differs, and how much of the old page is not on the new one.
#[derive(Debug)]
pub struct Comparison {
    /// For people.
    pub text: String,
    /// Series of the old page that are missing, and families of another type.
    pub lost: usize,
}

/// Compares names, types and labels; values differ anyway.
pub fn compare(old: &Page, new: &Page) -> Comparison {
    let (old, new) = (families(old), families(new));
    let (mut text, mut lost) = (String::new(), 0);
    let mut same = 0;
    for (name, (kind, series)) in &old {
        let Some((new_kind, new_series)) = new.get(name) else {
            lost += series.len();
            let _ = writeln!(text, "- {name}: the family is gone ({} series)", series.len());
            continue;
        };
        if kind != new_kind {
            lost += 1;
            let _ = writeln!(text, "! {name}: type {kind} becomes {new_kind}");
        }
        let gone: Vec<_> = series.difference(new_series).collect();
        let added: Vec<_> = new_series.difference(series).collect();
        lost += gone.len();
        same += series.len() - gone.len();
        for (sign, list) in [('-', gone), ('+', added)] {
            for one in list.iter().take(SHOWN) {
                let _ = writeln!(text, "{sign} {one}");
            }
            if list.len() > SHOWN {
                let _ = writeln!(text, "{sign} {name}: {} more", list.len() - SHOWN);
            }
        }
    }
    for (name, (_, series)) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        let _ = writeln!(text, "+ {name}: a new family ({} series)", series.len());
    }
    let _ = writeln!(text, "{same} series stay, {lost} are lost or change their type");
    Comparison { text, lost }
}

type Families = BTreeMap<String, (String, BTreeSet<String>)>;

fn families(page: &Page) -> Families {
    let kept = page.families.iter().filter(|family| !OWN.iter().any(|own| family.name.starts_with(own)));
    kept.map(|family| {
        let kind = family.kind.map_or("untyped", |kind| kind.text()).to_owned();
        let series = family.samples.iter().map(|sample| {
            let mut labels: Vec<String> =
                sample.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            labels.sort();
            format!("{}{{{}}}", sample.name, labels.join(","))
        });
        (family.name.clone(), (kind, series.collect()))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_comes_and_changes_is_told() {
        let page = |text: &str| parse::page(text).unwrap();
        let old = page(
            "# TYPE a gauge\na{x=\"1\"} 1\na{x=\"2\"} 1\n# TYPE b counter\nb 1\n# TYPE go_x gauge\ngo_x 1\n# TYPE c gauge\nc 1\n",
        );
        let new =
            page("# TYPE a gauge\na{x=\"1\"} 9\na{x=\"3\"} 1\n# TYPE b gauge\nb 1\n# TYPE d gauge\nd 1\n");
        let found = compare(&old, &new);
        assert_eq!(found.lost, 3);
        assert_eq!(
            found.text,
            "- a{x=\"2\"}\n+ a{x=\"3\"}\n! b: type counter becomes gauge\n- c: the family is gone (1 series)\n\
             + d: a new family (1 series)\n2 series stay, 3 are lost or change their type\n"
        );
    }
}
