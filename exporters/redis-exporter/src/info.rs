//! Sans-IO parser of the text that INFO and CLUSTER INFO reply with: sections, `key:value` lines and the
//! `k=v,k=v` values inside them. One copy of the text is kept and everything borrows from it.
//! Numbers follow what Go's `ParseFloat` accepts, so that a value means the same here as in redis_exporter.

use std::ops::Range;

use memchr::memchr2_iter;

/// A parsed reply of INFO (or CLUSTER INFO, which has no sections).
#[derive(Debug, Clone, Default)]
pub struct Info {
    text: String,
    /// In the server's order; the first one is what stands before any heading.
    sections: Vec<Section>,
    entries: Vec<Entry>,
}

/// A heading and the places of its entries.
#[derive(Debug, Clone, Default)]
struct Section {
    name: Range<usize>,
    entries: Range<usize>,
}

/// Where a line begins, its first colon is, and it ends, without blanks around it.
#[derive(Debug, Clone, Copy)]
struct Entry {
    start: usize,
    colon: usize,
    end: usize,
}

/// One line of INFO, in the order the server sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The heading above the line without its `# `, empty before the first heading.
    pub section: &'a str,
    /// The text before the first colon.
    pub key: &'a str,
    /// The text after the first colon.
    pub value: &'a str,
}

impl Info {
    /// Splits the text into fields. Lines without a colon are skipped, as the server's blank lines are.
    pub fn parse(text: impl Into<String>) -> Self {
        let text = text.into();
        let entries = Vec::with_capacity(text.len() / 24);
        let mut info = Self { text: String::new(), sections: vec![Section::default()], entries };
        let (bytes, mut start, mut colon) = (text.as_bytes(), 0, None);
        for at in memchr2_iter(b':', b'\n', bytes) {
            if bytes[at] == b':' {
                colon.get_or_insert(at);
            } else {
                info.line(bytes, start..at, colon.take());
                start = at + 1;
            }
        }
        info.line(bytes, start..bytes.len(), colon);
        Self { text, ..info }
    }

    /// Takes in what is on a line, whose first colon is known.
    fn line(&mut self, text: &[u8], line: Range<usize>, colon: Option<usize>) {
        let after_blanks = |from: usize| line.end - text[from..line.end].trim_ascii_start().len();
        let start = after_blanks(line.start);
        let end = start + text[start..line.end].trim_ascii_end().len();
        let at = self.entries.len();
        if text[start..end].first() == Some(&b'#') {
            let name = after_blanks(start + 1);
            self.sections.push(Section { name: name.min(end)..end, entries: at..at });
        } else if let (Some(colon), Some(section)) = (colon, self.sections.last_mut()) {
            self.entries.push(Entry { start, colon, end });
            section.entries.end = at + 1;
        }
    }

    fn sections(&self) -> impl Iterator<Item = (&str, &[Entry])> {
        self.sections
            .iter()
            .map(|section| (&self.text[section.name.clone()], &self.entries[section.entries.clone()]))
    }

    fn field<'a>(&'a self, section: &'a str, entry: Entry) -> Field<'a> {
        let Entry { start, colon, end } = entry;
        Field { section, key: &self.text[start..colon], value: &self.text[colon + 1..end] }
    }

    /// Every field in the server's order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        self.fields_where(|_| true)
    }

    /// The fields of the sections whose name is wanted.
    pub fn fields_where<'a>(
        &'a self,
        wanted: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = Field<'a>> + 'a {
        let sections = self.sections().filter(move |(name, _)| wanted(name));
        sections.flat_map(|(name, entries)| entries.iter().map(|entry| self.field(name, *entry)))
    }

    /// The fields whose key begins like this, in the sections whose name is wanted.
    pub fn fields_beginning<'a>(
        &'a self,
        prefix: &'a str,
        wanted: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = Field<'a>> + 'a {
        let begins =
            |entry: &&Entry| self.text.as_bytes()[entry.start..entry.colon].starts_with(prefix.as_bytes());
        let sections = self.sections().filter(move |(name, _)| wanted(name));
        sections.flat_map(move |(name, entries)| {
            entries.iter().filter(begins).map(|entry| self.field(name, *entry))
        })
    }

    /// The fields of one section.
    pub fn section<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Field<'a>> {
        self.fields_where(move |section| section == name)
    }

    /// Whether the heading occurs, with or without fields under it.
    pub fn has_section(&self, name: &str) -> bool {
        self.sections().skip(1).any(|(section, _)| section == name)
    }

    /// The first value of a key, in whichever section it is.
    pub fn get(&self, key: &str) -> Option<&str> {
        let text = self.text.as_bytes();
        let is_it = |entry: &&Entry| {
            entry.colon - entry.start == key.len() && &text[entry.start..entry.colon] == key.as_bytes()
        };
        self.entries.iter().find(is_it).map(|entry| &self.text[entry.colon + 1..entry.end])
    }

    /// The first value of a key as a number; absent when it is missing or not a number.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.get(key).and_then(number)
    }
}

/// The parts of a `k=v,k=v` value. Parts without `=` are skipped; only the first `=` of a part splits it.
pub fn parts(value: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = Some(value);
    let pieces = std::iter::from_fn(move || {
        let (piece, after) = split_at(rest?, b',');
        rest = after;
        Some(piece)
    });
    pieces.filter_map(|piece| {
        let (name, value) = split_at(piece, b'=');
        Some((name, value?))
    })
}

/// What stands before an ASCII character, and after it, if it is there. Pieces are short, so that looking at each byte is
/// quicker than `str::split`.
fn split_at(text: &str, separator: u8) -> (&str, Option<&str>) {
    match text.bytes().position(|byte| byte == separator) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// One part of a `k=v,k=v` value, by name.
pub fn part<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    parts(value).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Integers of so many digits are floats without loss.
const EXACT_DIGITS: usize = 15;

/// The number behind a field: `ok` and `true` are 1; `fail`, `err` and `false` are 0; otherwise see [`number`].
pub fn value(text: &str) -> Option<f64> {
    match text {
        "ok" | "true" => Some(1.0),
        "fail" | "err" | "false" => Some(0.0),
        _ => number(text),
    }
}

/// A number as Go's `ParseFloat` reads it (decimal, hexadecimal float, `inf`, `nan`, `1_000`).
///
/// Absent for anything else, for what overflows, and for an integer of 2^63 and more: servers print a
/// size or count that went below zero as an unsigned number near 2^64, and unknown is absent, not huge.
pub fn number(text: &str) -> Option<f64> {
    // Nearly every value is one of these.
    if !text.is_empty() && text.len() <= EXACT_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.bytes().fold(0.0, |number, digit| number * 10.0 + f64::from(digit - b'0')));
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let negative = text.starts_with('-');
    if unsigned.eq_ignore_ascii_case("nan") {
        return (unsigned.len() == text.len()).then_some(f64::NAN);
    }
    if unsigned.eq_ignore_ascii_case("inf") || unsigned.eq_ignore_ascii_case("infinity") {
        return Some(if negative { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let parsed = if unsigned.starts_with("0x") || unsigned.starts_with("0X") {
        let magnitude = hexadecimal(&unsigned[2..])?;
        if negative { -magnitude } else { magnitude }
    } else if unsigned.contains('_') {
        well_separated(unsigned).then(|| text.replace('_', ""))?.parse::<f64>().ok()?
    } else {
        text.parse::<f64>().ok()?
    };
    let wrapped = unsigned.bytes().all(|b| b.is_ascii_digit()) && unsigned.parse::<i64>().is_err();
    (parsed.is_finite() && !wrapped).then_some(parsed)
}

/// The part of a hexadecimal float after `0x`: digits, an optional point, and a binary exponent that Go demands.
fn hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    if exponent.strip_prefix(['+', '-']).unwrap_or(exponent).starts_with(['+', '-']) {
        return None;
    }
    let mut exponent: i32 = exponent.parse().ok()?;
    let (mut value, mut digits, mut point) = (0.0_f64, 0, false);
    let mut previous = '_';
    for c in mantissa.chars() {
        if c == '_' {
            if point && previous == '.' {
                return None;
            }
        } else if c == '.' && !point {
            point = true;
        } else {
            value = value * 16.0 + f64::from(c.to_digit(16)?);
            digits += 1;
            if point {
                exponent = exponent.checked_sub(4)?;
            }
        }
        previous = c;
    }
    let third = exponent.clamp(-3000, 3000) / 3;
    let scaled = value * power_of_two(third) * power_of_two(third) * power_of_two(exponent - 2 * third);
    (digits > 0 && scaled.is_finite()).then_some(scaled)
}

/// 2 to a power that a normal float can have. `exp2` would make the C library's mathematics a part of every process.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(u64::from((exponent.clamp(-1022, 1023) + 1023).unsigned_abs()) << 52)
}

/// Whether every underscore stands between two digits.
fn well_separated(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    bytes
        .iter()
        .enumerate()
        .all(|(at, byte)| *byte != b'_' || (digit(at.checked_sub(1)) && digit(at.checked_add(1))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[test]
    fn fields_know_their_section_and_keep_their_order() {
        let info = Info::parse(
            "before:1\r\n# Server\r\nredis_version:7.0.15\r\nnonsense\r\n\r\n# CPU\r\nexe:/a:b\r\n# Modules\r\n",
        );
        let fields: Vec<_> = info.fields().map(|f| (f.section, f.key, f.value)).collect();
        assert_eq!(
            fields,
            [("", "before", "1"), ("Server", "redis_version", "7.0.15"), ("CPU", "exe", "/a:b")]
        );
        assert_eq!(info.get("exe"), Some("/a:b"));
        assert_eq!(info.section("Server").count(), 1);
        assert!(info.has_section("Modules") && !info.has_section("Keyspace"));
    }

    #[test]
    fn parts_are_found_by_name() {
        let value = "keys=5,expires=1,odd,avg_ttl=7,name=a=b";
        assert_eq!(part(value, "avg_ttl"), Some("7"));
        assert_eq!(part(value, "name"), Some("a=b"));
        assert_eq!(part(value, "odd"), None);
    }

    #[rstest]
    #[case("0", Some(0.0))]
    #[case("-1", Some(-1.0))]
    #[case("+2.5e3", Some(2500.0))]
    #[case(".5", Some(0.5))]
    #[case("1_000", Some(1000.0))]
    #[case("1__0", None)]
    #[case("_1", None)]
    #[case("0x1p-2", Some(0.25))]
    #[case("0x1.8p1", Some(3.0))]
    #[case("0x1p1023", Some(8.988_465_674_311_58e307))]
    #[case("0x1p-1074", Some(5e-324))]
    #[case("0x1p-1075", Some(0.0))]
    #[case("0x1p1024", None)]
    #[case("0x1p999999", None)]
    #[case("0x10", None)]
    #[case("Inf", Some(f64::INFINITY))]
    #[case("-infinity", Some(f64::NEG_INFINITY))]
    #[case("-nan", None)]
    #[case("1e400", None)]
    #[case("34.92%", None)]
    #[case("2.17M", None)]
    #[case("", None)]
    #[case("+", None)]
    #[case("9223372036854775807", Some(9_223_372_036_854_775_807.0))]
    #[case("9223372036854775808", None)]
    #[case("18446744073709551615", None)]
    #[case("9223372036854774784", Some(9_223_372_036_854_774_784.0))]
    fn numbers_are_read_as_go_reads_them(#[case] text: &str, #[case] expected: Option<f64>) {
        assert_eq!(number(text), expected, "{text}");
    }

    #[test]
    fn words_for_states_are_numbers() {
        assert_eq!(
            ["ok", "true", "fail", "err", "false", "up"].map(value),
            [Some(1.0), Some(1.0), Some(0.0), Some(0.0), Some(0.0), None]
        );
        assert!(number("NaN").is_some_and(f64::is_nan));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let info = Info::parse(String::from_utf8_lossy(&bytes).into_owned());
            for field in info.fields() {
                let _ = (value(field.value), parts(field.value).count());
            }
            let _ = info.has_section("x");
        }

        #[test]
        fn arbitrary_number_like_text_never_panics(text in "[-+]?(0[xX])?[0-9a-fA-F_.]{0,20}([eEpP][-+]?[0-9]{0,12})?") {
            let _ = number(&text);
        }

        #[test]
        fn every_field_written_is_read_back(lines in proptest::collection::vec(("[a-z_]{1,12}", "[a-z0-9=,:.]{0,20}"), 0..30)) {
            let text: String = lines.iter().map(|(k, v)| format!("{k}:{v}\r\n")).collect();
            let info = Info::parse(format!("# Stats\r\n{text}"));
            let read: Vec<_> = info.fields().map(|f| (f.key.to_owned(), f.value.to_owned())).collect();
            prop_assert_eq!(read, lines);
        }

        #[test]
        fn printed_floats_are_read_back(value in proptest::num::f64::NORMAL) {
            prop_assert_eq!(number(&format!("{value:e}")), Some(value));
        }
    }
}
