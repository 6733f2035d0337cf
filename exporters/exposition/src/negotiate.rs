//! Which format and which compression a client asked for: Accept and Accept-Encoding with their quality values.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::{openmetrics, text};

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The value of the Content-Type header.
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Text => text::CONTENT_TYPE,
            Format::OpenMetrics => openmetrics::CONTENT_TYPE,
        }
    }

    /// Chooses by an Accept header. Text is the answer to everything that is not understood, and the only one while
    /// OpenMetrics is not offered.
    pub fn negotiate(accept: Option<&str>, offer_openmetrics: bool) -> Format {
        let Some(accept) = accept.filter(|_| offer_openmetrics) else { return Format::Text };
        let mut best = (0.0, Format::Text);
        for item in items(accept) {
            let format = match item.value {
                "application/openmetrics-text" => match item.parameter("version") {
                    None | Some("0.0.1" | "1.0.0") => Format::OpenMetrics,
                    Some(_) => continue,
                },
                "text/plain" | "text/*" | "*/*" => match item.parameter("version") {
                    None | Some("0.0.4") => Format::Text,
                    Some(_) => continue,
                },
                _ => continue,
            };
            if item.quality > best.0 {
                best = (item.quality, format);
            }
        }
        best.1
    }
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// gzip, level 1: the levels above cost two to six times as much for a fifth less.
    Gzip,
}

impl Encoding {
    /// Chooses by an Accept-Encoding header.
    pub fn negotiate(accept_encoding: Option<&str>) -> Encoding {
        let Some(header) = accept_encoding else { return Encoding::Identity };
        let quality = |coding| {
            let named = items(header).find(|item| item.value.eq_ignore_ascii_case(coding));
            named.map(|item| item.quality)
        };
        let gzip = ["gzip", "x-gzip", "*"].into_iter().find_map(quality).unwrap_or(0.0);
        if gzip > 0.0 && gzip >= quality("identity").unwrap_or(0.0) {
            Encoding::Gzip
        } else {
            Encoding::Identity
        }
    }
}

/// Compresses a page with gzip, level 1.
pub fn gzip(page: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(page.len() / 6), Compression::fast());
    // Writing into a Vec cannot fail.
    encoder.write_all(page).and_then(|()| encoder.finish()).unwrap_or_default()
}

/// One item of a comma-separated header: `value;parameter=x;q=0.5`.
struct Item<'a> {
    value: &'a str,
    parameters: &'a str,
    quality: f32,
}

impl<'a> Item<'a> {
    fn parameter(&self, name: &str) -> Option<&'a str> {
        parameters(self.parameters).find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

fn items(header: &str) -> impl Iterator<Item = Item<'_>> {
    header.split(',').map(|item| {
        let (value, rest) = item.split_once(';').unwrap_or((item, ""));
        let mut item = Item { value: value.trim(), parameters: rest, quality: 1.0 };
        if let Some(quality) = item.parameter("q") {
            // What cannot be read is not preferred.
            item.quality = quality.parse().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0);
        }
        item
    })
}

fn parameters(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(';').filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        Some((key.trim(), value.trim().trim_matches('"')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Prometheus 3 sends.
    const PROMETHEUS: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
        application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
        application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
        text/plain;version=0.0.4;q=0.2,*/*;q=0.1";

    #[test]
    fn format_follows_quality_and_version() {
        for (accept, expected) in [
            (None, Format::Text),
            (Some(""), Format::Text),
            (Some("*/*"), Format::Text),
            (Some("text/html"), Format::Text),
            (Some(PROMETHEUS), Format::OpenMetrics),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (Some("application/openmetrics-text; version=\"1.0.0\""), Format::OpenMetrics),
            (Some("application/openmetrics-text; version=2.0.0, text/plain;q=0.1"), Format::Text),
            (Some("application/openmetrics-text;q=0.1,text/plain;q=0.2"), Format::Text),
            (Some("application/openmetrics-text;q=0"), Format::Text),
            (Some("application/openmetrics-text;q=x"), Format::Text),
        ] {
            assert_eq!(Format::negotiate(accept, true), expected, "{accept:?}");
        }
        assert_eq!(Format::negotiate(Some(PROMETHEUS), false), Format::Text);
    }

    #[test]
    fn encoding_follows_quality() {
        for (accept, expected) in [
            (None, Encoding::Identity),
            (Some("gzip"), Encoding::Gzip),
            (Some("GZIP;q=0.5, identity;q=0.1"), Encoding::Gzip),
            (Some("gzip;q=0"), Encoding::Identity),
            (Some("gzip;q=0, *"), Encoding::Identity),
            (Some("*"), Encoding::Gzip),
            (Some("zstd, br"), Encoding::Identity),
            (Some("identity, gzip;q=0.5"), Encoding::Identity),
        ] {
            assert_eq!(Encoding::negotiate(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn gzip_round_trips() {
        use std::io::Read as _;
        let page = "a 1\n".repeat(10_000);
        let mut plain = String::new();
        flate2::read::GzDecoder::new(gzip(page.as_bytes()).as_slice()).read_to_string(&mut plain).unwrap();
        assert_eq!(plain, page);
    }
}
