//! The Linux capabilities that Podmeter needs: the table, from which docs/security.md is made and to which the chart's
//! profile `capabilities` is held, and whether the process has them.
//!
//! [`confine`] takes from a thread what it does not need, and [`privileged`] has the one thread that keeps some of them.

pub mod confine;
pub mod privileged;

use std::{fmt, fs};

use caps::{CapSet, Capability};
use procfs::sys::kernel::Version;

use crate::cgroup::hierarchy;

/// A capability, and what it is for.
#[derive(Debug)]
pub struct Need {
    /// The capability.
    pub capability: Capability,
    /// What is not possible without it.
    pub why: &'static str,
    /// The kernels that ask for it.
    pub kernels: &'static str,
    /// Whose it is.
    pub whose: Whose,
    /// What becomes of it once the probes are attached.
    pub fate: Fate,
    /// Whether the chart's profile `capabilities` grants it.
    pub grant: Grant,
}

/// Who needs a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Every probe.
    Probes,
    /// These probes.
    Some(&'static [&'static str]),
    /// The endpoint.
    Endpoint,
}

/// What becomes of a capability once the probes are attached and the endpoint listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Every thread drops it.
    Dropped,
    /// The one privileged thread keeps it, all others drop it.
    Kept,
}

/// Whether the chart's profile `capabilities` grants a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// It does.
    Always,
    /// By `extraCapabilities`, where it is needed.
    Extra,
}

/// Every capability that is asked for, in the order of the documentation.
pub const NEEDS: &[Need] = &[
    Need {
        capability: Capability::CAP_BPF,
        why: "loads eBPF programs, makes their maps, and before Linux 5.19 reads them",
        kernels: "5.8",
        whose: Whose::Probes,
        fate: Fate::Kept,
        grant: Grant::Always,
    },
    Need {
        capability: Capability::CAP_PERFMON,
        why: "loads programs of tracepoints, kprobes and fentry, lets programs read the kernel's memory, and attaches \
              kprobes",
        kernels: "5.8",
        whose: Whose::Probes,
        fate: Fate::Kept,
        grant: Grant::Always,
    },
    Need {
        capability: Capability::CAP_NET_ADMIN,
        why: "attaches programs that see packets to the root cgroup",
        kernels: "any",
        whose: Whose::Some(&["network"]),
        fate: Fate::Kept,
        grant: Grant::Always,
    },
    Need {
        capability: Capability::CAP_SYS_RESOURCE,
        why: "lifts the limit on locked memory, against which these kernels count maps",
        kernels: "before 5.11",
        whose: Whose::Probes,
        fate: Fate::Dropped,
        grant: Grant::Always,
    },
    Need {
        capability: Capability::CAP_SYS_PTRACE,
        why: "finds the network namespaces of the processes of a pod (`/proc/<pid>/ns/net`), by which its sockets are \
              known; with `hostPID`",
        kernels: "any, with cgroup v1",
        whose: Whose::Some(&["network", "tcp", "drops"]),
        fate: Fate::Kept,
        grant: Grant::Extra,
    },
    Need {
        capability: Capability::CAP_SYS_ADMIN,
        why: "attaches kprobes where `kernel.perf_event_paranoid` is above 2, as Debian and Ubuntu set it; fentry does \
              without",
        kernels: "with that setting",
        whose: Whose::Some(&["cpu_throttle", "oom"]),
        fate: Fate::Kept,
        grant: Grant::Extra,
    },
    Need {
        capability: Capability::CAP_NET_BIND_SERVICE,
        why: "listens on a port below 1024",
        kernels: "any",
        whose: Whose::Endpoint,
        fate: Fate::Dropped,
        grant: Grant::Extra,
    },
];

/// Stands for `CAP_BPF` and `CAP_PERFMON`, where a process has it and not them.
const FORERUNNER: Capability = Capability::CAP_SYS_ADMIN;

/// The first kernel that does not count maps against the limit on locked memory.
const FREE_MAPS: Version = Version { major: 5, minor: 11, patch: 0 };

/// A capability that is not there.
#[derive(Debug, thiserror::Error)]
#[error(
    "this process lacks {capability}, which {}: run as root, in a privileged container, or with the capabilities that \
     docs/security.md lists{}",
    need.why, hint(need)
)]
pub struct MissingCapability {
    /// Which.
    pub capability: Capability,
    need: &'static Need,
}

impl Need {
    /// Its row of the table, as the error that it is missing.
    fn missing(&'static self) -> MissingCapability {
        MissingCapability { capability: self.capability, need: self }
    }
}

fn hint(need: &Need) -> &'static str {
    match need.grant {
        Grant::Always => "",
        Grant::Extra => "; in the chart, extraCapabilities adds it",
    }
}

/// The machine, as far as it decides what is needed.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// The version of the hierarchy that has the cpu controller, if there is one.
    pub cgroups: Option<hierarchy::Version>,
    /// Whether maps are counted against the limit on locked memory.
    pub counts_maps: bool,
    /// Whether performance events, and with them kprobes, are for `CAP_SYS_ADMIN` alone, as some distributions have it.
    pub restricts_events: bool,
}

impl Machine {
    /// This machine, with this hierarchy of cgroups.
    #[must_use]
    pub fn find(cgroups: Option<hierarchy::Version>) -> Self {
        Self { cgroups, counts_maps: counts_maps(), restricts_events: restricts_events() }
    }

    /// Whether a probe that needs it on some machine needs it on this one; what only the endpoint needs, it says by
    /// itself.
    #[must_use]
    pub fn asks_for(&self, need: &Need) -> bool {
        match need.capability {
            Capability::CAP_SYS_RESOURCE => self.counts_maps,
            Capability::CAP_SYS_ADMIN => self.restricts_events,
            Capability::CAP_SYS_PTRACE => self.cgroups == Some(hierarchy::Version::V1),
            _ => need.whose != Whose::Endpoint,
        }
    }

    /// What the privileged thread of a process that has these keeps.
    #[must_use]
    pub fn kept(&self, held: impl Fn(Capability) -> bool) -> Vec<Capability> {
        let kept = NEEDS.iter().filter(|need| need.fate == Fate::Kept && self.asks_for(need));
        let mut kept: Vec<_> = kept.map(|need| need.capability).collect();
        let stands_in =
            |capability: &Capability| is_of_forerunner(*capability) && !held(*capability);
        if kept.iter().any(stands_in) && !kept.contains(&FORERUNNER) {
            kept.push(FORERUNNER);
        }
        kept.retain(|capability| held(*capability));
        kept
    }
}

impl Whose {
    /// Whether this probe needs it.
    #[must_use]
    pub fn has(self, probe: &str) -> bool {
        match self {
            Self::Probes => true,
            Self::Some(probes) => probes.contains(&probe),
            Self::Endpoint => false,
        }
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probes => write!(formatter, "every probe"),
            Self::Some(probes) => {
                let probes: Vec<_> = probes.iter().map(|name| format!("`{name}`")).collect();
                write!(formatter, "{}", probes.join(", "))
            }
            Self::Endpoint => write!(formatter, "the endpoint"),
        }
    }
}

/// Whether the running kernel counts maps against the limit on locked memory; one that does not say its version is new.
#[must_use]
pub fn counts_maps() -> bool {
    Version::current().is_ok_and(|version| version < FREE_MAPS)
}

/// Whether the kernel knows a level above those of the original, and is at it.
fn restricts_events() -> bool {
    let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    level.is_ok_and(|level| level.trim().parse::<i64>().is_ok_and(|level| level > 2))
}

/// Checks that the calling thread may load and attach what this probe needs.
pub fn check_probe(probe: &str) -> Result<(), MissingCapability> {
    missing(probe, has).map_or(Ok(()), Err)
}

/// The first capability without which the probe cannot attach that is not held.
#[must_use]
pub fn missing(probe: &str, held: impl Fn(Capability) -> bool) -> Option<MissingCapability> {
    let is_held =
        |capability| held(capability) || (is_of_forerunner(capability) && held(FORERUNNER));
    let needed = NEEDS.iter().filter(|need| need.is_to_attach() && need.whose.has(probe));
    let mut missing = needed.filter(|need| !is_held(need.capability));
    missing.next().map(Need::missing)
}

impl Need {
    /// Whether a probe whose it is cannot attach without it; it attaches without the others, and may want for room or
    /// for names.
    fn is_to_attach(&self) -> bool {
        self.fate == Fate::Kept && self.grant == Grant::Always
    }
}

/// What a process that has these is short of on this machine, for these probes; attaching is the matter of [`missing`].
#[must_use]
pub fn shortcomings(
    machine: &Machine,
    probes: &[&str],
    held: impl Fn(Capability) -> bool,
) -> Vec<MissingCapability> {
    let needed = NEEDS.iter().filter(|need| !need.is_to_attach() && machine.asks_for(need));
    let needed = needed.filter(|need| probes.iter().any(|probe| need.whose.has(probe)));
    needed.filter(|need| !held(need.capability)).map(Need::missing).collect()
}

fn is_of_forerunner(capability: Capability) -> bool {
    matches!(capability, Capability::CAP_BPF | Capability::CAP_PERFMON)
}

/// Whether the calling thread has it; a kernel that does not know the capability cannot have given it.
fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use caps::Capability::{
        self, CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYS_RESOURCE,
    };

    use super::{Machine, NEEDS, missing, shortcomings};
    use crate::{
        cgroup::hierarchy::Version,
        source::probe::{HookKind, PROBES},
    };

    const NEW: Machine =
        Machine { cgroups: Some(Version::V2), counts_maps: false, restricts_events: false };
    const OLD: Machine =
        Machine { cgroups: Some(Version::V1), counts_maps: true, restricts_events: false };
    const UBUNTU: Machine =
        Machine { cgroups: Some(Version::V2), counts_maps: false, restricts_events: true };

    #[test]
    fn sys_admin_or_both_of_the_finer_ones() {
        let check = |probe: &str, given: &[Capability], expected: Option<Capability>| {
            let missing = missing(probe, |capability| given.contains(&capability));
            assert_eq!(missing.map(|error| error.capability), expected, "{probe}: {given:?}");
        };
        check("oom", &[CAP_SYS_ADMIN], None);
        check("oom", &[CAP_BPF, CAP_PERFMON], None);
        check("oom", &[CAP_BPF], Some(CAP_PERFMON));
        check("oom", &[CAP_PERFMON], Some(CAP_BPF));
        check("oom", &[], Some(CAP_BPF));
        check("network", &[CAP_BPF, CAP_PERFMON], Some(CAP_NET_ADMIN));
        check("network", &[CAP_SYS_ADMIN], Some(CAP_NET_ADMIN));
        check("network", &[CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN], None);
    }

    #[test]
    fn what_is_kept_is_what_was_held_and_is_asked_for() {
        let check = |machine: &Machine, given: &[Capability], expected: &[Capability]| {
            assert_eq!(machine.kept(|capability| given.contains(&capability)), expected);
        };
        let all =
            [CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_RESOURCE, CAP_SYS_PTRACE, CAP_SYS_ADMIN];
        check(&NEW, &all, &[CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN]);
        check(&OLD, &all, &[CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_PTRACE]);
        check(&NEW, &[], &[]);
        check(&NEW, &[CAP_SYS_ADMIN, CAP_BPF], &[CAP_BPF, CAP_SYS_ADMIN]);
        check(&UBUNTU, &all, &[CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_ADMIN]);
        check(&UBUNTU, &[CAP_SYS_ADMIN], &[CAP_SYS_ADMIN]);
    }

    #[test]
    fn a_shortcoming_is_what_this_machine_asks_for() {
        let check = |machine: &Machine, probes: &[&str], expected: &[Capability]| {
            let short = shortcomings(machine, probes, |_| false);
            let short: Vec<_> = short.iter().map(|error| error.capability).collect();
            assert_eq!(short, expected);
        };
        check(&NEW, &["network", "oom"], &[]);
        check(&OLD, &["network", "oom"], &[CAP_SYS_RESOURCE, CAP_SYS_PTRACE]);
        check(&OLD, &["oom"], &[CAP_SYS_RESOURCE]);
        check(&OLD, &[], &[]);
        check(&UBUNTU, &["oom"], &[CAP_SYS_ADMIN]);
        check(&UBUNTU, &["tcp"], &[]);
    }

    /// What attaches to a cgroup is the network administrator's, and whoever is said to need something is a probe.
    #[test]
    fn the_table_agrees_with_the_probes() {
        let by = |kind: HookKind| -> BTreeSet<_> {
            let probes = PROBES.iter();
            let probes = probes.filter(|probe| probe.hooks.iter().any(|hook| hook.kind == kind));
            probes.map(|probe| probe.name).collect()
        };
        let names: Vec<_> = PROBES.iter().map(|probe| probe.name).collect();
        for need in NEEDS {
            if let super::Whose::Some(probes) = need.whose {
                assert!(probes.iter().all(|probe| names.contains(probe)), "{probes:?}");
            }
            let said: BTreeSet<_> =
                names.iter().copied().filter(|probe| need.whose.has(probe)).collect();
            match need.capability {
                CAP_NET_ADMIN => assert_eq!(said, by(HookKind::CgroupSkb)),
                CAP_SYS_ADMIN => assert_eq!(said, by(HookKind::Kprobe)),
                _ => {}
            }
        }
    }
}
