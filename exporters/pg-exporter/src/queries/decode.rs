//! From the rows of a user's query to samples.

use std::collections::HashSet;

use exposition::{Desc, Kind, Snapshot};
use pg_client::{Row, Rows, cell};

use super::file::{Namespace, Usage};
use super::run::{Class, ResultColumn};
use super::versions::Version;

/// What becomes of a column of the result.
enum Role<'a> {
    Label,
    Value { desc: Desc, convert: Convert<'a> },
    Histogram { desc: Desc, bucket: Option<usize>, sum: Option<usize>, count: Option<usize> },
    Nothing,
}

/// From a cell to a value.
enum Convert<'a> {
    Number,
    Mapped(&'a std::collections::BTreeMap<String, f64>),
    Milliseconds,
}

/// The samples of a result.
pub(super) fn decode(
    namespace: &Namespace,
    rows: &Rows,
    columns: &[ResultColumn],
    server: Version,
) -> Snapshot {
    let roles = roles(namespace, columns, server);
    let labels: Vec<usize> = (0..roles.len()).filter(|index| matches!(roles[*index], Role::Label)).collect();
    let names: Vec<&str> = labels.iter().map(|index| columns[*index].name.as_str()).collect();
    let of_row = |row: Row<'_>| -> Vec<String> {
        labels.iter().map(|index| label(row.get(*index).unwrap_or_default(), columns[*index].class)).collect()
    };
    let mut snapshot = Snapshot::new();
    let table = snapshot.table(&names);
    let values: Vec<_> = roles
        .iter()
        .enumerate()
        .filter_map(|(index, role)| match role {
            Role::Value { desc, convert } => Some((index, table.column(desc), convert)),
            _ => None,
        })
        .collect();
    for row in rows.iter() {
        let labels = of_row(row);
        let mut cells = table.row(&labels.iter().map(String::as_str).collect::<Vec<_>>());
        for (index, column, convert) in &values {
            cells.set_some(*column, value(row.get(*index), columns[*index].class, convert));
        }
    }
    for (index, role) in roles.iter().enumerate() {
        let Role::Histogram { desc, bucket, sum, count } = role else { continue };
        for row in rows.iter() {
            let list = |column: Option<usize>| column.and_then(|column| row.get(column)).map(array);
            let float = |column: Option<usize>| column.and_then(|column| row.float(column));
            let (Some(bounds), Some(buckets), Some(count)) =
                (list(Some(index)), list(*bucket), float(*count))
            else {
                continue;
            };
            let mut pairs: Vec<(f64, Option<f64>)> =
                bounds.into_iter().flatten().zip(buckets).filter(|(bound, _)| bound.is_finite()).collect();
            pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
            pairs.dedup_by(|a, b| a.0 == b.0);
            let (bounds, cumulative): (Vec<f64>, Vec<Option<f64>>) = pairs.into_iter().unzip();
            // Bounds may differ from row to row.
            let table = snapshot.table(&names);
            let handle = table.histogram(desc, &bounds);
            let labels = of_row(row);
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            table.row(&labels).histogram(&handle, &cumulative, count, float(*sum));
        }
    }
    snapshot
}

fn roles<'a>(namespace: &'a Namespace, columns: &[ResultColumn], server: Version) -> Vec<Role<'a>> {
    let position = |name: &str| columns.iter().position(|column| column.name == name);
    let histograms = namespace.columns.iter().filter(|column| column.usage == Usage::Histogram);
    let parts: HashSet<String> = histograms
        .flat_map(|column| ["bucket", "sum", "count"].map(|part| format!("{}_{part}", column.name)))
        .collect();
    let mut seen = HashSet::new();
    let role = |column: &ResultColumn| {
        let name = column.name.as_str();
        let listed = namespace.columns.iter().find(|listed| listed.name == name);
        let family = |suffix: &str| format!("{}_{name}{suffix}", namespace.name);
        let value = |kind, suffix: &str, help: &str, convert| Role::Value {
            desc: Desc::new(kind, family(suffix), help.to_owned()),
            convert,
        };
        let Some(listed) = listed else {
            if parts.contains(name) {
                return Role::Nothing;
            }
            let help = format!("Unknown metric from {}", namespace.name);
            return value(Kind::Unknown, "", &help, Convert::Number);
        };
        if listed.servers.as_ref().is_some_and(|range| !range.contains(server)) {
            return Role::Nothing;
        }
        let help = listed.description.as_str();
        match &listed.usage {
            Usage::Discard => Role::Nothing,
            Usage::Label => Role::Label,
            Usage::Counter => value(Kind::Counter, "", help, Convert::Number),
            Usage::Gauge => value(Kind::Gauge, "", help, Convert::Number),
            Usage::Mapped(mapping) => value(Kind::Gauge, "", help, Convert::Mapped(mapping)),
            Usage::Duration => value(Kind::Gauge, "_milliseconds", help, Convert::Milliseconds),
            Usage::Histogram => Role::Histogram {
                desc: Desc::new(Kind::Histogram, family(""), help.to_owned()),
                bucket: position(&format!("{name}_bucket")),
                sum: position(&format!("{name}_sum")),
                count: position(&format!("{name}_count")),
            },
        }
    };
    // Of columns with one name, the first counts.
    columns
        .iter()
        .map(|column| if seen.insert(&column.name) { role(column) } else { Role::Nothing })
        .collect()
}

/// A time is shown as whole seconds since 1970, as in postgres_exporter.
fn label(text: &str, class: Class) -> String {
    match class {
        Class::Time => text.split('.').next().unwrap_or_default().to_owned(),
        _ => text.to_owned(),
    }
}

/// The value of a cell. NULL is NaN where a number is meant, as in postgres_exporter.
fn value(text: Option<&str>, class: Class, convert: &Convert<'_>) -> Option<f64> {
    match (convert, text) {
        (Convert::Number, None) => (class != Class::Text).then_some(f64::NAN),
        (Convert::Number, Some(text)) => cell::float(text),
        (Convert::Mapped(mapping), text) => mapping.get(text?).copied(),
        (Convert::Milliseconds, text) => match class {
            Class::Interval => cell::float(text?).map(|seconds| seconds * 1000.0),
            _ => milliseconds(text?),
        },
    }
}

/// Units of durations in milliseconds: Go's and those of PostgreSQL's settings.
const UNITS: &[(&str, f64)] = &[
    ("ns", 1e-6),
    ("us", 1e-3),
    ("µs", 1e-3),
    ("ms", 1.0),
    ("s", 1e3),
    ("m", 6e4),
    ("min", 6e4),
    ("h", 3.6e6),
    ("d", 8.64e7),
];

/// A text such as `1m30s` or `250ms` as milliseconds; a number without a unit has them already. `-1` stands for "off".
fn milliseconds(text: &str) -> Option<f64> {
    let text = text.trim();
    if text == "-1" {
        return None;
    }
    if let Ok(number) = text.parse::<f64>() {
        return number.is_finite().then_some(number);
    }
    let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let mut total = 0.0;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let tail = tail.trim_start();
        let (unit, tail) = tail.split_at(tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len()));
        let (_, length) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total += number.parse::<f64>().ok()? * length;
        rest = tail.trim_start();
    }
    (!text.is_empty()).then_some(sign * total)
}

/// The numbers of an array as text: `{0.1,NULL,Infinity}`.
fn array(text: &str) -> Vec<Option<f64>> {
    let inner = text.trim_start_matches('{').trim_end_matches('}');
    let elements = inner.split(',').filter(|element| !element.is_empty());
    elements.map(|element| cell::float(element.trim_matches('"'))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("250ms", Some(250.0)),
            ("1m30s", Some(90_000.0)),
            ("1.5h", Some(5_400_000.0)),
            ("5min", Some(300_000.0)),
            ("1 d", Some(86_400_000.0)),
            ("-2s", Some(-2000.0)),
            ("12", Some(12.0)),
            ("-1", None),
            ("", None),
            ("soon", None),
            ("1x", None),
        ] {
            assert_eq!(milliseconds(text), expected, "{text}");
        }
    }

    #[test]
    fn arrays() {
        assert_eq!(array("{0.1,1,NULL,Infinity}"), [Some(0.1), Some(1.0), None, Some(f64::INFINITY)]);
        assert_eq!(array("{}"), []);
    }

    #[test]
    fn cells() {
        let mapping = [("up".to_owned(), 1.0)].into();
        let of = |text, class, convert: &Convert<'_>| value(text, class, convert);
        assert_eq!(of(Some("t"), Class::Number, &Convert::Number), Some(1.0));
        assert!(of(None, Class::Number, &Convert::Number).unwrap().is_nan());
        assert_eq!(of(None, Class::Text, &Convert::Number), None);
        assert_eq!(of(Some("up"), Class::Text, &Convert::Mapped(&mapping)), Some(1.0));
        assert_eq!(of(Some("else"), Class::Text, &Convert::Mapped(&mapping)), None);
        assert_eq!(of(Some("1.5"), Class::Interval, &Convert::Milliseconds), Some(1500.0));
        assert_eq!(label("1700000000.25", Class::Time), "1700000000");
    }

    proptest! {
        #[test]
        fn no_cell_makes_it_panic(text in any::<String>()) {
            milliseconds(&text);
            array(&text);
            label(&text, Class::Time);
        }

        #[test]
        fn arrays_are_read_back(numbers in prop::collection::vec(prop::option::of(-1e9..1e9_f64), 0..6)) {
            let cells = numbers.iter().map(|number| number.map_or_else(|| "NULL".to_owned(), |n| n.to_string()));
            prop_assert_eq!(array(&format!("{{{}}}", cells.collect::<Vec<_>>().join(","))), numbers);
        }

        #[test]
        fn numbers_are_read_back(number in any::<f64>().prop_filter("NaN has many bits", |n| !n.is_nan())) {
            let text = if number.is_infinite() { format!("{}Infinity", if number < 0.0 { "-" } else { "" }) }
                else { number.to_string() };
            let read = value(Some(&text), Class::Number, &Convert::Number);
            prop_assert_eq!(read.map(f64::to_bits), Some(number.to_bits()), "{}", text);
        }

        #[test]
        fn seconds_are_read_back(seconds in 0..1_000_000_u32) {
            prop_assert_eq!(milliseconds(&format!("{seconds}s")), Some(f64::from(seconds) * 1000.0));
        }
    }
}
