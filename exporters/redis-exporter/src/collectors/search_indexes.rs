//! `redis_search_index_*`: the indexes of the search module, from FT._LIST and FT.INFO.

use exporter_kit::collector::{BoxFuture, CollectError, Collector, Spec};
use exposition::Kind::{Counter, Gauge};
use exposition::{Desc, Kind, Snapshot};

use super::Reply;
use crate::error::ReplyError;
use crate::options::Options;
use crate::request::{Request, is, items, number, pairs, text};
use crate::session::Session;

static SPEC: Spec =
    Spec { name: "search_indexes", doc: "Indexes of the search module", default_enabled: false };

/// What the module calls a megabyte.
const MEGABYTE: f64 = 1_048_576.0;

/// Field of FT.INFO, family, type, and bytes of a unit.
#[rustfmt::skip]
const FIELDS: &[(&str, &str, Kind, f64)] = &[
    ("bytes_per_record_avg", "avg_per_record_bytes", Gauge, 1.0),
    ("cleaning", "cleaning", Gauge, 1.0),
    ("doc_table_size_mb", "doc_table_size_bytes", Gauge, MEGABYTE),
    ("geoshapes_sz_mb", "geoshapes_size_bytes", Gauge, MEGABYTE),
    ("hash_indexing_failures", "hash_indexing_failures", Gauge, 1.0),
    ("indexing", "indexing", Gauge, 1.0),
    ("inverted_sz_mb", "inverted_size_bytes", Gauge, MEGABYTE),
    ("key_table_size_mb", "key_table_size_bytes", Gauge, MEGABYTE),
    ("max_doc_id", "max_doc_id", Gauge, 1.0),
    ("num_docs", "num_docs", Gauge, 1.0),
    ("num_records", "num_records", Gauge, 1.0),
    ("num_terms", "num_terms", Gauge, 1.0),
    ("number_of_uses", "number_of_uses_total", Counter, 1.0),
    ("offset_bits_per_record_avg", "avg_per_record_offset_bits", Gauge, 1.0),
    ("offset_vectors_sz_mb", "offset_vectors_size_bytes", Gauge, MEGABYTE),
    ("offsets_per_term_avg", "avg_per_term_offsets", Gauge, 1.0),
    ("percent_indexed", "percent_indexed", Gauge, 1.0),
    ("records_per_doc_avg", "avg_per_doc_records", Gauge, 1.0),
    ("sortable_values_size_mb", "sortable_values_size_bytes", Gauge, MEGABYTE),
    ("tag_overhead_sz_mb", "tag_overhead_size_bytes", Gauge, MEGABYTE),
    ("text_overhead_sz_mb", "text_overhead_size_bytes", Gauge, MEGABYTE),
    ("total_index_memory_sz_mb", "total_index_memory_size_bytes", Gauge, MEGABYTE),
    ("total_inverted_index_blocks", "total_inverted_index_blocks", Gauge, 1.0),
    ("vector_index_sz_mb", "vector_index_size_bytes", Gauge, MEGABYTE),
];

pub(super) struct SearchIndexes {
    options: Options,
    fields: Vec<(&'static str, Desc, f64)>,
}

impl SearchIndexes {
    pub(super) fn new(options: &Options) -> Self {
        let desc = |(field, family, kind, unit): &(&'static str, &str, Kind, f64)| {
            let help = format!("Field {field} of FT.INFO.");
            (*field, options.desc(*kind, &format!("search_index_{family}"), &help), *unit)
        };
        Self { options: options.clone(), fields: FIELDS.iter().map(desc).collect() }
    }

    async fn read(&self, session: &Session) -> Result<Snapshot, CollectError> {
        let mut page = Snapshot::new();
        let Some(wanted) = &self.options.features.search_indexes else { return Ok(page) };
        let reply = session.ask(Request::SearchList).await?;
        let unexpected = || ReplyError::unexpected(Request::SearchList.name());
        let names = items(&reply).ok_or_else(unexpected)?.iter().filter_map(text);
        let names: Vec<String> = names.filter(|name| wanted.is_match(name)).collect();
        let replies = session.ask_all(names.iter().cloned().map(Request::SearchInfo).collect()).await;
        for (name, (_, reply)) in names.iter().zip(&replies) {
            if let Err(error) = self.index(name, reply, &mut page) {
                session.note(SPEC.name, error);
            }
        }
        Ok(page)
    }

    fn index(&self, name: &str, reply: &Reply, page: &mut Snapshot) -> Result<(), ReplyError> {
        let reply = reply.as_deref().map_err(Clone::clone)?;
        let fields = pairs(reply).ok_or_else(|| ReplyError::unexpected("FT.INFO"))?;
        let table = page.table(&["index_name"]);
        let columns: Vec<_> = self.fields.iter().map(|(_, desc, _)| table.column(desc)).collect();
        let mut row = table.row(&[name]);
        for ((field, _, unit), column) in self.fields.iter().zip(columns) {
            let value = fields.clone().find(|(key, _)| is(key, field));
            row.set_some(column, value.and_then(|(_, value)| number(value)).map(|value| value * unit));
        }
        Ok(())
    }
}

impl Collector<Session> for SearchIndexes {
    fn spec(&self) -> &Spec {
        &SPEC
    }

    fn collect<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Result<Snapshot, CollectError>> {
        Box::pin(self.read(session))
    }
}
