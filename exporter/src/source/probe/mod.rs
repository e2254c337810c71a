//! Kernel probes: the table of them, and each as a source.
//!
//! A probe is one eBPF object with one or more ways of hooking it in, best first; what cannot attach is off with a
//! reason, and takes no other probe down.
//! Adding one takes four files; ARCHITECTURE.md names them.

mod def;
mod diagnostic;
mod ended;
mod host;
mod load;
mod maps;
mod owner;
mod running;

pub mod btf;

mod block_io;
mod cpu_throttle;
mod drops;
mod network;
mod oom;
mod run_queue;
mod tcp;

pub use self::{
    def::{HookDef, HookKind, ProbeDef, ProgramDef, Switch},
    diagnostic::EbpfLog,
    host::ProbeHost,
    load::{disabled, lift_memlock_limit, report, start, start_these},
    running::{MapUse, OffReason, Probe, ProbeError, ProbeStats, ProbeStatus, ProgramRuns},
};

/// Every probe, in the order of the documentation.
pub const PROBES: &[ProbeDef] = &[
    cpu_throttle::PROBE,
    run_queue::PROBE,
    oom::PROBE,
    block_io::PROBE,
    network::PROBE,
    tcp::PROBE,
    drops::PROBE,
];
