//! A strict parser of both text formats: the oracle of the tests, and the reader of other exporters' pages.
//!
//! It refuses what Prometheus might let pass: a family in two places, two series with the same labels, a TYPE after
//! its samples, names that do not fit the type, buckets that fall, a page without a last newline.

use std::collections::{BTreeSet, HashSet};

use crate::family::{Kind, is_label_name, is_metric_name};
use crate::labels;
use crate::negotiate::Format;

/// A parsed page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// In the order of the page.
    pub families: Vec<Family>,
}

/// A family of a page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Family {
    /// As in its TYPE line.
    pub name: String,
    /// Unescaped.
    pub help: Option<String>,
    /// `None` without a TYPE line.
    pub kind: Option<Kind>,
    /// In the order of the page.
    pub samples: Vec<Sample>,
}

/// One line with a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// With its suffix.
    pub name: String,
    /// In the order of the line, values unescaped.
    pub labels: Vec<(String, String)>,
    /// The value; a timestamp or an exemplar after it is checked and dropped.
    pub value: f64,
}

/// What is wrong with a page, and where.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Parses a page in text format 0.0.4.
pub fn page(text: &str) -> Result<Page, ParseError> {
    Parser::new(Format::Text).run(text)
}

/// Parses a page in OpenMetrics 1.0.
pub fn openmetrics(text: &str) -> Result<Page, ParseError> {
    Parser::new(Format::OpenMetrics).run(text)
}

impl Page {
    /// The family of that name.
    pub fn family(&self, name: &str) -> Option<&Family> {
        self.families.iter().find(|family| family.name == name)
    }

    /// All samples with that name.
    pub fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.families.iter().flat_map(|family| &family.samples).filter(move |sample| sample.name == name)
    }

    /// The value of the only sample with that name that has these labels, among others.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.samples(name).filter(|sample| sample.has(labels));
        let first = found.next()?;
        found.next().is_none().then_some(first.value)
    }
}

impl Sample {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether it has all these labels.
    pub fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.label(name) == Some(value))
    }
}

struct Parser {
    format: Format,
    page: Page,
    finished: HashSet<String>,
    series: HashSet<(String, BTreeSet<(String, String)>)>,
    ended: bool,
}

impl Parser {
    fn new(format: Format) -> Parser {
        Parser {
            format,
            page: Page::default(),
            finished: HashSet::new(),
            series: HashSet::new(),
            ended: false,
        }
    }

    fn run(mut self, text: &str) -> Result<Page, ParseError> {
        let lines = text.split_terminator('\n').count();
        if !text.is_empty() && !text.ends_with('\n') {
            return Err(ParseError { line: lines, message: "the page does not end in a newline".into() });
        }
        for (index, line) in text.split_terminator('\n').enumerate() {
            self.line(line).map_err(|message| ParseError { line: index + 1, message })?;
        }
        if self.format == Format::OpenMetrics && !self.ended {
            return Err(ParseError { line: lines, message: "the page does not end in # EOF".into() });
        }
        for family in &self.page.families {
            check_histogram(family).map_err(|message| ParseError { line: lines, message })?;
        }
        Ok(self.page)
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if self.ended {
            return Err("text after # EOF".into());
        }
        if line == "# EOF" && self.format == Format::OpenMetrics {
            self.ended = true;
            return Ok(());
        }
        match line.strip_prefix("# ") {
            Some(comment) => self.comment(comment),
            None if line.is_empty() || line.starts_with('#') => match self.format {
                Format::Text => Ok(()),
                Format::OpenMetrics => Err("an empty line or a comment".into()),
            },
            None => self.sample(line),
        }
    }

    fn comment(&mut self, comment: &str) -> Result<(), String> {
        let (keyword, rest) = comment.split_once(' ').unwrap_or((comment, ""));
        let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
        match keyword {
            "HELP" | "TYPE" | "UNIT" if !is_metric_name(name) => Err(format!("invalid family name {name:?}")),
            "HELP" => {
                let family = self.family_for_metadata(name)?;
                let before = family.help.replace(labels::unescape(text).into_owned());
                before.map_or(Ok(()), |_| Err(format!("second HELP of {name}")))
            }
            "TYPE" => {
                let kind = self.kind(text).ok_or_else(|| format!("unknown type {text:?} of {name}"))?;
                let before = self.family_for_metadata(name)?.kind.replace(kind);
                before.map_or(Ok(()), |_| Err(format!("second TYPE of {name}")))
            }
            "UNIT" if self.format == Format::OpenMetrics => self.family_for_metadata(name).map(|_| ()),
            _ if self.format == Format::OpenMetrics => Err(format!("unexpected comment {comment:?}")),
            _ => Ok(()),
        }
    }

    fn kind(&self, word: &str) -> Option<Kind> {
        let openmetrics = self.format == Format::OpenMetrics;
        Some(match word {
            "counter" => Kind::Counter,
            "gauge" => Kind::Gauge,
            "histogram" => Kind::Histogram,
            "summary" => Kind::Summary,
            "untyped" if !openmetrics => Kind::Unknown,
            "unknown" if openmetrics => Kind::Unknown,
            "info" if openmetrics => Kind::Info,
            "stateset" if openmetrics => Kind::StateSet,
            "gaugehistogram" if openmetrics => Kind::GaugeHistogram,
            _ => return None,
        })
    }

    fn family_for_metadata(&mut self, name: &str) -> Result<&mut Family, String> {
        let current = self.page.families.last().is_some_and(|family| family.name == name);
        if current && self.page.families.last().is_some_and(|family| !family.samples.is_empty()) {
            return Err(format!("metadata of {name} after its samples"));
        }
        if !current {
            self.start(name)?;
        }
        self.page.families.last_mut().ok_or_else(|| format!("no family {name}"))
    }

    fn start(&mut self, name: &str) -> Result<(), String> {
        if !self.finished.insert(name.to_owned()) {
            return Err(format!("family {name} stands in two places"));
        }
        self.page.families.push(Family { name: name.to_owned(), ..Family::default() });
        Ok(())
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let sample = self.parse_sample(line)?;
        let belongs = self.page.families.last().is_some_and(|family| self.belongs(family, &sample));
        if !belongs {
            if self.finished.iter().any(|name| *name == sample.name) {
                return Err(format!("sample of {} away from its family", sample.name));
            }
            self.start(&sample.name.clone())?;
        }
        let key = (sample.name.clone(), sample.labels.iter().cloned().collect::<BTreeSet<_>>());
        if !self.series.insert(key) {
            return Err(format!("duplicate series: {line}"));
        }
        if let Some(family) = self.page.families.last_mut() {
            family.samples.push(sample);
        }
        Ok(())
    }

    /// Whether the name and labels of a sample are ones its family's type allows.
    fn belongs(&self, family: &Family, sample: &Sample) -> bool {
        let Some(suffix) = sample.name.strip_prefix(family.name.as_str()) else { return false };
        match (family.kind, self.format) {
            (Some(Kind::Histogram), _) => match suffix {
                "_bucket" => sample.label("le").is_some(),
                "_sum" | "_count" => sample.label("le").is_none(),
                _ => false,
            },
            (Some(Kind::GaugeHistogram), _) => match suffix {
                "_bucket" => sample.label("le").is_some(),
                "_gsum" | "_gcount" => sample.label("le").is_none(),
                _ => false,
            },
            (Some(Kind::Summary), _) => match suffix {
                "" => sample.label("quantile").is_some(),
                "_sum" | "_count" => sample.label("quantile").is_none(),
                _ => false,
            },
            (Some(Kind::Counter), Format::OpenMetrics) => suffix == "_total" || suffix == "_created",
            (Some(Kind::Info), Format::OpenMetrics) => suffix == "_info",
            (Some(Kind::StateSet), Format::OpenMetrics) => {
                suffix.is_empty() && sample.label(&family.name).is_some()
            }
            _ => suffix.is_empty(),
        }
    }

    fn parse_sample(&self, line: &str) -> Result<Sample, String> {
        let name_end = line.find(['{', ' ']).ok_or_else(|| format!("no value: {line:?}"))?;
        let name = &line[..name_end];
        if !is_metric_name(name) {
            return Err(format!("invalid metric name {name:?}"));
        }
        let mut rest = &line[name_end..];
        let mut parsed = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            while !rest.starts_with('}') {
                let (label, value) =
                    rest.split_once("=\"").ok_or_else(|| format!("broken labels: {line:?}"))?;
                let end = labels::closing_quote(value).ok_or_else(|| format!("open quote: {line:?}"))?;
                if !is_label_name(label) {
                    return Err(format!("invalid label name {label:?}"));
                }
                if parsed.iter().any(|(known, _)| known == label) {
                    return Err(format!("label {label} twice: {line:?}"));
                }
                parsed.push((label.to_owned(), labels::unescape(&value[..end]).into_owned()));
                rest = &value[end + 1..];
                rest = match rest.strip_prefix(',') {
                    Some(next) if !next.starts_with('}') => next,
                    None if rest.starts_with('}') => rest,
                    _ => return Err(format!("broken labels: {line:?}")),
                };
            }
            rest = &rest[1..];
        }
        let rest = rest.strip_prefix(' ').ok_or_else(|| format!("no space before the value: {line:?}"))?;
        let (rest, exemplar) =
            rest.split_once(" # ").map_or((rest, None), |(rest, after)| (rest, Some(after)));
        if exemplar.is_some_and(|text| self.format == Format::Text || !text.starts_with('{')) {
            return Err(format!("unexpected exemplar: {line:?}"));
        }
        let (value, timestamp) =
            rest.split_once(' ').map_or((rest, None), |(value, after)| (value, Some(after)));
        if timestamp.is_some_and(|text| text.parse::<f64>().is_err()) {
            return Err(format!("invalid timestamp: {line:?}"));
        }
        let value = number(value).ok_or_else(|| format!("invalid value {value:?}"))?;
        Ok(Sample { name: name.to_owned(), labels: parsed, value })
    }
}

/// A value as both formats allow it; Rust's own parser takes more words for infinity.
fn number(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        _ if text.bytes().any(|byte| byte.is_ascii_alphabetic() && !matches!(byte, b'e' | b'E')) => None,
        _ => text.parse().ok(),
    }
}

/// Buckets of one series must rise in bound and count, end in +Inf, and agree with `_count`.
fn check_histogram(family: &Family) -> Result<(), String> {
    if !matches!(family.kind, Some(Kind::Histogram | Kind::GaugeHistogram)) {
        return Ok(());
    }
    let without_le = |sample: &Sample| {
        sample.labels.iter().filter(|(name, _)| name != "le").cloned().collect::<BTreeSet<(String, String)>>()
    };
    let series: BTreeSet<_> = family.samples.iter().map(without_le).collect();
    for labels in series {
        let of_series = family.samples.iter().filter(|sample| without_le(sample) == labels);
        let mut bounds = (f64::NEG_INFINITY, 0.0);
        let mut count = None;
        for sample in of_series {
            if let Some(bound) = sample.label("le").and_then(number) {
                if bound <= bounds.0 || sample.value < bounds.1 {
                    return Err(format!("buckets of {}{labels:?} do not rise", family.name));
                }
                bounds = (bound, sample.value);
            } else if sample.name.ends_with("count") {
                count = Some(sample.value);
            }
        }
        if bounds.0 != f64::INFINITY || count.is_some_and(|count| count != bounds.1) {
            return Err(format!("{}{labels:?}: no +Inf bucket, or it differs from _count", family.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_page() {
        let page = page(
            "# HELP a_total Some \\\\ help.\n# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"\\n\"} 2\n\
             # a comment\n\nb 1e3 1700000000000\n",
        )
        .unwrap();
        assert_eq!(page.family("a_total").unwrap().help.as_deref(), Some("Some \\ help."));
        assert_eq!(page.value("a_total", &[("y", "q\"\n")]), Some(2.0));
        assert_eq!(page.value("b", &[]), Some(1000.0));
        assert_eq!(page.value("c", &[]), None);
    }

    #[test]
    fn refuses_what_is_not_clean() {
        for (text, expected) in [
            ("a 1", "newline"),
            ("a\n", "no value"),
            ("a x\n", "invalid value"),
            ("a 0x1p3\n", "invalid value"),
            ("1a 1\n", "invalid metric name"),
            ("a{x=1} 1\n", "broken labels"),
            ("a{x=\"1\",} 1\n", "broken labels"),
            ("a{x=\"1\",x=\"2\"} 1\n", "twice"),
            ("a{x=\"1} 1\n", "open quote"),
            ("a 1\na 1\n", "duplicate"),
            ("a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 1\n", "duplicate"),
            ("a 1\nb 1\na{x=\"1\"} 1\n", "away from its family"),
            ("# TYPE a gauge\na 1\n# HELP a late\n", "after its samples"),
            ("# TYPE a nonsense\n", "unknown type"),
            ("# TYPE a gauge\n# TYPE a gauge\n", "second TYPE"),
            (
                "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n",
                "do not rise",
            ),
            ("# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_sum 1\nh_count 2\n", "no +Inf"),
            ("a 1 # {t=\"1\"} 1\n", "exemplar"),
        ] {
            let error = page(text).unwrap_err();
            assert!(error.to_string().contains(expected), "{text:?}: {error}");
        }
        for (text, expected) in
            [("a 1\n", "# EOF"), ("# EOF\na 1\n", "after # EOF"), ("\n# EOF\n", "comment")]
        {
            let error = openmetrics(text).unwrap_err();
            assert!(error.to_string().contains(expected), "{text:?}: {error}");
        }
    }
}
