//! Podmeter: an eBPF-augmented node exporter for Kubernetes. ARCHITECTURE.md is the map.

#![deny(unsafe_code)]

pub mod agent;
pub mod caps;
pub mod config;
pub mod error_chain;
pub mod files;
pub mod instance;
mod jitter;
pub mod logging;
#[expect(unsafe_code, reason = "its only purpose is three calls of the allocator")]
pub mod memory;
pub mod paths;
mod percent;
pub mod telemetry;

pub mod metric;
pub mod subject;

pub mod demand;

pub mod cgroup;

pub mod source;

pub mod attribution;

pub mod labelling;

pub mod page;

pub mod encode;

pub mod targets;

pub mod remote_write;

pub mod server;

pub mod check;
pub mod cli;
pub mod relabel;
pub mod reload;
pub mod serve;
pub mod top;
