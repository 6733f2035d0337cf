//! Prometheus exposition without I/O.
//!
//! # Layout
//! - [`family`]: what a metric family is: [`Desc`] and [`Kind`].
//! - [`shape`]: the form of a table: its labels and families.
//! - [`snapshot`]: the columnar [`Snapshot`] that a scrape fills and the writers read; [`table`]: what it is made of.
//! - [`template`]: what a snapshot shares with the one before it.
//! - [`text`], [`openmetrics`]: the two writers, text format 0.0.4 and OpenMetrics 1.0.
//! - [`negotiate`]: which format and which compression a client asked for.
//! - [`bridge`]: from and to `prometheus-client`.
//! - [`parse`]: a strict parser, the oracle of the tests.
//!
//! # Invariants
//! Nothing here reads a clock, a file or a socket. A page that a writer made is accepted by the parser:
//! families are contiguous, names are valid, label sets are unique, whatever was put into the snapshot.

pub mod bridge;
pub mod family;
mod labels;
mod layout;
pub mod negotiate;
mod number;
pub mod openmetrics;
pub mod parse;
mod rows;
pub mod shape;
mod shared_str;
pub mod snapshot;
pub mod table;
pub mod template;
pub mod text;
mod write;

pub use family::{Desc, Kind, is_label_name, is_metric_name};
pub use layout::Layout;
pub use negotiate::{Encoding, Format};
pub use parse::Page;
pub use shape::{Column, HistogramColumns, Shape, SummaryColumns};
pub use shared_str::SharedStr;
pub use snapshot::Snapshot;
pub use table::{Row, Table};
pub use template::Template;
