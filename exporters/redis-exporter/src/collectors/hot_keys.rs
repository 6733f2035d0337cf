//! `redis_hot_key_*`: the keys that took the most time and the most bytes, from HOTKEYS GET (Redis 8.6). The server counts
//! only after HOTKEYS START, which is the operator's to send.

use exposition::{Desc, Snapshot};
use redis::Value;

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::keyspace_walk::label;
use crate::options::Options;
use crate::request::{Request, Server, is, items, number, pairs};

static SPEC: Spec = Spec {
    name: "hot_keys",
    doc: "The keys that take the most time and bytes, while the server tracks them",
    default_enabled: false,
};

/// Lists of keys in the reply, and what a second or a byte is in their unit.
const LISTS: &[(&str, &str, f64, &str)] = &[
    ("by-cpu-time-us", "cpu_seconds", 1e6, "Time of the server that a key took since tracking began, about."),
    ("by-net-bytes", "net_bytes", 1.0, "Bytes sent and received for a key since tracking began, about."),
];

pub(super) struct HotKeys {
    active: Desc,
    duration: Desc,
    sample_ratio: Desc,
    lists: Vec<(&'static str, Desc, f64)>,
}

impl HotKeys {
    pub(super) fn new(options: &Options) -> Self {
        let list = |(field, family, unit, help): &(&'static str, &str, f64, &str)| {
            (*field, options.gauge(&format!("hot_key_{family}"), help), *unit)
        };
        Self {
            active: options.gauge("hot_keys_tracking_active", "Whether the server tracks hot keys now."),
            duration: options.gauge(
                "hot_keys_tracking_duration_seconds",
                "How long the server tracks or tracked hot keys.",
            ),
            sample_ratio: options.gauge("hot_keys_sample_ratio", "One of so many keys is tracked."),
            lists: LISTS.iter().map(list).collect(),
        }
    }

    /// Fields of one node.
    fn write_fields(&self, fields: &[(&Value, &Value)], page: &mut Snapshot) -> Option<()> {
        let get = |name: &str| fields.iter().find(|(key, _)| is(key, name)).map(|(_, v)| *v);
        page.sample(&self.active, number(get("tracking-active")?)?);
        let others =
            [(&self.duration, "collection-duration-ms", 1e3), (&self.sample_ratio, "sample-ratio", 1.0)];
        for (desc, field, unit) in others {
            if let Some(value) = get(field).and_then(number) {
                page.sample(desc, value / unit);
            }
        }
        for (field, desc, unit) in &self.lists {
            let table = page.table(&["key"]);
            let column = table.column(desc);
            // What is not tracked is not in the reply.
            let Some(listed) = get(field) else { continue };
            for (key, value) in pairs(listed)? {
                let Value::BulkString(key) = key else { return None };
                table.row(&[&label(key)]).set_some(column, number(value).map(|value| value / unit));
            }
        }
        Some(())
    }
}

impl Section for HotKeys {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn requests(&self, server: &Server) -> Vec<Request> {
        let knows = server.valkey == (0, 0) && server.version >= (8, 6) && !server.sentinel;
        knows.then_some(Request::HotKeys).into_iter().collect()
    }

    /// Nothing, or a list of one map of fields.
    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let Some(reply) = replies.get(&Request::HotKeys) else { return Ok(()) };
        let nodes = match reply? {
            Value::Nil => {
                page.sample(&self.active, 0.0);
                return Ok(());
            }
            reply => items(reply).unwrap_or(&[Value::Nil]),
        };
        for node in nodes {
            let fields = pairs(node).and_then(|fields| self.write_fields(&fields.collect::<Vec<_>>(), page));
            fields.ok_or_else(|| ReplyError::unexpected(Request::HotKeys.name()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, page, replies};
    use super::*;

    /// What Redis 8.6.3 sent after eight times SET hot:1 and GET hot:2.
    const REPLY: &str = "*1 *24 $15 tracking-active :1 $12 sample-ratio :1 $14 selected-slots *1 *2 :0 :16383 \
        $25 all-commands-all-slots-us :110 $32 net-bytes-all-commands-all-slots :520 \
        $29 collection-start-time-unix-ms :1795652557769 $22 collection-duration-ms :12479 \
        $22 total-cpu-time-user-ms :15 $21 total-cpu-time-sys-ms :7 $15 total-net-bytes :520 \
        $14 by-cpu-time-us *4 $5 hot:1 :89 $5 hot:2 :21 $12 by-net-bytes *4 $5 hot:1 :288 $5 hot:2 :232 ";

    fn write(reply: Value) -> Vec<String> {
        lines(&page(&HotKeys::new(&Options::default()), &replies("", [(Request::HotKeys, reply)])))
    }

    #[test]
    fn a_key_has_its_time_and_bytes() {
        let reply = redis::parse_redis_value(REPLY.replace(' ', "\r\n").as_bytes()).unwrap();
        assert_eq!(
            write(reply),
            [
                "redis_hot_key_cpu_seconds{key=hot:1} 0.000089",
                "redis_hot_key_cpu_seconds{key=hot:2} 0.000021",
                "redis_hot_key_net_bytes{key=hot:1} 288",
                "redis_hot_key_net_bytes{key=hot:2} 232",
                "redis_hot_keys_sample_ratio{} 1",
                "redis_hot_keys_tracking_active{} 1",
                "redis_hot_keys_tracking_duration_seconds{} 12.479",
            ]
        );
    }

    #[test]
    fn a_server_that_tracked_nothing_says_so() {
        assert_eq!(write(Value::Nil), ["redis_hot_keys_tracking_active{} 0"]);
    }

    #[test]
    fn only_servers_that_have_it_are_asked() {
        let asked = |version, valkey| {
            let server = Server { version, valkey, ..Server::default() };
            !HotKeys::new(&Options::default()).requests(&server).is_empty()
        };
        assert_eq!(
            [asked((8, 2), (0, 0)), asked((8, 6), (0, 0)), asked((8, 6), (9, 9))],
            [false, true, false]
        );
    }
}
