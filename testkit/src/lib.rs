//! Real servers, a fault proxy and an HTTP client for tests and for the development stack.
//!
//! Every server runs on a free port of 127.0.0.1 with its data in a private folder, is ended when its guard is
//! dropped and dies with the process that started it. Linux only, as the exporters' production target.

pub mod callgrind;
pub mod exporter;
pub mod http;
pub mod page;
pub mod peer;
pub mod pgbouncer;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod redis;
mod secrets;
pub mod servers;
pub mod upstream;
pub mod user;

use std::{io, net::TcpListener};

/// A TCP port of 127.0.0.1 that was free a moment ago. Another process may take it before it is used,
/// so a server that finds it taken is started again on another one.
///
/// # Errors
/// When no port is free.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Whether every test shall run on every server version, as `cargo xtask test --full` wants; else the oldest and
/// the newest get all tests and the others a smoke test.
#[must_use]
pub fn full() -> bool {
    std::env::var_os("TEST_FULL").is_some_and(|value| !value.is_empty() && value != "0")
}
