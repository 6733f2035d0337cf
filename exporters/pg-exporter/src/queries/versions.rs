//! Ranges of server versions as postgres_exporter's `runonserver` and `pg_version` have them: `>=9.6.0 <12.0.0 || >=14`.

use std::str::FromStr;

/// A server's version: 15.18.0, 9.6.24.
pub type Version = [u32; 3];

/// The version that `server_version_num` stands for.
pub fn version(number: u32) -> Version {
    let (major, minor, patch) = (number / 10_000, number / 100 % 100, number % 100);
    if major >= 10 { [major, number % 10_000, 0] } else { [major, minor, patch] }
}

/// Alternatives, each a list of conditions that hold together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range(Vec<Vec<Condition>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Condition {
    operator: Operator,
    /// As many numbers as were written.
    version: [Option<u32>; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
}

/// Longer spellings stand before their beginnings.
const OPERATORS: &[(&str, Operator)] = &[
    (">=", Operator::GreaterOrEqual),
    ("<=", Operator::LessOrEqual),
    ("!=", Operator::NotEqual),
    ("==", Operator::Equal),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("!", Operator::NotEqual),
    ("=", Operator::Equal),
    ("", Operator::Equal),
];

impl Range {
    /// Whether a version is in it.
    pub fn contains(&self, version: Version) -> bool {
        self.0.iter().any(|conditions| conditions.iter().all(|condition| condition.holds(version)))
    }
}

impl Condition {
    fn holds(&self, version: Version) -> bool {
        // What was not written is zero, as in postgres_exporter; but `=15` means all of 15.
        let bound = self.version.map(Option::unwrap_or_default);
        let same = self.version.iter().zip(version).all(|(own, theirs)| own.is_none_or(|own| own == theirs));
        match self.operator {
            Operator::Less => version < bound,
            Operator::LessOrEqual => version <= bound || same,
            Operator::Equal => same,
            Operator::NotEqual => !same,
            Operator::Greater => version > bound && !(self.version[1].is_none() && same),
            Operator::GreaterOrEqual => version >= bound,
        }
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Range, String> {
        let wrong =
            || format!("{text:?} is no range of versions; write e.g. \">=13 <17\" or \"<10 || >=15.2\"");
        let mut alternatives = Vec::new();
        for alternative in text.split("||") {
            let mut conditions = Vec::new();
            let mut operator = None;
            for word in alternative.split_whitespace() {
                let (spelling, found) =
                    OPERATORS.iter().find(|(spelling, _)| word.starts_with(spelling)).ok_or_else(wrong)?;
                let rest = &word[spelling.len()..];
                // An operator may stand apart from its version.
                match (operator.take(), rest) {
                    (None, "") => operator = Some(*found),
                    (None, rest) => conditions
                        .push(Condition { operator: *found, version: numbers(rest).ok_or_else(wrong)? }),
                    (Some(operator), rest) if spelling.is_empty() => {
                        conditions.push(Condition { operator, version: numbers(rest).ok_or_else(wrong)? });
                    }
                    _ => return Err(wrong()),
                }
            }
            if conditions.is_empty() || operator.is_some() {
                return Err(wrong());
            }
            alternatives.push(conditions);
        }
        Ok(Range(alternatives))
    }
}

/// `15`, `15.2`, `9.6.x`.
fn numbers(text: &str) -> Option<[Option<u32>; 3]> {
    let mut version = [None; 3];
    let mut open = false;
    for (index, part) in text.split('.').enumerate() {
        let slot = version.get_mut(index)?;
        open |= matches!(part, "x" | "X" | "*");
        if !open {
            *slot = Some(part.parse().ok()?);
        }
    }
    Some(version)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(range: &str, number: u32) -> bool {
        range.parse::<Range>().unwrap().contains(version(number))
    }

    #[test]
    fn ranges() {
        for (range, number, expected) in [
            (">=16", 150_018, false),
            (">=16.0.0", 160_001, true),
            (">=9.6.0 <10.0.0", 90_624, true),
            (">=9.6.0 <10.0.0", 100_001, false),
            ("<10 || >=15.2", 150_001, false),
            ("<10 || >=15.2", 150_002, true),
            ("15", 150_018, true),
            ("=15.2", 150_018, false),
            ("!=15", 150_018, false),
            ("!15.2", 150_018, true),
            (">15", 150_018, false),
            (">15", 160_000, true),
            ("<=15", 150_018, true),
            (">= 13.0.0", 130_004, true),
            ("15.x", 150_018, true),
        ] {
            assert_eq!(holds(range, number), expected, "{range} {number}");
        }
        for wrong in ["", ">=", "a", ">=1.2.3.4", "||", "> >1", "1-2"] {
            assert!(wrong.parse::<Range>().unwrap_err().contains("range of versions"), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[<>=!|x*. 0-9a]{0,20}", number in 0..200_000_u32) {
            if let Ok(range) = text.parse::<Range>() {
                range.contains(version(number));
            }
        }

        #[test]
        fn at_least_and_below_are_opposite(major in 10..20_u32, minor in 0..30_u32, number in 100_000..200_000_u32) {
            prop_assert_ne!(holds(&format!(">={major}.{minor}"), number), holds(&format!("<{major}.{minor}"), number));
        }
    }
}
