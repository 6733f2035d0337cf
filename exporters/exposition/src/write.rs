//! What both text formats have in common: walking the snapshot and writing sample lines.

use crate::family::{Desc, Kind};
use crate::number;
use crate::snapshot::{Sample, Snapshot, is_compound};

/// What a format decides.
pub(crate) trait Dialect {
    /// Writes HELP, TYPE and UNIT. `kind` is what the family's type is in OpenMetrics.
    fn header(out: &mut String, desc: &Desc, kind: Kind);
    /// Writes the bound of a bucket or a quantile.
    fn bound(out: &mut String, value: f64);
}

/// Appends every family of a sealed snapshot, sorted by name. Allocates nothing per series, apart from growing `out`.
pub(crate) fn families<D: Dialect>(snapshot: &Snapshot, out: &mut String) {
    let order = snapshot.families();
    for parts in order.chunk_by(|a, b| snapshot.name(*a) == snapshot.name(*b)) {
        let mut header_written = false;
        let kind = snapshot.family(parts[0]).desc.kind;
        for &part in parts {
            let table = &snapshot.tables[part.0];
            let family = snapshot.family(part);
            if family.desc.kind != kind {
                continue;
            }
            for row in 0..table.rows() {
                for (index, column) in
                    table.columns[family.first..family.first + family.count].iter().enumerate()
                {
                    let Some(value) = table.value(family.first + index, row) else { continue };
                    if !header_written {
                        D::header(out, &family.desc, openmetrics_kind(&family.desc, table.label_names()));
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
