//! `redis_script_*`: what the operator's Lua scripts return.

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Spec};
use exposition::{Desc, Snapshot};
use redis::Value;

use crate::command::Command;
use crate::error::ReplyError;
use crate::options::Options;
use crate::request::{number, pairs, text};
use crate::session::Session;

static SPEC: Spec = Spec { name: "scripts", doc: "What Lua scripts return", default_enabled: false };

pub(super) struct Scripts {
    options: Options,
    values: Desc,
    result: Desc,
}

impl Scripts {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            options: options.clone(),
            values: options.gauge("script_values", "A number that a Lua script returned."),
            result: options
                .gauge("script_result", "How a Lua script ended: 0 it failed, 1 well, 2 without values."),
        }
    }

    async fn read(&self, session: &Session) -> Result<Snapshot, CollectError> {
        let features = &self.options.features;
        let eval = if features.scripts_read_only { "EVAL_RO" } else { "EVAL" };
        let commands = features.scripts.iter().map(|script| Command::of(&[eval, &script.text, "0"]));
        let commands: Vec<Command> = commands.collect();
        let replies = session.in_database(session.own_database(), "EVAL", &commands).await?;
        let mut page = Snapshot::new();
        for (script, reply) in features.scripts.iter().zip(replies) {
            let values = reply.and_then(|reply| values(&reply).ok_or_else(|| ReplyError::unexpected("EVAL")));
            let result = match &values {
                // How it ended is not known.
                Err(error) if !error.is_answer() => None,
                Err(_) => Some(0.0),
                Ok(values) if values.is_empty() => Some(2.0),
                Ok(_) => Some(1.0),
            };
            let table = page.table(&["filename"]);
            let column = table.column(&self.result);
            table.row(&[&script.name]).set_some(column, result);
            let table = page.table(&["key", "filename"]);
            let column = table.column(&self.values);
            match values {
                Err(error) => session.note(SPEC.name, error),
                Ok(values) => {
                    for (key, value) in values {
                        table.row(&[&key, &script.name]).set(column, value);
                    }
                }
            }
        }
        Ok(page)
    }
}

/// Names and numbers; `None` when it is anything else.
fn values(reply: &Value) -> Option<Vec<(String, f64)>> {
    if matches!(reply, Value::Nil) {
        return Some(Vec::new());
    }
    pairs(reply)?.map(|(key, value)| Some((text(key)?, number(value)?))).collect()
}

impl Collector<Session> for Scripts {
    fn spec(&self) -> &Spec {
        &SPEC
    }

    fn collect<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        Box::pin(self.read(session))
    }
}
