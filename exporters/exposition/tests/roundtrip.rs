//! What a writer wrote, the strict parser reads back: names, label values and floats, whatever they are.

use std::sync::Arc;

use exposition::{Desc, Kind, Snapshot, openmetrics, parse, text};
use proptest::prelude::*;

fn text_page(snapshot: &Snapshot) -> parse::Page {
    let mut out = String::new();
    text::encode(snapshot, &mut out);
    parse::page(&out).unwrap_or_else(|error| panic!("{error}\n{out}"))
}

fn openmetrics_page(snapshot: &Snapshot) -> parse::Page {
    let mut out = String::new();
    openmetrics::encode(snapshot, &mut out);
    out.push_str(openmetrics::EOF);
    parse::openmetrics(&out).unwrap_or_else(|error| panic!("{error}\n{out}"))
}

/// The same float, or both not a number.
fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

proptest! {
    #[test]
    fn labels_and_values_survive(
        rows in prop::collection::vec((".*", "[\\\\\"\n{},=# a]*", any::<f64>(), any::<i64>()), 0..20),
        help in ".*",
        constant in ".*",
    ) {
        let mut snapshot = Snapshot::new();
        let table = snapshot.table(&["first", "second"]);
        let gauge = table.column(&Desc::new(Kind::Gauge, "some_gauge", help.clone()));
        let counter = table.column(&Desc::counter("some_total", "Counts."));
        let odd = table.column(&Desc::counter("without_suffix", "A counter by its old name."));
        let mut unique: Vec<&(String, String, f64, i64)> = Vec::new();
        for row in &rows {
            if unique.iter().all(|known| (&known.0, &known.1) != (&row.0, &row.1)) {
                unique.push(row);
            }
            #[expect(clippy::cast_precision_loss, reason = "any float will do")]
            table.row(&[&row.0, &row.1]).set(gauge, row.2).set(counter, row.3 as f64).set(odd, row.2);
        }
        snapshot.add_labels(&[("constant", &constant)]);
        snapshot.seal();
        prop_assert_eq!(snapshot.duplicates(), 3 * (rows.len() - unique.len()) as u64);
        for page in [text_page(&snapshot), openmetrics_page(&snapshot)] {
            prop_assert_eq!(page.samples("some_gauge").count(), unique.len());
            for (sample, row) in page.samples("some_gauge").zip(&unique) {
                prop_assert_eq!(&sample.labels, &vec![
                    ("constant".to_owned(), constant.clone()),
                    ("first".to_owned(), row.0.clone()),
                    ("second".to_owned(), row.1.clone()),
                ]);
                prop_assert!(same(sample.value, row.2), "{} became {}", row.2, sample.value);
            }
            for (sample, row) in page.samples("some_total").zip(&unique) {
                #[expect(clippy::cast_precision_loss, reason = "any float will do")]
                let value = row.3 as f64;
                prop_assert!(same(sample.value, value));
            }
            if !unique.is_empty() {
                prop_assert_eq!(page.family("some_gauge").unwrap().help.as_deref(), Some(&*help));
            }
        }
    }

    #[test]
    fn a_series_is_there_once_whatever_tables_have_it(
        tables in prop::collection::vec(prop::collection::vec(("[a-c]", "[a-c]?"), 0..5), 1..6),
    ) {
        let mut snapshot = Snapshot::new();
        for rows in &tables {
            let table = snapshot.table(&["datname", "relname"]);
            let columns = ["reads", "writes"].map(|name| table.column(&Desc::gauge(name, "Blocks.")));
            for (datname, relname) in rows {
                let mut row = table.row(&[datname, relname]);
                row.set(columns[0], 1.0).set(columns[1], 1.0);
            }
        }
        snapshot.seal();
        let all: Vec<_> = tables.iter().flatten().collect();
        let unique: std::collections::BTreeSet<_> = all.iter().collect();
        prop_assert_eq!(snapshot.duplicates(), 2 * (all.len() - unique.len()) as u64);
        let page = text_page(&snapshot);
        for name in ["reads", "writes"] {
            prop_assert_eq!(page.samples(name).count(), unique.len());
        }
    }

    /// Of whatever page before a layout was kept, what is written is the same.
    #[test]
    fn a_known_layout_changes_nothing(
        pages in prop::collection::vec(
            prop::collection::vec(("[ab]", "[ab]", 0..3_usize, prop::collection::vec(0..3_i32, 0..3)), 0..4), 2..4
        ),
    ) {
        let kinds = [Kind::Gauge, Kind::Counter, Kind::StateSet];
        let mut known = Arc::default();
        for tables in pages {
            let mut snapshot = Snapshot::new();
            for (label, name, kind, rows) in tables {
                let table = snapshot.table(&[&label]);
                let column = table.column(&Desc::new(kinds[kind], name, format!("{label} {kind}")));
                for row in rows {
                    table.row(&[&row.to_string()]).set(column, f64::from(row));
                }
            }
            let mut afresh = snapshot.clone();
            afresh.seal();
            snapshot.seal_like(&mut known);
            for encode in [text::encode, openmetrics::encode] {
                let [mut expected, mut found] = [String::new(), String::new()];
                encode(&afresh, &mut expected);
                encode(&snapshot, &mut found);
                prop_assert_eq!(expected, found);
            }
        }
    }

    #[test]
    fn histograms_and_summaries_survive(
        increments in prop::collection::vec(prop::option::of(0u32..1000), 1..12),
        sum in prop::option::of(-1e12f64..1e12),
        quantiles in prop::collection::vec(prop::option::of(any::<f64>()), 3),
    ) {
        let bounds: Vec<f64> = (0..increments.len()).map(|k| 0.001 * f64::from(1 << k)).collect();
        let mut total = 0.0;
        let cumulative: Vec<Option<f64>> = increments
            .iter()
            .map(|step| step.map(|step| { total += f64::from(step); total }))
            .collect();
        let mut snapshot = Snapshot::new();
        let table = snapshot.table(&["cmd"]);
        let wait = table.histogram(&Desc::histogram("wait_seconds", "Wait."), &bounds);
        let now = table.histogram(&Desc::new(Kind::GaugeHistogram, "now_seconds", "Now."), &bounds);
        let size = table.summary(&Desc::summary("size_bytes", "Size."), &[0.5, 0.9, 0.99]);
        table
            .row(&["get"])
            .histogram(&wait, &cumulative, total, sum)
            .histogram(&now, &cumulative, total, sum)
            .summary(&size, &quantiles, Some(7.0), sum);
        snapshot.seal();
        for page in [text_page(&snapshot), openmetrics_page(&snapshot)] {
            let wait = page.family("wait_seconds").unwrap();
            let known = cumulative.iter().flatten().count();
            prop_assert_eq!(wait.samples.iter().filter(|sample| sample.name == "wait_seconds_bucket").count(), known + 1);
            prop_assert_eq!(page.value("wait_seconds_bucket", &[("le", "+Inf")]), Some(total));
            prop_assert_eq!(page.value("wait_seconds_count", &[("cmd", "get")]), Some(total));
            prop_assert_eq!(page.value("wait_seconds_sum", &[]), sum);
            prop_assert_eq!(page.value("now_seconds_bucket", &[("le", "+Inf")]), Some(total));
            prop_assert_eq!(page.value("now_seconds_gcount", &[("cmd", "get")]), Some(total));
            prop_assert_eq!(page.value("now_seconds_gsum", &[]), sum);
            prop_assert_eq!(page.value("size_bytes_count", &[]), Some(7.0));
            let known = quantiles.iter().flatten().count();
            prop_assert_eq!(page.samples("size_bytes").count(), known);
        }
    }

    #[test]
    fn parser_never_panics(text in "\\PC*", noise in "[a{}=\"\\\\ #\n,0-9.TYPEHLP_]*") {
        let _ = parse::page(&text);
        let _ = parse::page(&noise);
        let _ = parse::openmetrics(&noise);
    }
}

/// Of a thousand targets of a kind, one layout is kept.
#[test]
fn pages_with_the_same_families_have_the_same_layout() {
    let page = |label: &str, value: f64| {
        let mut known = Arc::default();
        let mut snapshot = Snapshot::new();
        let table = snapshot.table(&["l"]);
        let column = table.column(&Desc::gauge("g", "A gauge."));
        table.row(&["x"]).set(column, value);
        snapshot.add_labels(&[(label, "y")]);
        snapshot.seal_like(&mut known);
        known
    };
    let known = page("k", 1.0);
    assert!(Arc::ptr_eq(&known, &page("k", 2.0)));
    assert!(!Arc::ptr_eq(&known, &page("other", 1.0)), "the labels are others");
}

#[test]
fn openmetrics_names_and_types() {
    let mut snapshot = Snapshot::new();
    snapshot.sample(&Desc::counter("good_total", "A \"good\" counter."), 1.0);
    snapshot.sample(&Desc::counter("xact_commit", "A counter by its old name."), 2.0);
    snapshot.sample(&Desc::gauge("age_seconds", "Age.").with_unit("seconds"), 3.0);
    let table = snapshot.table(&["version"]);
    let info = table.column(&Desc::info("build_info", "Build."));
    table.row(&["1"]).set(info, 1.0);
    let table = snapshot.table(&["mode"]);
    let mode = table.column(&Desc::stateset("mode", "Mode."));
    table.row(&["fast"]).set(mode, 1.0);
    let table = snapshot.table(&[]);
    let price = table.histogram(&Desc::new(Kind::GaugeHistogram, "price", "Prices now."), &[1.0]);
    table.row(&[]).histogram(&price, &[Some(2.0)], 3.0, Some(-1.0));
    snapshot.seal();
    let mut out = String::new();
    openmetrics::encode(&snapshot, &mut out);
    insta::assert_snapshot!(out);
    let mut out = String::new();
    text::encode(&snapshot, &mut out);
    insta::assert_snapshot!(out);
}

#[test]
fn a_family_in_two_tables_is_one_family() {
    let mut snapshot = Snapshot::new();
    let size = Desc::gauge("size_bytes", "Size.");
    for (datname, other) in [("a", "b"), ("c", "a")] {
        let table = snapshot.table(&["datname"]);
        let column = table.column(&size);
        let rest = table.column(&Desc::gauge("rest", "Rest."));
        table.row(&[datname]).set(column, 1.0).set(rest, 1.0);
        table.row(&[other]).set(column, 2.0);
    }
    // The same series by another order of labels, and an empty label that means none.
    let table = snapshot.table(&["empty", "datname"]);
    let column = table.column(&size);
    table.row(&["", "b"]).set(column, 9.0);
    let table = snapshot.table(&[]);
    let wrong = table.column(&Desc::counter("size_bytes", "A counter now?"));
    table.row(&[]).set(wrong, 1.0);
    snapshot.sample(&Desc::gauge("not a name", "Dropped."), 1.0);
    snapshot.seal();
    assert_eq!((snapshot.duplicates(), snapshot.rejected()), (2, 2));
    let page = text_page(&snapshot);
    assert_eq!(page.value("size_bytes", &[("datname", "a")]), Some(1.0));
    assert_eq!(page.samples("size_bytes").count(), 3);
    assert_eq!(page.samples("rest").count(), 2);
    snapshot.seal();
    assert_eq!((snapshot.duplicates(), snapshot.rejected()), (2, 2));
}

#[test]
fn values_of_a_family_are_found_in_all_its_tables() {
    let desc = Desc::gauge("g", "A gauge.");
    let mut snapshot = Snapshot::new();
    for value in ["a\"b", "c"] {
        let table = snapshot.table(&["l"]);
        let column = table.column(&desc);
        table.row(&[value]).set(column, 1.0);
    }
    snapshot.add_labels(&[("node", "n")]);
    let labels = |value: &str| vec![("l".to_owned(), value.to_owned()), ("node".to_owned(), "n".to_owned())];
    let found: Vec<_> = snapshot.values("g").collect();
    assert_eq!(found, [(labels("a\"b"), 1.0), (labels("c"), 1.0)]);
    assert_eq!(snapshot.values("other").count(), 0);
}
