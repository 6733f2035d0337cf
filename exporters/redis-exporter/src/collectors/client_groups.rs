//! `redis_client_group_*` and `redis_client_top_*`: the clients of CLIENT LIST by name, library, user and database, and
//! those that use the most memory. The number of series is bounded, and above a number of clients the list is not asked
//! for: it costs the server time for each.

use std::collections::BTreeMap;

use exposition::{Desc, Snapshot};

use super::{Replies, Section, Spec};
use crate::client_list::{Reader, list};
use crate::error::ReplyError;
use crate::info::number;
use crate::options::{ClientGroups as Limits, Options};
use crate::request::{Request, Server};

static SPEC: Spec = Spec {
    name: "client_groups",
    doc: "Clients by name, library, user and database",
    default_enabled: false,
};

const LABELS: &[&str] = &["name", "library", "user", "db"];

/// Stands in each label of the clients whose groups were too many.
const REST: &str = "(other)";

/// Why nothing is shown; pre-created, so that an alert can wait for it.
const TOO_MANY: &str = "too_many_clients";

pub(super) struct ClientGroups {
    limits: Limits,
    clients: Desc,
    memory: Desc,
    output: Desc,
    query: Desc,
    blocked: Desc,
    idle: Desc,
    top: Desc,
    skipped: Desc,
    folded: Desc,
}

#[derive(Default, Clone, Copy)]
struct Group {
    clients: f64,
    memory: Option<f64>,
    output: f64,
    query: f64,
    blocked: f64,
    idle: f64,
}

impl Group {
    fn add(&mut self, other: &Group) {
        self.clients += other.clients;
        self.memory = other.memory.map(|memory| self.memory.unwrap_or(0.0) + memory).or(self.memory);
        self.output += other.output;
        self.query += other.query;
        self.blocked += other.blocked;
        self.idle = self.idle.max(other.idle);
    }
}

impl ClientGroups {
    pub(super) fn new(options: &Options) -> Self {
        let group = |family: &str, help: &str| options.gauge(&format!("client_group_{family}"), help);
        Self {
            limits: options.features.client_groups.unwrap_or_default(),
            clients: group("clients", "Clients of a group."),
            memory: group("memory_bytes", "Memory of a group's clients."),
            output: group("output_buffer_bytes", "Memory of the output buffers of a group's clients."),
            query: group("query_buffer_bytes", "Used bytes of the query buffers of a group's clients."),
            blocked: group("blocked_clients", "Clients of a group that wait in a blocking command."),
            idle: group("idle_seconds_max", "How long the longest idle client of a group has been so."),
            top: options.gauge("client_top_memory_bytes", "Memory of the clients that use the most."),
            skipped: options.gauge(
                "client_groups_skipped",
                "1 when clients are not listed, for the reason in the label; else 0.",
            ),
            folded: options.gauge("client_groups_folded", "Groups that were put into the group (other)."),
        }
    }

    fn write_groups(&self, groups: BTreeMap<[&str; 4], Group>, page: &mut Snapshot) {
        let mut groups: Vec<([&str; 4], Group)> = groups.into_iter().collect();
        groups.sort_by(|(_, a), (_, b)| b.clients.total_cmp(&a.clients));
        let rest = groups.split_off(groups.len().min(self.limits.groups));
        page.sample(&self.folded, rest.len() as f64);
        if !rest.is_empty() {
            let mut sum = Group::default();
            rest.iter().for_each(|(_, group)| sum.add(group));
            groups.push(([REST; 4], sum));
        }
        let table = page.table(LABELS);
        let [clients, memory, output, query, blocked, idle] =
            [&self.clients, &self.memory, &self.output, &self.query, &self.blocked, &self.idle]
                .map(|desc| table.column(desc));
        for (labels, group) in &groups {
            table
                .row(labels)
                .set(clients, group.clients)
                .set_some(memory, group.memory)
                .set(output, group.output)
                .set(query, group.query)
                .set(blocked, group.blocked)
                .set(idle, group.idle);
        }
    }

    fn write_list(&self, list: &str, page: &mut Snapshot) {
        let mut groups: BTreeMap<[&str; 4], Group> = BTreeMap::new();
        let mut top: Vec<(f64, [&str; 4])> = Vec::new();
        let mut reader = Reader::new([
            "id", "addr", "name", "lib-name", "user", "db", "flags", "tot-mem", "omem", "qbuf", "idle",
        ]);
        for line in list.lines() {
            let [id, addr, name, lib_name, user, db, flags, memory, output, query, idle] = reader.read(line);
            let Some(id) = id else { continue };
            let [addr, name, lib_name, user, db, flags] =
                [addr, name, lib_name, user, db, flags].map(Option::unwrap_or_default);
            let [memory, output, query, idle] =
                [memory, output, query, idle].map(|value| value.and_then(number));
            groups.entry([name, lib_name, user, db]).or_default().add(&Group {
                clients: 1.0,
                memory,
                output: output.unwrap_or(0.0),
                query: query.unwrap_or(0.0),
                blocked: f64::from(u8::from(flags.contains('b'))),
                idle: idle.unwrap_or(0.0),
            });
            top.extend(memory.or(output).map(|memory| (memory, [id, addr, name, user])));
        }
        self.write_groups(groups, page);
        top.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let table = page.table(&["id", "addr", "name", "user"]);
        let column = table.column(&self.top);
        for (memory, labels) in top.iter().take(self.limits.top) {
            table.row(labels).set(column, *memory);
        }
    }
}

impl Section for ClientGroups {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn requests(&self, server: &Server) -> Vec<Request> {
        let wanted = !server.sentinel && server.clients <= self.limits.clients;
        wanted.then_some(Request::ClientList).into_iter().collect()
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let skipped = replies.server.clients > self.limits.clients;
        let table = page.table(&["reason"]);
        let column = table.column(&self.skipped);
        table.row(&[TOO_MANY]).set(column, f64::from(u8::from(skipped)));
        match replies.get(&Request::ClientList) {
            Some(reply) if !skipped => {
                self.write_list(&list(reply?)?, page);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{page, replies};
    use super::*;
    use proptest::prelude::*;
    use redis::Value;

    fn view(lines: &str, limits: Limits) -> exposition::Page {
        let mut options = Options::default();
        options.features.client_groups = Some(limits);
        let count = lines.lines().count();
        let info = format!("# Clients\r\nconnected_clients:{count}\r\n");
        let list = (Request::ClientList, Value::BulkString(lines.as_bytes().to_vec()));
        page(&ClientGroups::new(&options), &replies(&info, [list]))
    }

    const LINES: &str = "id=1 addr=h:1 name=web idle=5 flags=N db=0 qbuf=1 omem=2 tot-mem=10 user=u lib-name=jedis\n\
        id=2 addr=h:2 name=web idle=9 flags=b db=0 qbuf=1 omem=2 tot-mem=30 user=u lib-name=jedis\n\
        id=3 addr=h:3 name=a=b idle=1 flags=N db=2 qbuf=0 omem=0 tot-mem=20 user=u lib-name=\n\
        id=4 addr=h:4 name= idle=7 flags=N db=0 qbuf=0 omem=4 tot-mem=1 user=v lib-name=\n";

    #[test]
    fn clients_are_summed_by_group_and_the_rest_is_one() {
        let page = view(LINES, Limits { groups: 2, top: 2, ..Limits::default() });
        let value =
            |family: &str, name| page.value(&format!("redis_client_group_{family}"), &[("name", name)]);
        assert_eq!(
            ["clients", "memory_bytes", "output_buffer_bytes", "blocked_clients", "idle_seconds_max"]
                .map(|family| value(family, "web")),
            [Some(2.0), Some(40.0), Some(4.0), Some(1.0), Some(9.0)]
        );
        assert_eq!((value("clients", REST), value("memory_bytes", REST)), (Some(1.0), Some(20.0)));
        assert_eq!(page.value("redis_client_groups_folded", &[]), Some(1.0));
        let top: Vec<_> =
            page.samples("redis_client_top_memory_bytes").map(|s| (s.label("id"), s.value)).collect();
        assert_eq!(top, [(Some("2"), 30.0), (Some("3"), 20.0)]);
    }

    #[test]
    fn above_the_limit_only_the_reason_is_shown() {
        let page = view(LINES, Limits { clients: 3, ..Limits::default() });
        assert_eq!(page.value("redis_client_groups_skipped", &[("reason", TOO_MANY)]), Some(1.0));
        assert_eq!(page.families.len(), 1);
    }

    proptest! {
        #[test]
        fn arbitrary_lists_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let list = (Request::ClientList, Value::BulkString(bytes));
            let _ = ClientGroups::new(&Options::default()).write(&replies("", [list]), &mut Snapshot::new());
        }

        #[test]
        fn totals_are_those_of_the_list(names in proptest::collection::vec("[a-f]{0,2}", 1..60)) {
            let lines: String = names.iter().enumerate()
                .map(|(id, name)| format!("id={id} name={name} db=0 tot-mem=3\n")).collect();
            let page = view(&lines, Limits { groups: 4, ..Limits::default() });
            let sum: f64 = page.samples("redis_client_group_clients").map(|s| s.value).sum();
            prop_assert_eq!(sum, names.len() as f64);
            prop_assert!(page.samples("redis_client_group_clients").count() <= 5);
        }
    }
}
