//! `redis_errors_total`: error replies by their first word, from INFO's Errorstats section (6.2 and later).

use exposition::{Desc, Snapshot};

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::info::{number, part};
use crate::options::Options;

static SPEC: Spec = Spec { name: "errorstats", doc: "Error replies by kind", default_enabled: true };

pub(super) struct Errorstats {
    desc: Desc,
}

impl Errorstats {
    pub(super) fn new(options: &Options) -> Self {
        Self { desc: options.counter("errors_total", "Error replies by their first word.") }
    }
}

impl Section for Errorstats {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let table = page.table(&["err"]);
        let column = table.column(&self.desc);
        for field in replies.info.section("Errorstats") {
            if let Some(error) = field.key.strip_prefix("errorstat_") {
                table.row(&[error]).set_some(column, part(field.value, "count").and_then(number));
            }
        }
        Ok(())
    }
}
