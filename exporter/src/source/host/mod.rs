//! The host's own files: each reader as a source.

pub mod cgroup_cpu;
pub mod cpu_files;
pub mod kept_files;
pub mod process;

use super::Source;
use crate::cgroup::hierarchy::Hierarchy;

/// Every source that can be read here.
#[must_use]
pub fn start(_hierarchy: Option<&Hierarchy>) -> Vec<Box<dyn Source>> {
    vec![Box::new(process::ProcessSource)]
}
