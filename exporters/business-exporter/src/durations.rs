//! How long a query took, since the start: a histogram.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use exposition::{Desc, HistogramColumns, Row};

/// Upper bounds, in seconds.
pub const BOUNDS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];

/// The family.
pub const DESC: Desc =
    Desc::histogram("business_exporter_query_duration_seconds", "Duration of the runs of a query.");

/// The durations of one query.
#[derive(Debug, Default)]
pub struct Durations(Mutex<Observed>);

#[derive(Clone, Copy, Debug, Default)]
struct Observed {
    /// Runs that took no longer than each bound.
    cumulative: [f64; BOUNDS.len()],
    count: f64,
    sum: f64,
}

impl Durations {
    /// One run more.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let mut observed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (count, bound) in observed.cumulative.iter_mut().zip(BOUNDS) {
            if seconds <= bound {
                *count += 1.0;
            }
        }
        observed.count += 1.0;
        observed.sum += seconds;
    }

    /// Goes on where those of an older definition are.
    pub fn inherit(&self, older: &Durations) {
        let before = older.observed();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = before;
    }

    /// Shows them in a row.
    pub fn show(&self, row: &mut Row<'_>, columns: &HistogramColumns) {
        let observed = self.observed();
        row.histogram(columns, &observed.cumulative.map(Some), observed.count, Some(observed.sum));
    }

    fn observed(&self) -> Observed {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
