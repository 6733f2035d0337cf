//! `redis_errors_total`: error replies by their first word, from INFO's Errorstats section (6.2 and later).

use std::sync::Arc;

use exposition::{Column, Shape, Snapshot};

use super::{Replies, Section, Spec};
use crate::error::ReplyError;
use crate::info::{number, part};
use crate::options::Options;

static SPEC: Spec = Spec { name: "errorstats", doc: "Error replies by kind", default_enabled: true };

pub(super) struct Errorstats {
    shape: Arc<Shape>,
    errors: Column,
}

impl Errorstats {
    pub(super) fn new(options: &Options) -> Self {
        let mut shape = Shape::new(&["err"]);
        let errors = shape.column(&options.counter("errors_total", "Error replies by their first word."));
        Self { shape: Arc::new(shape), errors }
    }
}

impl Section for Errorstats {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn write(&self, replies: &Replies, page: &mut Snapshot) -> Result<(), ReplyError> {
        let table = page.table_of(&self.shape);
        for field in replies.info.section("Errorstats") {
            if let Some(error) = field.key.strip_prefix("errorstat_") {
                table.row(&[error]).set_some(self.errors, part(field.value, "count").and_then(number));
            }
        }
        Ok(())
    }
}
