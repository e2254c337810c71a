//! Podmeter: an eBPF-augmented node exporter for Kubernetes. ARCHITECTURE.md is the map.

#![forbid(unsafe_code)]

pub mod cgroup;
pub mod encode;
pub mod metric;
pub mod page;
pub mod server;
pub mod subject;
