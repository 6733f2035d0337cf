//! Prometheus exporter for PostgreSQL.
//!
//! # Layout
//! - [`collectors`]: one file each; what is collected.
//! - [`sql`]: what a collector is made of: statements described as data; [`read`]: what statements have in common;
//!   `plans`: the same, put together.
//! - [`progress`], `activity`: statements behind several collectors.
//! - [`extension`]: statements on what an extension brings; `sticky`: which of many counters are shown.
//! - [`session`], `sizes`, `databases`: the lanes to a server, for statistics, disk space, and other databases.
//! - [`source`]: the target as the scrape engine sees it, and `pg_up`; [`servers`]: several of them.
//! - [`queries`]: queries of the user's own.
//! - [`config`], [`probe`]: targets that requests name, and who may be reached.
//! - [`exporter`]: all of it, as flags and files want it; [`commands`]: what is done instead of serving.
//! - [`cli`]: flags and environment, ours and postgres_exporter's.

mod activity;
pub mod cli;
pub mod collectors;
pub mod commands;
pub mod config;
mod databases;
pub mod exporter;
pub mod extension;
mod names;
pub mod options;
mod plans;
pub mod probe;
pub mod progress;
pub mod queries;
pub mod read;
pub mod self_metrics;
pub mod servers;
pub mod session;
mod sizes;
pub mod source;
pub mod sql;
mod sticky;
