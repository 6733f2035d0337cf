//! A snapshot that follows a template is the page it would be without one, whatever the page before was.

use exposition::{Desc, Kind, Snapshot, Template, openmetrics, text};
use proptest::prelude::*;

/// A family of a table: its name, and buckets if it is a histogram.
type Family = (String, Option<Vec<u8>>);

/// Labels, families, rows of label values, and a family that is added when rows are there.
type Table = (Vec<String>, Vec<Family>, Vec<Vec<String>>, Option<String>);

/// Few names and values, so that much is the same from page to page, and some that need escapes.
fn table() -> impl Strategy<Value = Table> {
    let family = ("[a-c]", prop::option::weighted(0.3, prop::collection::vec(0..5_u8, 0..3)));
    let value = prop_oneof![4 => "[xy]?", 1 => "[x\\\\\"\n,=]{0,4}"];
    let rows = prop::collection::vec(prop::collection::vec(value, 0..4), 0..30);
    let labels = prop::sample::subsequence(vec!["k".to_owned(), "l".to_owned(), "m".to_owned()], 0..=3);
    (labels, prop::collection::vec(family, 0..4), rows, prop::option::weighted(0.2, "[d-e]"))
}

/// A page: samples without labels, and tables. Most pages are like the one before.
type Content = (Vec<String>, Vec<Table>);

fn fill(snapshot: &mut Snapshot, (samples, tables): &Content, seed: u32) {
    for name in samples {
        snapshot.sample(&Desc::new(Kind::Gauge, name.clone(), "A sample."), f64::from(seed));
    }
    for (labels, families, rows, late) in tables {
        let table = snapshot.table(&labels.iter().map(String::as_str).collect::<Vec<_>>());
        let mut columns = Vec::new();
        for (name, bounds) in families {
            match bounds {
                None => columns
                    .push((Some(table.column(&Desc::new(Kind::Gauge, name.clone(), "A gauge."))), None)),
                Some(bounds) => {
                    let mut bounds: Vec<f64> = bounds.iter().copied().map(f64::from).collect();
                    bounds.sort_by(f64::total_cmp);
                    bounds.dedup();
                    let desc = Desc::new(Kind::Histogram, format!("{name}_seconds"), "A histogram.");
                    columns.push((None, Some((table.histogram(&desc, &bounds), bounds.len()))));
                }
            }
        }
        for (number, values) in rows.iter().enumerate() {
            let mut row = table.row(&values.iter().map(String::as_str).collect::<Vec<_>>());
            let value = f64::from(seed) + number as f64;
            for (column, histogram) in &columns {
                if let Some(column) = column {
                    row.set(*column, value);
                }
                if let Some((histogram, bounds)) = histogram {
                    row.histogram(histogram, &vec![Some(value); *bounds], value, Some(value));
                }
            }
        }
        if let Some(name) = late {
            table.column(&Desc::new(Kind::Gauge, name.clone(), "Added late."));
        }
    }
}

fn pages(snapshot: &Snapshot) -> [String; 2] {
    [text::encode, openmetrics::encode].map(|encode| {
        let mut page = String::new();
        encode(snapshot, &mut page);
        page
    })
}

proptest! {
    #[test]
    fn a_template_changes_nothing(
        contents in prop::collection::vec((prop::collection::vec("[f-h]", 0..3), prop::collection::vec(table(), 0..3)), 1..4),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
        constant in prop::option::of("[kxy]"),
        before in 0..2_usize,
        dropped in "[a-f]",
    ) {
        let mut template = Template::default();
        for (seed, index) in (0..).zip(&order) {
            let content = index.get(&contents);
            let [mut expected, mut found] = [Snapshot::new(), Snapshot::new()];
            for snapshot in [&mut expected, &mut found] {
                for number in 0..before {
                    let table = snapshot.table(&["k"]);
                    let column = table.column(&Desc::gauge("i", "There before."));
                    table.row(&[&number.to_string()]).set(column, 1.0);
                }
            }
            found.follow(std::mem::take(&mut template));
            for snapshot in [&mut expected, &mut found] {
                fill(snapshot, content, seed);
                snapshot.retain(|name| name != dropped);
                snapshot.rename(|name| (name == "b").then(|| "renamed".to_owned()));
            }
            template = found.template();
            for snapshot in [&mut expected, &mut found] {
                if let Some(value) = &constant {
                    snapshot.add_labels(&[("constant", value)]);
                }
                snapshot.seal();
            }
            prop_assert_eq!(expected.duplicates(), found.duplicates());
            prop_assert_eq!(expected.rejected(), found.rejected());
            prop_assert_eq!(pages(&expected), pages(&found));
        }
    }
}

/// Two values that are written alike, but for the escapes, are two rows.
#[test]
fn a_value_that_is_another_ones_text_is_a_row_of_its_own() {
    let page = |value: &str, template: Template| {
        let mut snapshot = Snapshot::new();
        snapshot.follow(template);
        let table = snapshot.table(&["path"]);
        let column = table.column(&Desc::gauge("size", "Size."));
        table.row(&[value]).set(column, 1.0);
        let template = snapshot.template();
        (pages(&snapshot)[0].clone(), template)
    };
    let (_, template) = page("a\\", Template::default());
    let (found, _) = page("a\\\\", template);
    assert!(found.contains("size{path=\"a\\\\\\\\\"} 1"), "{found}");
}

/// What is dropped and made again on every page leaves nothing in the template.
#[test]
fn a_template_does_not_grow() {
    let mut template = Template::default();
    let mut sizes = Vec::new();
    for _ in 0..4 {
        let mut snapshot = Snapshot::new();
        snapshot.follow(template);
        let table = snapshot.table(&["l"]);
        let columns = ["a", "b", "c"].map(|name| table.column(&Desc::new(Kind::Gauge, name, "A gauge.")));
        let mut row = table.row(&["\n"]);
        columns.into_iter().for_each(|column| {
            row.set(column, 1.0);
        });
        snapshot.retain(|name| name != "b");
        assert_eq!(snapshot.len(), 2);
        template = snapshot.template();
        sizes.push(format!("{template:?}").len());
    }
    assert!(sizes.windows(2).all(|pair| pair[0] == pair[1]), "{sizes:?}");
}
