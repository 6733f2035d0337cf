//! `redis_db_*`: keys of each database, from INFO's Keyspace section; a database without keys is not listed
//! there, so their number comes from the parameter `databases`.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use exposition::{Column, Shape, Snapshot};
use foldhash::fast::RandomState;

use super::{Replies, Section, Spec, config};
use crate::error::ReplyError;
use crate::info::{number, part};
use crate::options::Options;
use crate::request::{Request, Server};

static SPEC: Spec = Spec {
    name: "keyspace",
    doc: "Keys, expiring keys and mean TTL of each database",
    default_enabled: true,
};

/// The databases of a server that was not configured otherwise.
const NAMES: [&str; 16] = [
    "db0", "db1", "db2", "db3", "db4", "db5", "db6", "db7", "db8", "db9", "db10", "db11", "db12", "db13",
    "db14", "db15",
];
/// The server's default, for when its configuration cannot be read.
const DATABASES: usize = NAMES.len();
/// No server has more; a wrong reply must not become millions of series.
const MOST_DATABASES: usize = 10_000;

pub(super) struct Keyspace {
    options: Options,
    shape: Arc<Shape>,
    keys: Column,
    expiring: Column,
    avg_ttl: Column,
    cached: Column,
    with_expiring_items: Option<Column>,
}

impl Keyspace {
    pub(super) fn new(options: &Options) -> Self {
        let mut shape = Shape::new(&["db"]);
        let mut gauge = |family, help| shape.column(&options.gauge(family, help));
        Self {
            options: options.clone(),
            keys: gauge("db_keys", "Keys in a database."),
            expiring: gauge("db_keys_expiring", "Keys in a database that expire."),
            avg_ttl: gauge("db_avg_ttl_seconds", "Mean time to live of a database's expiring keys."),
            cached: gauge("db_keys_cached", "Keys in a database that KeyDB holds in memory."),
            with_expiring_items: (!options.compat_1_86()).then(|| {
                gauge(
                    "db_keys_with_expiring_items",
                    "Keys in a database with items that expire on their own.",
                )
            }),
            shape: Arc::new(shape),
        }
    }

    /// How many databases the server has. A server that never lets us read its configuration has the default
    /// number; one that failed to answer this time has an unknown number.
    fn databases(&self, replies: &Replies) -> Result<usize, ReplyError> {
        if replies.server.sentinel && !self.options.compat_1_86() {
            return Ok(0);
        }
        if replies.server.cluster {
            return Ok(1);
        }
        let Some(request) = Request::config(&replies.server, &self.options) else { return Ok(DATABASES) };
        let value = match replies.get(&request) {
            None => return Ok(DATABASES),
            Some(Err(error)) if error.reason.is_lasting() => return Ok(DATABASES),
            Some(reply) => reply?,
        };
        let configured = config::parameter(&request, value, "databases")?;
        Ok(configured.and_then(|text| text.parse().ok()).unwrap_or(DATABASES).min(MOST_DATABASES))
    }
}

impl Section for Keyspace {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn requests(&self, server: &Server) -> Vec<Request> {
        let wanted = self.options.include_empty_databases && !server.cluster;
        Request::config(server, &self.options).filter(|_| wanted).into_iter().collect()
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let table = page.table_of(&self.shape);
        let mut seen: HashSet<&str, RandomState> = HashSet::default();
        for field in replies.info.section("Keyspace").filter(|field| field.key.starts_with("db")) {
            let read = |name| part(field.value, name).and_then(number);
            let with_items = || read("subexpiry").or_else(|| read("keys_with_volatile_items"));
            // 1.86 takes whatever stands fourth for KeyDB's cached_keys.
            let cached_keys =
                read("cached_keys").or_else(|| self.with_expiring_items.is_none().then(with_items).flatten());
            let mut row = table.row(&[field.key]);
            row.set_some(self.keys, read("keys"))
                .set_some(self.expiring, read("expires"))
                .set_some(self.cached, cached_keys);
            // Dragonfly says -1 for unknown.
            row.set_some(self.avg_ttl, read("avg_ttl").filter(|ttl| *ttl >= 0.0).map(|ttl| ttl / 1e3));
            if let Some(items) = self.with_expiring_items {
                row.set_some(items, with_items());
            }
            seen.insert(field.key);
        }
        if self.options.include_empty_databases {
            let names = NAMES.iter().map(|name| Cow::Borrowed(*name));
            let names = names.chain((NAMES.len()..).map(|number| Cow::Owned(format!("db{number}"))));
            for name in names.take(self.databases(replies)?) {
                if !seen.contains(&*name) {
                    table.row(&[&name]).set(self.keys, 0.0).set(self.expiring, 0.0);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, page, replies};
    use super::*;
    use crate::options::Compat;
    use redis::Value;

    const INFO: &str =
        "# Server\r\nredis_version:7.0.0\r\n# Keyspace\r\ndb1:keys=5,expires=2,avg_ttl=1500,subexpiry=1\r\n";

    fn databases(count: &str) -> (Request, Value) {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        (Request::Config, Value::Array(vec![bulk("databases"), bulk(count)]))
    }

    #[test]
    fn empty_databases_are_zero_and_parts_go_by_name() {
        assert_eq!(
            lines(&page(&Keyspace::new(&Options::default()), &replies(INFO, [databases("2")]))),
            [
                "redis_db_avg_ttl_seconds{db=db1} 1.5",
                "redis_db_keys_expiring{db=db0} 0",
                "redis_db_keys_expiring{db=db1} 2",
                "redis_db_keys_with_expiring_items{db=db1} 1",
                "redis_db_keys{db=db0} 0",
                "redis_db_keys{db=db1} 5",
            ]
        );
    }

    #[test]
    fn the_fourth_part_is_cached_keys_in_compatible_shape() {
        let options = Options { compat: Compat::V1_86, include_empty_databases: false, ..Options::default() };
        let page = page(&Keyspace::new(&options), &replies(INFO, []));
        assert_eq!(page.value("redis_db_keys_cached", &[("db", "db1")]), Some(1.0));
        assert_eq!(page.samples("redis_db_keys").count(), 1);
    }

    #[test]
    fn a_sentinel_has_no_databases() {
        let sentinel = "# Sentinel\r\nsentinel_masters:0\r\n";
        assert!(page(&Keyspace::new(&Options::default()), &replies(sentinel, [])).families.is_empty());
    }
}
