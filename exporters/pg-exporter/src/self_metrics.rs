//! What the exporter says of itself on `/metrics`: process, build, and its own HTTP answers under the names of the Go
//! client library.

use exporter_kit::app::TelemetryStats;
use exporter_kit::telemetry::build_info;
use exporter_kit::telemetry::process::{self, Network};
use exposition::{Desc, Snapshot};

const REQUESTS: Desc =
    Desc::counter("promhttp_metric_handler_requests_total", "Total number of scrapes by HTTP status code.");
const IN_FLIGHT: Desc =
    Desc::gauge("promhttp_metric_handler_requests_in_flight", "Current number of scrapes being served.");

/// Adds them to a page.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub fn append(page: &mut Snapshot, stats: &TelemetryStats) {
    process::append(page, Network::Namespace);
    page.append(build_info("postgres_exporter", &[]));
    page.sample(&IN_FLIGHT, stats.in_flight() as f64);
    let table = page.table(&["code"]);
    let requests = table.column(&REQUESTS);
    let mut by_code = stats.by_code();
    for code in [200, 500, 503] {
        by_code.entry(code).or_default();
    }
    for (code, count) in by_code {
        table.row(&[&code.to_string()]).set(requests, count as f64);
    }
}
