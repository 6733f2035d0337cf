//! What a series costs: building, writing in both formats, compressing. Shape: 20 families over rows with 3 labels,
//! as a PostgreSQL statistics view gives.

use std::fmt::Write as _;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use exposition::{Desc, Format, Kind, Snapshot, bridge, negotiate, openmetrics, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

const FAMILIES: usize = 20;

fn snapshot(series: usize) -> Snapshot {
    let mut snapshot = Snapshot::new();
    let table = snapshot.table(&["datname", "schemaname", "relname"]);
    let columns: Vec<_> = (0..FAMILIES)
        .map(|n| {
            table.column(&Desc::new(Kind::Counter, format!("pg_stat_user_tables_column_{n}"), "A column."))
        })
        .collect();
    let mut name = String::new();
    for row in 0..series / FAMILIES {
        name.clear();
        let _ = write!(name, "orders_partition_{row:06}");
        let mut cells = table.row(&["autodealgenie", "public", &name]);
        for (index, column) in columns.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "any float will do")]
            let value = (row * index) as f64 * if index % 4 == 3 { 0.37 } else { 1.0 };
            cells.set(*column, value);
        }
    }
    snapshot.seal();
    snapshot
}

/// The same number of series in counters of a process.
fn registry(series: usize) -> Registry {
    let mut registry = Registry::default();
    for family in 0..FAMILIES {
        let counters = Family::<Vec<(String, String)>, Counter>::default();
        for number in 0..series / FAMILIES {
            let labels = vec![("handler".to_owned(), format!("/api/v1/orders/{number:06}"))];
            counters.get_or_create(&labels).inc();
        }
        registry.register(format!("requests_{family}"), "Requests", counters);
    }
    registry
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exposition");
    for series in [10_000, 100_000] {
        group.throughput(Throughput::Elements(series as u64));
        group.bench_with_input(BenchmarkId::new("build", series), &series, |bench, series| {
            bench.iter(|| snapshot(*series));
        });
        let built = snapshot(series);
        let mut out = String::new();
        group.bench_function(BenchmarkId::new("text", series), |bench| {
            bench.iter(|| {
                out.clear();
                text::encode(&built, &mut out);
            });
        });
        group.bench_function(BenchmarkId::new("openmetrics", series), |bench| {
            bench.iter(|| {
                out.clear();
                openmetrics::encode(&built, &mut out);
            });
        });
        group.bench_function(BenchmarkId::new("gzip", series), |bench| {
            bench.iter(|| negotiate::gzip(out.as_bytes()));
        });
        let registry = registry(series);
        for (name, format) in [("text", Format::Text), ("openmetrics", Format::OpenMetrics)] {
            group.bench_function(BenchmarkId::new(format!("registry as {name}"), series), |bench| {
                bench.iter(|| {
                    out.clear();
                    bridge::encode_registry(&registry, format, &mut out)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
