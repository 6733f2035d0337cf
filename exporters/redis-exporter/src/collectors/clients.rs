//! `redis_connected_client_*`: each client of the server, from CLIENT LIST.

use std::time::{SystemTime, UNIX_EPOCH};

use exposition::{Desc, Snapshot};

use super::{Replies, Section, Spec};
use crate::client_list::{Reader, list};
use crate::error::ReplyError;
use crate::info::number;
use crate::options::Options;
use crate::request::{Request, Server};

static SPEC: Spec = Spec { name: "clients", doc: "Each client of the server", default_enabled: false };

/// Clients that are shown at most.
const MOST_CLIENTS: usize = 10_000;

/// Fields that tell who a client is. Those at the end are labels where the server has them.
const IDENTITY: [&str; 7] = ["id", "name", "flags", "db", "addr", "user", "resp"];

/// Fields that are one family each.
const FIELDS: [(&str, &str); 10] = [
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
const AGES: [(&str, &str); 2] = [("age", "created_at_timestamp"), ("idle", "idle_since_timestamp")];

/// Fields of all three kinds.
const WIDTH: usize = IDENTITY.len() + FIELDS.len() + AGES.len();

/// A client's values, in the order of [`IDENTITY`], [`FIELDS`] and [`AGES`].
type Client<'a> = [Option<&'a str>; WIDTH];

pub(super) struct Clients {
    port: bool,
    info: Desc,
    fields: [Desc; FIELDS.len()],
    ages: [Desc; AGES.len()],
}

impl Clients {
    pub(super) fn new(options: &Options) -> Self {
        let desc = |(field, family): (&str, &str)| {
            options.gauge(&format!("connected_client_{family}"), &format!("Field {field} of CLIENT LIST."))
        };
        Self {
            port: options.features.client_port,
            info: options.gauge("connected_client_info", "A client; the value is 1."),
            fields: FIELDS.map(desc),
            ages: AGES.map(desc),
        }
    }

    fn write_info(&self, clients: &[Client<'_>], page: &mut Snapshot) {
        // Which labels there are depends on the server's version: all clients are in one table.
        for alike in clients.chunk_by(|a, b| has_user_and_resp(a) == has_user_and_resp(b)) {
            let (user, resp) = has_user_and_resp(&alike[0]);
            let optional = |there: bool, label: &'static str| there.then_some(label);
            let more = [optional(self.port, "port"), optional(user, "user"), optional(resp, "resp")];
            let names: Vec<&str> =
                ["id", "name", "flags", "db", "host"].into_iter().chain(more.into_iter().flatten()).collect();
            let table = page.table(&names);
            let column = table.column(&self.info);
            let mut values = Vec::with_capacity(names.len());
            for [id, name, flags, db, addr, user, resp, ..] in alike {
                let (host, port) = addr.and_then(|addr| addr.rsplit_once(':')).unwrap_or_default();
                values.clear();
                values.extend([id, name, flags, db].map(|value| value.unwrap_or_default()));
                values.push(host);
                values.extend(self.port.then_some(port).into_iter().chain(*user).chain(*resp));
                table.row(&values).set(column, 1.0);
            }
        }
    }

    fn write_fields(&self, clients: &[Client<'_>], now: f64, page: &mut Snapshot) {
        let table = page.table(&["id", "name"]);
        let fields = self.fields.each_ref().map(|desc| table.column(desc));
        let ages = self.ages.each_ref().map(|desc| table.column(desc));
        for client in clients {
            let (identity, values) = client.split_at(IDENTITY.len());
            let (field_values, age_values) = values.split_at(FIELDS.len());
            let mut row = table.row(&[identity[0].unwrap_or_default(), identity[1].unwrap_or_default()]);
            for (column, value) in fields.iter().zip(field_values) {
                row.set_some(*column, value.and_then(number));
            }
            for (column, value) in ages.iter().zip(age_values) {
                row.set_some(*column, value.and_then(number).map(|ago| now - ago));
            }
        }
    }
}

/// Which of the labels a client has that not every server knows.
fn has_user_and_resp([_, _, _, _, _, user, resp, ..]: &Client<'_>) -> (bool, bool) {
    (user.is_some(), resp.is_some())
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
        let mut wanted = IDENTITY.into_iter().chain(FIELDS.into_iter().chain(AGES).map(|(field, _)| field));
        let mut reader = Reader::<WIDTH>::new(std::array::from_fn(|_| wanted.next().unwrap_or_default()));
        let clients = list.lines().take(MOST_CLIENTS).map(|line| reader.read(line));
        let clients: Vec<Client<'_>> = clients.filter(|[id, ..]| id.is_some()).collect();
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
    use redis::Value;

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
