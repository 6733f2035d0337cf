//! Writing a page allocates nothing but the page.

use exposition::{Desc, Snapshot, openmetrics, text};

fn snapshot(rows: usize) -> Snapshot {
    let mut snapshot = Snapshot::new();
    let table = snapshot.table(&["datname", "relname"]);
    let columns = [
        table.column(&Desc::counter("scans_total", "Scans.")),
        table.column(&Desc::gauge("size_bytes", "Size.")),
        table.column(&Desc::gauge("ratio", "Ratio.")),
    ];
    for row in 0..rows {
        let name = format!("table_{row}");
        let mut row = table.row(&["app", &name]);
        row.set(columns[0], 12_345.0).set(columns[1], 8192.0).set(columns[2], 0.125);
    }
    snapshot.seal();
    snapshot
}

#[test]
fn writing_does_not_allocate() {
    for rows in [1, 100, 10_000] {
        let snapshot = snapshot(rows);
        let mut out = String::with_capacity((rows + 10) * 300);
        for encode in [text::encode as fn(&Snapshot, &mut String), openmetrics::encode] {
            // What does not depend on the samples is made once.
            encode(&snapshot, &mut out);
            out.clear();
            let count = allocation_counter::measure(|| encode(&snapshot, &mut out)).count_total;
            assert!(out.len() > rows * 100);
            assert_eq!(count, 0, "with {rows} rows");
        }
    }
}
