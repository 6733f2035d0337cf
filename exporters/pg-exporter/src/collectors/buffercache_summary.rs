//! `pg_buffercache_summary_*`: use of the shared buffers.

use exporter_kit::collector::{CollectError, Spec};
use exposition::{Desc, Snapshot};
use futures_util::FutureExt;

use crate::extension::{Extension, OfExtension};
use crate::session::PgSession;
use crate::sql::{Cost, PgCollector, Query, Scope};

/// In the order of the function's columns.
static COLUMNS: [Desc; 5] = [
    Desc::gauge("pg_buffercache_summary_buffers_used", "Number of used shared buffers."),
    Desc::gauge("pg_buffercache_summary_buffers_unused", "Number of unused shared buffers."),
    Desc::gauge("pg_buffercache_summary_buffers_dirty", "Number of dirty shared buffers."),
    Desc::gauge("pg_buffercache_summary_buffers_pinned", "Number of pinned shared buffers."),
    Desc::gauge("pg_buffercache_summary_usagecount_avg", "Average usage count of used shared buffers."),
];

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "buffercache_summary",
        doc: "Shared buffers used, dirty and pinned (pg_buffercache_summary; needs pg_buffercache 1.4, version 16).",
        default_enabled: false,
    },
    scope: Scope::Server,
    cost: Cost::High("looks at the header of every shared buffer"),
    queries: &[Query::OfExtension(OfExtension {
        name: "pg_buffercache",
        since: (1, 4),
        read: |session, extension| read(session, extension).boxed(),
        families: &[&COLUMNS[0], &COLUMNS[1], &COLUMNS[2], &COLUMNS[3], &COLUMNS[4]],
    })],
};

async fn read(session: &PgSession, extension: &Extension) -> Result<Snapshot, CollectError> {
    let sql = format!(
        "SELECT buffers_used::text, buffers_unused::text, buffers_dirty::text, buffers_pinned::text,
                usagecount_avg::text
         FROM {}.pg_buffercache_summary()",
        extension.schema
    );
    let rows = session.query(&sql, true).await?;
    let mut snapshot = Snapshot::new();
    for (index, desc) in COLUMNS.iter().enumerate() {
        if let Some(value) = rows.first().and_then(|row| row.float(index)) {
            snapshot.sample(desc, value);
        }
    }
    Ok(snapshot)
}
