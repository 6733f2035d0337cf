//! What libpq users expect, on tokio-postgres: connection strings ([`Dsn`]), TLS modes, a [`Session`] opened within
//! a deadline, and text-protocol queries that leave in one write, each with its own limits and its own error.
//! [`Warm`] keeps one session between scrapes; [`cell`] turns result text into numbers; [`statement`] sees to it that a
//! user's query is one statement.

mod batch;
pub mod cell;
mod connect;
pub mod dsn;
mod query;
mod session;
pub mod statement;
mod tls;
mod warm;

pub use connect::{ConnectError, ConnectErrorKind, Connector, PasswordSource};
pub use dsn::{Dsn, DsnError, Environment};
pub use query::{Limits, QueryError, QueryErrorKind, Row, Rows};
pub use session::Session;
pub use warm::{Lease, Warm};
