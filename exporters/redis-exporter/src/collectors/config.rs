//! `redis_config_*`: configuration parameters, from CONFIG GET.

use std::borrow::Cow;
use std::sync::Arc;

use exposition::{Column, Shape, Snapshot};
use redis::Value;

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::info::number;
use crate::kept::Kept;
use crate::options::Options;
use crate::request::{Request, Server, Texts, borrowed, is, pairs, texts};

static SPEC: Spec = Spec { name: "config", doc: "Configuration parameters", default_enabled: true };

/// Parameters with a family of their own.
const PARAMETERS: &[(&str, &str)] = &[
    ("io-threads", "config_io_threads"),
    ("maxclients", "config_maxclients"),
    ("maxmemory", "config_maxmemory"),
    ("repl-backlog-size", "config_repl_backlog_size"),
];

/// Parameters that hold secrets.
const SECRETS: &[&str] = &["masterauth", "requirepass", "tls-key-file-pass", "tls-client-key-file-pass"];

pub(super) struct Config {
    options: Options,
    shape: Arc<Shape>,
    parameters: Vec<(&'static str, Column)>,
    limits: Arc<Shape>,
    limit_bytes: Column,
    limit_seconds: Column,
    every: Every,
    /// What the last reply came to, which seldom is another one.
    last: Kept<Value, Result<Snapshot, ReplyError>>,
}

/// Every parameter: each as labels, and those that are numbers.
pub(super) struct Every {
    /// Parameters that hold secrets and are not shown.
    hidden: &'static [&'static str],
    labels: Arc<Shape>,
    key_value: Column,
    numbers: Arc<Shape>,
    value: Column,
}

impl Every {
    /// `prefix` begins the names of the families.
    pub(super) fn new(options: &Options, prefix: &str, secrets: &'static [&'static str]) -> Self {
        let (mut labels, mut numbers) = (Shape::new(&["key", "value"]), Shape::new(&["key"]));
        Self {
            hidden: if options.redact_config { secrets } else { &[] },
            key_value: labels.column(&options.gauge(
                &format!("{prefix}_key_value"),
                "A configuration parameter as a label; the value is 1.",
            )),
            value: numbers.column(
                &options.gauge(&format!("{prefix}_value"), "A configuration parameter that is a number."),
            ),
            labels: Arc::new(labels),
            numbers: Arc::new(numbers),
        }
    }

    pub(super) fn write(&self, pairs: &Texts<'_>, page: &mut Snapshot) {
        let shown = || pairs.iter().filter(|(key, _)| !self.hidden.contains(&&**key));
        let table = page.table_of(&self.labels);
        for (key, value) in shown() {
            table.row(&[key, value]).set(self.key_value, 1.0);
        }
        let table = page.table_of(&self.numbers);
        for (key, value) in shown() {
            if let Some(value) = number(value) {
                table.row(&[key]).set(self.value, value);
            }
        }
    }
}

impl Config {
    pub(super) fn new(options: &Options) -> Self {
        let (mut shape, mut limits) = (Shape::new(&[]), Shape::new(&["class", "limit"]));
        let parameter = |(parameter, family): &(&'static str, &str)| {
            let desc = options.gauge(family, &format!("Configuration parameter {parameter}."));
            (*parameter, shape.column(&desc))
        };
        Self {
            options: options.clone(),
            parameters: PARAMETERS.iter().map(parameter).collect(),
            limit_bytes: limits.column(&options.gauge(
                "config_client_output_buffer_limit_bytes",
                "Output buffer at which a client of the class is disconnected.",
            )),
            limit_seconds: limits.column(&options.gauge(
                "config_client_output_buffer_limit_overcome_seconds",
                "How long a client of the class may stay above the soft limit.",
            )),
            shape: Arc::new(shape),
            limits: Arc::new(limits),
            every: Every::new(options, "config", SECRETS),
            last: Kept::default(),
        }
    }

    fn parameters(&self, request: &Request, reply: &Value) -> Result<Snapshot, ReplyError> {
        let mut page = Snapshot::new();
        let pairs = texts(request, reply)?;
        let mut row = page.table_of(&self.shape).row(&[]);
        for (key, value) in &pairs {
            if let Some((_, column)) = self.parameters.iter().find(|(parameter, _)| parameter == key) {
                row.set_some(*column, number(value));
            }
        }
        if let Some((_, value)) = pairs.iter().find(|(key, _)| key == "client-output-buffer-limit") {
            self.limits(value, &mut page);
        }
        if self.options.include_config {
            self.every.write(&pairs, &mut page);
        }
        Ok(page)
    }

    /// `class hard soft seconds`, four words for each class of clients.
    fn limits(&self, text: &str, page: &mut Snapshot) {
        let mut words = text.split_ascii_whitespace();
        let table = page.table_of(&self.limits);
        while let [Some(class), Some(hard), Some(soft), Some(seconds)] = [(); 4].map(|()| words.next()) {
            table.row(&[class, "hard"]).set_some(self.limit_bytes, number(hard));
            table
                .row(&[class, "soft"])
                .set_some(self.limit_bytes, number(soft))
                .set_some(self.limit_seconds, number(seconds));
        }
    }
}

/// One parameter of a reply of CONFIG GET.
pub(super) fn parameter<'a>(
    request: &Request,
    value: &'a Value,
    name: &str,
) -> Result<Option<Cow<'a, str>>, ReplyError> {
    let mut pairs = pairs(value).ok_or_else(|| ReplyError::unexpected(request.name()))?;
    Ok(pairs.find(|(key, _)| is(key, name)).and_then(|(_, value)| borrowed(value)))
}

impl Section for Config {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn requests(&self, server: &Server) -> Vec<Request> {
        Request::config(server, &self.options).into_iter().collect()
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let Some(request) = Request::config(&replies.server, &self.options) else { return Ok(()) };
        let Some(reply) = replies.get(&request) else { return Ok(()) };
        let reply = reply?;
        let parameters = || self.parameters(&request, reply);
        // The reply with every parameter holds secrets, which are not kept.
        page.append(match request {
            Request::Config => self.last.get(reply, parameters)?,
            _ => parameters()?,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, page, replies};
    use super::*;

    fn reply(request: Request) -> [(Request, Value); 1] {
        let words =
            ["maxclients", "10", "requirepass", "s3cret", "client-output-buffer-limit", "normal 1 2 3 odd"];
        [(
            request,
            Value::Array(words.iter().map(|word| Value::BulkString(word.as_bytes().to_vec())).collect()),
        )]
    }

    const INFO: &str = "# Server\r\nredis_version:7.0.0\r\n";

    #[test]
    fn limits_are_split_by_class() {
        let page = page(&Config::new(&Options::default()), &replies(INFO, reply(Request::Config)));
        assert_eq!(
            lines(&page),
            [
                "redis_config_client_output_buffer_limit_bytes{class=normal,limit=hard} 1",
                "redis_config_client_output_buffer_limit_bytes{class=normal,limit=soft} 2",
                "redis_config_client_output_buffer_limit_overcome_seconds{class=normal,limit=soft} 3",
                "redis_config_maxclients{} 10",
            ]
        );
    }

    #[test]
    fn secrets_stay_out_unless_asked_for() {
        for (redact_config, shown) in [(true, 0), (false, 1)] {
            let options = Options { include_config: true, redact_config, ..Options::default() };
            let page = page(&Config::new(&options), &replies(INFO, reply(Request::ConfigAll)));
            let secrets =
                page.samples("redis_config_key_value").filter(|s| s.label("value") == Some("s3cret"));
            assert_eq!(secrets.count(), shown);
        }
    }
}
