//! The service over HTTP, on a real PostgreSQL and a real Redis.

#[cfg(test)]
mod abuse;
#[cfg(test)]
mod admin;
#[cfg(test)]
mod api;
#[cfg(test)]
mod auth;
#[cfg(test)]
mod binary;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod deals;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod evaluations;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod guide;
#[cfg(test)]
mod instrumentation;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod llm;
#[cfg(test)]
mod load;
#[cfg(test)]
mod loans;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod migrations;
#[cfg(test)]
mod negotiations;
#[cfg(test)]
mod resets;
#[cfg(test)]
mod stack;
#[cfg(test)]
mod truth;
#[cfg(test)]
mod vehicles;
#[cfg(test)]
mod webhooks;
