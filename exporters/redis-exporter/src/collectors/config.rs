//! `redis_config_*`: configuration parameters, from CONFIG GET.

use exposition::{Desc, Snapshot};
use redis::Value;

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::info::number;
use crate::options::Options;
use crate::request::{Request, Server, is, pairs, text, texts};

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
    parameters: Vec<(&'static str, Desc)>,
    limit_bytes: Desc,
    limit_seconds: Desc,
    every: Every,
}

/// Every parameter: each as labels, and those that are numbers.
pub(super) struct Every {
    /// Parameters that hold secrets and are not shown.
    hidden: &'static [&'static str],
    key_value: Desc,
    value: Desc,
}

impl Every {
    /// `prefix` begins the names of the families.
    pub(super) fn new(options: &Options, prefix: &str, secrets: &'static [&'static str]) -> Self {
        Self {
            hidden: if options.redact_config { secrets } else { &[] },
            key_value: options.gauge(
                &format!("{prefix}_key_value"),
                "A configuration parameter as a label; the value is 1.",
            ),
            value: options.gauge(&format!("{prefix}_value"), "A configuration parameter that is a number."),
        }
    }

    pub(super) fn write(&self, pairs: &[(String, String)], page: &mut Snapshot) {
        let shown = || pairs.iter().filter(|(key, _)| !self.hidden.contains(&key.as_str()));
        let table = page.table(&["key", "value"]);
        let column = table.column(&self.key_value);
        for (key, value) in shown() {
            table.row(&[key, value]).set(column, 1.0);
        }
        let table = page.table(&["key"]);
        let column = table.column(&self.value);
        for (key, value) in shown() {
            if let Some(value) = number(value) {
                table.row(&[key]).set(column, value);
            }
        }
    }
}

impl Config {
    pub(super) fn new(options: &Options) -> Self {
        let desc = |(parameter, family): &(&'static str, &str)| {
            (*parameter, options.gauge(family, &format!("Configuration parameter {parameter}.")))
        };
        Self {
            options: options.clone(),
            parameters: PARAMETERS.iter().map(desc).collect(),
            limit_bytes: options.gauge(
                "config_client_output_buffer_limit_bytes",
                "Output buffer at which a client of the class is disconnected.",
            ),
            limit_seconds: options.gauge(
                "config_client_output_buffer_limit_overcome_seconds",
                "How long a client of the class may stay above the soft limit.",
            ),
            every: Every::new(options, "config", SECRETS),
        }
    }

    /// `class hard soft seconds`, four words for each class of clients.
    fn limits(&self, text: &str, page: &mut Snapshot) {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let table = page.table(&["class", "limit"]);
        let (bytes, seconds) = (table.column(&self.limit_bytes), table.column(&self.limit_seconds));
        for class in words.chunks_exact(4) {
            table.row(&[class[0], "hard"]).set_some(bytes, number(class[1]));
            table
                .row(&[class[0], "soft"])
                .set_some(bytes, number(class[2]))
                .set_some(seconds, number(class[3]));
        }
    }
}

/// One parameter of a reply of CONFIG GET.
pub(super) fn parameter(request: &Request, value: &Value, name: &str) -> Result<Option<String>, ReplyError> {
    let pairs = pairs(value).ok_or_else(|| ReplyError::unexpected(request.name()))?;
    Ok(pairs.into_iter().find(|(key, _)| is(key, name)).and_then(|(_, value)| text(value)))
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
        let pairs = texts(&request, reply?)?;
        for (key, value) in &pairs {
            if key == "client-output-buffer-limit" {
                self.limits(value, page);
            } else if let Some((_, desc)) = self.parameters.iter().find(|(parameter, _)| parameter == key)
                && let Some(value) = number(value)
            {
                page.sample(desc, value);
            }
        }
        if self.options.include_config {
            self.every.write(&pairs, page);
        }
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
