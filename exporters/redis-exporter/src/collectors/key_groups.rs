//! `redis_key_group_*`: keys by what the operator's Lua patterns capture of their names.

use std::collections::{BTreeMap, HashMap};

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Spec};
use exposition::{Desc, Snapshot};
use redis::Value;

use crate::command::Command;
use crate::error::ReplyError;
use crate::keyspace_walk::{label, walk};
use crate::options::{KeyArg, Options};
use crate::request::number;
use crate::session::{Facts, Session};

static SPEC: Spec =
    Spec { name: "key_groups", doc: "Keys by group, from Lua patterns", default_enabled: false };

/// The group of keys that no pattern matches.
const UNCLASSIFIED: &[u8] = b"unclassified";

/// The group of keys whose group is one too many.
const OVERFLOW: &str = "overflow";

/// Groups that are told apart; further ones are in the overflow.
const MOST_GROUPS: usize = 100_000;

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    keys: u64,
    memory: u64,
}

impl Sum {
    fn add(&mut self, other: Sum) {
        self.keys += other.keys;
        self.memory += other.memory;
    }
}

/// The keys of one database by group.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    found: HashMap<Vec<u8>, Sum>,
    rest: Sum,
}

pub(crate) struct KeyGroups {
    options: Options,
    count: Desc,
    memory: Desc,
    distinct: Desc,
}

/// The databases that have keys.
pub(crate) fn databases(facts: &Facts) -> impl Iterator<Item = i64> {
    let numbers = facts.info.section("Keyspace").filter_map(|field| field.key.strip_prefix("db"));
    numbers.filter_map(|number| number.parse().ok())
}

impl KeyGroups {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            options: options.clone(),
            count: options.gauge("key_group_count", "Keys of a group."),
            memory: options.gauge("key_group_memory_usage_bytes", "Memory of the keys of a group."),
            distinct: options.gauge("number_of_distinct_key_groups", "Groups of a database."),
        }
    }

    /// Adds a key to its group.
    pub(crate) fn add(&self, groups: &mut Groups, key: &[u8], memory: u64) {
        let patterns = &self.options.features.key_groups;
        let group = patterns.iter().find_map(|pattern| pattern.captures(key));
        let group = group.unwrap_or_else(|| UNCLASSIFIED.to_vec());
        let one = Sum { keys: 1, memory };
        if groups.found.len() < MOST_GROUPS {
            groups.found.entry(group).or_default().add(one);
        } else {
            groups.found.get_mut(&group).unwrap_or(&mut groups.rest).add(one);
        }
    }

    /// Writes the groups with the most memory, and what the others come to.
    pub(crate) fn write(&self, database: i64, groups: &Groups, page: &mut Snapshot) {
        let database = format!("db{database}");
        let mut sums: Vec<(&Vec<u8>, &Sum)> = groups.found.iter().collect();
        sums.sort_unstable_by_key(|(name, sum)| (std::cmp::Reverse(sum.memory), sum.keys, *name));
        let shown = self.options.features.max_key_groups.min(sums.len());
        let mut rest = groups.rest;
        sums[shown..].iter().for_each(|(_, sum)| rest.add(**sum));
        // A group may have the name of the overflow.
        let mut named: BTreeMap<String, Sum> = BTreeMap::new();
        for (name, sum) in &sums[..shown] {
            named.entry(label(name)).or_default().add(**sum);
        }
        if rest.keys > 0 {
            named.entry(OVERFLOW.to_owned()).or_default().add(rest);
        }
        let table = page.table(&["db", "key_group"]);
        let (count, memory) = (table.column(&self.count), table.column(&self.memory));
        for (name, sum) in &named {
            table.row(&[&database, name]).set(count, sum.keys as f64).set(memory, sum.memory as f64);
        }
        let table = page.table(&["db"]);
        let distinct = table.column(&self.distinct);
        table.row(&[&database]).set(distinct, groups.found.len() as f64);
    }

    async fn read(&self, session: &Session) -> Result<Snapshot, CollectError> {
        let facts = session.read_facts().await?;
        let mut page = Snapshot::new();
        for database in databases(&facts).filter(|_| session.has_keys()) {
            match self.database(session, database).await {
                Ok(groups) => self.write(database, &groups, &mut page),
                // Half of a count is a wrong count.
                Err(error) => session.note(SPEC.name, error),
            }
        }
        Ok(page)
    }

    async fn database(&self, session: &Session, database: i64) -> Result<Groups, ReplyError> {
        let batch = self.options.features.batch;
        let (every, mut keys) = ([KeyArg { database, key: "*".to_owned() }], Vec::new());
        let failed = walk(session, &every, batch, |_, key| keys.push(key.to_vec())).await;
        if let Some((_, error)) = failed.into_iter().next() {
            return Err(error);
        }
        let mut groups = Groups::default();
        for keys in keys.chunks(batch as usize) {
            let commands = keys.iter().map(|key| Command::of(&["MEMORY", "USAGE"]).arg(key));
            let replies =
                session.in_database(database, "MEMORY USAGE", &commands.collect::<Vec<_>>()).await?;
            for (key, reply) in keys.iter().zip(replies) {
                match reply? {
                    // A key that is gone has no memory.
                    Value::Nil => {}
                    reply => {
                        let memory = number(&reply).ok_or_else(|| ReplyError::unexpected("MEMORY USAGE"))?;
                        self.add(&mut groups, key, memory as u64);
                    }
                }
            }
        }
        Ok(groups)
    }
}

impl Collector<Session> for KeyGroups {
    fn spec(&self) -> &Spec {
        &SPEC
    }

    fn collect<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        Box::pin(self.read(session))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, parsed};
    use super::*;
    use crate::lua_pattern::Pattern;

    #[test]
    fn the_heaviest_groups_are_shown_and_the_rest_is_one() {
        let mut options = Options::default();
        options.features.key_groups = Pattern::parse_list("^(%a+):").unwrap();
        options.features.max_key_groups = 2;
        let groups = KeyGroups::new(&options);
        let mut found = Groups::default();
        for (key, memory) in [("a:1", 10), ("a:2", 20), ("b:1", 50), ("c:1", 5), ("d:1", 4), ("-", 1)] {
            groups.add(&mut found, key.as_bytes(), memory);
        }
        let mut page = Snapshot::new();
        groups.write(3, &found, &mut page);
        assert_eq!(
            lines(&parsed(page)),
            [
                "redis_key_group_count{db=db3,key_group=a} 2",
                "redis_key_group_count{db=db3,key_group=b} 1",
                "redis_key_group_count{db=db3,key_group=overflow} 3",
                "redis_key_group_memory_usage_bytes{db=db3,key_group=a} 30",
                "redis_key_group_memory_usage_bytes{db=db3,key_group=b} 50",
                "redis_key_group_memory_usage_bytes{db=db3,key_group=overflow} 10",
                "redis_number_of_distinct_key_groups{db=db3} 5",
            ]
        );
    }
}
