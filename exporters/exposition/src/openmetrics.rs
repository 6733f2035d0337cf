//! Writer of OpenMetrics 1.0.

use crate::family::{Desc, Kind};
use crate::labels;
use crate::number;
use crate::snapshot::Snapshot;
use crate::write::{self, Dialect, Part};

/// The Content-Type of this format.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The line that ends a page.
pub const EOF: &str = "# EOF\n";

struct OpenMetrics;

impl Dialect for OpenMetrics {
    const INDEX: usize = 1;

    fn parts(_: Kind) -> &'static [Part] {
        &[Part::Whole]
    }

    fn header(out: &mut String, desc: &Desc, _: Part, kind: Kind) {
        let suffix = match kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            _ => "",
        };
        let name = desc.name.strip_suffix(suffix).unwrap_or(&desc.name);
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::GaugeHistogram => "gaugehistogram",
            Kind::Summary => "summary",
            Kind::Info => "info",
            Kind::StateSet => "stateset",
            Kind::Unknown => "unknown",
        };
        out.push_str("# HELP ");
        out.push_str(name);
        out.push(' ');
        labels::push_help(out, &desc.help, true);
        out.push_str("\n# TYPE ");
        out.push_str(name);
        out.push(' ');
        out.push_str(word);
        out.push('\n');
        if let Some(unit) = desc.unit.as_deref().filter(|unit| ends_in_unit(name, unit)) {
            out.push_str("# UNIT ");
            out.push_str(name);
            out.push(' ');
            out.push_str(unit);
            out.push('\n');
        }
    }

    fn bound(out: &mut String, value: f64) {
        number::push_canonical(out, value);
    }
}

fn ends_in_unit(name: &str, unit: &str) -> bool {
    name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'))
}

/// Appends the snapshot, families sorted by name, without the closing [`EOF`]. The snapshot must be
/// [sealed](Snapshot::seal).
pub fn encode(snapshot: &Snapshot, out: &mut String) {
    write::families::<OpenMetrics>(snapshot, out);
}
