//! SQL in a YAML file becomes metrics: queries gauges, events of tables exact counters.
//!
//! # Layout
//! - [`definition`]: the file, and what is checked before anything is connected.
//! - [`domain`]: what values a label may have.
//! - [`counters`]: events of tables, counted in the database.
//! - [`collector`]: runs one query and turns its rows into samples.
//! - [`durations`]: how long a query took, since the start.
//! - [`background`]: the queries that run beside the scrapes.
//! - [`check`]: what is found out with a connection before the exporter runs.
//! - [`target`]: how to get into a database, with secrets that may change.
//! - [`role`]: what a role may do that an exporter need not.
//! - [`session`]: the kept connection, for the length of one pass.
//! - [`source`]: a database as the scrape engine sees it.
//! - [`exporter`]: all databases on one page, and the definition that may be read again.
//! - [`convert`]: definitions of other exporters become ours.
//! - [`keys`]: the reference of all keys.
//! - [`cli`]: commands and flags.

pub mod background;
pub mod check;
pub mod cli;
pub mod collector;
pub mod convert;
pub mod counters;
pub mod definition;
pub mod domain;
pub mod durations;
pub mod exporter;
pub mod keys;
pub mod role;
pub mod session;
pub mod source;
pub mod target;
