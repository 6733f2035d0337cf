//! `redis_stream_*`: streams, their groups and consumers, from XINFO.

use std::collections::{BTreeMap, BTreeSet};

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Spec};
use exposition::{Desc, Snapshot};
use redis::Value;

use crate::command::Command;
use crate::error::ReplyError;
use crate::info;
use crate::keyspace_walk::{label, walk};
use crate::options::Options;
use crate::request::{items, number, pairs, text};
use crate::session::Session;

static SPEC: Spec =
    Spec { name: "streams", doc: "Chosen streams, their groups and consumers", default_enabled: false };

/// How a field of XINFO is read.
#[derive(Clone, Copy)]
enum Read {
    Number,
    /// Milliseconds, where the family has seconds.
    Milliseconds,
    /// The time in an entry's id, in milliseconds.
    Id,
    /// The time in the id of an entry, of which the reply has the whole.
    EntryId,
}

/// Fields of XINFO STREAM; the one counter came after 1.86.
const STREAM: &[(&str, &str, Read)] = &[
    ("length", "stream_length", Read::Number),
    ("radix-tree-keys", "stream_radix_tree_keys", Read::Number),
    ("radix-tree-nodes", "stream_radix_tree_nodes", Read::Number),
    ("last-generated-id", "stream_last_generated_id", Read::Id),
    ("groups", "stream_groups", Read::Number),
    ("max-deleted-entry-id", "stream_max_deleted_entry_id", Read::Id),
    ("first-entry", "stream_first_entry_id", Read::EntryId),
    ("last-entry", "stream_last_entry_id", Read::EntryId),
    ("entries-added", "stream_entries_added_total", Read::Number),
];

/// Fields of XINFO GROUPS.
const GROUP: &[(&str, &str, Read)] = &[
    ("consumers", "stream_group_consumers", Read::Number),
    ("pending", "stream_group_messages_pending", Read::Number),
    ("last-delivered-id", "stream_group_last_delivered_id", Read::Id),
    ("entries-read", "stream_group_entries_read", Read::Number),
    ("lag", "stream_group_lag", Read::Number),
];

/// Fields of XINFO CONSUMERS.
const CONSUMER: &[(&str, &str, Read)] = &[
    ("pending", "stream_group_consumer_messages_pending", Read::Number),
    ("idle", "stream_group_consumer_idle_seconds", Read::Milliseconds),
];

type Row = (&'static str, Desc, Read);

pub(super) struct Streams {
    options: Options,
    stream: Vec<Row>,
    group: Vec<Row>,
    consumer: Vec<Row>,
}

impl Streams {
    pub(super) fn new(options: &Options) -> Self {
        let compat = options.compat_1_86();
        let rows = |fields: &[(&'static str, &str, Read)], command: &str| {
            let wanted = fields.iter().filter(|(_, family, _)| !(compat && family.ends_with("_total")));
            let row = |(field, family, read): &(&'static str, &str, Read)| {
                let help = format!("Field {field} of {command}.");
                let desc = if family.ends_with("_total") {
                    options.counter(family, &help)
                } else {
                    options.gauge(family, &help)
                };
                (*field, desc, *read)
            };
            wanted.map(row).collect()
        };
        Self {
            options: options.clone(),
            stream: rows(STREAM, "XINFO STREAM"),
            group: rows(GROUP, "XINFO GROUPS"),
            consumer: rows(CONSUMER, "XINFO CONSUMERS"),
        }
    }

    async fn read(&self, session: &Session) -> Result<Snapshot, CollectError> {
        let features = &self.options.features;
        let facts = session.read_facts().await?;
        let mut page = Snapshot::new();
        if !session.reads_keys(&facts) {
            return Ok(page);
        }
        let mut streams: BTreeMap<i64, BTreeSet<Vec<u8>>> = BTreeMap::new();
        let failed = walk(session, &features.stream_patterns, features.batch, |at, key| {
            streams.entry(features.stream_patterns[at].database).or_default().insert(key.to_vec());
        });
        for (_, error) in failed.await {
            session.note(SPEC.name, error);
        }
        for key in features.streams.iter().filter(|key| session.owns(&key.key)) {
            streams.entry(key.database).or_default().insert(key.key.clone().into_bytes());
        }
        for (database, streams) in &streams {
            if let Err(error) = self.database(session, *database, streams, &mut page).await {
                session.note(SPEC.name, error);
            }
        }
        Ok(page)
    }

    /// Two batches: streams and groups, then consumers.
    async fn database(
        &self,
        session: &Session,
        database: i64,
        streams: &BTreeSet<Vec<u8>>,
        page: &mut Snapshot,
    ) -> Result<(), ReplyError> {
        let db = format!("db{database}");
        let asked = streams.iter().flat_map(|key| [xinfo("STREAM", key, None), xinfo("GROUPS", key, None)]);
        let replies = session.in_database(database, "XINFO STREAM", &asked.collect::<Vec<_>>()).await?;
        let mut groups = Vec::new();
        for (key, replies) in streams.iter().zip(replies.chunks_exact(2)) {
            let name = label(key);
            match replies[0].as_ref().map(fields) {
                Ok(Some(fields)) => write(&self.stream, &["db", "stream"], &[&db, &name], &fields, page),
                Ok(None) => session.note(SPEC.name, ReplyError::unexpected("XINFO STREAM")),
                Err(error) => session.note(SPEC.name, error.clone()),
            }
            for (group, fields) in entries(session, "XINFO GROUPS", &replies[1]) {
                let labels = [db.as_str(), &name, &label(&group)];
                write(&self.group, &["db", "stream", "group"], &labels, &fields, page);
                groups.push((key, group));
            }
        }
        if !self.options.features.stream_consumers || groups.is_empty() {
            return Ok(());
        }
        let asked: Vec<Command> =
            groups.iter().map(|(key, group)| xinfo("CONSUMERS", key, Some(group))).collect();
        let replies = session.in_database(database, "XINFO CONSUMERS", &asked).await?;
        for ((key, group), reply) in groups.iter().zip(&replies) {
            for (name, fields) in entries(session, "XINFO CONSUMERS", reply) {
                let labels = [db.as_str(), &label(key), &label(group), &label(&name)];
                write(&self.consumer, &["db", "stream", "group", "consumer"], &labels, &fields, page);
            }
        }
        Ok(())
    }
}

fn xinfo(what: &str, key: &[u8], group: Option<&[u8]>) -> Command {
    group.into_iter().fold(Command::of(&["XINFO", what]).arg(key), Command::arg)
}

type Fields<'a> = Vec<(String, &'a Value)>;

/// What has a name in a reply, with its fields; what cannot be read is noted.
fn entries<'a>(
    session: &Session,
    what: &'static str,
    reply: &'a Result<Value, ReplyError>,
) -> Vec<(Vec<u8>, Fields<'a>)> {
    let entry = |value| {
        let fields = fields(value)?;
        let Some(Value::BulkString(name)) = get(&fields, "name").cloned() else { return None };
        Some((name, fields))
    };
    let read = |reply| items(reply)?.iter().map(entry).collect::<Option<Vec<_>>>();
    let entries = reply.as_ref().map_err(Clone::clone);
    let entries = entries.and_then(|reply| read(reply).ok_or_else(|| ReplyError::unexpected(what)));
    entries.unwrap_or_else(|error| {
        session.note(SPEC.name, error);
        Vec::new()
    })
}

fn fields(value: &Value) -> Option<Fields<'_>> {
    Some(pairs(value)?.filter_map(|(key, value)| Some((text(key)?, value))).collect())
}

fn get<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a Value> {
    fields.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
}

fn write(rows: &[Row], names: &[&str], labels: &[&str], fields: &Fields<'_>, page: &mut Snapshot) {
    let table = page.table(names);
    let columns: Vec<_> = rows.iter().map(|(_, desc, _)| table.column(desc)).collect();
    let mut row = table.row(labels);
    for ((field, _, read), column) in rows.iter().zip(columns) {
        row.set_some(column, get(fields, field).and_then(|value| value_of(value, *read)));
    }
}

/// A field's number. What the server does not know is nil, and absent here: no lag is not the same.
fn value_of(value: &Value, read: Read) -> Option<f64> {
    let milliseconds = |id: &Value| info::number(text(id)?.split('-').next()?);
    match read {
        Read::Number => number(value),
        Read::Milliseconds => number(value).map(|value| value / 1e3),
        Read::Id => milliseconds(value),
        Read::EntryId => milliseconds(items(value)?.first()?),
    }
}

impl Collector<Session> for Streams {
    fn spec(&self) -> &Spec {
        &SPEC
    }

    fn collect<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        Box::pin(self.read(session))
    }
}
