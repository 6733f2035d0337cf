//! Sans-IO parser of the text that INFO and CLUSTER INFO reply with: sections, `key:value` lines and the
//! `k=v,k=v` values inside them. One copy of the text is kept and everything borrows from it.
//! Numbers follow what Go's `ParseFloat` accepts, so that a value means the same here as in redis_exporter.

use std::sync::{Arc, OnceLock};

use crate::outline::{Outline, Values};

/// A parsed reply of INFO (or CLUSTER INFO, which has no sections).
#[derive(Debug, Clone, Default)]
pub struct Info {
    text: String,
    outline: Arc<Outline>,
    values: Values,
    commands: OnceLock<Vec<Totals>>,
}

/// What Commandstats says of one command.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    line: usize,
    /// Calls since the start, or since CONFIG RESETSTAT.
    pub calls: Option<f64>,
    /// Microseconds that they took.
    pub usec: Option<f64>,
    /// Calls that were refused before they ran.
    pub rejected: Option<f64>,
    /// Calls that failed while they ran.
    pub failed: Option<f64>,
}

/// What the keys of Commandstats begin with; the name of the command follows.
const COMMAND: &str = "cmdstat_";

/// One line of INFO, in the order the server sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Which line it is, for [`Info::value`] of each text with this outline.
    pub line: usize,
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
        Self::parse_like(text, &Arc::default())
    }

    /// [Parses](Info::parse), sparing what `known`, the outline of an earlier text, tells.
    pub fn parse_like(text: impl Into<String>, known: &Arc<Outline>) -> Self {
        let text = text.into();
        let (outline, values) = match known.values(&text) {
            Some(values) => (Arc::clone(known), values),
            None => {
                let (outline, values) = Outline::read(&text);
                (Arc::new(outline), values)
            }
        };
        Self { text, outline, values, commands: OnceLock::new() }
    }

    /// What there is beside the values.
    pub fn outline(&self) -> &Arc<Outline> {
        &self.outline
    }

    /// The key of a line.
    pub fn key(&self, line: usize) -> &str {
        self.outline.key(line)
    }

    /// The value of a line.
    pub fn value(&self, line: usize) -> &str {
        &self.text[self.values[line].clone()]
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
        let sections = self.outline.sections().filter(move |(name, _)| wanted(name));
        sections.flat_map(move |(section, lines)| {
            lines.map(move |line| Field { line, section, key: self.key(line), value: self.value(line) })
        })
    }

    /// The fields of one section.
    pub fn section<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Field<'a>> {
        self.fields_where(move |section| section == name)
    }

    /// Whether the heading occurs, with or without fields under it.
    pub fn has_section(&self, name: &str) -> bool {
        self.outline.sections().skip(1).any(|(section, _)| section == name)
    }

    /// The first value of a key, in whichever section it is.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.outline.find(key).map(|line| self.value(line))
    }

    /// The first value of a key as a number; absent when it is missing or not a number.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.get(key).and_then(number)
    }

    /// The commands in Commandstats. They are read once, for all the collectors that want them.
    pub fn commands(&self) -> impl Iterator<Item = (&str, &Totals)> {
        let commands = self.commands.get_or_init(|| {
            let fields = self.section("Commandstats").filter(|field| field.key.starts_with(COMMAND));
            fields.map(|field| Totals::read(field.line, field.value)).collect()
        });
        commands.iter().map(|totals| (&self.key(totals.line)[COMMAND.len()..], totals))
    }
}

impl Totals {
    fn read(line: usize, text: &str) -> Self {
        let mut totals = Self { line, ..Self::default() };
        for (name, value) in parts(text) {
            match name {
                "calls" => totals.calls = number(value),
                "usec" => totals.usec = number(value),
                "rejected_calls" => totals.rejected = number(value),
                "failed_calls" => totals.failed = number(value),
                _ => {}
            }
        }
        totals
    }
}

/// The parts of a `k=v,k=v` value. Parts without `=` are skipped; only the first `=` of a part splits it.
pub fn parts(value: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        loop {
            let text = rest?;
            // Parts are short, so that looking at each byte is quicker than a search.
            let end = text.bytes().position(|byte| byte == b',').unwrap_or(text.len());
            let part = &text[..end];
            rest = text.get(end + 1..);
            if let Some(equals) = part.bytes().position(|byte| byte == b'=') {
                return Some((&part[..equals], &part[equals + 1..]));
            }
        }
    })
}

/// One part of a `k=v,k=v` value, by name.
pub fn part<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    parts(value).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Powers of ten that are floats without loss, as integers of so many digits are: the quotient of two such floats is the
/// float nearest to the decimal number.
const POWERS_OF_TEN: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// The number behind a field: `ok` and `true` are 1; `fail`, `err` and `false` are 0; otherwise see [`number`].
pub fn value(text: &str) -> Option<f64> {
    short_decimal(text).or_else(|| match text {
        "ok" | "true" => Some(1.0),
        "fail" | "err" | "false" => Some(0.0),
        _ => any_number(text),
    })
}

/// A number of up to 15 digits, with or without a point, which nearly every value is.
fn short_decimal(text: &str) -> Option<f64> {
    /// Goes on with a number; gives what follows its digits, too.
    fn digits(mut number: u64, mut text: &[u8]) -> (u64, &[u8]) {
        while let [digit @ b'0'..=b'9', rest @ ..] = text {
            (number, text) = (number * 10 + u64::from(digit - b'0'), rest);
        }
        (number, text)
    }
    if text.is_empty() || text.len() >= POWERS_OF_TEN.len() {
        return None;
    }
    match digits(0, text.as_bytes()) {
        (number, []) => Some(number as f64),
        (number, [b'.', decimals @ ..]) if text.len() > 1 => match digits(number, decimals) {
            (number, []) => Some(number as f64 / POWERS_OF_TEN[decimals.len()]),
            _ => None,
        },
        _ => None,
    }
}

/// A number as Go's `ParseFloat` reads it (decimal, hexadecimal float, `inf`, `nan`, `1_000`).
///
/// Absent for anything else, for what overflows, and for an integer of 2^63 and more: servers print a
/// size or count that went below zero as an unsigned number near 2^64, and unknown is absent, not huge.
pub fn number(text: &str) -> Option<f64> {
    short_decimal(text).or_else(|| any_number(text))
}

fn any_number(text: &str) -> Option<f64> {
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
        fn short_decimals_are_read_as_others_are(text in "[0-9]{0,9}[.]?[0-9]{0,8}") {
            prop_assert_eq!(number(&text), any_number(&text));
        }

        #[test]
        fn printed_floats_are_read_back(value in proptest::num::f64::NORMAL) {
            prop_assert_eq!(number(&format!("{value:e}")), Some(value));
        }
    }
}
