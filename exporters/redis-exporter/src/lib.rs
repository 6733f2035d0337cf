//! Prometheus exporter for Redis and Valkey: the parts behind the `redis-exporter` binary.
//!
//! A scrape opens a [`session::Session`] on the target's kept connection; each collector in [`collectors`] names its
//! requests, all of which leave in one write, and turns the replies into samples without I/O.

pub mod acl;
pub mod actions;
pub mod address;
pub mod allowed;
pub mod cli;
mod client_list;
pub mod cluster;
pub mod cluster_nodes;
pub mod collectors;
pub mod command;
pub mod connection;
mod dial;
pub mod discovery;
pub mod error;
pub mod exporter;
pub mod families;
pub mod fields;
mod glob;
pub mod info;
mod kept;
mod keyspace_walk;
pub mod lua_pattern;
pub mod multi;
mod names;
pub mod options;
pub mod outline;
mod pipe;
pub mod request;
mod resp;
pub mod routes;
pub mod sampler;
pub mod session;
pub mod slots;
pub mod unmapped;
