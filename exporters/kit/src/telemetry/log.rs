//! Logs on stderr, one line an event, as logfmt or JSON with the same keys in both:
//! `ts`, `level`, `target`, `msg`, then the event's fields, then those of its spans.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

/// Libraries whose debug output drowns ours: never below warning.
/// A name stands for all that begin with it: `redis::` so that `redis_exporter` is not meant.
const NOISY: &[&str] = &[
    "h2",
    "hyper",
    "hyper_util",
    "redis::",
    "rustls",
    "tokio_postgres",
    "tokio_util",
    "tower",
    "tower_http",
];

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `key=value`, quoted where needed.
    #[default]
    Logfmt,
    /// One JSON object a line.
    Json,
}

impl FromStr for Format {
    type Err = LogError;

    /// `logfmt` or `json`; `txt` and `text` (redis_exporter) mean logfmt.
    fn from_str(text: &str) -> Result<Self, LogError> {
        match text.to_ascii_lowercase().as_str() {
            "logfmt" | "txt" | "text" => Ok(Self::Logfmt),
            "json" => Ok(Self::Json),
            _ => Err(LogError::Format(text.to_owned())),
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a format we write.
    #[error("unknown log format {0:?}: use logfmt or json")]
    Format(String),
    /// Not a level.
    #[error("unknown log level {0:?}: use debug, info, warn or error")]
    Level(String),
    /// A logger is there already.
    #[error("logging is set up already: init() runs once a process")]
    Twice,
}

/// Reads a level as the peers write it: any case, `warning` for `warn`.
///
/// # Errors
/// [`LogError::Level`] for anything but trace, debug, info, warn, error.
pub fn level(text: &str) -> Result<Level, LogError> {
    match text.to_ascii_lowercase().as_str() {
        "trace" => Ok(Level::TRACE),
        "debug" => Ok(Level::DEBUG),
        "info" => Ok(Level::INFO),
        "warn" | "warning" => Ok(Level::WARN),
        "error" => Ok(Level::ERROR),
        _ => Err(LogError::Level(text.to_owned())),
    }
}

/// Sets the process's logger: `level` for our code, at least warning for chatty libraries.
///
/// # Errors
/// [`LogError::Twice`] when a logger was set before.
pub fn init(level: Level, format: Format) -> Result<(), LogError> {
    let quiet = LevelFilter::from_level(level).min(LevelFilter::WARN);
    let targets =
        Targets::new().with_default(level).with_targets(NOISY.iter().map(|target| (*target, quiet)));
    let layer = tracing_subscriber::fmt::layer()
        .event_format(Line(format))
        .fmt_fields(Line(format))
        .with_ansi(false)
        .with_writer(std::io::stderr);
    let subscriber = tracing_subscriber::registry().with(targets).with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)
}

/// Writes one event as one line.
struct Line(Format);

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields::default();
        event.record(&mut fields);

        let mut line = Pairs::new(self.0);
        line.push("ts", &Value::Text(time));
        line.push("level", &Value::Text(event.metadata().level().as_str().to_ascii_lowercase()));
        line.push("target", &Value::Text(event.metadata().target().to_owned()));
        line.push("msg", &Value::Text(fields.message));
        for (key, value) in &fields.rest {
            line.push(key, value);
        }
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                line.append(&fields.fields);
            }
        }
        match self.0 {
            Format::Logfmt => writeln!(writer, "{}", line.text),
            Format::Json => writeln!(writer, "{{{}}}", line.text),
        }
    }
}

impl<'writer> FormatFields<'writer> for Line {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, record: R) -> fmt::Result {
        let mut fields = Fields::default();
        record.record(&mut fields);
        let mut line = Pairs::new(self.0);
        for (key, value) in &fields.rest {
            line.push(key, value);
        }
        writer.write_str(&line.text)
    }
}

/// A field's value; text is quoted, the rest is bare in both formats.
enum Value {
    Text(String),
    Bare(String),
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Vec<(&'static str, Value)>,
}

impl Fields {
    fn text(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.rest.push((field.name(), Value::Text(value)));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        // Many errors say what happened only in their sources.
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        self.text(field, text);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.rest.push((field.name(), Value::Bare(value.to_string())));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.rest.push((field.name(), Value::Bare(value.to_string())));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.rest.push((field.name(), Value::Bare(value.to_string())));
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no NaN and no infinity.
        let text = value.to_string();
        let value = if value.is_finite() { Value::Bare(text) } else { Value::Text(text) };
        self.rest.push((field.name(), value));
    }
}

/// Key-value pairs of one line, in either format.
struct Pairs {
    format: Format,
    text: String,
}

impl Pairs {
    fn new(format: Format) -> Self {
        Self { format, text: String::new() }
    }

    fn append(&mut self, pairs: &str) {
        if !pairs.is_empty() && !self.text.is_empty() {
            self.text.push(if self.format == Format::Json { ',' } else { ' ' });
        }
        self.text.push_str(pairs);
    }

    fn push(&mut self, key: &str, value: &Value) {
        // `r#type` is how Rust spells a field named like a keyword.
        let key = key.strip_prefix("r#").unwrap_or(key);
        let mut pair = String::new();
        if self.format == Format::Json {
            quote(key, &mut pair);
            pair.push(':');
        } else {
            pair.extend(key.chars().map(|c| if bare(c) { c } else { '_' }));
            pair.push('=');
        }
        match value {
            Value::Bare(text) => pair.push_str(text),
            Value::Text(text) => {
                if self.format == Format::Logfmt && !text.is_empty() && text.chars().all(bare) {
                    pair.push_str(text);
                } else {
                    quote(text, &mut pair);
                }
            }
        }
        self.append(&pair);
    }
}

/// Whether logfmt needs no quotes for this character.
fn bare(c: char) -> bool {
    !(c.is_control() || c.is_whitespace() || matches!(c, '"' | '=' | '\\' | '\u{fffd}'))
}

/// Writes a JSON string, which is a logfmt string too.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Also the C1 controls and Unicode's line separators: a log line stays one line everywhere.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Keeps a repeated message from filling the log: one a key and interval.
///
/// ```
/// # use std::time::Duration;
/// let throttle = exporter_kit::telemetry::log::Throttle::new(Duration::from_secs(60));
/// assert_eq!(throttle.check("stat_database"), Some(0)); // log it
/// assert_eq!(throttle.check("stat_database"), None); // not again
/// ```
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    keys: Mutex<HashMap<String, (Instant, u64)>>,
}

/// Keys remembered before the expired ones are forgotten.
const THROTTLE_KEYS: usize = 1024;

impl Throttle {
    /// At most one message a key in each `interval`.
    pub fn new(interval: Duration) -> Self {
        Self { interval, keys: Mutex::default() }
    }

    /// Whether to log now; if so, how many were kept back since the last one. Keys are of a bounded kind
    /// (a collector's name, not a query): beyond 1024 live ones the rest is not throttled.
    pub fn check(&self, key: &str) -> Option<u64> {
        self.check_at(key, Instant::now())
    }

    fn check_at(&self, key: &str, now: Instant) -> Option<u64> {
        let mut keys = self.keys.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((last, suppressed)) = keys.get_mut(key) {
            if now.saturating_duration_since(*last) < self.interval {
                *suppressed += 1;
                return None;
            }
            *last = now;
            return Some(std::mem::take(suppressed));
        }
        if keys.len() >= THROTTLE_KEYS {
            keys.retain(|_, (last, _)| now.saturating_duration_since(*last) < self.interval);
        }
        if keys.len() < THROTTLE_KEYS {
            keys.insert(key.to_owned(), (now, 0));
        }
        Some(0)
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
