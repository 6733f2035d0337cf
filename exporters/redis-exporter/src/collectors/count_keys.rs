//! `redis_keys_count`: how many keys a pattern has.

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Spec};
use exposition::{Desc, Snapshot};

use crate::keyspace_walk::walk;
use crate::options::Options;
use crate::session::Session;

static SPEC: Spec = Spec { name: "count_keys", doc: "Number of keys by pattern", default_enabled: false };

pub(super) struct CountKeys {
    options: Options,
    count: Desc,
}

impl CountKeys {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            options: options.clone(),
            count: options.gauge("keys_count", "Keys that match the pattern that the label shows."),
        }
    }

    async fn read(&self, session: &Session) -> Result<Snapshot, CollectError> {
        let features = &self.options.features;
        let mut page = Snapshot::new();
        let facts = session.read_facts().await?;
        if !session.reads_keys(&facts) {
            return Ok(page);
        }
        let mut counts = vec![Some(0.0); features.count.len()];
        let failed = walk(session, &features.count, features.batch, |at, _| {
            counts[at] = counts[at].map(|count| count + 1.0);
        });
        let failed = failed.await;
        for (at, error) in failed {
            // Half of a count is a wrong count.
            counts[at] = None;
            session.note(SPEC.name, error);
        }
        let table = page.table(&["db", "key"]);
        let column = table.column(&self.count);
        for (pattern, count) in features.count.iter().zip(counts) {
            table.row(&[&format!("db{}", pattern.database), &pattern.key]).set_some(column, count);
        }
        Ok(page)
    }
}

impl Collector<Session> for CountKeys {
    fn spec(&self) -> &Spec {
        &SPEC
    }

    fn collect<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        Box::pin(self.read(session))
    }
}
