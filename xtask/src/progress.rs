//! What the commands show: steps on stderr with the seconds they take, results on stdout.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

/// Writes a line to stderr. A reader that went away is no reason to fail.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Writes a line to stdout.
pub(crate) fn print(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Replaces the line that a terminal shows; `false` when stderr is no terminal.
pub(crate) fn overwrite(line: &str) -> bool {
    let mut stderr = std::io::stderr().lock();
    if !stderr.is_terminal() {
        return false;
    }
    // To the start of the line, erase it, write.
    let _ = write!(stderr, "\r\x1b[2K{line}");
    let _ = stderr.flush();
    true
}

/// Runs `work` and shows `what` it is and how long it took, on a terminal also while it runs.
pub(crate) async fn step<T>(what: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let start = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    tokio::pin!(work);
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            _ = tick.tick() => {
                overwrite(&format!("  ..   {what} ({:.0} s)", start.elapsed().as_secs_f64()));
            }
        }
    };
    let mark = if result.is_ok() { "ok" } else { "FAIL" };
    overwrite("");
    say(&format!("  {mark:<4} {what} ({:.1} s)", start.elapsed().as_secs_f64()));
    result
}

/// Lines of a table with aligned columns.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), String::new()]];
        assert_eq!(table(&rows), ["a    bb", "ccc"]);
    }
}
