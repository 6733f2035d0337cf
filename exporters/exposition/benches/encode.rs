//! What a series costs: building, writing in both formats, compressing. Shape: 20 families over rows with 3 labels,
//! as a PostgreSQL statistics view gives.

use std::fmt::Write as _;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use exposition::{Desc, Kind, Snapshot, negotiate, openmetrics, text};

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
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
