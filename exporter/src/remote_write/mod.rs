//! Prometheus remote write: what is collected at fixed instants, pushed to receivers.
//!
//! The protocols: <https://prometheus.io/docs/specs/prw/remote_write_spec/> (1.0) and
//! <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>. One collection at each instant is the page that
//! `/metrics` would have served then; docs/decisions/0020 says how it becomes requests.

pub mod client;
pub mod endpoint;
pub mod pusher;
pub mod status;

pub mod buffer;
mod delivery;
mod filler;
mod instants;
mod lines;
mod message;
mod queue;
mod retry;
mod series;
mod store;
mod symbols;

#[cfg(test)]
mod tests;
