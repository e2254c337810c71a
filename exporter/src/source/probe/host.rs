//! What probes must know of the machine beside its kernel's types: where cgroups are, and what is forbidden.

use std::{fs, path::PathBuf};

use podmeter_common::owner::SocketOwner;

use super::diagnostic::EbpfLog;
use crate::{
    cgroup::hierarchy::{Hierarchy, Version},
    paths::HostPaths,
};

/// The machine as probes see it.
#[derive(Clone, Debug)]
pub struct ProbeHost {
    /// Where the host's files are.
    pub paths: HostPaths,
    /// The version of the hierarchy that has the cpu controller; v2 where there is none at all.
    pub cpu: Version,
    /// Where the cgroup2 hierarchy is mounted, if it is.
    pub unified: Option<PathBuf>,
    /// Whether the kernel refuses every program that reads its memory.
    pub is_confidential: bool,
    /// Whether programs say what becomes of single events; off where nobody asks.
    pub ebpf_log: EbpfLog,
}

impl ProbeHost {
    /// Looks at the mounts and at the kernel's lockdown.
    #[must_use]
    pub fn find(paths: &HostPaths) -> Self {
        Self {
            paths: paths.clone(),
            cpu: Hierarchy::find(paths).map_or(Version::V2, |hierarchy| hierarchy.version),
            unified: Hierarchy::find_unified(paths).map(|hierarchy| hierarchy.mount_point),
            is_confidential: is_confidential(paths),
            ebpf_log: EbpfLog::Off,
        }
    }

    /// What the owner of a socket is.
    ///
    /// On cgroup v1 sockets are in the cgroup2 hierarchy's root, if there is one at all, whoever made them.
    pub(super) fn socket_owner(&self) -> SocketOwner {
        match self.cpu {
            Version::V1 => SocketOwner::NetworkNamespace,
            Version::V2 => SocketOwner::Cgroup,
        }
    }
}

/// Without securityfs nothing is known; then the verifier's refusal has to say it.
fn is_confidential(paths: &HostPaths) -> bool {
    let lockdown = fs::read_to_string(paths.sys.join("kernel/security/lockdown"));
    lockdown.is_ok_and(|modes| modes.contains("[confidentiality]"))
}
