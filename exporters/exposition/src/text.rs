//! Writer of the Prometheus text format 0.0.4.

use crate::family::{Desc, Kind};
use crate::labels;
use crate::number;
use crate::snapshot::Snapshot;
use crate::write::{self, Dialect};

/// The Content-Type of this format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

struct Text;

impl Dialect for Text {
    fn header(out: &mut String, desc: &Desc, _: Kind) {
        out.push_str("# HELP ");
        out.push_str(&desc.name);
        out.push(' ');
        labels::push_help(out, &desc.help, false);
        out.push_str("\n# TYPE ");
        out.push_str(&desc.name);
        out.push(' ');
        out.push_str(desc.kind.text());
        out.push('\n');
    }

    fn bound(out: &mut String, value: f64) {
        number::push(out, value);
    }
}

/// Appends the snapshot, families sorted by name. The snapshot must be [sealed](Snapshot::seal).
pub fn encode(snapshot: &Snapshot, out: &mut String) {
    write::families::<Text>(snapshot, out);
}
