//! Tests of the log lines: what is written reads back, in both formats.

use super::*;
use proptest::prelude::*;
use std::io::Write;
use std::sync::{Arc, PoisonError};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Buffer {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What `body` logs in this format.
fn logged(format: Format, body: impl FnOnce()) -> String {
    let buffer = Buffer::default();
    let layer = tracing_subscriber::fmt::layer()
        .event_format(Line(format))
        .fmt_fields(Line(format))
        .with_writer(buffer.clone());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), body);
    String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
}

/// A logfmt reader written from the format's description, independent of the writer.
fn read_logfmt(line: &str) -> Vec<(String, String)> {
    let mut rest = line;
    let mut pairs = Vec::new();
    while !rest.is_empty() {
        let (key, tail) = rest.split_once('=').expect("key=");
        assert!(!key.is_empty() && !key.contains(char::is_whitespace) && !key.contains('"'), "{key:?}");
        let (value, tail) = if let Some(quoted) = tail.strip_prefix('"') {
            let mut escaped = false;
            let end = quoted
                .find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                })
                .expect("closing quote");
            (unescape(&quoted[..end]), &quoted[end + 1..])
        } else {
            let (value, tail) = tail.split_at(tail.find(' ').unwrap_or(tail.len()));
            (value.to_owned(), tail)
        };
        pairs.push((key.to_owned(), value));
        rest = if tail.is_empty() { tail } else { tail.strip_prefix(' ').expect("space between pairs") };
    }
    pairs
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next().expect("escape") {
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'u' => {
                let code: String = chars.by_ref().take(4).collect();
                out.push(char::from_u32(u32::from_str_radix(&code, 16).unwrap()).unwrap());
            }
            c => out.push(c),
        }
    }
    out
}

fn value<'a>(pairs: &'a [(String, String)], key: &str) -> &'a str {
    &pairs.iter().find(|(name, _)| name == key).unwrap_or_else(|| panic!("no {key} in {pairs:?}")).1
}

#[test]
fn logfmt_has_the_keys_in_order_and_quotes_only_where_needed() {
    let line = logged(Format::Logfmt, || {
        tracing::warn!(collector = "stat_wal", seconds = 1.5, rows = 3_u64, ok = false, "it is slow");
    });
    let (head, tail) = line.split_once(" level=").unwrap();
    assert!(head.starts_with("ts=2") && head.ends_with('Z'), "{head}");
    assert_eq!(
        tail.trim_end(),
        concat!(
            "warn target=exporter_kit::telemetry::log::tests msg=\"it is slow\" ",
            "collector=stat_wal seconds=1.5 rows=3 ok=false"
        )
    );
}

#[test]
fn json_has_the_same_keys() {
    let line = logged(Format::Json, || {
        tracing::info!(path = "a\"b\\c", ratio = f64::NAN, r#type = "x", "two\nlines");
    });
    assert_eq!(line.lines().count(), 1);
    assert!(line.contains(r#""level":"info","target":"exporter_kit::telemetry::log::tests","#), "{line}");
    assert!(line.contains(r#""msg":"two\nlines","path":"a\"b\\c","ratio":"NaN","type":"x"}"#), "{line}");
}

#[test]
fn fields_of_spans_follow_the_events_own() {
    for (format, expected) in [
        (Format::Logfmt, "msg=done n=1 request=\"a b\"\n"),
        (Format::Json, "\"msg\":\"done\",\"n\":1,\"request\":\"a b\"}\n"),
    ] {
        let line = logged(format, || {
            let span = tracing::info_span!("outer", request = "a b");
            let _entered = span.enter();
            tracing::info!(n = 1, "done");
        });
        assert!(line.ends_with(expected), "{line}");
    }
}

#[test]
fn an_error_is_written_with_its_causes() {
    let error = crate::http::ServeError::Bind {
        address: ":1".to_owned(),
        cause: std::io::Error::other("why"),
        advice: "do this".to_owned(),
    };
    let line = logged(Format::Logfmt, || {
        tracing::error!(error = &error as &dyn std::error::Error, "failed");
    });
    assert!(line.contains(r#"error="cannot listen on :1: why; do this"#), "{line}");
}

#[test]
fn names_of_the_peers_are_known() {
    assert_eq!("txt".parse::<Format>().unwrap(), Format::Logfmt);
    assert_eq!("JSON".parse::<Format>().unwrap(), Format::Json);
    assert_eq!(level("WARNING").unwrap(), Level::WARN);
    assert!("xml".parse::<Format>().unwrap_err().to_string().contains("\"xml\": use logfmt or json"));
    assert!(level("loud").unwrap_err().to_string().contains("use debug, info, warn or error"));
}

#[test]
fn a_throttle_lets_one_through_per_interval_and_counts_the_rest() {
    let throttle = Throttle::new(Duration::from_secs(10));
    let start = Instant::now();
    assert_eq!(throttle.check_at("a", start), Some(0));
    assert_eq!(throttle.check_at("b", start), Some(0));
    assert_eq!(throttle.check_at("a", start + Duration::from_secs(1)), None);
    assert_eq!(throttle.check_at("a", start + Duration::from_secs(9)), None);
    assert_eq!(throttle.check_at("a", start + Duration::from_secs(10)), Some(2));
    assert_eq!(throttle.check_at("a", start + Duration::from_secs(11)), None);
}

#[test]
fn a_throttle_forgets_old_keys() {
    let throttle = Throttle::new(Duration::from_secs(1));
    let start = Instant::now();
    for key in 0..5_000_u64 {
        throttle.check_at(&key.to_string(), start + Duration::from_secs(key));
    }
    assert!(throttle.keys.lock().unwrap().len() <= THROTTLE_KEYS);
}

proptest! {
    #[test]
    fn what_logfmt_writes_reads_back(message in any::<String>(), detail in any::<String>()) {
        let line = logged(Format::Logfmt, || tracing::info!(detail = detail.as_str(), "{message}"));
        let line = line.strip_suffix('\n').unwrap();
        prop_assert!(!line.contains('\n'));
        let pairs = read_logfmt(line);
        prop_assert_eq!(pairs.len(), 5);
        prop_assert_eq!(value(&pairs, "msg"), message);
        prop_assert_eq!(value(&pairs, "detail"), detail);
    }

    #[test]
    fn what_json_writes_reads_back(message in any::<String>(), detail in any::<String>()) {
        let line = logged(Format::Json, || tracing::info!(detail = detail.as_str(), "{message}"));
        // YAML 1.2 contains JSON, so the YAML reader that is here anyway is the oracle.
        let object: std::collections::BTreeMap<String, String> = serde_saphyr::from_str(line.trim_end()).unwrap();
        prop_assert_eq!(&object["msg"], &message);
        prop_assert_eq!(&object["detail"], &detail);
    }
}
