//! What both text formats have in common: walking the snapshot and writing sample lines.

use crate::family::{Desc, Kind};
use crate::layout::Layout;
use crate::number;
use crate::shape::{BUCKET, Sample, is_compound};
use crate::snapshot::Snapshot;

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

/// HELP, TYPE and UNIT of the families of a layout, back to back: one text for each part of each of them.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    text: String,
    ends: Vec<usize>,
}

impl Headers {
    fn new<D: Dialect>(snapshot: &Snapshot, layout: &Layout) -> Headers {
        let count = layout.names.len();
        let mut headers =
            Headers { text: String::with_capacity(count * 128), ends: Vec::with_capacity(count) };
        for tables in layout.families() {
            let desc = &snapshot.family(tables[0]).desc;
            let kind = openmetrics_kind(desc, snapshot.tables[tables[0].0].label_names());
            for part in D::parts(desc.kind) {
                D::header(&mut headers.text, desc, *part, kind);
                headers.ends.push(headers.text.len());
            }
        }
        headers
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end])
    }
}

/// Appends every family of a sealed snapshot, sorted by name. Allocates nothing per series, apart from growing `out`.
pub(crate) fn families<D: Dialect>(snapshot: &Snapshot, out: &mut String) {
    let layout = snapshot.layout();
    let headers = layout.headers[D::INDEX].get_or_init(|| Headers::new::<D>(snapshot, &layout));
    out.reserve(headers.text.len() + samples_size(snapshot, &layout));
    let mut headers = headers.iter();
    let mut extras = Extras::default();
    for tables in layout.families() {
        for (part, header) in D::parts(snapshot.family(tables[0]).desc.kind).iter().zip(&mut headers) {
            write_part::<D>(snapshot, tables, *part, header, &mut extras, out);
        }
    }
}

/// About how many bytes the samples take; more, where values are absent. A page that outgrows its memory is copied.
fn samples_size(snapshot: &Snapshot, layout: &Layout) -> usize {
    const VALUE: usize = 16;
    let size = |part: &(usize, usize)| {
        let (table, family) = (&snapshot.tables[part.0], snapshot.family(*part));
        let line = family.desc.name.len() + table.prefix.len() + VALUE;
        family.count * (table.rows() * line + table.blocks_size())
    };
    layout.order.iter().map(size).sum()
}

/// Appends a part of the family that stands in these tables, below its header.
fn write_part<D: Dialect>(
    snapshot: &Snapshot,
    tables: &[(usize, usize)],
    part: Part,
    header: &str,
    extras: &mut Extras,
    out: &mut String,
) {
    let mut header = Some(header);
    let kind = snapshot.family(tables[0]).desc.kind;
    for &at in tables {
        let table = &snapshot.tables[at.0];
        let family = snapshot.family(at);
        if family.desc.kind != kind {
            continue;
        }
        let columns = &table.shape.columns[family.first..family.first + family.count];
        if columns.iter().any(|column| column.extra.is_some()) {
            extras.fill::<D>(columns);
        }
        for row in 0..table.rows() {
            for (index, column) in columns.iter().enumerate().filter(|(_, column)| part.has(column)) {
                let Some(value) = table.value(family.first + index, row) else { continue };
                // Without a sample there is no family.
                out.push_str(header.take().unwrap_or_default());
                out.push_str(&family.desc.name);
                if is_compound(kind) {
                    out.push_str(column.suffix);
                }
                let extra = if column.extra.is_some() { extras.of(index) } else { "" };
                let block = table.block(row);
                if block.is_empty() || !table.prefix.is_empty() || !extra.is_empty() {
                    series_labels(out, &table.prefix, table.labels(row), extra);
                    out.push(' ');
                } else {
                    out.push_str(block);
                }
                number::push(out, value);
                out.push('\n');
            }
        }
    }
}

/// The labels that columns add to those of a row: `le="0.5"`. They are the same in every row.
#[derive(Default)]
struct Extras {
    text: String,
    ends: Vec<usize>,
}

impl Extras {
    fn fill<D: Dialect>(&mut self, columns: &[Sample]) {
        self.text.clear();
        self.ends.clear();
        for column in columns {
            if let Some((name, value)) = column.extra {
                self.text.push_str(name);
                self.text.push_str("=\"");
                D::bound(&mut self.text, value);
                self.text.push('"');
            }
            self.ends.push(self.text.len());
        }
    }

    fn of(&self, column: usize) -> &str {
        let start = if column == 0 { 0 } else { self.ends[column - 1] };
        &self.text[start..self.ends[column]]
    }
}

fn series_labels(out: &mut String, prefix: &str, labels: &str, extra: &str) {
    if prefix.is_empty() && labels.is_empty() && extra.is_empty() {
        return;
    }
    out.push('{');
    // The prefix ends in a comma; one too many is taken back below.
    out.push_str(prefix);
    out.push_str(labels);
    if !extra.is_empty() {
        if !labels.is_empty() {
            out.push(',');
        }
        out.push_str(extra);
    } else if labels.is_empty() {
        out.pop();
    }
    out.push('}');
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
