//! What a probe is, as plain data: one row of the table of probes.

use aya::maps::MapError;
use podmeter_common::{owner::SocketOwner, skip::Skip};

use super::{
    btf::{BtfError, KernelTypes},
    host::ProbeHost,
    maps::{Reader, TableDef},
};
use crate::metric::{Desc, Family};

/// One probe.
pub struct ProbeDef {
    /// Its name in the configuration, in labels and in file names.
    pub name: &'static str,
    /// The families that it gives.
    pub metrics: &'static [Desc],
    /// What there is without it, for people.
    pub instead: &'static str,
    /// Whether it runs where the configuration says nothing of it.
    pub switch: Switch,
    /// Ways of hooking it in, best first.
    pub hooks: &'static [HookDef],
    /// The eBPF object.
    pub(super) object: &'static [u8],
    /// The maps of counts, whose keys begin with an owner.
    pub(super) tables: &'static [TableDef],
    /// Why its programs may leave an event out of its families, or out of its owner's series.
    pub(super) skips: &'static [Skip],
    /// The words for numbers that its programs count by, from the kernel's types; most have none.
    pub(super) names: fn(&KernelTypes) -> Names,
    /// Makes families of the maps.
    pub(super) read: fn(&mut Reader<'_>) -> Result<Vec<Family>, MapError>,
}

/// Words for numbers.
pub(super) type Names = Vec<(u32, String)>;

/// The words of a probe that counts by nothing that the kernel names.
pub(super) fn no_names(_types: &KernelTypes) -> Names {
    Names::new()
}

/// Whether a probe runs where the configuration says nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// It runs.
    On,
    /// It does not: its events are so many that their cost is to be asked for.
    Off,
}

/// Read-only globals of a program: name and value.
pub(super) type Globals = Vec<(&'static str, u32)>;

/// One way of hooking a probe in: all of its required programs attach, or none stays.
pub struct HookDef {
    /// The kind of hook.
    pub kind: HookKind,
    /// The programs in the order in which they attach.
    pub programs: &'static [ProgramDef],
    /// Whether the programs read the kernel's memory by address, which lockdown=confidentiality forbids.
    pub(super) memory: KernelMemory,
    /// What the programs must know of the running kernel; an error rules this way out.
    pub(super) globals: fn(&KernelTypes, &ProbeHost) -> Result<Globals, BtfError>,
}

/// Whether programs read the kernel's memory by address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KernelMemory {
    /// By `bpf_probe_read_kernel`.
    Read,
    /// Never by address: by loads through pointers whose type the verifier knows.
    Typed,
    /// Only for the network namespace of sockets, on cgroup v1; else only what the context and other helpers give.
    ReadOnCgroupV1,
}

impl KernelMemory {
    /// Whether programs do so on this machine.
    pub(super) fn is_read(self, host: &ProbeHost) -> bool {
        match self {
            Self::Read => true,
            Self::Typed => false,
            Self::ReadOnCgroupV1 => host.socket_owner() == SocketOwner::NetworkNamespace,
        }
    }
}

/// A program of the probe's object and what it hooks.
pub struct ProgramDef {
    /// The program's name in the object.
    pub name: &'static str,
    /// The kernel function or tracepoint; for a cgroup's program, what it sees.
    pub target: &'static str,
    /// Whether the probe works without it.
    pub(super) need: Need,
}

impl ProgramDef {
    /// A program without which the hook is of no use.
    pub(super) const fn required(name: &'static str, target: &'static str) -> Self {
        Self { name, target, need: Need::Required }
    }

    /// A program that adds to what the others give, or keeps them exact, where the kernel has its target.
    pub(super) const fn optional(name: &'static str, target: &'static str) -> Self {
        Self { name, target, need: Need::Optional }
    }
}

/// Whether a hook works without a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Required,
    Optional,
}

/// How a program hooks into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    /// A raw tracepoint whose arguments have types (`tp_btf`), so that their fields can be read without a helper.
    BtfTracepoint,
    /// A raw tracepoint: the kernel's own call site, with the arguments as they are.
    RawTracepoint,
    /// A program of the root cgroup, which sees the packets of every socket.
    CgroupSkb,
    /// fentry and fexit: a trampoline.
    Fentry,
    /// kprobe and kretprobe: a breakpoint or ftrace call.
    Kprobe,
}

impl HookKind {
    /// Every kind.
    pub const ALL: &[Self] =
        &[Self::BtfTracepoint, Self::RawTracepoint, Self::CgroupSkb, Self::Fentry, Self::Kprobe];

    /// The value of the label `hook`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BtfTracepoint => "btf_tracepoint",
            Self::RawTracepoint => "raw_tracepoint",
            Self::CgroupSkb => "cgroup_skb",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
        }
    }
}
