//! Figures of exporters side by side, as a table in Markdown: the first exporter is what the others are compared with.

use std::time::Duration;

use super::measure::{Counts, Memory};
use crate::progress::table;

/// What one exporter cost in one scenario.
pub(super) struct Figures {
    samples: usize,
    scrapes: usize,
    median: Duration,
    shortest: Duration,
    /// A scrape.
    exporter_cpu: Duration,
    /// A scrape.
    server_cpu: Duration,
    counts: Counts,
    memory: Memory,
    /// The last of many that ask at the same time.
    at_once: Option<Duration>,
}

/// The middle one; zero of none.
pub(super) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

impl Figures {
    pub(super) fn new(
        times: Vec<Duration>,
        samples: usize,
        exporter_cpu: Duration,
        server_cpu: Duration,
        memory: Memory,
        counts: Counts,
        at_once: Option<Duration>,
    ) -> Self {
        let scrapes = times.len();
        let each = |sum: Duration| sum / u32::try_from(scrapes.max(1)).unwrap_or(u32::MAX);
        Self {
            samples,
            scrapes,
            shortest: times.iter().min().copied().unwrap_or_default(),
            median: median(times),
            exporter_cpu: each(exporter_cpu),
            server_cpu: each(server_cpu),
            counts,
            memory,
            at_once,
        }
    }
}

/// A row of the table: its title, its value and how that is written.
type Row = (&'static str, fn(&Figures) -> f64, fn(f64) -> String);

const ROWS: &[Row] = &[
    ("p50 of a scrape", |figures| milliseconds(figures.median), show_ms),
    ("shortest scrape", |figures| milliseconds(figures.shortest), show_ms),
    ("exporter CPU a scrape", |figures| milliseconds(figures.exporter_cpu), show_ms),
    ("server CPU a scrape", |figures| milliseconds(figures.server_cpu), show_ms),
    ("the last of 50 at once", |figures| figures.at_once.map_or(f64::NAN, milliseconds), show_ms),
    ("p50 with 20 ms to the server", |figures| milliseconds(figures.counts.far), show_ms),
    ("round trips a scrape", |figures| figures.counts.round_trips, show_count),
    ("connections opened a scrape", |figures| figures.counts.connections, show_count),
    ("resident memory", |figures| mebibytes(figures.memory.resident), show_mib),
    ("the most with 16 clients", |figures| mebibytes(figures.memory.most), show_mib),
];

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn show_ms(value: f64) -> String {
    match value {
        value if value.is_nan() => "–".to_owned(),
        value if value < 1.0 => format!("{value:.2} ms"),
        value if value < 100.0 => format!("{value:.1} ms"),
        value => format!("{value:.0} ms"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1048576.0
}

fn show_mib(value: f64) -> String {
    format!("{value:.1} MiB")
}

fn show_count(value: f64) -> String {
    format!("{value:.1}")
}

/// A value, and how many times less or more it is than the first one.
fn cell(value: f64, first: f64, show: fn(f64) -> String) -> String {
    let shown = show(value);
    match value / first {
        // The first itself; nothing to divide by.
        ratio if !ratio.is_finite() || ratio == 0.0 || (ratio - 1.0).abs() < 0.005 => shown,
        ratio if ratio < 1.0 => format!("{shown} ({:.1} times less)", 1.0 / ratio),
        ratio => format!("{shown} ({ratio:.1} times more)"),
    }
}

/// The lines of the table, below a heading.
pub(super) fn lines(scenario: &str, titles: &[&str], figures: &[Figures]) -> Vec<String> {
    let counts = |count: fn(&Figures) -> usize| figures.iter().map(move |figures| count(figures).to_string());
    let row = |title: &str, cells: &mut dyn Iterator<Item = String>| {
        let mut row = vec![format!("| {title}")];
        row.extend(cells.map(|cell| format!("| {cell}")));
        row.push("|".to_owned());
        row
    };
    let mut rows = vec![
        row("", &mut titles.iter().map(|title| (*title).to_owned())),
        row("---", &mut titles.iter().map(|_| "---".to_owned())),
        row("samples", &mut counts(|figures| figures.samples)),
        row("scrapes measured", &mut counts(|figures| figures.scrapes)),
    ];
    for (title, value, show) in ROWS {
        let first = figures.first().map_or(0.0, value);
        rows.push(row(title, &mut figures.iter().map(|figures| cell(value(figures), first, *show))));
    }
    let mut lines = vec![format!("### {scenario}"), String::new()];
    lines.extend(table(&rows));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(milliseconds: &[u64], round_trips: f64) -> Figures {
        let times = milliseconds.iter().copied().map(Duration::from_millis).collect();
        let counts = Counts { round_trips, connections: 0.0, far: Duration::from_millis(20) };
        let memory = Memory { resident: 8 << 20, most: 12 << 20 };
        Figures::new(times, 500, Duration::from_millis(6), Duration::ZERO, memory, counts, None)
    }

    #[test]
    fn figures_are_compared_with_the_first() {
        let lines =
            lines("fresh", &["theirs", "ours"], &[figures(&[9, 30, 20], 20.0), figures(&[4, 5, 6], 1.0)]);
        let row = |title: &str| {
            let line = lines.iter().find(|line| line.starts_with(&format!("| {title} "))).unwrap();
            line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()[2..4].to_vec()
        };
        assert_eq!(lines[0], "### fresh");
        assert_eq!(row("scrapes measured"), ["3", "3"]);
        assert_eq!(row("p50 of a scrape"), ["20.0 ms", "5.0 ms (4.0 times less)"]);
        assert_eq!(row("shortest scrape"), ["9.0 ms", "4.0 ms (2.2 times less)"]);
        assert_eq!(row("exporter CPU a scrape"), ["2.0 ms", "2.0 ms"]);
        assert_eq!(row("server CPU a scrape"), ["0.00 ms", "0.00 ms"]);
        assert_eq!(row("the last of 50 at once"), ["–", "–"]);
        assert_eq!(row("round trips a scrape"), ["20.0", "1.0 (20.0 times less)"]);
        assert_eq!(row("resident memory"), ["8.0 MiB", "8.0 MiB"]);
        assert_eq!(row("the most with 16 clients"), ["12.0 MiB", "12.0 MiB"]);
        let reverse = cell(30.0, 20.0, show_ms);
        assert_eq!(reverse, "30.0 ms (1.5 times more)");
    }
}
