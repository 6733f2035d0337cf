//! Counters of events, exact although rows change and vanish.
//!
//! In mode `ledger`, triggers add what happens to an append-only table in the transaction in which it happens ([`ddl`]
//! prints them). In mode `checkpoint`, new rows are found by their ids, once each. In mode `snapshot`, tables are
//! counted. [`events`] does it in the way that the role can use; [`publication`] sees to it that no series steps down;
//! [`stock`] compares the counters of a table with its rows.

mod checkpoint;
pub mod ddl;
pub mod events;
mod mode;
mod observations;
pub mod publication;
mod series;
pub mod stock;
mod whole;
