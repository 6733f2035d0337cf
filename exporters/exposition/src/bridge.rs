//! From and to `prometheus-client`, the data model of what lives in the process.
//!
//! A [`Registry`] is written by its own encoder, as OpenMetrics; [`encode_registry`] turns that into either format.
//! A [`Snapshot`] is a [`Collector`], so it can be registered there.

use std::borrow::Cow;
use std::fmt::{self, Write};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text as client_text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::family::Kind;
use crate::labels;
use crate::negotiate::Format;
use crate::shape::Family;
use crate::snapshot::Snapshot;
use crate::table::Table;

/// Appends the metrics of a registry in a format, without the closing `# EOF`.
///
/// In text format 0.0.4 a counter's family is named with its `_total`, an info's with its `_info`, and there are no
/// units and no exemplars.
///
/// # Errors
/// When a registered metric cannot be written as text: a histogram with native buckets only.
pub fn encode_registry(registry: &Registry, format: Format, out: &mut String) -> fmt::Result {
    match format {
        Format::OpenMetrics => client_text::encode_registry(out, registry),
        Format::Text => {
            let mut page = String::with_capacity(out.capacity() - out.len());
            client_text::encode_registry(&mut page, registry)?;
            to_text(&page, out);
            Ok(())
        }
    }
}

/// Rewrites a page of OpenMetrics into text format 0.0.4. Only lines with a `#` differ, those of descriptions and of
/// exemplars; what is between them is copied as it is, many lines at once.
fn to_text(page: &str, out: &mut String) {
    // The HELP line's text, held back until the TYPE line tells the family's name in this format.
    let mut help = "";
    let mut done = 0;
    for hash in memchr::memchr_iter(b'#', page.as_bytes()) {
        if hash < done {
            continue;
        }
        let start = page[done..hash].rfind('\n').map_or(done, |at| done + at + 1);
        let end = page[hash..].find('\n').map_or(page.len(), |at| hash + at);
        out.push_str(&page[done..start]);
        let line = &page[start..end];
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, text)| text);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "stateset" => ("", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            let help = std::mem::take(&mut help);
            // Writing into a String cannot fail.
            let _ = writeln!(out, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with("# ") {
            out.push_str(without_exemplar(line));
            out.push('\n');
        }
        done = page.len().min(end + 1);
    }
    out.push_str(&page[done..]);
}

/// The line up to ` # {`, which may also stand inside a label value.
fn without_exemplar(line: &str) -> &str {
    let mut from = line.find(['{', ' ']).unwrap_or(line.len());
    if line[from..].starts_with('{') {
        from += 1;
        while let Some(quote) = line[from..].find(['"', '}']) {
            from += quote + 1;
            if line.as_bytes()[from - 1] == b'}' {
                break;
            }
            from += labels::closing_quote(&line[from..]).map_or(0, |end| end + 1);
        }
    }
    line[from..].find(" # ").map_or(line, |at| &line[..from + at])
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for parts in self.layout().families() {
            encode_family(self, parts, &mut encoder)?;
        }
        Ok(())
    }
}

fn encode_family(
    snapshot: &Snapshot,
    parts: &[(usize, usize)],
    encoder: &mut DescriptorEncoder,
) -> fmt::Result {
    let desc = &snapshot.family(parts[0]).desc;
    let rows = |part: &(usize, usize)| {
        let (table, family) = (&snapshot.tables[part.0], snapshot.family(*part));
        (0..table.len())
            .filter(|row| has_value(table, family, *row))
            .map(|row| (table, family, row))
            .collect::<Vec<_>>()
    };
    let rows: Vec<_> = parts.iter().flat_map(rows).collect();
    if rows.is_empty() {
        return Ok(());
    }
    // The encoder appends `_total` to every counter; a compatible name without it travels as unknown, like in our
    // own OpenMetrics writer. It has no summary, gauge histogram and state set: their samples travel as unknown, too.
    let (name, kind) = match desc.kind {
        Kind::Counter => match desc.name.strip_suffix("_total") {
            Some(name) => (name, MetricType::Counter),
            None => (&*desc.name, MetricType::Unknown),
        },
        Kind::Histogram => (&*desc.name, MetricType::Histogram),
        Kind::Gauge | Kind::Info => (&*desc.name, MetricType::Gauge),
        Kind::Summary | Kind::GaugeHistogram | Kind::StateSet | Kind::Unknown => {
            (&*desc.name, MetricType::Unknown)
        }
    };
    let mut metric = encoder.encode_descriptor(name, &desc.help, None, kind)?;
    for (table, family, row) in rows {
        let series = RowLabels { table, row, extra: None };
        let value = |offset: usize| table.value(family.first + offset, row);
        match kind {
            MetricType::Histogram => {
                let buckets = family.count - 2;
                let mut cumulative = 0.0;
                let mut counts = Vec::with_capacity(buckets);
                for (offset, column) in table.shape.columns[family.first..][..buckets].iter().enumerate() {
                    let (Some((_, bound)), Some(upto)) = (column.extra, value(offset)) else { continue };
                    counts.push((bound, to_count(upto - cumulative)));
                    cumulative = upto;
                }
                let sum = value(buckets).unwrap_or_default();
                let count = to_count(value(buckets + 1).unwrap_or_default());
                metric.encode_family(&series)?.encode_histogram::<NoLabelSet>(sum, count, &counts, None)?;
            }
            MetricType::Counter => {
                let value = value(0).unwrap_or_default();
                metric.encode_family(&series)?.encode_counter::<NoLabelSet, f64, f64>(&value, None)?;
            }
            _ => {
                for (offset, column) in table.shape.columns[family.first..][..family.count].iter().enumerate()
                {
                    let (Some(value), "") = (value(offset), column.suffix) else { continue };
                    let series = RowLabels { table, row, extra: column.extra };
                    metric.encode_family(&series)?.encode_gauge(&value)?;
                }
            }
        }
    }
    Ok(())
}

fn has_value(table: &Table, family: &Family, row: usize) -> bool {
    (family.first..family.first + family.count).any(|column| table.value(column, row).is_some())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are whole and not negative"
)]
fn to_count(value: f64) -> u64 {
    value as u64
}

/// The labels of a row for the encoder, unescaped again.
struct RowLabels<'a> {
    table: &'a Table,
    row: usize,
    extra: Option<(&'static str, f64)>,
}

impl EncodeLabelSet for RowLabels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        let pairs = labels::pairs(&self.table.prefix).chain(labels::pairs(self.table.rows.labels(self.row)));
        let plain: Vec<(&str, Cow<'_, str>)> =
            pairs.map(|(name, value)| (name, labels::unescape(value))).collect();
        plain.as_slice().encode(encoder)?;
        match self.extra {
            Some(extra) => [extra].encode(encoder),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family as ClientFamily;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::metrics::info::Info;

    use super::*;
    use crate::family::Desc;
    use crate::{openmetrics, parse, text};

    #[test]
    fn registry_in_both_formats() {
        let mut registry = Registry::default();
        let requests = ClientFamily::<Vec<(String, String)>, Counter>::default();
        let tricky = "x # {\"}\\".to_owned();
        requests.get_or_create_owned(&vec![("path".to_owned(), tricky.clone())]).inc_by(3);
        registry.register("requests", "Requests served", requests);
        let latency = Histogram::new([0.5, 1.0]);
        latency.observe(0.7);
        registry.register("latency_seconds", "Latency", latency);
        let temperature: Gauge = Gauge::default();
        temperature.set(-4);
        registry.register("temperature", "Now", temperature);
        registry.register("build", "Build", Info::new(vec![("version", "1")]));

        let mut plain = String::new();
        encode_registry(&registry, Format::Text, &mut plain).unwrap();
        let page = parse::page(&plain).unwrap();
        assert_eq!(page.value("requests_total", &[("path", &tricky)]), Some(3.0));
        assert_eq!(page.family("requests_total").unwrap().kind, Some(Kind::Counter));
        assert_eq!(page.family("requests_total").unwrap().help.as_deref(), Some("Requests served."));
        assert_eq!(page.value("latency_seconds_bucket", &[("le", "1.0")]), Some(1.0));
        assert_eq!(page.value("temperature", &[]), Some(-4.0));
        assert_eq!(page.value("build_info", &[("version", "1")]), Some(1.0));

        let mut open = String::new();
        encode_registry(&registry, Format::OpenMetrics, &mut open).unwrap();
        open.push_str(openmetrics::EOF);
        let open = parse::openmetrics(&open).unwrap();
        assert_eq!(open.value("requests_total", &[("path", &tricky)]), Some(3.0));
    }

    #[test]
    fn only_lines_with_a_hash_are_rewritten() {
        let mut text = "before 1\n".to_owned();
        to_text(
            "# HELP a_seconds A #1.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
             a_seconds_bucket{le=\"1\",x=\"#\"} 1 # {t=\"#\"} 0.5\na_seconds_bucket{le=\"+Inf\",x=\"#\"} 1\na_seconds_count 1\n\
             # HELP b B.\n# TYPE b counter\nb_total 1\n",
            &mut text,
        );
        assert_eq!(
            text,
            "before 1\n# HELP a_seconds A #1.\n# TYPE a_seconds histogram\n\
             a_seconds_bucket{le=\"1\",x=\"#\"} 1\na_seconds_bucket{le=\"+Inf\",x=\"#\"} 1\na_seconds_count 1\n\
             # HELP b_total B.\n# TYPE b_total counter\nb_total 1\n"
        );
    }

    #[test]
    fn exemplars_are_cut() {
        assert_eq!(without_exemplar("a_total 1 # {t=\"x\"} 1"), "a_total 1");
        assert_eq!(
            without_exemplar("a{x=\" # {\",y=\"\\\"}\"} 1 # {t=\"x\"} 1"),
            "a{x=\" # {\",y=\"\\\"}\"} 1"
        );
        assert_eq!(without_exemplar("a 1"), "a 1");
    }

    #[test]
    fn snapshot_through_the_client_equals_the_snapshot() {
        let mut snapshot = Snapshot::new();
        let table = snapshot.table(&["db"]);
        let commits = table.column(&Desc::counter("commits_total", "Commits."));
        let size = table.column(&Desc::gauge("size_bytes", "Size."));
        let wait = table.histogram(&Desc::histogram("wait_seconds", "Wait."), &[0.1, 1.0]);
        for (name, scale) in [("a", 1.0), ("b \"\\\n", 2.0)] {
            table.row(&[name]).set(commits, 10.0 * scale).set(size, 0.5 * scale).histogram(
                &wait,
                &[Some(scale), Some(3.0)],
                4.0,
                Some(2.5),
            );
        }
        snapshot.seal();
        let mut ours = String::new();
        text::encode(&snapshot, &mut ours);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(snapshot));
        let mut theirs = String::new();
        encode_registry(&registry, Format::Text, &mut theirs).unwrap();
        let samples = |text: &str| {
            let mut samples: Vec<_> = parse::page(text)
                .unwrap()
                .families
                .into_iter()
                .flat_map(|family| family.samples)
                .map(|mut sample| {
                    for (name, value) in &mut sample.labels {
                        if name == "le" {
                            *value = format!("{:?}", value.parse::<f64>().unwrap());
                        }
                    }
                    sample.labels.sort();
                    format!("{sample:?}")
                })
                .collect();
            samples.sort();
            samples
        };
        assert_eq!(samples(&ours), samples(&theirs));
    }
}
