//! The HTTP server and the web-config file against real sockets.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;
mod healthcheck;
mod server;
mod web_config;
