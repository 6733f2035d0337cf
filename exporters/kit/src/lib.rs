//! Turns a list of collectors into a well-behaved exporter.
//!
//! # Layout
//! - [`collector`]: what a collector is.
//! - [`scrape`]: the engine that runs a pass over a target; [`page`]: its result, ready to be served.
//! - [`targets`]: patterns of targets, and what is kept of those asked for last.
//! - [`app`]: what every exporter's `main` does: options, routes, signals, exit codes.
//! - [`compare`]: what changes from one page to another; [`names`]: names of the peer, or clean ones.
//! - [`config`]: YAML files, secrets, durations.
//! - [`http`]: listening and serving with limits; [`web_config`]: TLS, authentication and headers for it.
//! - [`telemetry`]: logs, `process_*` and build information.

pub mod app;
pub mod collector;
pub mod compare;
pub mod config;
pub mod http;
pub mod names;
pub mod page;
pub mod scrape;
pub mod targets;
pub mod telemetry;
pub mod tls;
pub mod web_config;
