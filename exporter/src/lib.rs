//! Podmeter: an eBPF-augmented node exporter for Kubernetes. ARCHITECTURE.md is the map.

#![forbid(unsafe_code)]

pub mod attribution;
pub mod cgroup;
pub mod metric;
pub mod page;
pub mod paths;
pub mod source;
pub mod subject;
