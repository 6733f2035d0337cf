//! `redis_db_key_sizes`: how many keys there are of each size, from INFO's Keysizes (Redis 8.0 and later), which the
//! server keeps anyway.

use std::sync::Arc;

use exposition::{Column, Shape, Snapshot};

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::info::{number, parts};
use crate::options::Options;

static SPEC: Spec =
    Spec { name: "keysizes", doc: "Keys by size, where the server counts them", default_enabled: true };

/// What the server calls a type and a measure, and the two as labels.
const MEASURES: &[(&str, &str, &str)] = &[
    ("strings_sizes", "string", "bytes"),
    ("lists_items", "list", "items"),
    ("sets_items", "set", "items"),
    ("zsets_items", "zset", "items"),
    ("hashes_items", "hash", "items"),
];

pub(super) struct Keysizes {
    shape: Arc<Shape>,
    keys: Column,
}

impl Keysizes {
    pub(super) fn new(options: &Options) -> Self {
        let help = "Keys whose size is at least that of the label and less than the next power of two.";
        let mut shape = Shape::new(&["db", "type", "unit", "size"]);
        Self { keys: shape.column(&options.gauge("db_key_sizes", help)), shape: Arc::new(shape) }
    }
}

/// A size as the server writes it: `512`, `1K`, `32M`.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

impl Section for Keysizes {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    /// `db0_distrib_strings_sizes:1=5,2=7,1K=3`
    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let table = page.table_of(&self.shape);
        for field in replies.info.section("Keysizes") {
            let Some((db, measure)) = field.key.split_once("_distrib_") else { continue };
            let Some((_, kind, unit)) = MEASURES.iter().find(|(name, ..)| *name == measure) else { continue };
            for (from, keys) in parts(field.value) {
                if let Some(from) = size(from) {
                    table.row(&[db, kind, unit, &from.to_string()]).set_some(self.keys, number(keys));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, page, replies};
    use super::*;

    #[test]
    fn sizes_are_numbers_and_what_went_below_zero_is_absent() {
        let info = "# Keysizes\r\ndb0_distrib_strings_sizes:0=18446744073709551615,1=2,32K=1\r\ndb3_distrib_hashes_items:4=7,8M=1\r\n";
        assert_eq!(
            lines(&page(&Keysizes::new(&Options::default()), &replies(info, []))),
            [
                "redis_db_key_sizes{db=db0,type=string,unit=bytes,size=1} 2",
                "redis_db_key_sizes{db=db0,type=string,unit=bytes,size=32768} 1",
                "redis_db_key_sizes{db=db3,type=hash,unit=items,size=4} 7",
                "redis_db_key_sizes{db=db3,type=hash,unit=items,size=8388608} 1",
            ]
        );
    }
}
