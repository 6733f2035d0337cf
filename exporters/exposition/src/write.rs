//! What both text formats have in common: walking the snapshot and writing sample lines.

use std::ops::Range;
use std::sync::Arc;

use crate::family::{Desc, Kind};
use crate::layout::Layout;
use crate::number;
use crate::rows::AFTER;
use crate::shape::{BUCKET, Sample, is_compound};
use crate::snapshot::Snapshot;
use crate::table::{Table, present};

/// What a format decides.
pub(crate) trait Dialect {
    /// Which of a layout's headers are its own.
    const INDEX: usize;
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

/// What a format writes of the families of a layout whatever their values are, in the order in which it is written.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    sections: Vec<Section>,
    lines: Vec<Line>,
    /// Bytes of all headers.
    headers: usize,
    /// For each table the lines of a row, and their bytes without its labels and values.
    rows: Vec<(usize, usize)>,
}

/// The lines of a row of a table that are written together: those of a family, or of the part that a format makes of it;
/// those of several where a table has one row only.
#[derive(Debug)]
struct Section {
    table: usize,
    lines: Range<usize>,
}

/// What stands around the labels of a row in the lines of a column.
#[derive(Debug)]
struct Line {
    column: usize,
    /// Lines below one header have the same number, and are neighbours.
    header: usize,
    /// HELP, TYPE and UNIT, for the first line below them. Then the name, and the labels that all rows have: `name{`. All
    /// of it where rows have none: `name `.
    before: Box<str>,
    /// Where the name starts.
    name: usize,
    /// The end of a block of labels to which the column adds one; empty, where it is as in [`Rows::text`].
    after: Box<str>,
}

impl Frame {
    fn new<D: Dialect>(snapshot: &Snapshot, layout: &Layout) -> Frame {
        let mut frame = Frame { rows: vec![(0, 0); snapshot.tables.len()], ..Frame::default() };
        let mut number = 0;
        for tables in layout.families() {
            let desc = &snapshot.family(tables[0]).desc;
            let kind = openmetrics_kind(desc, snapshot.tables[tables[0].0].label_names());
            for part in D::parts(desc.kind) {
                let mut header = String::new();
                D::header(&mut header, desc, *part, kind);
                frame.headers += header.len();
                number += 1;
                for &at in tables.iter().filter(|at| snapshot.family(**at).desc.kind == desc.kind) {
                    let (table, family) = (&snapshot.tables[at.0], snapshot.family(at));
                    let first = frame.lines.len();
                    let columns = family.columns().filter(|column| part.has(&table.shape.columns[*column]));
                    let line = |column| Line::new::<D>(table, desc, column, number, &header);
                    frame.lines.extend(columns.map(line));
                    let (count, bytes) = &mut frame.rows[at.0];
                    *count += frame.lines.len() - first;
                    *bytes += frame.lines[first..].iter().map(Line::size).sum::<usize>();
                    let end = frame.lines.len();
                    match frame.sections.last_mut() {
                        Some(last) if last.table == at.0 && table.shape.labels.is_empty() => {
                            last.lines.end = end;
                        }
                        _ => frame.sections.push(Section { table: at.0, lines: first..end }),
                    }
                }
            }
        }
        frame
    }

    /// About how many bytes a page takes; more, where values are absent. A page that outgrows its memory is copied.
    fn size(&self, snapshot: &Snapshot) -> usize {
        const VALUE: usize = 16;
        let size = |(table, (lines, bytes)): (&Arc<Table>, &(usize, usize))| {
            table.len() * (bytes + lines * VALUE) + lines * table.rows.size()
        };
        self.headers + snapshot.tables.iter().zip(&self.rows).map(size).sum::<usize>()
    }
}

impl Line {
    fn new<D: Dialect>(table: &Table, desc: &Desc, column: usize, number: usize, header: &str) -> Line {
        let Sample { suffix, extra } = table.shape.columns[column];
        let suffix = if is_compound(desc.kind) { suffix } else { "" };
        let extra = extra.map(|(name, value)| {
            let mut label = [name, "=\""].concat();
            D::bound(&mut label, value);
            label.push('"');
            label
        });
        let mut before = [header, &*desc.name, suffix].concat();
        let mut after = String::new();
        // The labels of all rows end in a comma.
        match (&extra, table.prefix.strip_suffix(',')) {
            (extra, _) if !table.shape.labels.is_empty() => {
                before.extend(["{", &table.prefix]);
                extra.iter().for_each(|extra| after.extend([",", extra, AFTER]));
            }
            (Some(extra), _) => before.extend(["{", &table.prefix, extra, AFTER]),
            (None, Some(labels)) => before.extend(["{", labels, AFTER]),
            (None, None) => before.push(' '),
        }
        Line { column, header: number, before: before.into(), name: header.len(), after: after.into() }
    }

    fn size(&self) -> usize {
        self.before.len() - self.name + self.after.len()
    }
}

/// Appends every family of a sealed snapshot, sorted by name. Allocates nothing per series, apart from growing `out`.
pub(crate) fn families<D: Dialect>(snapshot: &Snapshot, out: &mut String) {
    let layout = snapshot.layout();
    let frame = layout.frames[D::INDEX].get_or_init(|| Frame::new::<D>(snapshot, &layout));
    out.reserve(frame.size(snapshot));
    // The last header that was written.
    let mut described = 0;
    for section in &frame.sections {
        let lines = &frame.lines[section.lines.clone()];
        for (labels, values) in snapshot.tables[section.table].iter() {
            for line in lines {
                let Some(value) = present(values[line.column]) else { continue };
                // Without a sample there is no family.
                if described == line.header {
                    out.push_str(&line.before[line.name..]);
                } else {
                    described = line.header;
                    out.push_str(&line.before);
                }
                if line.after.is_empty() {
                    out.push_str(labels);
                } else {
                    out.push_str(labels.strip_suffix(AFTER).unwrap_or(labels));
                    out.push_str(&line.after);
                }
                number::push(out, value);
                out.push('\n');
            }
        }
    }
}

/// Whether OpenMetrics can keep a kind under the name the family has: its counters must end in `_total`, its infos in
/// `_info`, and a state set has a label of its own name.
fn openmetrics_kind<'a>(desc: &Desc, mut labels: impl Iterator<Item = &'a str>) -> Kind {
    match desc.kind {
        Kind::Counter if !desc.name.ends_with("_total") => Kind::Unknown,
        Kind::Info if !desc.name.ends_with("_info") => Kind::Gauge,
        Kind::StateSet if !labels.any(|label| desc.name == label) => Kind::Gauge,
        kind => kind,
    }
}
