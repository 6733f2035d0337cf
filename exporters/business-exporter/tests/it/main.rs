//! business-exporter against a real server with the schema of the backend: the binary as users run it.

mod background;
mod compose;
mod convert;
mod exactness;
mod faults;
mod grammar;
mod language;
mod ledger;
mod lineage;
mod modes;
mod role;
mod security;
mod shop;
mod stocks;
mod support;
mod usage;
mod values;
