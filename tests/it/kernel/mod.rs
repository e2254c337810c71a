//! Tests against the running kernel, here and in virtual machines; each needs root and skips with a printed reason.

mod block_io;
mod block_io_map;
mod cgroup_cpu;
mod cgroup_pressure;
mod clock;
mod cpu_throttle;
mod drops;
mod ebpf_log;
mod kubernetes;
mod lifecycle;
mod lockdown;
mod network;
mod oom;
mod privileges;
mod prometheus;
mod reload;
mod restart;
mod run_queue;
mod tcp;

use podmeter_tests::{cgroup::Hierarchy, skip::skipped};

/// The hierarchy that the tests may make cgroups in, or nothing where there is none, after saying so.
fn hierarchy() -> Option<Hierarchy> {
    Hierarchy::find().map_err(skipped).ok()
}
