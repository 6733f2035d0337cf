//! The exporter against real servers, recorded ones and ones that misbehave.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod acl;
mod actions;
mod binary;
mod cluster;
mod discovery;
mod endpoints;
mod failover;
mod faults;
mod features;
mod footprint;
mod injection;
mod insight;
mod key_groups;
mod live;
mod peer;
mod recording;
mod replay;
mod sampler_injection;
mod servers;
mod support;
mod tls;
