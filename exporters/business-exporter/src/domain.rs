//! What values a label may have, and what becomes of the others.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use schemars::JsonSchema;
use serde::Deserialize;

/// What a label is when its expression or column is NULL.
pub const NULL_LABEL: &str = "unknown";

/// What values beyond `max` become when the definition does not say.
const OTHER: &str = "other";

/// The values of a label, as the definition has them. The default is any value.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// The only values.
    pub values: Option<Vec<String>>,
    /// The only values are those of this enum type, written as `schema.type`; they are read from the database.
    #[serde(rename = "enum")]
    pub enum_type: Option<String>,
    /// At most this many values: the first ones that were seen since the start.
    pub max: Option<usize>,
    /// What every further value becomes. With `values` and without this, a further value is rejected.
    pub other: Option<String>,
}

impl Domain {
    /// Whether every value there can be is known, from here or from the database.
    pub fn is_closed(&self) -> bool {
        self.values.is_some() || self.enum_type.is_some()
    }

    /// Every value there can be, when that is known beforehand.
    pub fn closed(&self) -> Option<Vec<&str>> {
        let values = self.values.as_ref()?.iter().chain(&self.other);
        Some(values.map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// What becomes of a value that is inside of the domain, or not.
    pub fn place<'a>(&'a self, value: &'a str, inside: bool) -> Admitted<'a> {
        match (inside, &self.other, self.max) {
            (true, ..) => Admitted::As(Cow::Borrowed(value)),
            (false, Some(other), _) => Admitted::Folded(Cow::Borrowed(other)),
            (false, None, Some(_)) => Admitted::Folded(Cow::Borrowed(OTHER)),
            (false, None, None) => Admitted::Rejected,
        }
    }

    /// What contradicts itself, in words.
    ///
    /// # Errors
    /// The problem.
    pub fn check(&self) -> Result<(), &'static str> {
        let kinds = [self.values.is_some(), self.enum_type.is_some(), self.max.is_some()];
        let kinds = kinds.into_iter().filter(|given| *given).count();
        match self {
            _ if kinds > 1 => Err("values, enum and max exclude each other"),
            Domain { other: Some(_), .. } if kinds == 0 => Err("other needs values, enum or max"),
            Domain { enum_type: Some(name), .. } if !is_type_name(name) => {
                Err("write the enum as schema.type")
            }
            Domain { values: Some(values), .. } if values.is_empty() => Err("values is empty"),
            Domain { max: Some(0), .. } => Err("max is at least 1"),
            Domain { values: Some(values), .. }
                if values.iter().collect::<BTreeSet<_>>().len() < values.len() =>
            {
                Err("a value stands twice in values")
            }
            _ => Ok(()),
        }
    }
}

/// Whether a name is `schema.type` and can stand in single quotes.
fn is_type_name(name: &str) -> bool {
    name.split_once('.').is_some_and(|(schema, name)| !schema.is_empty() && !name.is_empty())
        && name.chars().all(|one| one.is_alphanumeric() || matches!(one, '.' | '_'))
}

/// A label value after its domain was asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Admitted<'a> {
    /// It is in the domain.
    As(Cow<'a, str>),
    /// It became the value for others, which several values share.
    Folded(Cow<'a, str>),
    /// It is not in the domain, and there is no value for others.
    Rejected,
}

/// A label of a family, with the values that were seen.
#[derive(Debug, Default)]
pub struct Label {
    domain: Domain,
    seen: Mutex<BTreeSet<String>>,
}

impl Label {
    /// Nothing was seen yet.
    pub fn new(domain: Domain) -> Label {
        Label { domain, seen: Mutex::default() }
    }

    /// The domain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// What becomes of a value.
    pub fn admit<'a>(&'a self, value: &'a str) -> Admitted<'a> {
        let inside = match (&self.domain.values, self.domain.max) {
            (Some(values), _) => values.iter().any(|known| known == value),
            (None, Some(max)) => self.is_among_first(value, max),
            (None, None) => true,
        };
        self.domain.place(value, inside)
    }

    fn is_among_first(&self, value: &str, max: usize) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.contains(value) && seen.len() < max {
            seen.insert(value.to_owned());
        }
        seen.contains(value)
    }
}

/// Samples of a family that were rejected since the start, or events since the ledger's.
#[derive(Debug, Default)]
pub struct Rejections(AtomicU64);

impl Rejections {
    /// One more.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// As many as the ledger says.
    pub fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn label(values: Option<&[&str]>, max: Option<usize>, other: Option<&str>) -> Label {
        let values = values.map(|values| values.iter().map(|&value| value.to_owned()).collect());
        Label::new(Domain { values, max, other: other.map(str::to_owned), enum_type: None })
    }

    #[test]
    fn values_are_kept_folded_or_rejected() {
        let closed = label(Some(&["a", "b"]), None, None);
        assert_eq!(closed.admit("a"), Admitted::As("a".into()));
        assert_eq!(closed.admit("c"), Admitted::Rejected);
        let open = label(Some(&["a"]), None, Some("rest"));
        assert_eq!(open.admit("c"), Admitted::Folded("rest".into()));
        assert_eq!(open.domain().closed(), Some(vec!["a", "rest"]));
        let first = label(None, Some(2), None);
        let admitted = ["x", "y", "z", "x"].map(|value| first.admit(value) == Admitted::As(value.into()));
        assert_eq!(admitted, [true, true, false, true]);
        assert_eq!(first.admit("z"), Admitted::Folded("other".into()));
    }

    #[test]
    fn contradictions_are_found() {
        for (values, max, other) in [
            (Some(&["a"][..]), Some(1), None),
            (None, None, Some("x")),
            (Some(&[]), None, None),
            (None, Some(0), None),
            (Some(&["a", "a"]), None, None),
        ] {
            assert!(label(values, max, other).domain().check().is_err(), "{values:?} {max:?} {other:?}");
        }
        assert_eq!(label(None, None, None).domain().check(), Ok(()));
    }

    proptest! {
        #[test]
        fn never_more_values_than_the_maximum(max in 1..5_usize, values in prop::collection::vec("[a-h]", 0..50)) {
            let label = label(None, Some(max), Some("rest"));
            let kept: BTreeSet<String> = values.iter().filter_map(|value| match label.admit(value) {
                Admitted::As(value) => Some(value.into_owned()),
                _ => None,
            }).collect();
            let distinct: BTreeSet<&String> = values.iter().collect();
            prop_assert_eq!(kept.len(), distinct.len().min(max));
        }

        #[test]
        fn a_closed_domain_lets_out_only_its_values(value in "[a-d]{1,2}", other in prop::option::of("[a-z]")) {
            let label = label(Some(&["a", "b", "cd"]), None, other.as_deref());
            if let Admitted::As(out) | Admitted::Folded(out) = label.admit(&value) {
                prop_assert!(label.domain().closed().unwrap().contains(&out.as_ref()));
            } else {
                prop_assert!(other.is_none());
            }
        }
    }
}
