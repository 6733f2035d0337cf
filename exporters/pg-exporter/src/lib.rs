//! Prometheus exporter for PostgreSQL.
//!
//! # Layout
//! - [`collectors`]: one file each; what is collected.
//! - [`sql`]: what a collector is made of: statements described as data.
//! - [`extension`]: statements on what an extension brings.
//! - [`session`], `sizes`: the two lanes to a server, for statistics and for disk space.
//! - [`source`]: the target as the scrape engine sees it, and `pg_up`.
//! - [`cli`]: flags and environment, ours and postgres_exporter's.

pub mod cli;
pub mod collectors;
pub mod extension;
pub mod options;
pub mod self_metrics;
pub mod session;
mod sizes;
pub mod source;
pub mod sql;
