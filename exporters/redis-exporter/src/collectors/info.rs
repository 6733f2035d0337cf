//! `redis_*` families that are one INFO field each, by the table in `fields.rs`.

use std::collections::HashMap;

use exposition::{Desc, Kind, Snapshot};

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::fields::{FIELDS, Type};
use crate::info::value;
use crate::options::Options;

static SPEC: Spec = Spec { name: "info", doc: "INFO fields that are one value each", default_enabled: true };

/// Sections whose fields have another shape and their own collectors.
const OTHERS: &[&str] = &["Commandstats", "Latencystats", "Errorstats", "Keyspace", "Keysizes"];

pub(super) struct Fields {
    by_field: HashMap<&'static str, (Desc, f64)>,
    threads: Option<Desc>,
}

impl Fields {
    pub(super) fn new(options: &Options) -> Self {
        let compat = options.compat_1_86();
        let by_field = FIELDS
            .iter()
            .filter(|row| (options.include_system || !row.system) && !(compat && row.after_1_86))
            .map(|row| {
                let kind = match row.kind {
                    Type::Counter => Kind::Counter,
                    Type::Cumulative if !compat => Kind::Counter,
                    Type::Gauge | Type::Cumulative => Kind::Gauge,
                };
                let help = format!("INFO field {}.", row.field);
                (row.field, (options.desc(kind, row.family, &help), row.divisor))
            })
            .collect();
        let help = "INFO fields used_active_time_io_thread_N.";
        let threads = (!compat).then(|| options.counter("active_time_io_thread_seconds_total", help));
        Self { by_field, threads }
    }
}

impl Section for Fields {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let fields = || replies.info.fields_where(|section| !OTHERS.contains(&section));
        for field in fields() {
            if let Some((desc, divisor)) = self.by_field.get(field.key)
                && let Some(value) = value(field.value)
            {
                page.sample(desc, value / divisor);
            }
        }
        if let Some(desc) = &self.threads {
            let thread = |key| str::strip_prefix(key, "used_active_time_io_thread_");
            if fields().any(|field| thread(field.key).is_some()) {
                let table = page.table(&["thread"]);
                let column = table.column(desc);
                for field in fields() {
                    if let Some(thread) = thread(field.key) {
                        table.row(&[thread]).set_some(column, value(field.value));
                    }
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

    const INFO: &str = "# Stats\r\nlatest_fork_usec:1500000\r\nsync_full:3\r\nevicted_keys:18446744073709551615\r\n\
        # Persistence\r\nrdb_last_bgsave_status:err\r\n# CPU\r\nused_active_time_io_thread_1:2.5\r\n";

    #[test]
    fn units_words_and_unknown_values() {
        let page = page(&Fields::new(&Options::default()), &replies(INFO, []));
        assert_eq!(
            lines(&page),
            [
                "redis_active_time_io_thread_seconds_total{thread=1} 2.5",
                "redis_latest_fork_seconds{} 1.5",
                "redis_rdb_last_bgsave_status{} 0",
                "redis_replica_resyncs_full{} 3",
            ]
        );
    }

    #[test]
    fn a_cumulative_value_is_a_counter_unless_compatible() {
        for (compat, kind) in [(Compat::Corrected, Kind::Counter), (Compat::V1_86, Kind::Gauge)] {
            let options = Options { compat, ..Options::default() };
            let page = page(&Fields::new(&options), &replies(INFO, []));
            assert_eq!(page.family("redis_replica_resyncs_full").and_then(|family| family.kind), Some(kind));
        }
    }
}
