//! Readers of the host's pseudo file systems: `read` is IO, `parse` is pure.

pub mod cgroup_cpu;
pub mod cpu_files;
pub mod kept_files;
