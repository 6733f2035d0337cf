//! Counters of events, exact although rows change and vanish.
//!
//! Triggers add what happens to an append-only table in the transaction in which it happens ([`ddl`] prints them); the
//! exporter sums that up ([`ledger`]) and sees to it that no series steps down ([`publication`]). [`stock`] compares the
//! counters of a table with its rows.

pub mod ddl;
pub mod ledger;
pub mod publication;
pub mod stock;
