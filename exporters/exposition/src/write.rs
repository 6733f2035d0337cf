//! What both text formats have in common: walking the snapshot and writing sample lines.

use crate::family::{Desc, Kind};
use crate::number;
use crate::snapshot::{BUCKET, Sample, Snapshot, is_compound};

/// What a format decides.
pub(crate) trait Dialect {
    /// What a family of a kind is written as, one after the other.
    fn parts(kind: Kind) -> &'static [Part];
    /// Writes HELP, TYPE and UNIT. `kind` is what the family's type is in OpenMetrics.
    fn header(out: &mut String, desc: &Desc, part: Part, kind: Kind);
    /// Writes the bound of a bucket or a quantile.
    fn bound(out: &mut String, value: f64);
}

/// A family, or what a format without its type makes a family of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    /// The buckets alone.
    Buckets,
    /// The samples with this suffix, as gauges.
    Gauge(&'static str),
}

impl Part {
    fn has(self, column: &Sample) -> bool {
        match self {
            Part::Whole => true,
            Part::Buckets => column.suffix == BUCKET,
            Part::Gauge(suffix) => column.suffix == suffix,
        }
    }
}

/// Appends every family of a sealed snapshot, sorted by name. Allocates nothing per series, apart from growing `out`.
pub(crate) fn families<D: Dialect>(snapshot: &Snapshot, out: &mut String) {
    let order = snapshot.families();
    for tables in order.chunk_by(|a, b| snapshot.name(*a) == snapshot.name(*b)) {
        for part in D::parts(snapshot.family(tables[0]).desc.kind) {
            write_part::<D>(snapshot, tables, *part, out);
        }
    }
}

/// Appends a part of the family that stands in these tables.
fn write_part<D: Dialect>(snapshot: &Snapshot, tables: &[(usize, usize)], part: Part, out: &mut String) {
    let mut header_written = false;
    let kind = snapshot.family(tables[0]).desc.kind;
    for &at in tables {
        let table = &snapshot.tables[at.0];
        let family = snapshot.family(at);
        if family.desc.kind != kind {
            continue;
        }
        let columns = &table.columns[family.first..family.first + family.count];
        for row in 0..table.rows() {
            for (index, column) in columns.iter().enumerate().filter(|(_, column)| part.has(column)) {
                let Some(value) = table.value(family.first + index, row) else { continue };
                if !header_written {
                    D::header(out, &family.desc, part, openmetrics_kind(&family.desc, table.label_names()));
                    header_written = true;
                }
                out.push_str(&family.desc.name);
                if is_compound(kind) {
                    out.push_str(column.suffix);
                }
                series_labels::<D>(out, &table.prefix, table.block(row), column);
                out.push(' ');
                number::push(out, value);
                out.push('\n');
            }
        }
    }
}

fn series_labels<D: Dialect>(out: &mut String, prefix: &str, block: &str, column: &Sample) {
    if prefix.is_empty() && block.is_empty() && column.extra.is_none() {
        return;
    }
    out.push('{');
    // The prefix ends in a comma; one too many is taken back below.
    out.push_str(prefix);
    out.push_str(block);
    if let Some((name, value)) = column.extra {
        if !block.is_empty() {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        D::bound(out, value);
        out.push('"');
    } else if block.is_empty() {
        out.pop();
    }
    out.push('}');
}

/// Whether OpenMetrics can keep a kind under the name the family has: its counters must end in `_total`, its infos in
/// `_info`, and a state set has a label of its own name.
fn openmetrics_kind(desc: &Desc, labels: &[String]) -> Kind {
    match desc.kind {
        Kind::Counter if !desc.name.ends_with("_total") => Kind::Unknown,
        Kind::Info if !desc.name.ends_with("_info") => Kind::Gauge,
        Kind::StateSet if !labels.iter().any(|label| desc.name == *label) => Kind::Gauge,
        kind => kind,
    }
}
