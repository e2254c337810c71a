//! A probe that is attached, as a source; and what became of each at start.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use aya::{Ebpf, maps::MapError};
use podmeter_common::owner::{REMAINDER, SocketOwner};

use super::{
    def::{HookDef, HookKind, Names, ProbeDef},
    diagnostic::Lines,
    ended::Ended,
    host::ProbeHost,
    maps::{self, Reader},
};
use crate::{
    cgroup::{namespaces::NamespaceUse, tree::CgroupTree},
    metric::{Family, Value},
    paths::HostPaths,
    source::{Collected, Source, SourceError, SourceStats},
    subject::{CgroupId, NetworkNamespaceId, Subject},
};

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
    /// The configuration says so, or says nothing of a probe that has to be asked for.
    Disabled,
    /// The process lacks a capability.
    NotAllowed,
    /// The kernel's type information is not there or has not what the probe needs.
    KernelTypes,
    /// The kernel runs with lockdown=confidentiality, which forbids reading its memory.
    Lockdown,
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
            Self::Lockdown => "lockdown",
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
    paths: HostPaths,
    socket_owner: SocketOwner,
    names: Names,
    /// What the programs say of single events, if they were asked to.
    lines: Option<Lines>,
    /// The owners of entries in the kernel's maps who are not known.
    unknown: HashMap<Subject, Quiet>,
    ended: Ended,
}

/// For how long there was no event of an owner.
#[derive(Clone, Copy, Debug, Default)]
struct Quiet {
    n_collections: u32,
    /// Another number after every event.
    mark: u64,
}

/// After how many collections without an event an entry whose owner was never seen is freed in the kernel.
///
/// A cgroup or a network namespace that came and went between two collections leaves such an entry; at the usual 15 s
/// between scrapes this is ten minutes. One that is alive, but for which the tree has no room, goes on counting there:
/// to free it between two of its events would lose the second.
const UNKNOWN_COLLECTIONS: u32 = 40;

impl Probe {
    pub(super) fn new(
        def: &'static ProbeDef,
        ebpf: Ebpf,
        hook: &'static HookDef,
        host: &ProbeHost,
        names: Names,
        lines: Option<Lines>,
    ) -> Self {
        Self {
            def,
            ebpf,
            hook,
            paths: host.paths.clone(),
            socket_owner: host.socket_owner(),
            names,
            lines,
            unknown: HashMap::new(),
            ended: Ended::default(),
        }
    }

    /// Frees the kernel's entries of owners that are gone for good.
    fn forget(&mut self, freed: &[Subject]) -> Result<(), SourceError> {
        if freed.is_empty() {
            return Ok(());
        }
        let owners: HashSet<Subject> = freed.iter().copied().collect();
        for table in self.def.tables {
            table.forget(&mut self.ebpf, &owners).map_err(|source| self.error(source))?;
        }
        Ok(())
    }

    /// Owners whose time is up: those that are not known and have waited long enough, and network namespaces that
    /// nobody alive is in, whose values this collection still has: their number is soon another's.
    fn expired(
        &mut self,
        families: &[Family],
        tree: &CgroupTree,
        uses: &HashMap<NetworkNamespaceId, NamespaceUse>,
    ) -> Vec<Subject> {
        let mut marks: HashMap<Subject, u64> = HashMap::new();
        for sample in families.iter().flat_map(|family| &family.samples) {
            let mark = marks.entry(sample.subject).or_default();
            *mark = mark.wrapping_add(match &sample.value {
                Value::Number(number) => number.to_bits(),
                Value::Histogram(histogram) => histogram.count(),
            });
        }
        let mut expired = Vec::new();
        let mut unknown = HashMap::new();
        for (subject, mark) in marks {
            let is_unknown = match subject {
                Subject::Node => false,
                Subject::Cgroup(id) | Subject::Subtree(id) => is_missing(id, tree),
                Subject::IoCgroup(id) => is_missing(id, tree.io()),
                Subject::NetworkNamespace(id) => {
                    if uses.get(&id) == Some(&NamespaceUse::Ended) {
                        expired.push(subject);
                    }
                    !uses.contains_key(&id)
                }
            };
            if is_unknown {
                unknown.insert(subject, mark);
            }
        }
        self.unknown.retain(|subject, _| unknown.contains_key(subject));
        for (subject, mark) in unknown {
            let quiet = self.unknown.entry(subject).or_default();
            if quiet.mark != mark {
                *quiet = Quiet { n_collections: 0, mark };
            }
            quiet.n_collections += 1;
            if quiet.n_collections > UNKNOWN_COLLECTIONS {
                expired.push(subject);
            }
        }
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

    fn error(&self, source: MapError) -> ProbeError {
        ProbeError { probe: self.def.name, source }
    }
}

/// Whether an owner has no place in its hierarchy, though it should.
fn is_missing(id: CgroupId, hierarchy: &CgroupTree) -> bool {
    id.0 != REMAINDER && hierarchy.get(id).is_none()
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

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapUse {
    /// The map's name.
    pub map: &'static str,
    /// Its entries in use.
    pub n_entries: usize,
    /// Its size.
    pub capacity: u32,
}

/// What a probe says of itself beside its families.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeStats {
    /// Events that are not where they belong, by reason.
    pub skipped: Vec<(&'static str, u64)>,
    /// The maps of counts.
    pub maps: Vec<MapUse>,
    /// Runs of its programs.
    pub runs: Vec<ProgramRuns>,
}

impl Source for Probe {
    fn name(&self) -> &'static str {
        self.def.name
    }

    fn collect(
        &mut self,
        tree: &Arc<CgroupTree>,
        freed: &[Subject],
    ) -> Result<Collected, SourceError> {
        if let Some(lines) = &mut self.lines {
            lines.flush();
        }
        self.forget(freed)?;
        let mut reader = Reader::new(&self.ebpf, &self.paths, &self.names, self.socket_owner);
        let mut families = (self.def.read)(&mut reader).map_err(|source| self.error(source))?;
        let maps = reader.into_uses();
        let skipped =
            maps::skipped(&self.ebpf, self.def.skips).map_err(|source| self.error(source))?;
        let uses = tree.namespaces().uses(tree);
        self.ended.hold_back(&mut families, &uses);
        let expired = self.expired(&families, tree, &uses);
        self.forget(&expired)?;
        let runs = self.program_runs();
        Ok(Collected { families, stats: SourceStats::Probe(ProbeStats { skipped, maps, runs }) })
    }
}
