//! Kernel probes: the table of them, and each as a source.
//!
//! A probe is one eBPF object with one or more ways of hooking it in, best first; what cannot attach is off with a
//! reason, and takes no other probe down.
//! Adding one takes four files; ARCHITECTURE.md names them.

pub mod btf;
mod cpu_throttle;
mod load;

use aya::{Ebpf, maps::MapError};

use self::btf::{BtfError, KernelTypes};
pub use self::load::start;
use super::{Collected, Source, SourceError, SourceStats};
use crate::{
    cgroup::tree::CgroupTree,
    metric::{Desc, Family},
    subject::{CgroupId, Subject},
};

/// Every probe, in the order of the documentation.
pub const PROBES: &[ProbeDef] = &[cpu_throttle::PROBE];

/// One probe: plain data, one row of [`PROBES`].
pub struct ProbeDef {
    /// Its name in the configuration, in labels and in file names.
    pub name: &'static str,
    /// The families that it gives.
    pub metrics: &'static [Desc],
    /// What there is without it, for people.
    pub instead: &'static str,
    /// Ways of hooking it in, best first.
    pub hooks: &'static [HookDef],
    object: &'static [u8],
    globals: fn(&KernelTypes) -> Result<Globals, BtfError>,
    read: fn(&Ebpf) -> Result<ProbeReading, MapError>,
    forget: fn(&mut Ebpf, &[CgroupId]) -> Result<(), MapError>,
}

/// Read-only globals of a program: name and value.
type Globals = Vec<(&'static str, u32)>;

/// One way of hooking a probe in: all of its programs attach, or none stays.
pub struct HookDef {
    /// The kind of hook.
    pub kind: HookKind,
    /// The programs in the order in which they attach.
    pub programs: &'static [ProgramDef],
}

/// A program of the probe's object and the kernel function that it hooks.
pub struct ProgramDef {
    /// The program's name in the object.
    pub name: &'static str,
    /// The kernel function.
    pub function: &'static str,
}

/// How a program hooks into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    /// fentry and fexit: a trampoline, the cheapest.
    Fentry,
    /// kprobe and kretprobe: a breakpoint or ftrace call.
    Kprobe,
}

impl HookKind {
    /// Every kind.
    pub const ALL: &[Self] = &[Self::Fentry, Self::Kprobe];

    /// The value of the label `hook`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
        }
    }
}

/// What one look at a probe's maps gives.
struct ProbeReading {
    families: Vec<Family>,
    skipped: Vec<(&'static str, u64)>,
    map: &'static str,
    n_entries: usize,
    capacity: u32,
}

/// What became of a probe at start.
#[derive(Clone, Debug)]
pub struct ProbeStatus {
    /// The probe.
    pub name: &'static str,
    /// The hook in use, or why there is none.
    pub state: Result<HookKind, OffReason>,
    /// Why not a better hook, or why none at all, for people; empty if the best one is in use.
    pub reasons: Vec<String>,
    /// What there is without it, for people.
    pub instead: &'static str,
}

/// Why a probe is off, as a label value; [`ProbeStatus::reasons`] has the whole story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffReason {
    /// The configuration says so.
    Disabled,
    /// The process lacks a capability.
    NotAllowed,
    /// The kernel's type information is not there or has not what the probe needs.
    KernelTypes,
    /// The kernel refused every hook.
    Refused,
}

impl OffReason {
    /// The value of the label `reason`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::NotAllowed => "not_allowed",
            Self::KernelTypes => "kernel_types",
            Self::Refused => "refused",
        }
    }
}

/// A map of a probe could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot access the maps of probe {probe}")]
pub struct ProbeError {
    probe: &'static str,
    source: MapError,
}

/// An attached probe as a source.
pub struct Probe {
    def: &'static ProbeDef,
    ebpf: Ebpf,
    hook: &'static HookDef,
    /// Whose entries in the kernel's map belong to no cgroup that is known, and for how many collections.
    unknown: Vec<(CgroupId, u32)>,
}

/// After how many collections an entry whose cgroup was never seen is freed in the kernel.
///
/// A cgroup that came and went between two collections leaves such an entry; at the usual 15 s between scrapes this is
/// ten minutes.
const UNKNOWN_COLLECTIONS: u32 = 40;

impl Probe {
    fn new(def: &'static ProbeDef, ebpf: Ebpf, hook: &'static HookDef) -> Self {
        Self { def, ebpf, hook, unknown: Vec::new() }
    }

    /// Frees the kernel's entries of cgroups that are gone for good.
    fn forget(&mut self, freed: &[CgroupId]) -> Result<(), SourceError> {
        if freed.is_empty() {
            return Ok(());
        }
        (self.def.forget)(&mut self.ebpf, freed)
            .map_err(|source| ProbeError { probe: self.def.name, source })?;
        Ok(())
    }

    /// Entries of cgroups that the tree does not have and that have waited long enough.
    fn expired(&mut self, families: &[Family], tree: &CgroupTree) -> Vec<CgroupId> {
        let mut still_unknown = Vec::new();
        let mut expired = Vec::new();
        for sample in families.iter().flat_map(|family| &family.samples) {
            let Subject::Cgroup(id) = sample.subject else {
                continue;
            };
            if tree.get(id).is_some() {
                continue;
            }
            let before = self.unknown.iter().find(|(known, _)| *known == id);
            let n_collections = before.map_or(1, |(_, n)| n + 1);
            if n_collections > UNKNOWN_COLLECTIONS {
                expired.push(id);
            } else if !still_unknown.contains(&(id, n_collections)) {
                still_unknown.push((id, n_collections));
            }
        }
        self.unknown = still_unknown;
        expired
    }

    fn program_runs(&self) -> Vec<ProgramRuns> {
        let programs = self.hook.programs.iter().filter_map(|program| {
            let info = self.ebpf.program(program.name)?.info().ok()?;
            Some(ProgramRuns {
                program: program.name,
                n_runs: info.run_count(),
                seconds: info.run_time().as_secs_f64(),
            })
        });
        programs.collect()
    }
}

/// How often a program ran and for how long, while the kernel keeps such statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramRuns {
    /// The program's name.
    pub program: &'static str,
    /// Number of runs.
    pub n_runs: u64,
    /// Time spent in it.
    pub seconds: f64,
}

/// What a probe says of itself beside its families.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeStats {
    /// Events that are in no family, by reason.
    pub skipped: Vec<(&'static str, u64)>,
    /// The map that holds the counts.
    pub map: &'static str,
    /// Its entries in use.
    pub n_entries: usize,
    /// Its size.
    pub capacity: u32,
    /// Runs of its programs.
    pub runs: Vec<ProgramRuns>,
}

impl Source for Probe {
    fn name(&self) -> &'static str {
        self.def.name
    }

    fn collect(&mut self, tree: &CgroupTree, freed: &[CgroupId]) -> Result<Collected, SourceError> {
        self.forget(freed)?;
        let reading = (self.def.read)(&self.ebpf)
            .map_err(|source| ProbeError { probe: self.def.name, source })?;
        let expired = self.expired(&reading.families, tree);
        self.forget(&expired)?;
        Ok(Collected {
            families: reading.families,
            stats: SourceStats::Probe(ProbeStats {
                skipped: reading.skipped,
                map: reading.map,
                n_entries: reading.n_entries,
                capacity: reading.capacity,
                runs: self.program_runs(),
            }),
        })
    }
}
