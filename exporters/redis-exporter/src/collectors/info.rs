//! `redis_*` families that are one INFO field each, by the table in `fields.rs`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use exposition::{Column, Desc, Kind, Shape, Snapshot};
use foldhash::fast::RandomState;

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::fields::{FIELDS, Type};
use crate::info::{Info, value};
use crate::kept::Kept;
use crate::options::Options;
use crate::outline::Outline;

static SPEC: Spec = Spec { name: "info", doc: "INFO fields that are one value each", default_enabled: true };

/// Sections whose fields have another shape and their own collectors.
const OTHERS: &[&str] = &["Commandstats", "Latencystats", "Errorstats", "Keyspace", "Keysizes"];

/// Whether a section has fields that are one value each.
pub(super) fn is_plain(section: &str) -> bool {
    !OTHERS.contains(&section)
}

/// What the server's certificates are for.
const CERTIFICATES: [&str; 3] = ["server", "client", "ca"];

/// What the keys of a thread's time begin with; its number follows.
const THREAD: &str = "used_active_time_io_thread_";

pub(super) struct Fields {
    by_field: HashMap<&'static str, (Desc, f64), RandomState>,
    threads: Option<Labelled>,
    certificates: Option<Labelled>,
    mapped: Kept<Arc<Outline>, Arc<Mapped>>,
    /// The shape of the last page. A page is compared with the one before by its shapes, which takes a look at each family
    /// unless they are the same ones; and the outline changes more often than the fields that are mapped.
    shape: Mutex<Arc<Shape>>,
}

/// A family with a label.
struct Labelled {
    shape: Arc<Shape>,
    column: Column,
}

impl Labelled {
    fn new(label: &str, desc: &Desc) -> Self {
        let mut shape = Shape::new(&[label]);
        Self { column: shape.column(desc), shape: Arc::new(shape) }
    }
}

/// The lines of INFO that are mapped.
struct Mapped {
    shape: Arc<Shape>,
    /// Those that are a family each, and what their values are divided by.
    plain: Vec<(usize, Column, f64)>,
    threads: Vec<usize>,
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
        let corrected = !compat;
        let threads = corrected.then(|| {
            let help = "INFO fields used_active_time_io_thread_N.";
            Labelled::new("thread", &options.counter("active_time_io_thread_seconds_total", help))
        });
        let certificates = corrected.then(|| {
            let help = "INFO fields tls_server_cert_expires_in_seconds and its siblings, where there is a certificate.";
            Labelled::new("certificate", &options.gauge("tls_certificate_expires_in_seconds", help))
        });
        Self { by_field, threads, certificates, mapped: Kept::default(), shape: Mutex::default() }
    }

    /// What the keys of INFO say.
    fn mapped(&self, info: &Info) -> Mapped {
        let mut shape = Shape::new(&[]);
        let (mut plain, mut threads) = (Vec::new(), Vec::new());
        for field in info.fields_where(is_plain) {
            if let Some((desc, divisor)) = self.by_field.get(field.key) {
                plain.push((field.line, shape.column(desc), *divisor));
            } else if field.key.starts_with(THREAD) {
                threads.push(field.line);
            }
        }
        let mut last = self.shape.lock().unwrap_or_else(PoisonError::into_inner);
        if **last != shape {
            *last = Arc::new(shape);
        }
        Mapped { shape: Arc::clone(&last), plain, threads }
    }

    /// Fields that are a family each.
    fn write_plain(mapped: &Mapped, info: &Info, page: &mut Snapshot) {
        let mut row = page.table_of(&mapped.shape).row(&[]);
        for (line, column, divisor) in &mapped.plain {
            row.set_some(*column, value(info.value(*line)).map(|value| value / divisor));
        }
    }

    fn write_threads(
        Labelled { shape, column }: &Labelled,
        lines: &[usize],
        info: &Info,
        page: &mut Snapshot,
    ) {
        if !lines.is_empty() {
            let table = page.table_of(shape);
            for line in lines {
                table.row(&[&info.key(*line)[THREAD.len()..]]).set_some(*column, value(info.value(*line)));
            }
        }
    }

    /// Without a certificate its serial is `none`, and it would expire in 0 seconds.
    fn write_certificates(Labelled { shape, column }: &Labelled, info: &Info, page: &mut Snapshot) {
        let field = |name: &str, end| info.get(&format!("tls_{name}_cert_{end}"));
        let there = |name: &&str| field(name, "serial").is_some_and(|serial| serial != "none");
        let mut certificates = CERTIFICATES.into_iter().filter(there).peekable();
        if certificates.peek().is_some() {
            let table = page.table_of(shape);
            for name in certificates {
                let left = field(name, "expires_in_seconds").and_then(value);
                table.row(&[name]).set_some(*column, left);
            }
        }
    }
}

impl Section for Fields {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let info = &replies.info;
        let mapped = self.mapped.get(info.outline(), || Arc::new(self.mapped(info)));
        Self::write_plain(&mapped, info, page);
        if let Some(threads) = &self.threads {
            Self::write_threads(threads, &mapped.threads, info, page);
        }
        if let Some(certificates) = self.certificates.as_ref().filter(|_| replies.server.valkey > (0, 0)) {
            Self::write_certificates(certificates, info, page);
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
    fn only_certificates_that_are_there_expire() {
        let info = "# Server\r\nvalkey_version:9.1.0\r\ntls_server_cert_serial:0A\r\ntls_server_cert_expires_in_seconds:60\r\n\
            tls_ca_cert_serial:none\r\ntls_ca_cert_expires_in_seconds:0\r\n";
        let page = page(&Fields::new(&Options::default()), &replies(info, []));
        assert_eq!(lines(&page), ["redis_tls_certificate_expires_in_seconds{certificate=server} 60"]);
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
