//! Writer of the Prometheus text format 0.0.4.

use crate::family::{Desc, Kind};
use crate::labels;
use crate::number;
use crate::shape::{GCOUNT, GSUM};
use crate::snapshot::Snapshot;
use crate::write::{self, Dialect, Part};

/// The Content-Type of this format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

struct Text;

impl Dialect for Text {
    const INDEX: usize = 0;

    fn parts(kind: Kind) -> &'static [Part] {
        match kind {
            Kind::GaugeHistogram => &[Part::Buckets, Part::Gauge(GSUM), Part::Gauge(GCOUNT)],
            _ => &[Part::Whole],
        }
    }

    fn header(out: &mut String, desc: &Desc, part: Part, _: Kind) {
        let (suffix, kind) = match part {
            Part::Whole | Part::Buckets => ("", desc.kind),
            Part::Gauge(suffix) => (suffix, Kind::Gauge),
        };
        let name = |out: &mut String| {
            out.push_str(&desc.name);
            out.push_str(suffix);
            out.push(' ');
        };
        out.push_str("# HELP ");
        name(out);
        labels::push_help(out, &desc.help, false);
        out.push_str("\n# TYPE ");
        name(out);
        out.push_str(kind.text());
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
