//! `redis_connected_client_*`: each client of the server, from CLIENT LIST.

use std::time::{SystemTime, UNIX_EPOCH};

use exposition::{Desc, Snapshot};
use redis::Value;

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::info::number;
use crate::options::Options;
use crate::request::{Request, Server, text};

static SPEC: Spec = Spec { name: "clients", doc: "Each client of the server", default_enabled: false };

/// Clients that are shown at most.
const MOST_CLIENTS: usize = 10_000;

/// Fields that are one family each.
const FIELDS: &[(&str, &str)] = &[
    ("sub", "channel_subscriptions_count"),
    ("psub", "pattern_matching_subscriptions_count"),
    ("ssub", "shard_channel_subscriptions_count"),
    ("watch", "shard_channel_watched_keys"),
    ("qbuf", "query_buffer_length_bytes"),
    ("qbuf-free", "query_buffer_free_space_bytes"),
    ("obl", "output_buffer_length_bytes"),
    ("oll", "output_list_length"),
    ("omem", "output_buffer_memory_usage_bytes"),
    ("tot-mem", "total_memory_consumed_bytes"),
];

/// Fields that are seconds ago.
const AGES: &[(&str, &str)] = &[("age", "created_at_timestamp"), ("idle", "idle_since_timestamp")];

pub(super) struct Clients {
    port: bool,
    info: Desc,
    fields: Vec<(&'static str, Desc)>,
    ages: Vec<(&'static str, Desc)>,
}

impl Clients {
    pub(super) fn new(options: &Options) -> Self {
        let descs = |fields: &[(&'static str, &str)]| {
            let desc = |(field, family): &(&'static str, &str)| {
                let help = format!("Field {field} of CLIENT LIST.");
                (*field, options.gauge(&format!("connected_client_{family}"), &help))
            };
            fields.iter().map(desc).collect()
        };
        Self {
            port: options.features.client_port,
            info: options.gauge("connected_client_info", "A client; the value is 1."),
            fields: descs(FIELDS),
            ages: descs(AGES),
        }
    }

    /// Names and values of the labels that tell who a client is.
    fn labels<'a>(&self, client: &[(&str, &'a str)]) -> Vec<(&'static str, &'a str)> {
        let field = |name| get(client, name).unwrap_or_default();
        let (host, port) = field("addr").rsplit_once(':').unwrap_or_default();
        let mut labels = vec![
            ("id", field("id")),
            ("name", field("name")),
            ("flags", field("flags")),
            ("db", field("db")),
            ("host", host),
        ];
        if self.port {
            labels.push(("port", port));
        }
        labels.extend(["user", "resp"].into_iter().filter_map(|label| Some((label, get(client, label)?))));
        labels
    }

    fn write_info(&self, clients: &[Vec<(&str, &str)>], page: &mut Snapshot) {
        let labels: Vec<_> = clients.iter().map(|client| self.labels(client)).collect();
        let names =
            |labels: &[(&'static str, &str)]| labels.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        // Which labels there are depends on the server's version: all clients are in one table.
        for alike in labels.chunk_by(|a, b| names(a) == names(b)) {
            let table = page.table(&names(&alike[0]));
            let column = table.column(&self.info);
            for client in alike {
                let values: Vec<&str> = client.iter().map(|(_, value)| *value).collect();
                table.row(&values).set(column, 1.0);
            }
        }
    }

    fn write_fields(&self, clients: &[Vec<(&str, &str)>], now: f64, page: &mut Snapshot) {
        let table = page.table(&["id", "name"]);
        let fields: Vec<_> = self.fields.iter().map(|(key, desc)| (*key, table.column(desc))).collect();
        let ages: Vec<_> = self.ages.iter().map(|(key, desc)| (*key, table.column(desc))).collect();
        for client in clients {
            let value = |key| get(client, key).and_then(number);
            let mut row = table.row(&["id", "name"].map(|label| get(client, label).unwrap_or_default()));
            for (key, column) in &fields {
                row.set_some(*column, value(key));
            }
            for (key, column) in &ages {
                row.set_some(*column, value(key).map(|ago| now - ago));
            }
        }
    }
}

/// The value of a client's field.
fn get<'a>(client: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    client.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
}

/// The text of CLIENT LIST, which has at least us.
pub(super) fn list(reply: &Value) -> Result<String, ReplyError> {
    let list = text(reply).filter(|list| list.lines().any(|line| get(&fields(line), "id").is_some()));
    list.ok_or_else(|| ReplyError::unexpected(Request::ClientList.name()))
}

/// The fields of one line. A value may hold `=`, but no space: the server does not let a name have one.
pub(super) fn fields(line: &str) -> Vec<(&str, &str)> {
    line.split(' ').filter_map(|part| part.split_once('=')).collect()
}

impl Section for Clients {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn requests(&self, _: &Server) -> Vec<Request> {
        vec![Request::ClientList]
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let Some(reply) = replies.get(&Request::ClientList) else { return Ok(()) };
        let list = list(reply?)?;
        // The server's clock, where it tells it: ages are by it.
        let now = replies.info.number("server_time_usec").map(|usec| (usec / 1e6).floor());
        let here = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs() as f64);
        let now = now.unwrap_or_else(here);
        let clients = list.lines().take(MOST_CLIENTS).map(fields);
        let clients: Vec<_> = clients.filter(|client| get(client, "id").is_some()).collect();
        self.write_info(&clients, page);
        self.write_fields(&clients, now, page);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{page, replies};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_with_an_equals_sign_is_kept() {
        let line =
            "id=7 addr=[::1]:5 fd=8 name=svc=a age=10 idle=2 flags=N db=0 sub=1 psub=0 omem=5 user=u resp=2";
        let info = "# Server\r\nserver_time_usec:100000000\r\n";
        let reply = (Request::ClientList, Value::BulkString(format!("{line}\n").into_bytes()));
        let options = Options::default();
        let page = page(&Clients::new(&options), &replies(info, [reply]));
        let labels = [("id", "7"), ("name", "svc=a")];
        let value = |family: &str| page.value(&format!("redis_connected_client_{family}"), &labels);
        assert_eq!(value("created_at_timestamp"), Some(90.0));
        assert_eq!(value("output_buffer_memory_usage_bytes"), Some(5.0));
        assert_eq!(value("total_memory_consumed_bytes"), None);
        let info = page.samples("redis_connected_client_info").next().unwrap();
        assert_eq!(
            (info.label("host"), info.label("port"), info.label("user")),
            (Some("[::1]"), None, Some("u"))
        );
    }

    proptest! {
        #[test]
        fn arbitrary_lists_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let list = (Request::ClientList, Value::BulkString(bytes));
            let mut page = Snapshot::new();
            let _ = Clients::new(&Options::default()).write(&replies("", [list]), &mut page);
        }
    }
}
